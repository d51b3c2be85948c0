package graph

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"clusterflow/cache"
)

// Verdict is what came of running a cached node again.
type Verdict struct {
	Step    *Step
	Elapsed time.Duration
	Err     error        // the node failed; nothing was compared
	Differ  []Difference // outputs that are not what they were
	Near    []Difference // outputs that another backend made, near enough; see Verifier.Near
	Backend string       // what computed it now; Step.Record has what did then
}

// Difference is an output that came out otherwise.
type Difference struct {
	Output   string
	Was, Now cache.Output // zero digest: there is none
	At       int64        // first byte that differs, -1 where that is not known
	How      string       // how far apart they are, where Verifier.Near said so
}

// Verifier runs cached nodes again, as in an empty cache, and compares what
// they make with what they made. It writes nothing but blobs to Scratch.
type Verifier struct {
	From    *cache.Blobs // where inputs and earlier outputs lie
	Scratch *cache.Blobs // where new outputs go
	Threads int          // that a task may keep busy, at least 1

	// Near compares the files of an output that was made by one backend and now by
	// another: near if they are no further apart than two backends may be, how
	// says how far. Without it, and where the backend is the same, only the same
	// bits will do.
	Near func(task Task, output, was, now string) (how string, near bool, err error)
}

// Verify runs the given steps again: those of one group in one pass, otherwise
// one after the other. Every step must be cached, and not dropped, and so must
// be what it reads. done is called with each verdict.
func (v *Verifier) Verify(ctx context.Context, p *Plan, steps []*Step, done func(Verdict)) error {
	at := make([]*Step, len(p.Graph.Nodes))
	for _, s := range p.Steps {
		at[s.Node.index] = s
	}
	for _, pass := range passes(steps) {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, verdict := range v.pass(ctx, pass, at) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			done(verdict)
		}
	}
	return nil
}

// passes puts the members of a group together, in the order of the first.
func passes(steps []*Step) [][]*Step {
	var out [][]*Step
	group := map[string]int{}
	for _, s := range steps {
		g, ok := s.Node.Task.(GroupTask)
		if !ok {
			out = append(out, []*Step{s})
			continue
		}
		i, met := group[g.Group()]
		if !met {
			i = len(out)
			group[g.Group()] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], s)
	}
	return out
}

// pass runs the steps as one task.
func (v *Verifier) pass(ctx context.Context, steps []*Step, at []*Step) []Verdict {
	var mu sync.Mutex
	settled := map[*Job]error{}
	begin := time.Now()
	jobs := make([]*Job, len(steps))
	for i, s := range steps {
		jobs[i] = &Job{
			Node: s.Node, Key: s.Key, Lines: s.Lines, Threads: max(v.Threads, 1), started: begin,
			files:  scratchFiles{storeFiles{v.Scratch}, storeFiles{v.From}},
			notify: func(*Job) {},
			settle: func(j *Job, err error) {
				mu.Lock()
				defer mu.Unlock()
				settled[j] = err
			},
		}
		for _, in := range s.Node.Inputs {
			out, _ := at[in.From.index].Record.Output(in.Output)
			jobs[i].inputs = append(jobs[i].inputs, out)
		}
	}
	_, group := steps[0].Node.Task.(GroupTask)
	err := runTask(ctx, jobs, group)
	verdicts := make([]Verdict, len(steps))
	for i, j := range jobs {
		j.finish(err)
		r := j.record(begin, "")
		verdicts[i] = Verdict{Step: steps[i], Elapsed: r.Finished.Sub(begin), Backend: r.Backend}
		mu.Lock()
		verdicts[i].Err = settled[j]
		mu.Unlock()
		if verdicts[i].Err == nil {
			verdicts[i].Differ, verdicts[i].Err = v.compare(steps[i].Record.Outputs, r.Outputs)
		}
		if verdicts[i].Err == nil && r.Backend != steps[i].Record.Backend {
			verdicts[i].Err = v.measure(&verdicts[i])
		}
	}
	return verdicts
}

// measure moves the differences that two backends may have from Differ to Near.
func (v *Verifier) measure(r *Verdict) error {
	if v.Near == nil {
		return nil
	}
	files := scratchFiles{storeFiles{v.Scratch}, storeFiles{v.From}}
	var far []Difference
	for _, d := range r.Differ {
		near := false
		if !d.Was.Digest.IsZero() && !d.Now.Digest.IsZero() {
			was, err := files.path(d.Was)
			if err != nil {
				return err
			}
			now, err := files.storeFiles.path(d.Now)
			if err != nil {
				return err
			}
			if d.How, near, err = v.Near(r.Step.Node.Task, d.Output, was, now); err != nil {
				return fmt.Errorf("comparing %s: %w", d.Output, err)
			}
		}
		if near {
			r.Near = append(r.Near, d)
		} else {
			far = append(far, d)
		}
	}
	r.Differ = far
	return nil
}

// compare lists the outputs that are not the same.
func (v *Verifier) compare(was, now []cache.Output) ([]Difference, error) {
	byName := map[string]cache.Output{}
	for _, o := range now {
		byName[o.Name] = o
	}
	var out []Difference
	for _, o := range was {
		n, ok := byName[o.Name]
		delete(byName, o.Name)
		if ok && n.Digest == o.Digest {
			continue
		}
		d := Difference{Output: o.Name, Was: o, Now: n, At: -1}
		if ok {
			var err error
			if d.At, err = v.firstDifference(o, n); err != nil {
				return nil, err
			}
		}
		out = append(out, d)
	}
	for _, n := range now {
		if _, only := byName[n.Name]; only {
			out = append(out, Difference{Output: n.Name, Now: n, At: -1})
		}
	}
	return out, nil
}

// firstDifference is the offset of the first byte that differs; -1 if the
// earlier output is not there to be compared.
func (v *Verifier) firstDifference(was, now cache.Output) (int64, error) {
	a, err := storeFiles{v.From}.open(was)
	if err != nil {
		return -1, nil //nolint:nilerr // the digests have told that they differ
	}
	defer a.Close()
	b, err := storeFiles{v.Scratch}.open(now)
	if err != nil {
		return -1, err
	}
	defer b.Close()
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		for i := range min(n, m) {
			if bufA[i] != bufB[i] {
				return at + int64(i), nil
			}
		}
		at += int64(min(n, m))
		if n != m {
			return at, nil
		}
		for _, err := range []error{errA, errB} {
			switch {
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				return at, nil
			case err != nil:
				return -1, fmt.Errorf("comparing %s: %w", was.Name, err)
			}
		}
	}
}

// scratchFiles reads from one cache and writes to another.
type scratchFiles struct {
	storeFiles // outputs
	from       storeFiles
}

func (s scratchFiles) bytes(in cache.Output) ([]byte, error) { return s.from.bytes(in) }

func (s scratchFiles) open(in cache.Output) (io.ReadCloser, error) { return s.from.open(in) }

func (s scratchFiles) path(in cache.Output) (string, error) {
	if in.Inline != nil {
		return s.storeFiles.path(in)
	}
	return s.from.path(in)
}
