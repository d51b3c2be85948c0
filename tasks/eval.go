package tasks

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/internal/judge"
	"clusterflow/internal/linalg"
	"clusterflow/studies"
)

// submitEval writes the requests that grade a clustering by the titles of each
// repetition. Output "requests": JSONL of request. It sends nothing.
//
// Samples are paired: completeness asks the same sentences of every clustering
// of a dataset, and accuracy takes the members of a cluster, and the others, in
// one random order of all sentences.
type submitEval struct {
	study *studies.Study
	eval  *studies.Evaluation
	judge *studies.Evaluator
	reps  int
}

func (t *submitEval) Kind() string    { return kindSubmitEval.Name }
func (t *submitEval) Version() string { return kindSubmitEval.Version }

// Params leaves out the settings of metrics that the study does not ask for.
func (t *submitEval) Params() []cache.Line {
	var p params
	p.add("prompts", judge.PromptVersion, "")
	set(&p, "seed", t.study.Seed)
	set(&p, "metrics", t.eval.Metrics)
	if asks(t.eval, judge.MetricAccuracy) {
		set(&p, "accuracy explanations", t.eval.Accuracy.Explanations)
		wordingParam(&p, "accuracy prompt", t.eval.Accuracy.Prompt)
		set(&p, "accuracy inside", t.eval.Accuracy.Inside)
		set(&p, "accuracy outside", t.eval.Accuracy.Outside)
	}
	if asks(t.eval, judge.MetricCompleteness) {
		set(&p, "completeness explanations", t.eval.Explanations)
		wordingParam(&p, "completeness prompt", t.eval.Completeness.Prompt)
		set(&p, "completeness examples", t.eval.Completeness.Examples)
		set(&p, "completeness mode", t.eval.Completeness.Mode)
	}
	if asks(t.eval, judge.MetricOrthogonality) {
		wordingParam(&p, "orthogonality prompt", t.eval.Orthogonality.Prompt)
		set(&p, "orthogonality repetitions", t.eval.Orthogonality.Repetitions)
	}
	set(&p, "held_out", t.eval.HeldOut)
	set(&p, "labels", t.eval.Labels)
	set(&p, "chunk_size", t.eval.ChunkSize)
	evaluatorParams(&p, t.judge)
	return p.lines
}

// explains reports whether the verdicts of a repetition are explained.
func explains(v studies.Value[string], rep int) bool {
	return v.V == "all" || v.V == "sample" && rep == 0
}

func asks(e *studies.Evaluation, metric string) bool { return slices.Contains(e.Metrics.V, metric) }

func (t *submitEval) Run(ctx context.Context, job *graph.Job) error {
	c, err := readClustering(job)
	if err != nil {
		return err
	}
	titles, err := readTitles(job, t.reps)
	if err != nil {
		return err
	}
	data, err := job.Digest("sentences")
	if err != nil {
		return err
	}
	q := &questions{t: t, c: c, e: settings(t.judge), data: data.String()}
	if t.eval.HeldOut.V {
		if q.seen, err = seenByTitler(job, c); err != nil {
			return err
		}
	}
	for rep := range t.reps {
		if err := ctx.Err(); err != nil {
			return err
		}
		cats := titles.categories[rep]
		if len(cats) == 0 {
			continue // every title of this repetition failed
		}
		if asks(t.eval, judge.MetricAccuracy) {
			q.accuracy(rep, cats)
		}
		if asks(t.eval, judge.MetricCompleteness) {
			q.completeness(rep, cats)
		}
		if asks(t.eval, judge.MetricOrthogonality) && (rep == 0 || t.eval.Orthogonality.Repetitions.V == "each") {
			q.similarity(rep, cats)
		}
	}
	if q.err != nil {
		return q.err
	}
	return putRequests(job, q.rs)
}

// questions collects the requests of one clustering.
type questions struct {
	t    *submitEval
	c    *clustering
	e    batch.Evaluator
	data string       // digest of the sentences
	seen map[int]bool // sentences that are not asked about, by row
	rs   []request
	err  error // of a wording
}

// seenByTitler are the sentences that the titler was shown, as examples of any
// cluster or in a whole trace, and those of the same text.
func seenByTitler(job *graph.Job, c *clustering) (map[int]bool, error) {
	rs, err := readRequests(job, "title-requests")
	if err != nil {
		return nil, err
	}
	responses, texts := map[int]bool{}, map[string]bool{}
	for _, r := range rs {
		for _, i := range r.Traces {
			responses[i] = true
		}
		for _, row := range r.Rows {
			if row < 0 || row >= len(c.sentences) {
				return nil, fmt.Errorf("%s: a title was asked about sentence %d of %d", job.Node.Addr, row, len(c.sentences))
			}
			texts[c.sentences[row].Text] = true
		}
	}
	for _, s := range c.sentences {
		if responses[s.Response] {
			texts[s.Text] = true
		}
	}
	seen := map[int]bool{}
	for row, s := range c.sentences {
		if texts[s.Text] {
			seen[row] = true
		}
	}
	return seen, nil
}

