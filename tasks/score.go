package tasks

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/judge"
	"clusterflow/studies"
)

// shownExamples is how many sentences of a cluster results show.
const shownExamples = 15

// score computes every metric of one clustering from the answers. Output
// "score": JSON of scoreFile.
type score struct {
	eval *studies.Evaluation
	reps int
}

func (t *score) Kind() string    { return kindScore.Name }
func (t *score) Version() string { return kindScore.Version }

func (t *score) Params() []cache.Line {
	var p params
	p.add("repetitions", t.reps, "")
	set(&p, "metrics", t.eval.Metrics)
	if asks(t.eval, judge.MetricCompleteness) {
		set(&p, "completeness mode", t.eval.Completeness.Mode)
	}
	if asks(t.eval, judge.MetricOrthogonality) {
		set(&p, "orthogonality threshold", t.eval.Orthogonality.Threshold)
		set(&p, "orthogonality repetitions", t.eval.Orthogonality.Repetitions)
	}
	return p.lines
}

func (t *score) Run(ctx context.Context, job *graph.Job) error {
	c, err := readClustering(job)
	if err != nil {
		return err
	}
	titles, err := readTitles(job, t.reps)
	if err != nil {
		return err
	}
	answers, err := readAnswers(job, "eval-requests", "grades")
	if err != nil {
		return err
	}
	var info TrainInfo
	if err := readJSON(job, "info", &info); err != nil {
		return err
	}
	inputs := t.inputs(c, titles, info)
	for _, a := range answers {
		if a.Rep < 0 || a.Rep >= t.reps {
			return fmt.Errorf("%s: an answer of repetition %d of %d", job.Node.Addr, a.Rep, t.reps)
		}
		if err := t.place(inputs, c, titles, a); err != nil {
			return fmt.Errorf("%s: %w", job.Node.Addr, err)
		}
	}
	reps := make([]judge.Repetition, t.reps)
	for i := range inputs {
		if err := ctx.Err(); err != nil {
			return err
		}
		reps[i] = judge.Score(inputs[i])
	}
	out := scoreFile{SizeResult: judge.Summarize(reps)}
	result := &out.SizeResult
	result.Quality = info.Quality
	data, err := job.Digest("sentences")
	if err != nil {
		return err
	}
	out.resample(c, data)
	raw, err := json.Marshal(out)
	if err != nil {
		return err
	}
	job.Note("final_score", fmt.Sprintf("%.4f", result.AvgFinalScore))
	return job.Put("score", raw)
}

// inputs prepares what every repetition shares.
func (t *score) inputs(c *clustering, titles *titleSet, info TrainInfo) []judge.ScoreInput {
	sizes, examples := map[int]int{}, map[int][]string{}
	for cluster, rows := range c.members {
		sizes[cluster] = len(rows)
		for _, row := range c.nearest(rows, shownExamples) {
			examples[cluster] = append(examples[cluster], c.sentences[row].Text)
		}
	}
	out := make([]judge.ScoreInput, t.reps)
	for rep := range out {
		out[rep] = judge.ScoreInput{
			Metrics: t.eval.Metrics.V, Mode: t.eval.Completeness.Mode.V,
			Titles: titles.counts[rep], Categories: titles.categories[rep], Sizes: sizes, Examples: examples,
			PairCategories: titles.categories[t.titlesCompared(rep)],
			Threshold:      t.eval.Orthogonality.Threshold.V, CentroidOrthogonality: info.Orthogonality,
		}
	}
	return out
}

// titlesCompared is the repetition whose titles the similarities of rep are
// about.
func (t *score) titlesCompared(rep int) int {
	if t.eval.Orthogonality.Repetitions.V == "each" {
		return rep
	}
	return 0
}

// place puts an answer where its repetition is scored. Similarities of the
// first repetition's titles count for all.
func (t *score) place(inputs []judge.ScoreInput, c *clustering, titles *titleSet, a answered) error {
	in := &inputs[a.Rep]
	items := make([]judge.Item, len(a.Rows))
	for i, row := range a.Rows {
		if row < 0 || row >= len(c.sentences) {
			return fmt.Errorf("a request asks about sentence %d of %d", row, len(c.sentences))
		}
		items[i] = judge.Item{Row: row, Text: c.sentences[row].Text, Cluster: int(c.labels[row])}
	}
	switch a.Task {
	case judge.TaskAccuracy:
		in.Accuracy = append(in.Accuracy, judge.AccuracyAnswer{Cluster: a.Cluster, Items: items, Reply: reply(a.Answer)})
	case judge.TaskCompleteness:
		in.Completeness = append(in.Completeness, judge.CompletenessAnswer{Items: items, Reply: reply(a.Answer)})
	case judge.TaskFit:
		in.Fit = append(in.Fit, judge.FitAnswer{Item: items[0], Reply: reply(a.Answer)})
	case judge.TaskSimilarity:
		cats := titles.categories[a.Rep]
		pair := judge.PairAnswer{A: position(cats, a.Cluster), B: position(cats, a.Other), Reply: reply(a.Answer)}
		if pair.A < 0 || pair.B < 0 {
			return fmt.Errorf("a request compares clusters %d and %d, of which one has no title", a.Cluster, a.Other)
		}
		for rep := range inputs {
			if t.titlesCompared(rep) == a.Rep {
				inputs[rep].Pairs = append(inputs[rep].Pairs, pair)
			}
		}
	default:
		return fmt.Errorf("a request of the unknown task %q", a.Task)
	}
	return nil
}

func position(cats []judge.Category, cluster int) int {
	return slices.IndexFunc(cats, func(c judge.Category) bool { return c.ID == cluster })
}

// nearest returns the n rows nearest to their centre, nearest first.
func (c *clustering) nearest(rows []int, n int) []int {
	order := slices.Clone(rows)
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(c.distances[a], c.distances[b]) })
	return order[:min(n, len(order))]
}

func readJSON(job *graph.Job, input string, v any) error {
	raw, err := job.Bytes(input)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("reading %s of %s: %w", input, job.Node.Addr, err)
	}
	return nil
}
