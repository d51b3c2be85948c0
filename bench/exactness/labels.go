package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
)

// labels prints the tables of rows and labels: in each precision, how far the
// rows of the sentences are from those in f32, and the adjusted Rand index of
// the labels of their clusters against those in f32, with that of f32 and another
// seed, which shows how firm the clusters are. Models without a
// tokenizer are given the built-in one.
func (b *bench) labels(ctx context.Context, models []string, layers []int) error {
	fmt.Printf("Rows of the sentences of %d responses: relative difference from those in f32, and the adjusted Rand index of the labels of %d clusters against those in f32.\n\n", b.n, b.clusters)
	header("model, layer, sentences", llm.Precisions()[1:], "f32, another seed")
	for _, path := range models {
		ckpt, err := llm.Open(path)
		if err != nil {
			return err
		}
		err = b.labelsOf(ctx, ckpt, filepath.Base(path), layers)
		if err := errors.Join(err, ckpt.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) labelsOf(ctx context.Context, ckpt *llm.Checkpoint, name string, layers []int) error {
	tok, err := ckpt.Tokenizer()
	if err != nil {
		if tok, err = llm.TokenizerOf(llm.BuiltinTiny); err != nil {
			return err
		}
	}
	seqs, spans, err := b.sentences(tok)
	if err != nil {
		return err
	}
	for i := range seqs {
		seqs[i].Layers = layers
	}
	rows := map[llm.Precision]map[int]linalg.Matrix{}
	for _, p := range llm.Precisions() {
		if rows[p], err = b.rows(ctx, ckpt, seqs, spans, p); err != nil {
			return err
		}
	}
	for _, layer := range layers {
		base := rows[llm.F32][layer]
		want, err := b.cluster(ctx, base, 42)
		if err != nil {
			return err
		}
		fmt.Printf("| %s, %d, %d |", name, layer, base.Rows)
		for _, p := range llm.Precisions()[1:] {
			x := rows[p][layer]
			got, err := b.cluster(ctx, x, 42)
			if err != nil {
				return err
			}
			fmt.Printf(" %.1e, %.3f |", rowsDifference(x, base), cluster.AdjustedRand(want, got))
		}
		other, err := b.cluster(ctx, base, 43)
		if err != nil {
			return err
		}
		fmt.Printf(" %.3f |\n", cluster.AdjustedRand(want, other))
	}
	return nil
}

// sentences tokenizes the responses and finds the tokens of their sentences.
func (b *bench) sentences(tok *llm.Tokenizer) ([]llm.Sequence, [][]llm.Span, error) {
	data, err := os.ReadFile(b.responses)
	if err != nil {
		return nil, nil, err
	}
	var all []struct {
		Text string `json:"full_response"`
	}
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", b.responses, err)
	}
	var seqs []llm.Sequence
	var spans [][]llm.Span
	for _, r := range all[:min(b.n, len(all))] {
		e, err := tok.Encode(r.Text, "auto")
		if err != nil {
			return nil, nil, err
		}
		start, end, _ := llm.Thinking(r.Text)
		var of []llm.Span
		for _, s := range llm.Sentences(r.Text, start, end, 3) {
			from, to := e.TokenSpan(s.Start, s.End)
			if from < to && to <= b.tokens {
				of = append(of, llm.Span{Start: max(0, from-1), End: to})
			}
		}
		seqs = append(seqs, llm.Sequence{IDs: e.IDs[:min(len(e.IDs), b.tokens)]})
		spans = append(spans, of)
	}
	return seqs, spans, nil
}

// rows returns the raw rows of the sentences at each layer.
func (b *bench) rows(ctx context.Context, ckpt *llm.Checkpoint, seqs []llm.Sequence, spans [][]llm.Span, p llm.Precision) (map[int]linalg.Matrix, error) {
	first := make([]int, len(seqs))
	n := 0
	for i, of := range spans {
		first[i] = n
		n += len(of)
	}
	out := map[int]linalg.Matrix{}
	for _, layer := range seqs[0].Layers {
		out[layer] = linalg.NewMatrix(n, ckpt.Hidden())
	}
	err := ckpt.Forward(ctx, llm.Pass{Sequences: seqs, Precision: p, Threads: b.threads, Visit: func(layer, seq int, states linalg.Matrix) error {
		for k, s := range spans[seq] {
			dst := out[layer].Row(first[seq] + k)
			for i := s.Start; i < s.End; i++ {
				for j, v := range states.Row(i) {
					dst[j] += v / float32(s.End-s.Start)
				}
			}
		}
		return nil
	}})
	return out, err
}

// cluster returns the labels of centred unit rows.
func (b *bench) cluster(ctx context.Context, raw linalg.Matrix, seed int64) ([]int32, error) {
	mean := make([]float32, raw.Cols)
	for i := range raw.Rows {
		for j, v := range raw.Row(i) {
			mean[j] += v / float32(raw.Rows)
		}
	}
	x, err := cluster.Prepare(raw, mean, true, true, b.threads)
	if err != nil {
		return nil, err
	}
	method, _ := cluster.ByName("spherical_kmeans")
	options, err := method.Complete(nil)
	if err != nil {
		return nil, err
	}
	m, err := method.Fit(ctx, cluster.Input{X: x, K: b.clusters, Options: options, Seed: seed, Threads: b.threads})
	if err != nil {
		return nil, err
	}
	return m.Labels, nil
}

func rowsDifference(a, b linalg.Matrix) float64 {
	var diff, norm float64
	for i, v := range b.Data {
		d := float64(a.Data[i]) - float64(v)
		diff += d * d
		norm += float64(v) * float64(v)
	}
	return math.Sqrt(diff / norm)
}
