package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/studies"
	"clusterflow/tasks"
)

// made is a task whose key is that of the task it stands for, and whose outputs
// are a few bytes that tell nodes apart: what a study costs to plan does not
// hang on what its results say.
type made struct {
	graph.Task
	outputs []string
}

func (t *made) Run(_ context.Context, job *graph.Job) error {
	for _, name := range t.outputs {
		data := []byte(job.Node.Addr + "\n" + name + "\n")
		if name != "info" { // in a real study too small for a file
			data = append(data, make([]byte, cache.InlineLimit)...)
			if err := place(job.Store.Blobs().Path(cache.Sum(data)), data); err != nil {
				return err
			}
		}
		if err := job.Put(name, data); err != nil {
			return err
		}
	}
	return nil
}

// place writes a blob without syncing it, as a copied cache has them: a file
// with a hole, so that it takes one block on the disk.
func place(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return place(path, data)
	case err != nil:
		return err
	}
	_, err = f.Write(data[:len(data)-cache.InlineLimit])
	return errors.Join(err, f.Truncate(int64(len(data))), f.Chmod(0o444), f.Close())
}

// compile makes the graph of a study file as the program does.
func compile(path string) (*tasks.Compiled, error) {
	s, diags := studies.Load(path, studies.Options{Methods: tasks.MethodSpecs()})
	if diags.HasErrors() {
		return nil, errors.Join(diags.Errs()...)
	}
	c, diags := tasks.Compile(context.Background(), s, nil)
	if diags.HasErrors() {
		return nil, errors.Join(diags.Errs()...)
	}
	return c, nil
}

// outputsOf lists what is read of each node; of the report a page, and of a
// clustering its model, which only people read.
func outputsOf(g *graph.Graph) map[*graph.Node][]string {
	out := make(map[*graph.Node][]string, len(g.Nodes))
	add := func(n *graph.Node, name string) {
		if !slices.Contains(out[n], name) {
			out[n] = append(out[n], name)
		}
	}
	for _, n := range g.Nodes {
		for _, in := range n.Inputs {
			add(in.From, in.Output)
		}
		switch n.Kind() {
		case "train":
			add(n, "model")
		case "report":
			add(n, "index.html")
		}
	}
	return out
}

// fabricate fills the cache of a study with results for every node.
func fabricate(ctx context.Context, study string) (err error) {
	c, err := compile(study)
	if err != nil {
		return err
	}
	outputs := outputsOf(c.Graph)
	for _, n := range c.Graph.Nodes {
		n.Task = &made{n.Task, outputs[n]}
		n.Need = graph.Need{Threads: 1}
	}
	store, err := cache.Open(ctx, cache.Options{Dir: filepath.Join(filepath.Dir(study), ".clusterflow"), Command: "scale"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	known, err := store.Reader()
	if err != nil {
		return err
	}
	plan, err := graph.NewPlan(ctx, c.Graph, nil, known, nil)
	if err != nil {
		return err
	}
	x := graph.Executor{Store: store, Threads: 256, Run: cache.Run{StudyID: "fabricated", Study: "scale", File: study}}
	sum, err := x.Apply(ctx, plan)
	if err != nil {
		return err
	}
	if sum.Failed > 0 {
		return fmt.Errorf("making the results: %w", sum.Failures[0].Err)
	}
	return nil
}
