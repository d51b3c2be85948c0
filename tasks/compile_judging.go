package tasks

import (
	"fmt"
	"slices"
	"strings"

	"clusterflow/graph"
	"clusterflow/internal/judge"
	"clusterflow/studies"
)

// evaluations adds titles and grades for every clustering.
func (b *builder) evaluations() studies.Diagnostics {
	var diags studies.Diagnostics
	pairs, graded := map[string]bool{}, map[*studies.Titles]*studies.Evaluation{}
	for _, ev := range b.study.Evaluations {
		for _, t := range ev.Titles {
			if other := graded[t]; other != nil && labelsOutput(other) != labelsOutput(ev) {
				diags = append(diags, b.study.Errorf(ev.Range, "One set of titles for two sets of labels",
					fmt.Sprintf("Titles %q name clusters of %s labels in evaluation %q, and of %s ones here. Give one of the two a titles block of its own.", t.Name, other.Labels.V, other.Name, ev.Labels.V)))
				continue
			}
			graded[t] = ev
			for _, j := range ev.Judges {
				pair := t.Name + "/" + j.Name
				if pairs[pair] {
					diags = append(diags, b.study.Errorf(ev.Range, "Evaluated twice",
						fmt.Sprintf("Titles %q are graded by %q in an earlier evaluation already; both would have the address …/%s.", t.Name, j.Name, pair)))
					continue
				}
				pairs[pair] = true
				for _, c := range b.cells {
					b.graded(c, ev, t, j)
				}
			}
		}
	}
	return diags
}

// What tells the tasks of evaluations apart.
type (
	titlesID struct{ titles *studies.Titles }
	awaitID  struct {
		kind      string
		evaluator *studies.Evaluator
	}
	evalID struct {
		eval  *studies.Evaluation
		judge *studies.Evaluator
		reps  int
	}
	scoreID struct {
		eval *studies.Evaluation
		reps int
	}
	demandID struct {
		eval               *studies.Evaluation
		k, sentences, reps int
	}
)

func (b *builder) graded(c *cell, ev *studies.Evaluation, t *studies.Titles, j *studies.Evaluator) {
	base := strings.TrimSuffix(c.train.Addr, "train") + t.Name
	reps := t.Repetitions.V
	sentencesIn := graph.Input{Name: "sentences", From: c.sentences, Output: "sentences"}
	labelsIn := graph.Input{Name: "labels", From: c.train, Output: labelsOutput(ev)}
	attrs := slices.Concat(c.train.Attrs, []graph.Attr{{Name: "titles", Value: t.Name}})

	ask, answers := b.titled(c, t, base, sentencesIn, labelsIn, attrs)
	titleInputs := []graph.Input{
		{Name: "title-requests", From: ask, Output: "requests"},
		{Name: "titles", From: answers, Output: "answers"},
	}
	attrs = slices.Concat(attrs, []graph.Attr{{Name: "judge", Value: j.Name}})
	base += "/" + j.Name
	evAsk := b.add(&graph.Node{
		Addr: base + "/submit-eval", Stage: StageJudge, Attrs: attrs,
		Task:   b.share(evalID{ev, j, reps}, func() graph.Task { return &submitEval{study: b.study, eval: ev, judge: j, reps: reps} }),
		Inputs: slices.Concat([]graph.Input{sentencesIn, labelsIn}, titleInputs),
		Need:   small(c),
	})
	grades := b.add(&graph.Node{
		Addr: base + "/await-eval", Stage: StageJudge, Attrs: attrs, Task: b.share(awaitID{kindAwaitEval.Name, j}, func() graph.Task { return &await{kindAwaitEval, b.office, j} }),
		Inputs: []graph.Input{{Name: "requests", From: evAsk, Output: "requests"}},
		Demand: b.demanded(demandID{ev, c.k, c.mat.sentences, reps}, func() map[string]int { return demand(ev, c, reps) }), Dest: destination(j),
	})
	grades.Need = b.network(grades.Demand)
	node := b.add(&graph.Node{
		Addr: base + "/score", Stage: StageJudge, Attrs: attrs, Task: b.share(scoreID{ev, reps}, func() graph.Task { return &score{ev, reps} }),
		Inputs: slices.Concat([]graph.Input{
			sentencesIn, labelsIn, {Name: "info", From: c.train, Output: "info"},
			{Name: "eval-requests", From: evAsk, Output: "requests"}, {Name: "grades", From: grades, Output: "answers"},
		}, titleInputs),
		Need: small(c),
	})
	b.scores = append(b.scores, scored{c, t, ev, j, node})
}

