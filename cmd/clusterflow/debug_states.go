package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
)

// statesFlags say what debug states computes.
type statesFlags struct {
	model, layers, ids, out, precision string
	jobs                               int
}

func (a *app) debugStatesCommand() *cobra.Command {
	var f statesFlags
	c := &cobra.Command{
		Use:   "states --model MODEL --ids 1,5,9 --out FILE.npy",
		Short: "Write the hidden states of a sequence of token ids",
		Long: `Runs the model over one sequence of token ids and writes the residual stream after
the blocks asked for, before any final norm, as a float32 array [layers, tokens,
hidden] that numpy.load reads; layers count from 0 and come in ascending order.
In f32 it is exact to float32; docs/exactness.md says what the other precisions
round.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.debugStates(c.Context(), &f) },
	}
	c.Flags().StringVar(&f.model, "model", "", "a `folder` with a checkpoint, a hub id that the local cache holds, or builtin:tiny")
	c.Flags().StringVar(&f.layers, "layers", "", "layers such as 0,3 (default: all)")
	c.Flags().StringVar(&f.ids, "ids", "", "token ids such as 1,5,9; - reads them from the input, separated by commas or white space")
	c.Flags().StringVar(&f.out, "out", "", "the `file` to write")
	c.Flags().StringVar(&f.precision, "precision", "f32", "f32, bf16, f16 or int8")
	c.Flags().IntVar(&f.jobs, "jobs", runtime.NumCPU(), "threads; the result does not depend on them")
	for _, name := range []string{"model", "ids", "out"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	return c
}

func (a *app) debugStates(ctx context.Context, f *statesFlags) error {
	precision, err := llm.ParsePrecision(f.precision)
	if err != nil {
		return fmt.Errorf("--precision: %w", err)
	}
	text := f.ids
	if text == "-" {
		data, err := io.ReadAll(a.in)
		if err != nil {
			return err
		}
		text = string(data)
	}
	ids, err := numbers(text)
	if err != nil {
		return fmt.Errorf("--ids: %w", err)
	}
	if len(ids) == 0 {
		return errors.New("--ids names no token")
	}
	layers, err := numbers(f.layers)
	if err != nil {
		return fmt.Errorf("--layers: %w", err)
	}
	ckpt, err := llm.Open(f.model)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	q := llm.Sequence{}
	for _, l := range layers {
		q.Layers = append(q.Layers, int(l))
	}
	if len(layers) == 0 {
		for l := range ckpt.Layers() {
			q.Layers = append(q.Layers, l)
		}
	}
	q.IDs = ids
	var mu sync.Mutex
	var states []linalg.Matrix
	err = ckpt.Forward(ctx, llm.Pass{Sequences: []llm.Sequence{q}, Precision: precision, Threads: f.jobs, Visit: func(_, _ int, m linalg.Matrix) error {
		mu.Lock()
		defer mu.Unlock()
		states = append(states, m.Clone())
		return nil
	}})
	if err != nil {
		return err
	}
	file, err := os.Create(f.out)
	if err != nil {
		return err
	}
	shape := []int{len(states), len(ids), ckpt.Hidden()}
	if err := errors.Join(linalg.WriteNPY(file, shape, states...), file.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", f.out, err)
	}
	fmt.Fprintf(a.err, "%s: float32 %v, layers %v, %s, %s\n", f.out, shape, slices.Compact(slices.Sorted(slices.Values(q.Layers))), precision, linalg.Backend().Name)
	return nil
}

// numbers reads whole numbers separated by commas or white space.
func numbers(text string) ([]int32, error) {
	var list []int32
	for _, field := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		n, err := strconv.ParseInt(field, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number of at most 31 bits", field)
		}
		list = append(list, int32(n))
	}
	return list, nil
}
