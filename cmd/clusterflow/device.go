package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"clusterflow/graph"
	"clusterflow/internal/llm/worker"
	"clusterflow/tasks"
)

// workerName is the program that computes on a card.
const workerName = "clusterflow-cuda"

// deviceFlags say where models are run.
type deviceFlags struct {
	device, memory string
	limit          uint64 // memory, in bytes; 0 for none
}

func (f *deviceFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.device, "device", "auto", "run models on cuda (an NVIDIA card), on the cpu, or auto: on a card where there is one")
	c.Flags().StringVar(&f.memory, "gpu-memory", "", "memory of the card to get by with, such as 16GB (default: nine tenths of what is free)")
}

// findWorker is where the worker lies: beside this program, or on the PATH.
func findWorker() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), workerName)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	return exec.LookPath(workerName)
}

// check refuses what the flags cannot be.
func (f *deviceFlags) check() error {
	switch f.device {
	case "auto", "cpu", "cuda":
	default:
		return fmt.Errorf("--device %q: it is auto, cpu or cuda", f.device)
	}
	if f.memory == "" {
		return nil
	}
	var err error
	if f.limit, err = humanize.ParseBytes(f.memory); err != nil || f.limit == 0 {
		return fmt.Errorf("--gpu-memory %q is no amount of memory; write it as 16GB", f.memory)
	}
	return nil
}

// forPlan returns a context in which tasks run models where the flags say, if
// the plan runs any. With auto it tells why a card cannot be used, where the
// worker for one is installed.
func (f *deviceFlags) forPlan(ctx context.Context, a *app, p *planned) (context.Context, error) {
	runs := slices.ContainsFunc(p.Steps, func(s *graph.Step) bool {
		return s.Node.Kind() == "extract" && s.State != graph.Cached
	})
	if !runs || f.device == "cpu" {
		return ctx, nil
	}
	path, err := findWorker()
	if err != nil && f.device == "auto" {
		return ctx, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--device cuda needs the program %s beside clusterflow or on the PATH: %w; go build -tags cuda ./cmd/%s makes it", workerName, err, workerName)
	}
	command := []string{path}
	if f.limit > 0 {
		command = append(command, fmt.Sprintf("-memory=%d", f.limit))
	}
	card, err := probe(ctx, a.err, command...)
	if err != nil && f.device == "auto" {
		fmt.Fprintf(a.err, "note: models run on the processor: %v\n", err)
		return ctx, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--device cuda: %w", err)
	}
	return tasks.WithDevice(ctx, card), nil
}

// thinking is how long a card may take without a word to the user.
var thinking = 3 * time.Second

// probe asks a worker what it computes on, and tells the user what takes so long
// when it is used for the first time.
func probe(ctx context.Context, notes io.Writer, command ...string) (*worker.Process, error) {
	var card *worker.Process
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		card, err = worker.Probe(ctx, command...)
	}()
	select {
	case <-done:
	case <-time.After(thinking):
		fmt.Fprintln(notes, "note: the card's driver compiles the kernels, as it does for a new card, driver or version of clusterflow")
		<-done
	}
	return card, err
}