// titled returns the nodes that have the requests and the answers of a set of
// titles, made when first asked for: one and the same for titles from a file.
func (b *builder) titled(c *cell, t *studies.Titles, base string, sentences, labels graph.Input, attrs []graph.Attr) (ask, answers *graph.Node) {
	if n := b.made[base+"/titles"]; n != nil {
		return n, n
	}
	if ask := b.made[base+"/submit-titles"]; ask != nil {
		return ask, b.made[base+"/await-titles"]
	}
	if t.File.Set {
		n := b.add(&graph.Node{
			Addr: base + "/titles", Stage: StageJudge, Attrs: attrs, Task: &fixedTitles{t, clusteringID{c.mat.label, c.layer, c.method, c.k}},
			Inputs: []graph.Input{labels}, Sources: []graph.Source{{Name: "titles", Path: t.File.V}}, Need: graph.Need{Threads: 1, Memory: 16 << 20},
		})
		b.made[base+"/titles"] = n
		return n, n
	}
	reps := t.Repetitions.V
	ask = b.add(&graph.Node{
		Addr: base + "/submit-titles", Stage: StageJudge, Attrs: attrs, Task: b.share(titlesID{t}, func() graph.Task { return &submitTitles{b.study, t} }),
		Inputs: []graph.Input{sentences, labels, {Name: "traces", From: c.sentences, Output: "traces"}},
		Need:   small(c),
	})
	answers = b.add(&graph.Node{
		Addr: base + "/await-titles", Stage: StageJudge, Attrs: attrs, Task: b.share(awaitID{kindAwaitTitles.Name, t.Evaluator}, func() graph.Task { return &await{kindAwaitTitles, b.office, t.Evaluator} }),
		Inputs: []graph.Input{{Name: "requests", From: ask, Output: "requests"}},
		Demand: b.demanded(c.k*reps, func() map[string]int { return map[string]int{judge.TaskTitle: c.k * reps} }), Dest: destination(t.Evaluator),
	})
	answers.Need = b.network(answers.Demand)
	b.made[base+"/submit-titles"], b.made[base+"/await-titles"] = ask, answers
	return ask, answers
}

// small is the need of a node that reads the sentences of a clustering.
func small(c *cell) graph.Need {
	return graph.Need{Threads: 1, Memory: int64(c.mat.sentences) * 2000}
}

// labelsOutput is the output of train that an evaluation grades, and that its
// titles are for.
func labelsOutput(ev *studies.Evaluation) string {
	if ev.Labels.V == "predicted" {
		return "predicted"
	}
	return "labels"
}

// network is the need of a node that sends requests, together with all
// clusterings like its own: no thread, and memory for what is sent at a time.
func (b *builder) network(demand map[string]int) graph.Need {
	const each = 20 << 10 // bytes of a request, roughly
	n := 0
	for _, k := range demand {
		n += k
	}
	return graph.Need{Memory: 3 * min(int64(n)*int64(len(b.cells))*each, bodyBudget)}
}

// demand is the number of requests of an evaluation when every cluster gets a
// title and has enough sentences: an upper bound.
func demand(ev *studies.Evaluation, c *cell, reps int) map[string]int {
	d := map[string]int{}
	chunks := func(n int) int { return (n + ev.ChunkSize.V - 1) / ev.ChunkSize.V }
	if asks(ev, judge.MetricAccuracy) {
		d[judge.TaskAccuracy] = reps * c.k * chunks(min(ev.Accuracy.Inside.V+ev.Accuracy.Outside.V, c.mat.sentences))
	}
	if asks(ev, judge.MetricCompleteness) {
		n := c.mat.sentences
		if m := ev.Completeness.Examples.V; m >= 0 {
			n = min(n, m)
		}
		if ev.Completeness.Mode.V == judge.ModeFit {
			d[judge.TaskFit] = reps * n
		} else {
			d[judge.TaskCompleteness] = reps * chunks(n)
		}
	}
	if asks(ev, judge.MetricOrthogonality) {
		times := 1
		if ev.Orthogonality.Repetitions.V == "each" {
			times = reps
		}
		d[judge.TaskSimilarity] = times * c.k * (c.k - 1) / 2
	}
	return d
}
