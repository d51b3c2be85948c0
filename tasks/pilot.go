package tasks

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/internal/judge"
	"clusterflow/internal/price"
	"clusterflow/studies"
)

// pilot holds an apply to a few requests of every kind. Those for titles are not
// cut: what is asked of a clustering needs all of its titles.
type pilot struct {
	most int // of each evaluator and kind

	mu     sync.Mutex
	chosen map[string]pilotRequest // by request key
	taken  map[[2]string]int       // by evaluator and kind
	order  []string                // keys as they were chosen
}

// pilotRequest is a request that was chosen.
type pilotRequest struct {
	request
	evaluator *studies.Evaluator
	addr      string
}

// SetPilot makes the office send at most so many requests of every kind.
func (o *Office) SetPilot(most int) {
	o.pilot = &pilot{most: most, chosen: map[string]pilotRequest{}, taken: map[[2]string]int{}}
}

// PilotTargets are the addresses of the nodes that a pilot of a plan asks for:
// of every pair of titles and judge that asks somebody outside, and every model,
// the clustering that needs the fewest requests.
func PilotTargets(p *graph.Plan) []string {
	type pair struct{ model, titles, judge string }
	best := map[pair]*graph.Node{}
	var order []pair
	size := func(n *graph.Node) (sum int) {
		for _, k := range n.Demand {
			sum += k
		}
		return sum
	}
	asked := map[pair]bool{} // titles that a judge's node needs as well
	for _, s := range p.Steps {
		n := s.Node
		if s.State == graph.Cached || n.Dest == (graph.Destination{}) {
			continue
		}
		id := pair{n.Attr("model"), n.Attr("titles"), n.Attr("judge")}
		if id.judge != "" {
			asked[pair{id.model, id.titles, ""}] = true
		}
		switch b := best[id]; {
		case b == nil:
			order = append(order, id)
			best[id] = n
		case size(n) < size(b):
			best[id] = n
		}
	}
	var out []string
	for _, id := range order {
		if id.judge != "" || !asked[id] {
			out = append(out, best[id].Addr)
		}
	}
	return out
}

// cut is which of a job's requests a pilot looks after: those that are sent
// already, and as many of the others as it may send. unsent tells which those
// are; left is whether any is left out.
func (p *pilot) cut(job *graph.Job, e *studies.Evaluator, f *askedFile, unsent map[string]bool) (keys []string, left bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := map[string][]string{} // unsent and not chosen, by kind
	for _, h := range f.heads {
		if _, ok := p.chosen[h.Key]; unsent[h.Key] && !ok {
			free[h.Task] = append(free[h.Task], h.Key)
		}
	}
	pick := map[string]bool{}
	for task, keys := range free {
		n := len(keys)
		if task != judge.TaskTitle {
			n = min(n, p.most-p.taken[[2]string{e.Name, task}])
		}
		for i := range n { // spread over the file
			pick[keys[i*len(keys)/n]] = true
		}
		p.taken[[2]string{e.Name, task}] += max(n, 0)
	}
	if len(pick) > 0 {
		rs, err := readInput[request](job, "requests")
		if err != nil {
			return nil, false, err
		}
		for _, r := range rs {
			if pick[r.Key] {
				p.chosen[r.Key] = pilotRequest{r, e, job.Node.Addr}
				p.order = append(p.order, r.Key)
			}
		}
	}
	for _, k := range f.keys {
		if _, ok := p.chosen[k]; ok || !unsent[k] {
			keys = append(keys, k)
		} else {
			left = true
		}
	}
	return keys, left, nil
}

// PilotResult is what a pilot found out about one kind of request.
type PilotResult struct {
	Ask             // what was sent
	Addr     string // of a node that it is of
	Usable   int    // answers that can be used in full
	Failed   map[Verdict]int
	Answered int // with a usage count
	Used     batch.Usage
	limit    int64  // of those answers
	Answer   string // to the first
}

// PilotResults reads the answers of a pilot.
func (o *Office) PilotResults(ctx context.Context) ([]PilotResult, Answered, error) {
	p := o.pilot
	by := map[[2]string]*PilotResult{}
	var out []*PilotResult
	lengths := Answered{}
	for _, key := range p.order {
		r := p.chosen[key]
		id := [2]string{r.evaluator.Name, r.Task}
		res := by[id]
		if res == nil {
			res = &PilotResult{Ask: Ask{Evaluator: r.evaluator, Task: r.Task, Exact: true}, Failed: map[Verdict]int{}, Addr: strings.TrimSuffix(strings.TrimSuffix(r.addr, "/await-eval"), "/await-titles")}
			by[id], out = res, append(out, res)
		}
		res.count(r.request)
		err := o.desk.Answers(ctx, settings(r.evaluator), []string{key}, func(_ int, a batch.Answer) error {
			v, _, err := (&Asked{Key: key, Task: r.Task, Body: r.Body, Answer: &a}).Verdict()
			if err != nil {
				return err
			}
			if v == VerdictAnswered {
				res.Usable++
			} else {
				res.Failed[v]++
			}
			if a.Usage.Completion > 0 {
				res.Answered++
				limit, err := price.Limit(r.Body)
				if err != nil {
					return err
				}
				res.limit += int64(limit)
				res.Used.Prompt += a.Usage.Prompt
				res.Used.Completion += a.Usage.Completion
			}
			res.Answer = cmp.Or(res.Answer, a.Content, a.Refusal, a.Error)
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	results := make([]PilotResult, len(out))
	for i, r := range out {
		r.Expected = int64(r.Used.Completion)
		results[i] = *r
		if r.Answered > 0 {
			lengths[[2]string{r.Evaluator.Model.V, r.Task}] = &length{int64(r.Used.Completion), r.limit}
		}
	}
	return results, lengths, nil
}

// Limited are the asks that a pilot's plan leads to.
func Limited(asks []Ask, most int) []Ask {
	out := slices.Clone(asks)
	for i := range out {
		a := &out[i]
		if n := a.Requests; a.Task != judge.TaskTitle && n > most {
			a.Requests = most
			a.Prompt, a.Expected, a.Most = a.Prompt*int64(most)/int64(n), a.Expected*int64(most)/int64(n), a.Most*int64(most)/int64(n)
		}
	}
	return out
}

// Known adds newer lengths to measured ones.
func (a Answered) Known(newer Answered) Answered {
	out := Answered{}
	for _, m := range []Answered{a, newer} {
		for id, l := range m {
			out[id] = l
		}
	}
	return out
}
