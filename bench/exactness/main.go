// Command exactness makes the tables of docs/exactness.md: how far hidden
// states are from a plain float64 forward pass, for made checkpoints of every
// architecture, type of weights and precision; and what becomes of the labels
// of clusters in each precision.
//
//	go run ./bench/exactness
//	go run ./bench/exactness -model DIR -layers 4,12 -responses FILE -tokens 1000
//
// With -model it compares the precisions on a checkpoint of yours: by the rows
// of its sentences, and by the labels of their clusters.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
)

func main() {
	var b bench
	flag.StringVar(&b.responses, "responses", "studies/demo/traces.json", "JSON `file`, a list of objects with full_response")
	flag.IntVar(&b.n, "n", 80, "how many of them")
	flag.IntVar(&b.tokens, "tokens", 4096, "responses are cut there")
	flag.IntVar(&b.longest, "longest", 1000, "tokens of the longest sequence that is compared with float64")
	flag.IntVar(&b.clusters, "clusters", 10, "of spherical k-means")
	flag.StringVar(&b.model, "model", "", "a checkpoint's `folder`, in place of made ones")
	flag.StringVar(&b.layers, "layers", "", "layers of it that are clustered, such as 4,12 (default: the last)")
	flag.IntVar(&b.threads, "threads", runtime.NumCPU(), "threads")
	flag.Parse()
	if err := b.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "exactness:", err)
		os.Exit(1)
	}
}

type bench struct {
	responses, model, layers              string
	n, tokens, longest, clusters, threads int
}

func (b *bench) run(ctx context.Context) error {
	if b.model != "" {
		return b.ownModel(ctx)
	}
	dir, err := os.MkdirTemp("", "clusterflow-exactness-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("Largest relative error of a layer, ‖out − ref‖/‖ref‖, over sequences of 1, 37 and %d tokens; %s.\n\n", b.longest, linalg.Backend().Name)
	header("architecture, weights", llm.Precisions())
	var clustered []string
	for _, m := range models {
		for _, dtype := range []string{"F32", "BF16", "F16"} {
			path := fmt.Sprintf("%s/%s-%s", dir, m.arch, dtype)
			if err := m.write(path, dtype); err != nil {
				return err
			}
			if dtype == "BF16" {
				clustered = append(clustered, path)
			}
			if err := b.errors(ctx, path, m.arch+", "+dtype); err != nil {
				return err
			}
		}
	}
	fmt.Println()
	return b.labels(ctx, clustered, []int{blocks - 1})
}

func header(first string, precisions []llm.Precision, more ...string) {
	fmt.Printf("| %s |", first)
	for _, p := range precisions {
		fmt.Printf(" `%s` |", p)
	}
	for _, column := range more {
		fmt.Printf(" %s |", column)
	}
	fmt.Printf("\n|---|%s\n", strings.Repeat("---|", len(precisions)+len(more)))
}

// errors prints a row of the first table.
func (b *bench) errors(ctx context.Context, path, name string) error {
	ref, err := openReference(path)
	if err != nil {
		return err
	}
	ckpt, err := llm.Open(path)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	var seqs []llm.Sequence
	var want [][][][]float64 // by sequence, layer, token
	rng := linalg.Rand(1, "bench exactness")
	for _, n := range []int{1, 37, b.longest} {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(rng.IntN(ckpt.Config.Vocab))
		}
		seqs = append(seqs, llm.Sequence{IDs: ids, Layers: allLayers(ckpt)})
		want = append(want, ref.forward(ids, b.threads))
	}
	fmt.Printf("| %s |", name)
	for _, p := range llm.Precisions() {
		worst := make([]float64, len(seqs))
		err := ckpt.Forward(ctx, llm.Pass{Sequences: seqs, Precision: p, Threads: b.threads, Visit: func(layer, seq int, got linalg.Matrix) error {
			worst[seq] = max(worst[seq], relativeError(got, want[seq][layer])) // calls of one sequence come one by one
			return nil
		}})
		if err != nil {
			return err
		}
		fmt.Printf(" %.1e |", slices.Max(worst))
	}
	fmt.Println()
	return nil
}

func allLayers(c *llm.Checkpoint) []int {
	layers := make([]int, c.Layers())
	for i := range layers {
		layers[i] = i
	}
	return layers
}

// ownModel prints the table of labels for the user's checkpoint.
func (b *bench) ownModel(ctx context.Context) error {
	ckpt, err := llm.Open(b.model)
	if err != nil {
		return err
	}
	layers := []int{ckpt.Layers() - 1}
	ckpt.Close()
	if b.layers != "" {
		layers = nil
		for _, field := range strings.Split(b.layers, ",") {
			l, err := strconv.Atoi(field)
			if err != nil {
				return fmt.Errorf("-layers: %w", err)
			}
			layers = append(layers, l)
		}
	}
	return b.labels(ctx, []string{b.model}, layers)
}
