package tasks

import (
	"context"
	"fmt"
	"strconv"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/judge"
	"clusterflow/internal/linalg"
	"clusterflow/studies"
)

// submitTitles writes the requests that name the clusters: one per non-empty
// cluster and repetition. Output "requests": JSONL of request. It sends
// nothing.
type submitTitles struct {
	study  *studies.Study
	titles *studies.Titles
}

func (t *submitTitles) Kind() string    { return kindSubmitTitles.Name }
func (t *submitTitles) Version() string { return kindSubmitTitles.Version }

func (t *submitTitles) Params() []cache.Line {
	var p params
	p.add("prompts", judge.PromptVersion, "")
	set(&p, "seed", t.study.Seed)
	set(&p, "description_examples", t.titles.DescriptionExamples)
	set(&p, "repetitions", t.titles.Repetitions)
	set(&p, "trace_examples", t.titles.TraceExamples)
	set(&p, "example_categories", t.titles.ExampleCategories)
	wordingParam(&p, "prompt", t.titles.Prompt)
	evaluatorParams(&p, t.titles.Evaluator)
	return p.lines
}

func (t *submitTitles) Run(ctx context.Context, job *graph.Job) error {
	c, err := readClustering(job)
	if err != nil {
		return err
	}
	traces, responses, err := t.traces(job)
	if err != nil {
		return err
	}
	wording, err := wordingOf(t.titles.Prompt)
	if err != nil {
		return err
	}
	e := settings(t.titles.Evaluator)
	var rs []request
	for cluster, rows := range c.members {
		if len(rows) == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		shown := t.examples(c, cluster, rows)
		prompt, err := wording.Reword(judge.TitlePrompt(judge.TitleInput{
			Sentences: c.prompted(shown), Traces: traces, ExampleCategories: t.titles.ExampleCategories.V,
		}))
		if err != nil {
			return fmt.Errorf("prompt (%s): %w", t.titles.Prompt.Origin(), err)
		}
		tokens := 0 // of the first, and then of all
		for rep := range t.titles.Repetitions.V {
			r := newRequest(e, prompt, request{Task: judge.TaskTitle, Rep: rep, Cluster: cluster, Rows: shown, Traces: responses, Tokens: tokens})
			rs, tokens = append(rs, r), r.Tokens
		}
	}
	return putRequests(job, rs)
}

// examples draws the sentences that the titler sees of a cluster, the same for
// all repetitions: by distance to the centre, ties by row.
func (t *submitTitles) examples(c *clustering, cluster int, rows []int) []int {
	order := c.nearest(rows, len(rows))
	rng := linalg.Rand(t.study.Seed.V, "description examples", digestOf(order))
	return judge.DescriptionExamples(order, t.titles.DescriptionExamples.V, rng)
}

// traces draws the whole traces that every title prompt of a dataset shows, and
// says of which responses they are.
func (t *submitTitles) traces(job *graph.Job) (texts []string, responses []int, err error) {
	n := t.titles.TraceExamples.V
	if n == 0 {
		return nil, nil, nil
	}
	all, err := readInput[Trace](job, "traces")
	if err != nil {
		return nil, nil, err
	}
	rows := make([]int, 0, len(all))
	for i, tr := range all {
		if tr.Text != "" {
			rows = append(rows, i)
		}
	}
	d, err := job.Digest("traces")
	if err != nil {
		return nil, nil, err
	}
	rng := linalg.Rand(t.study.Seed.V, "trace examples", d.String())
	for _, i := range judge.Sample(rows, n, rng) {
		texts, responses = append(texts, all[i].Text), append(responses, all[i].Response)
	}
	return texts, responses, nil
}

// digestOf names a list of rows: what a random draw is drawn from.
func digestOf(rows []int) string {
	b := make([]byte, 0, 8*len(rows))
	for _, r := range rows {
		b = strconv.AppendInt(b, int64(r), 10)
		b = append(b, ' ')
	}
	return cache.Sum(b).String()
}
