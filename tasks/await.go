package tasks

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
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
	return strings.Join([]string{t.kind.Name, be.Provider, be.Model, be.BaseURL, t.evaluator.APIKeyEnv.V, t.evaluator.Mode.V}, " ")
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
	own := make([][]string, len(jobs)) // request keys
	left := make([]bool, len(jobs))    // whether a pilot leaves some of them out
	for i, job := range jobs {
		f, err := t.office.asked(job)
		if err != nil {
			return err
		}
		own[i] = f.keys
		if t.office.pilot != nil && job.Node.Dest != (graph.Destination{}) {
			unsent, err := t.office.desk.Unsent(ctx, f.keys)
			if err != nil {
				return err
			}
			if own[i], left[i], err = t.office.pilot.cut(job, t.evaluator, f, unsent); err != nil {
				return err
			}
		}
	}
	all, err := t.requests(ctx, e, jobs, own)
	if err != nil {
		return err
	}
	if e.Direct {
		if e.Answered, err = t.counter(ctx, jobs, own); err != nil {
			return err
		}
	}
	progress, trouble := t.office.desk.Advance(ctx, e, all) // progress is valid beside an error
	t.office.saw(ctx, t.Group(), progress.Batches)
	var ended []*graph.Job
	for i, job := range jobs {
		p, err := t.office.desk.Status(ctx, own[i])
		if err != nil {
			return err
		}
		job.Progress(graph.Progress{Done: int64(p.Answered + p.Failed), Total: int64(p.Total), Unit: "answers"})
		if p.InBatch+p.Unsent == 0 {
			if left[i] {
				job.Fail(fmt.Errorf("%w: the pilot has its answers", graph.ErrLeft))
				continue
			}
			if t.collected(ctx, job, e, own[i]) {
				ended = append(ended, job)
			}
			continue
		}
		if err := troubleOf(p, trouble); err != nil {
			job.Fail(err)
			continue
		}
		next := progress.Next
		if next.IsZero() {
			next = time.Now().Add(time.Minute)
		}
		job.Wait(next, waitNote(p, progress))
	}
	for _, job := range ended { // together: what they lead to is asked in the same files
		job.Done()
	}
	return nil
}

// counter shows the answers to direct requests as they come in: a turn may take
// hours. It is called by one goroutine at a time.
func (t *await) counter(ctx context.Context, jobs []*graph.Job, own [][]string) (func(key string), error) {
	whose := map[string][]int{}
	done := make([]int, len(jobs))
	shown := make([]time.Time, len(jobs))
	for i, keys := range own {
		p, err := t.office.desk.Status(ctx, keys)
		if err != nil {
			return nil, err
		}
		done[i] = p.Answered + p.Failed
		for _, k := range keys {
			whose[k] = append(whose[k], i)
		}
	}
	return func(key string) {
		for _, i := range whose[key] {
			done[i]++
			if now := time.Now(); now.Sub(shown[i]) > time.Second/2 {
				shown[i] = now
				jobs[i].Progress(graph.Progress{Done: int64(done[i]), Total: int64(len(own[i])), Unit: "answers"})
			}
		}
	}, nil
}

// bodyBudget is how many bytes of requests are held in memory to be sent at a
// time, a full batch file, and bodyCount of how many of them, two full files;
// what is beyond is sent in the next pass.
const (
	bodyBudget = 200 << 20
	bodyCount  = 100_000
)

// requests lists the requests of all jobs once each, with the bodies of those
// that are to be sent, as far as the budget goes.
func (t *await) requests(ctx context.Context, e batch.Evaluator, jobs []*graph.Job, own [][]string) ([]batch.Request, error) {
	var all []batch.Request
	at := map[string]int{}
	for _, keys := range own {
		for _, k := range keys {
			if _, ok := at[k]; !ok {
				at[k] = len(all)
				all = append(all, batch.Request{Key: k})
			}
		}
	}
	if err := t.office.desk.Register(ctx, e, all); err != nil {
		return nil, err
	}
	budget, count := bodyBudget, bodyCount
	for i, job := range jobs {
		unsent, err := t.office.desk.Unsent(ctx, own[i])
		if err != nil {
			return nil, err
		}
		if len(unsent) == 0 || budget <= 0 || count == 0 {
			continue
		}
		if err := t.office.ceiling.admit(destination(t.evaluator), unsent); err != nil {
			job.Fail(err)
			continue
		}
		rs, err := readInput[batch.Request](job, "requests")
		if err != nil {
			return nil, err
		}
		for _, r := range rs {
			if unsent[r.Key] && budget > 0 && count > 0 && all[at[r.Key]].Body == nil {
				all[at[r.Key]].Body = r.Body
				budget -= len(r.Body)
				count--
			}
		}
	}
	return all, nil
}

