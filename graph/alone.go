package graph

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"clusterflow/cache"
)

// KeyLines are the key lines of a node whose inputs and sources have these
// contents, in the order of Node.Inputs and Node.Sources.
func KeyLines(n *Node, inputs, sources []cache.Digest) []cache.Line { return lines(n, inputs, sources) }

// Alone runs one node outside of any run and without a cache: its inputs are
// files, its outputs become files below Outputs. The task gets the same Job as
// in a run and makes the same bytes.
type Alone struct {
	Node    *Node
	Key     cache.Digest   // that the node must have; the task is refused otherwise
	Inputs  []File         // in the order of Node.Inputs
	Sources []cache.Digest // contents that the files of Node.Sources must have
	Outputs string         // folder; it is made if need be
	Threads int            // that the task may keep busy, at least 1

	Digest   func(path string) (cache.Digest, error) // of a source
	Progress func(Progress)                          // how far it has come; may be nil
	Note     func(name, value string)                // a fact about the run; may be nil
}

// File is an input by path, with the content that it must have.
type File struct {
	Path   string
	Digest cache.Digest
	Size   int64
}

// Run does the work. The record has the outputs' digests; it is in no cache. A
// task that would wait for something outside has failed.
func (a *Alone) Run(ctx context.Context) (*cache.Record, error) {
	ins := make([]cache.Digest, len(a.Inputs))
	outs := make([]cache.Output, len(a.Inputs))
	paths := map[cache.Digest]string{}
	for i, f := range a.Inputs {
		ins[i] = f.Digest
		outs[i] = cache.Output{Name: a.Node.Inputs[i].Output, Digest: f.Digest, Size: f.Size}
		paths[f.Digest] = f.Path
	}
	if err := a.sources(); err != nil {
		return nil, err
	}
	ls := lines(a.Node, ins, a.Sources)
	if key := KeyOf(ls); key != a.Key {
		return nil, fmt.Errorf("%s: these parameters, sources and inputs make the key %s, and not %s as given: the description was changed, or another release wrote it",
			a.Node.Addr, key.Short(), a.Key.Short())
	}
	if err := os.MkdirAll(a.Outputs, 0o755); err != nil {
		return nil, err
	}
	var settled error
	begin := time.Now()
	job := &Job{
		Node: a.Node, Key: a.Key, Threads: max(a.Threads, 1), Lines: ls,
		files: plainFiles{paths, a.Outputs}, inputs: outs, started: begin, noted: a.Note,
		notify: func(j *Job) {
			if a.Progress != nil {
				p, _ := j.snapshot()
				a.Progress(p)
			}
		},
		settle: func(_ *Job, err error) { settled = err },
	}
	_, group := a.Node.Task.(GroupTask)
	job.finish(runTask(ctx, []*Job{job}, group)) // does nothing if the task has settled it
	if settled != nil {
		return nil, settled
	}
	if err := a.sources(); err != nil { // edited while it was read
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return job.record(begin, host), nil
}

// sources fails if a source does not have the content that it must have.
func (a *Alone) sources() error {
	for i, src := range a.Node.Sources {
		got, err := a.Digest(src.Path)
		if err != nil {
			return &SourceError{a.Node.Addr, src.Path, err}
		}
		if got != a.Sources[i] {
			return &SourceError{a.Node.Addr, src.Path, errors.New("its content is not what the task was given")}
		}
	}
	return nil
}
