package tasks

import (
	"fmt"
	"iter"
	"slices"
	"strconv"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/internal/judge"
	"clusterflow/internal/price"
	"clusterflow/studies"
)

// Ask is what an evaluator is asked of one kind, in requests and tokens.
type Ask struct {
	Evaluator *studies.Evaluator
	Task      string // of package judge
	Requests  int
	Prompt    int64 // tokens of the prompts
	Expected  int64 // tokens of the answers, by earlier ones or by experience
	Most      int64 // that the answers may have
	Exact     bool  // the requests are written; else all but the limit are estimates, and Requests the most there can be
}

// count adds a request that is written.
func (a *Ask) count(r request) {
	limit, _ := price.Limit(r.Body)
	a.Requests++
	a.Prompt += int64(r.Tokens)
	a.Most += int64(limit)
}

// add joins two of a kind.
func (a *Ask) add(b Ask) {
	a.Exact = a.Exact && b.Exact || a.Requests == 0 && b.Exact
	a.Requests += b.Requests
	a.Prompt += b.Prompt
	a.Expected += b.Expected
	a.Most += b.Most
}

// USD is what an ask is expected to cost and what it can cost at most, in US
// dollars; false where nobody knows the price.
func (a Ask) USD() (expected, most float64, ok bool) {
	p, ok := PriceOf(a.Evaluator)
	return p.Of(a.Prompt, a.Expected, InBatches(a.Evaluator)), p.Of(a.Prompt, a.Most, InBatches(a.Evaluator)), ok
}

// PriceOf is what an evaluator costs: what the study says, nothing for the
// offline judge and for a server on this machine, else the list price of its
// model. It is false where that is not known.
func PriceOf(e *studies.Evaluator) (price.Price, bool) {
	switch {
	case e.Price.Given():
		return price.Price{Input: e.Price.Input.V, Output: e.Price.Output.V, Batch: 1 - e.Price.BatchDiscount.V}, true
	case e.Provider.V == lexical || settings(e).Loopback():
		return price.Price{}, true
	}
	return price.Of(e.Model.V)
}

// InBatches reports whether an evaluator is paid at the price of batches.
func InBatches(e *studies.Evaluator) bool { return e.Mode.V != "direct" }

// Names of notes in the records of submit and await nodes, before the task.
const (
	noteRequests   = "requests "
	notePrompt     = "prompt tokens "
	noteLimit      = "completion limit "
	noteCompletion = "completion tokens "
)

// note keeps an ask in the record of the node that writes its requests.
func (a *Ask) note(job *graph.Job) {
	job.Note(noteRequests+a.Task, strconv.Itoa(a.Requests))
	if a.Prompt > 0 {
		job.Note(notePrompt+a.Task, strconv.FormatInt(a.Prompt, 10))
		job.Note(noteLimit+a.Task, strconv.FormatInt(a.Most, 10))
	}
}

// noted are the asks of a record of such a node.
func noted(r *cache.Record, e *studies.Evaluator, answers Answered) []Ask {
	var out []Ask
	for _, task := range judge.Tasks {
		n, _ := strconv.Atoi(r.Info[noteRequests+task])
		if n == 0 {
			continue
		}
		a := Ask{Evaluator: e, Task: task, Requests: n, Exact: true}
		a.Prompt, _ = strconv.ParseInt(r.Info[notePrompt+task], 10, 64)
		a.Most, _ = strconv.ParseInt(r.Info[noteLimit+task], 10, 64)
		a.expect(answers)
		out = append(out, a)
	}
	return out
}

// Answered is how long answers have been, by model and task.
type Answered map[[2]string]*length

// length is the tokens of some answers, and those that they could have had.
type length struct{ tokens, limit int64 }

// PastAnswers measures the answers that the records of a cache hold.
func PastAnswers(records iter.Seq[*cache.Record]) Answered {
	out := Answered{}
	for r := range records {
		if r.Kind != kindAwaitTitles.Name && r.Kind != kindAwaitEval.Name {
			continue
		}
		model := ""
		for _, l := range r.Lines {
			if l.Label == "param evaluator model" {
				model = l.Value
			}
		}
		for _, task := range judge.Tasks {
			limit, err1 := strconv.ParseInt(r.Info[noteLimit+task], 10, 64)
			tokens, err2 := strconv.ParseInt(r.Info[noteCompletion+task], 10, 64)
			if err1 != nil || err2 != nil || limit == 0 {
				continue
			}
			l := out[[2]string{model, task}]
			if l == nil {
				l = &length{}
				out[[2]string{model, task}] = l
			}
			l.limit += limit
			l.tokens += tokens
		}
	}
	return out
}

