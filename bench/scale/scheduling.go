package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"clusterflow/cache"
	"clusterflow/graph"
)

// trivial is a task that stores a few bytes.
type trivial struct{ n int }

func (t *trivial) Kind() string         { return "trivial" }
func (t *trivial) Version() string      { return "1" }
func (t *trivial) Params() []cache.Line { return []cache.Line{{Label: "n", Value: strconv.Itoa(t.n)}} }
func (t *trivial) Run(_ context.Context, job *graph.Job) error {
	return job.Put("out", strconv.AppendInt(nil, int64(t.n), 10))
}

// scheduling measures what it costs to run n tasks that do nothing, each
// recorded durably: 100 chains, two tasks at a time.
func scheduling(ctx context.Context, dir string, n int) (err error) {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	nodes := make([]*graph.Node, n)
	for i := range nodes {
		nodes[i] = &graph.Node{Addr: "t/" + strconv.Itoa(i), Stage: "T", Task: &trivial{i}, Need: graph.Need{Threads: 1}}
		if i >= 100 {
			nodes[i].Inputs = []graph.Input{{Name: "before", From: nodes[i-100], Output: "out"}}
		}
	}
	g, err := graph.Build(nodes)
	if err != nil {
		return err
	}
	store, err := cache.Open(ctx, cache.Options{Dir: filepath.Join(dir, "cache"), Command: "scale"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	known, err := store.Reader()
	if err != nil {
		return err
	}
	p, err := graph.NewPlan(ctx, g, nil, known, nil)
	if err != nil {
		return err
	}
	x := graph.Executor{Store: store, Threads: 2, Run: cache.Run{StudyID: "trivial"}}
	begin := time.Now()
	sum, err := x.Apply(ctx, p)
	if err != nil {
		return err
	}
	if sum.Ran != n {
		return fmt.Errorf("%d of %d trivial tasks ran", sum.Ran, n)
	}
	fmt.Printf("%s trivial tasks, two at a time: %.1f µs each\n", thousands(n), float64(time.Since(begin).Microseconds())/float64(n))
	return nil
}
