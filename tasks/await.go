package tasks

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/studies"
)

// await sees to it that every request of a file is answered once, and writes
// the answers in the order of the requests. Output "answers": JSONL of
// batch.Answer, with failed requests among them.
//
// All ready nodes of one evaluator share their batch files. While batches are
// out, the nodes wait and hold nothing.
type await struct {
	kind      Kind
	office    *Office // nil in a plan
	evaluator *studies.Evaluator
}

func (t *await) Kind() string    { return t.kind.Name }
func (t *await) Version() string { return t.kind.Version }

// Params names only whom the requests are for: they hold everything else.
func (t *await) Params() []cache.Line {
	var p params
	be := settings(t.evaluator)
	p.add("evaluator model", be.Model, t.evaluator.Model.Origin())
	return p.lines
}

// Group is everything that one evaluator is asked in one stage.
func (t *await) Group() string {
	be := settings(t.evaluator)
	return strings.Join([]string{t.kind.Name, be.Provider, be.Model, be.BaseURL, t.evaluator.APIKeyEnv.V}, " ")
}

// Hold is true: full files are better than early ones.
func (t *await) Hold() bool { return true }

// Run does the work of a single node.
func (t *await) Run(ctx context.Context, job *graph.Job) error {
	return t.RunGroup(ctx, []*graph.Job{job})
}

// RunGroup takes the requests of all jobs one step further.
func (t *await) RunGroup(ctx context.Context, jobs []*graph.Job) error {
	e, err := t.office.connect(ctx, t.evaluator)
	if err != nil {
		return err
	}
	var all []batch.Request
	own := make([][]batch.Request, len(jobs))
	seen := map[string]bool{}
	for i, job := range jobs {
		if own[i], err = readInput[batch.Request](job, "requests"); err != nil {
			return err
		}
		for _, r := range own[i] {
			if !seen[r.Key] {
				seen[r.Key] = true
				all = append(all, r)
			}
		}
	}
	if err := t.office.desk.Register(ctx, e, all); err != nil {
		return err
	}
	progress, trouble := t.office.desk.Advance(ctx, e, all) // progress is valid beside an error
	t.office.saw(ctx, t.Group(), progress.Batches)
	for i, job := range jobs {
		p, err := t.office.desk.Status(ctx, keys(own[i]))
		if err != nil {
			return err
		}
		job.Progress(graph.Progress{Done: int64(p.Answered + p.Failed), Total: int64(p.Total), Unit: "answers"})
		if p.InBatch+p.Unsent == 0 {
			if err := t.collect(ctx, job, e, own[i]); err != nil {
				job.Fail(err)
			} else {
				job.Done()
			}
			continue
		}
		if trouble != nil {
			job.Fail(trouble)
			continue
		}
		next := progress.Next
		if next.IsZero() {
			next = time.Now().Add(time.Minute)
		}
		job.Wait(next, waitNote(p, progress))
	}
	return nil
}

// waitNote says what a node waits for.
func waitNote(own, all batch.Progress) string {
	note := fmt.Sprintf("%d of %d answered", own.Answered+own.Failed, own.Total)
	if all.Uncertain > 0 {
		note += fmt.Sprintf(" (%d may have been sent: the server cannot say)", all.Uncertain)
	}
	if own.InBatch > 0 {
		note += fmt.Sprintf(", %d in a batch", own.InBatch)
	}
	if own.Unsent > 0 {
		note += fmt.Sprintf(", %d to send", own.Unsent)
	}
	if len(all.Notes) > 0 {
		note += ": " + strings.Join(all.Notes, "; ")
	}
	return note
}

func keys(rs []batch.Request) []string {
	out := make([]string, len(rs))
	for i, r := range rs {
		out[i] = r.Key
	}
	return out
}

// collect writes the answers of one request file.
func (t *await) collect(ctx context.Context, job *graph.Job, e batch.Evaluator, rs []batch.Request) error {
	failed, models := 0, map[string]bool{}
	var tokens batch.Usage
	err := job.Write("answers", func(w io.Writer) error {
		b := bufio.NewWriterSize(w, 1<<20)
		enc := json.NewEncoder(b)
		enc.SetEscapeHTML(false)
		next := 0
		err := t.office.desk.Answers(ctx, e, keys(rs), func(i int, a batch.Answer) error {
			if i != next {
				return fmt.Errorf("answer %d came where %d was due", i, next)
			}
			next++
			if a.Status != batch.StatusOK {
				failed++
			}
			if a.Model != "" {
				models[a.Model] = true
			}
			tokens.Prompt += a.Usage.Prompt
			tokens.Completion += a.Usage.Completion
			return enc.Encode(a)
		})
		if err == nil && next != len(rs) {
			err = fmt.Errorf("%d of %d answers are there", next, len(rs))
		}
		if err != nil {
			return err
		}
		return b.Flush()
	})
	if err != nil {
		return err
	}
	job.Note("requests", fmt.Sprint(len(rs)))
	job.Note("failed", fmt.Sprint(failed))
	job.Note("prompt tokens", fmt.Sprint(tokens.Prompt))
	job.Note("completion tokens", fmt.Sprint(tokens.Completion))
	job.Note("answered by", strings.Join(sortedKeys(models), ", "))
	return nil
}
