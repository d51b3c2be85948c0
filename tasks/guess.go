package tasks

import (
	"strconv"
	"strings"

	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/internal/judge"
	"clusterflow/internal/price"
	"clusterflow/studies"
)

// sampleSentences is how many sentences of a dataset stand for the others where
// requests are not written yet.
const sampleSentences = 64

// wording is what a plan knows of the texts of a dataset before it is taken
// apart: enough to say how long prompts about it will be.
type wording struct {
	sample []string // sentences, at most sampleSentences
	bytes  int      // of all sentences
	traces int      // bytes of all thinking

	perByte float64 // see material.perByte
}

// see takes a sentence into account, and one in so many as a sample.
func (w *wording) see(text string, sample bool) {
	w.bytes += len(text)
	if sample && len(w.sample) < sampleSentences {
		w.sample = append(w.sample, strings.Clone(text))
	}
}

// guesser estimates requests that are not written yet from the wording of real
// prompts with some real sentences.
type guesser struct {
	past Answered
	mats map[string]*material
	per  map[guessID]Ask // one request
}

type guessID struct {
	task     string
	of       graph.Task
	material string
	k        int
	explain  bool
}

// node estimates what a node asks whose requests the node from will write.
func (g *guesser) node(n, from *graph.Node, e *studies.Evaluator) []Ask {
	k, _ := strconv.Atoi(n.Attr("clusters"))
	mat := g.mats[n.Attr("model")]
	if mat == nil || k == 0 {
		return nil
	}
	var out []Ask
	for _, task := range judge.Tasks {
		requests := n.Demand[task]
		if requests == 0 {
			continue
		}
		a := Ask{Evaluator: e, Task: task}
		explained := explainedOf(from.Task, task, requests)
		for _, part := range []struct {
			explain bool
			n       int
		}{{true, explained}, {false, requests - explained}} {
			if part.n == 0 {
				continue
			}
			id := guessID{task, from.Task, mat.label, k, part.explain}
			one, ok := g.per[id]
			if !ok {
				one = mat.request(task, from.Task, k, settings(e), part.explain)
				g.per[id] = one
			}
			a.Requests += part.n
			a.Prompt += one.Prompt * int64(part.n)
			a.Most += one.Most * int64(part.n)
		}
		a.expect(g.past)
		out = append(out, a)
	}
	return out
}

// explainedOf is how many of so many requests ask for explanations.
func explainedOf(t graph.Task, kind string, requests int) int {
	eval, ok := t.(*submitEval)
	if !ok || kind == judge.TaskSimilarity {
		return requests
	}
	v := eval.eval.Explanations
	if kind == judge.TaskAccuracy {
		v = eval.eval.Accuracy.Explanations
	}
	n := 0
	for rep := range eval.reps {
		if explains(v, rep) {
			n++
		}
	}
	return requests * n / max(eval.reps, 1)
}

// Texts that stand for titles and descriptions, as long as usual ones.
const usualDescription = "Sentences in which the model checks a step that it has already taken, by computing it again, by comparing it with what is known, or by asking whether the result makes sense. Included are doubts about a value and trials with other numbers. Not included are first computations, plans for what comes next, and the statement of the final answer."

func usualCategories(k int) []judge.Category {
	cats := make([]judge.Category, k)
	for i := range cats {
		cats[i] = judge.Category{ID: i, Title: "Verification of earlier results", Description: usualDescription}
	}
	return cats
}

// request is one request of a kind that a submit task will write about k
// clusters.
func (m *material) request(kind string, t graph.Task, k int, e batch.Evaluator, explain bool) Ask {
	var p judge.Prompt
	shown, traces := 0, 0
	some := judge.Numbered(m.wording.sample)
	switch t := t.(type) {
	case *submitTitles:
		shown, traces = min(t.titles.DescriptionExamples.V, (m.sentences+k-1)/k), t.titles.TraceExamples.V
		p = judge.TitlePrompt(judge.TitleInput{Sentences: some, ExampleCategories: t.titles.ExampleCategories.V})
	case *submitEval:
		cats := usualCategories(k)
		switch shown = min(t.eval.ChunkSize.V, m.sentences); kind {
		case judge.TaskAccuracy:
			shown = min(shown, t.eval.Accuracy.Inside.V+t.eval.Accuracy.Outside.V)
			p = judge.AccuracyPrompt(cats[0], some[:min(shown, len(some))], explain)
		case judge.TaskCompleteness:
			p = judge.CompletenessPrompt(cats, some[:min(shown, len(some))], explain)
		case judge.TaskFit:
			shown = 1
			p = judge.FitPrompt(cats[0], some[0], explain)
		case judge.TaskSimilarity:
			shown = 0
			p = judge.SimilarityPrompt(cats[0], cats[min(1, k-1)])
		}
	}
	own := studies.Value[string]{}
	switch t := t.(type) {
	case *submitTitles:
		own = t.titles.Prompt
	case *submitEval:
		own = wordingFor(t.eval, kind)
	}
	if reworded, err := reword(own, p); err == nil {
		p = reworded
	}
	r := newRequest(e, p, request{})
	limit, _ := price.Limit(r.Body)
	a := Ask{Prompt: int64(r.Tokens), Most: int64(limit)}
	a.Prompt += int64(m.perSentence() * float64(shown-countSentences(p)))
	a.Prompt += int64(float64(traces) * m.perTrace())
	return a
}

// countSentences is how many sentences a prompt shows.
func countSentences(p judge.Prompt) int {
	d, err := judge.ReadData(p.User)
	if err != nil {
		return 0
	}
	return len(d.Sentences)
}

// perSentence is the tokens of a sentence of mean length within a prompt.
func (m *material) perSentence() float64 {
	const around = 9 // braces, id, quotes, names
	return around + m.perByte()*float64(m.wording.bytes)/float64(max(m.sentences, 1))
}

func (m *material) perTrace() float64 {
	return m.perByte() * float64(m.wording.traces) / float64(max(m.responses, 1))
}

// perByte is the tokens of a byte of the sample.
func (m *material) perByte() float64 {
	if m.wording.perByte == 0 {
		all := strings.Join(m.wording.sample, " ")
		m.wording.perByte = float64(price.Tokens(all)) / float64(max(len(all), 1))
	}
	return m.wording.perByte
}