// order is the random order of all sentences in which a metric takes them. It is
// that of every clustering, less those that are not asked about.
func (q *questions) order(purpose string, rep int) []int {
	all := linalg.Rand(q.t.study.Seed.V, purpose, strconv.Itoa(rep), q.data).Perm(len(q.c.sentences))
	return slices.DeleteFunc(all, func(row int) bool { return q.seen[row] })
}

func (q *questions) accuracy(rep int, cats []judge.Category) {
	order := q.order("accuracy", rep)
	for _, cat := range cats {
		var in, out []int
		for _, row := range order {
			switch {
			case int(q.c.labels[row]) == cat.ID && len(in) < q.t.eval.Accuracy.Inside.V:
				in = append(in, row)
			case int(q.c.labels[row]) != cat.ID && len(out) < q.t.eval.Accuracy.Outside.V:
				out = append(out, row)
			}
		}
		if len(in) == 0 {
			continue // held out, none is left
		}
		rows := append(in, out...)
		rng := linalg.Rand(q.t.study.Seed.V, "accuracy shuffle", strconv.Itoa(rep), digestOf(rows))
		rows = judge.Sample(rows, -1, rng)
		for _, chunk := range judge.Chunks(rows, q.t.eval.ChunkSize.V) {
			q.ask(judge.AccuracyPrompt(cat, q.c.prompted(chunk), explains(q.t.eval.Accuracy.Explanations, rep)), request{Task: judge.TaskAccuracy, Rep: rep, Cluster: cat.ID, Rows: chunk})
		}
	}
}

func (q *questions) completeness(rep int, cats []judge.Category) {
	rows := q.order("completeness", rep)
	if n := q.t.eval.Completeness.Examples.V; n >= 0 && n < len(rows) {
		rows = rows[:n]
	}
	if q.t.eval.Completeness.Mode.V == judge.ModeFit {
		byID := map[int]judge.Category{}
		for _, c := range cats {
			byID[c.ID] = c
		}
		for _, row := range rows {
			cat, ok := byID[int(q.c.labels[row])]
			if !ok {
				continue // its cluster has no title in this repetition
			}
			q.ask(judge.FitPrompt(cat, q.c.prompted([]int{row})[0], explains(q.t.eval.Explanations, rep)), request{Task: judge.TaskFit, Rep: rep, Cluster: cat.ID, Rows: []int{row}})
		}
		return
	}
	for _, chunk := range judge.Chunks(rows, q.t.eval.ChunkSize.V) {
		q.ask(judge.CompletenessPrompt(cats, q.c.prompted(chunk), explains(q.t.eval.Explanations, rep)), request{Task: judge.TaskCompleteness, Rep: rep, Rows: chunk})
	}
}

func (q *questions) similarity(rep int, cats []judge.Category) {
	for i, a := range cats {
		for _, b := range cats[i+1:] {
			q.ask(judge.SimilarityPrompt(a, b), request{Task: judge.TaskSimilarity, Rep: rep, Cluster: a.ID, Other: b.ID})
		}
	}
}

func (q *questions) ask(p judge.Prompt, r request) {
	if own := wordingFor(q.t.eval, r.Task); own.Set && q.err == nil {
		if p, q.err = reword(own, p); q.err != nil {
			return
		}
	}
	q.rs = append(q.rs, newRequest(q.e, p, r))
}

// titleSet is what the titler answered, by repetition.
type titleSet struct {
	categories [][]judge.Category
	counts     []judge.AnswerCount
}

// readTitles reads the inputs "title-requests" and "titles".
func readTitles(job *graph.Job, reps int) (*titleSet, error) {
	as, err := readAnswers(job, "title-requests", "titles")
	if err != nil {
		return nil, err
	}
	byRep := make([][]judge.TitleAnswer, reps)
	for _, a := range as {
		if a.Rep < 0 || a.Rep >= reps {
			return nil, fmt.Errorf("%s: a title of repetition %d of %d", job.Node.Addr, a.Rep, reps)
		}
		byRep[a.Rep] = append(byRep[a.Rep], judge.TitleAnswer{Cluster: a.Cluster, Reply: reply(a.Answer)})
	}
	t := &titleSet{}
	for _, answers := range byRep {
		cats, count := judge.Titles(answers)
		t.categories, t.counts = append(t.categories, cats), append(t.counts, count)
	}
	return t, nil
}

// reply is an answer as package judge reads it.
func reply(a batch.Answer) judge.Reply {
	r := judge.Reply{Content: a.Content, FinishReason: a.FinishReason, Refusal: a.Refusal}
	if a.Status != batch.StatusOK {
		r.Error = cmp.Or(a.Error, "no answer")
	}
	return r
}