// usualShare is how much of its completion limit an answer usually takes, by
// task, until the study's own answers have been measured.
var usualShare = map[string]float64{
	judge.TaskTitle: 0.15, judge.TaskAccuracy: 0.2, judge.TaskCompleteness: 0.25, judge.TaskFit: 0.12, judge.TaskSimilarity: 0.12,
}

// usualReasoning is how many tokens a reasoning model usually thinks for an
// answer, until its own have been measured.
const usualReasoning = 600

// expect sets the tokens that the answers are expected to have.
func (a *Ask) expect(past Answered) {
	if l := past[[2]string{a.Evaluator.Model.V, a.Task}]; l != nil {
		a.Expected = min(a.Most, int64(float64(a.Most)*float64(l.tokens)/float64(l.limit)))
		return
	}
	visible, thought := a.Most, int64(0)
	if batch.Reasoning(a.Evaluator.Model.V) {
		n := int64(a.Requests)
		visible, thought = max(0, a.Most-n*judge.ReasoningReserve), n*usualReasoning
	}
	a.Expected = min(a.Most, int64(usualShare[a.Task]*float64(visible))+thought)
}

// Asks are what the nodes of a plan that are not cached will ask evaluators
// outside of this process: by the requests where they are written, which record
// finds, else by estimates. Nodes that wait are left out and counted: what they
// ask is in batches, as far as a plan can know.
func (c *Compiled) Asks(p *graph.Plan, record func(cache.Digest) (*cache.Record, bool), past Answered) (asks []Ask, waiting int) {
	rest := &graph.Plan{Graph: p.Graph, Last: p.Last}
	for _, s := range p.Steps {
		if s.State == graph.Waiting && s.Node.Dest != (graph.Destination{}) {
			waiting++
		} else {
			rest.Steps = append(rest.Steps, s)
		}
	}
	if waiting == 0 {
		rest = p
	}
	return c.asks(rest, past, func(s *graph.Step, e *studies.Evaluator) []Ask {
		if r, ok := record(s.Record.Key); ok {
			return noted(r, e, past)
		}
		return nil
	}), waiting
}

// asks is Asks where written tells what is asked by a node whose requests are
// written; nil leaves it to an estimate.
func (c *Compiled) asks(p *graph.Plan, past Answered, written func(*graph.Step, *studies.Evaluator) []Ask) []Ask {
	asked := func(s *graph.Step) *await { // of somebody outside, and not cached
		if t, ok := s.Node.Task.(*await); ok && s.State != graph.Cached && s.Node.Dest != (graph.Destination{}) {
			return t
		}
		return nil
	}
	if !slices.ContainsFunc(p.Steps, func(s *graph.Step) bool { return asked(s) != nil }) {
		return nil
	}
	steps := make(map[*graph.Node]*graph.Step)
	for _, s := range p.Steps {
		if s.State == graph.Cached && s.Record != nil {
			steps[s.Node] = s
		}
	}
	guess := &guesser{past: past, per: map[guessID]Ask{}, mats: map[string]*material{}}
	for _, m := range c.materials {
		guess.mats[m.label] = m
	}
	sums := map[Ask]*Ask{}
	var order []*Ask
	for _, s := range p.Steps {
		t := asked(s)
		if t == nil {
			continue
		}
		var asks []Ask
		from := s.Node.Inputs[0].From
		if w := steps[from]; w != nil {
			asks = written(w, t.evaluator)
		}
		if asks == nil {
			asks = guess.node(s.Node, from, t.evaluator)
		}
		for _, a := range asks {
			id := Ask{Evaluator: a.Evaluator, Task: a.Task}
			if sums[id] == nil {
				sums[id] = &Ask{Evaluator: a.Evaluator, Task: a.Task}
				order = append(order, sums[id])
			}
			sums[id].add(a)
		}
	}
	out := make([]Ask, 0, len(order))
	for _, a := range order {
		if a.Requests > 0 {
			out = append(out, *a)
		}
	}
	return out
}

// Total adds up what asks cost, in US dollars, and names the evaluators whose
// price nobody knows.
func Total(asks []Ask) (expected, most float64, unpriced []string) {
	seen := map[string]bool{}
	for _, a := range asks {
		e, m, ok := a.USD()
		expected, most = expected+e, most+m
		if !ok && !seen[a.Evaluator.Name] {
			seen[a.Evaluator.Name] = true
			unpriced = append(unpriced, fmt.Sprintf("%s (%s)", a.Evaluator.Name, a.Evaluator.Model.V))
		}
	}
	return expected, most, unpriced
}