// troubleOf is the part of an error of Advance that concerns a job: trouble
// with batches that hold its requests, or with sending what it has unsent.
func troubleOf(p batch.Progress, trouble error) error {
	if trouble == nil {
		return nil
	}
	list := []error{trouble}
	if joined, ok := trouble.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	var own []error
	for _, err := range list {
		var one *batch.IntentError
		if errors.As(err, &one) && slices.Contains(p.Intents, one.Intent) || one == nil && (p.Unsent > 0 || batch.IsStorage(err)) {
			own = append(own, err)
		}
	}
	return errors.Join(own...)
}

// collected writes the answers of a job whose requests are all answered, or
// settles it otherwise: stored answers that are missing or damaged are fetched
// again first.
func (t *await) collected(ctx context.Context, job *graph.Job, e batch.Evaluator, keys []string) bool {
	if n, err := t.askAgain(ctx, job, e, keys); err != nil {
		job.Fail(err)
		return false
	} else if n > 0 {
		job.Wait(time.Now(), fmt.Sprintf("%d of %d answers cannot be used and are asked for again", n, len(keys)))
		return false
	}
	err := t.collect(ctx, job, e, keys)
	if err != nil {
		lost, again := t.office.desk.Reopen(ctx, e, keys)
		switch {
		case again != nil:
			err = errors.Join(err, again)
		case lost > 0:
			job.Wait(time.Now(), fmt.Sprintf("%d stored answers are missing or damaged and are fetched again", lost))
			return false
		default: // another group has fetched them meanwhile, or it is something else
			err = t.collect(ctx, job, e, keys)
		}
	}
	if err != nil {
		job.Fail(err)
	}
	return err == nil
}

// askAgain gives answers that cannot be used at all back to be asked for again, as
// often as the evaluator allows, and returns how many those are.
func (t *await) askAgain(ctx context.Context, job *graph.Job, e batch.Evaluator, keys []string) (int, error) {
	most := t.evaluator.Retries.V
	if most == 0 {
		return 0, nil
	}
	rs, err := readInput[request](job, "requests")
	if err != nil {
		return 0, err
	}
	var bad []string
	err = t.office.desk.Answers(ctx, e, keys, func(i int, a batch.Answer) error {
		v, _, err := (&Asked{Key: rs[i].Key, Body: rs[i].Body, Answer: &a}).Verdict()
		if v.Bad() {
			bad = append(bad, rs[i].Key)
		}
		return err
	})
	if err != nil || len(bad) == 0 {
		return 0, nil // what cannot be read is fetched again by collect
	}
	return t.office.desk.AskAgain(ctx, e, bad, most)
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

// collect writes the answers of one request file.
func (t *await) collect(ctx context.Context, job *graph.Job, e batch.Evaluator, keys []string) error {
	asked, err := t.office.asked(job)
	if err != nil {
		return err
	}
	failed, models, lengths := 0, map[string]bool{}, map[string]*length{}
	var tokens batch.Usage
	err = job.Write("answers", func(w io.Writer) error {
		b := bufio.NewWriterSize(w, 1<<20)
		enc := json.NewEncoder(b)
		enc.SetEscapeHTML(false)
		next := 0
		err := t.office.desk.Answers(ctx, e, keys, func(i int, a batch.Answer) error {
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
			if n := a.Usage.Completion; n > 0 {
				h := asked.heads[i]
				if lengths[h.Task] == nil {
					lengths[h.Task] = &length{}
				}
				lengths[h.Task].limit += int64(h.Body.Most)
				lengths[h.Task].tokens += int64(n)
			}
			return enc.Encode(a)
		})
		if err == nil && next != len(keys) {
			err = fmt.Errorf("%d of %d answers are there", next, len(keys))
		}
		if err != nil {
			return err
		}
		return b.Flush()
	})
	if err != nil {
		return err
	}
	job.Note("requests", fmt.Sprint(len(keys)))
	job.Note("failed", fmt.Sprint(failed))
	job.Note("prompt tokens", fmt.Sprint(tokens.Prompt))
	job.Note("completion tokens", fmt.Sprint(tokens.Completion))
	for task, l := range lengths {
		job.Note(noteLimit+task, fmt.Sprint(l.limit))
		job.Note(noteCompletion+task, fmt.Sprint(l.tokens))
	}
	job.Note("answered by", strings.Join(sortedKeys(models), ", "))
	return nil
}
