package cluster

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"clusterflow/internal/linalg"
)

// directions are n unit rows near k directions of d columns, row i near i mod k.
func directions(n, d, k int, noise float64) linalg.Matrix {
	rng := rand.New(rand.NewPCG(uint64(n), uint64(d)))
	base := linalg.NewMatrix(k, d)
	for i := range base.Data {
		base.Data[i] = float32(rng.NormFloat64())
	}
	x := linalg.NewMatrix(n, d)
	for i := range n {
		row, b := x.Row(i), base.Row(i%k)
		by := 1 / Norm(b)
		for j := range row {
			row[j] = float32(float64(b[j])*by + noise*rng.NormFloat64()/math.Sqrt(float64(d)))
		}
		scaleTo(row, row, 1/Norm(row))
	}
	return x
}

// lossOf is the loss as its definition says, in float64.
func lossOf(s *sae, x linalg.Matrix, which []int) float64 {
	mean := make([]float64, s.d)
	for _, i := range which {
		for j, v := range x.Row(i) {
			mean[j] += float64(v) / float64(len(which))
		}
	}
	lost, spread := 0.0, 0.0
	for _, i := range which {
		z := make([]float64, s.k)
		for j := range z {
			z[j] = float64(s.bias[j])
			for c, v := range x.Row(i) {
				z[j] += float64(s.weights.Row(j)[c]) * (float64(v) - float64(s.origin[c]))
			}
		}
		kept := largest(z, s.keep, nil)
		for c, v := range x.Row(i) {
			out := float64(s.origin[c])
			for _, j := range kept {
				out += z[j] * float64(s.decoder().Row(j)[c])
			}
			lost += (out - float64(v)) * (out - float64(v))
			spread += (float64(v) - mean[c]) * (float64(v) - mean[c])
		}
	}
	return lost / spread
}

// The first step of Adam moves every parameter against the sign of its
// gradient, and its moments hold the gradient itself: compared with differences
// of the loss.
func TestSAEGradient(t *testing.T) {
	x := directions(40, 7, 5, 0.5)
	norms, err := squaredNorms(x, 1)
	if err != nil {
		t.Fatal(err)
	}
	s := newSAE(Input{X: x, K: 6, Seed: 3, Threads: 1}, 3)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range s.bias {
		s.bias[i] = float32(rng.NormFloat64() / 10)
	}
	for i := range s.origin {
		s.origin[i] = float32(rng.NormFloat64() / 10)
	}
	which := []int{3, 1, 4, 15, 9, 2, 6, 5, 35, 8, 30, 31}
	before := s.clone()
	tr := &saeTrainer{sae: s, x: x, norms: norms, batch: len(which), rate: 1e-3}
	tr.room()
	loss, ok := tr.step(which)
	if want := lossOf(before, x, which); !ok || math.Abs(loss-want) > 1e-5 {
		t.Errorf("loss %v, want %v", loss, want)
	}
	check := func(name string, params, first []float32) {
		t.Helper()
		for i := range params {
			was := params[i]
			const h = 1e-3
			params[i] = was + h
			up := lossOf(before, x, which)
			params[i] = was - h
			down := lossOf(before, x, which)
			params[i] = was
			want, got := (up-down)/(2*h), float64(first[i])/(1-adamBeta1)
			if math.Abs(got-want) > 2e-3*max(1, math.Abs(want)) {
				t.Errorf("%s %d: gradient %v, by differences %v", name, i, got, want)
			}
		}
	}
	check("weights", before.weights.Data, tr.first.Data)
	check("bias", before.bias, tr.biasFirst)
	check("origin", before.origin, tr.originFirst)
}

// One direction for each latent is found, from any number of threads the same.
func TestSAEFindsDirections(t *testing.T) {
	x := directions(1200, 24, 6, 0.2)
	var first *Model
	for _, threads := range []int{1, 3} {
		m, err := fitSAE(t.Context(), Input{X: x, K: 6, Seed: 1, Threads: threads, Options: map[string]any{"top_k": 1, "batch_size": 100, "learning_rate": 0.001}})
		if err != nil {
			t.Fatal(err)
		}
		pairs := map[[2]int32]int{}
		for i, l := range m.Labels {
			pairs[[2]int32{int32(i % 6), l}]++
		}
		most := 0
		for d := range int32(6) {
			best := 0
			for l := range int32(6) {
				best = max(best, pairs[[2]int32{d, l}])
			}
			most += best
		}
		if most < 1000 { // two latents may share a direction, and then one is left over
			t.Errorf("%d of 1200 rows are with their direction: %v", most, pairs)
		}
		if got := 1 - m.Info["loss_all_rows"]; got < 0.7 {
			t.Errorf("explains %.3f of the variance", got)
		}
		s := &sae{k: 6, d: 24, keep: 1, weights: linalg.NewMatrix(12, 24), bias: m.Tensors["encoder_bias"].Data, origin: m.Tensors["decoder_bias"].Data}
		copy(s.weights.Data, m.Tensors["encoder"].Data)
		copy(s.weights.Data[6*24:], m.Tensors["decoder"].Data)
		all := make([]int, x.Rows)
		for i := range all {
			all[i] = i
		}
		if want := lossOf(s, x, all); math.Abs(m.Info["loss_all_rows"]-want) > 1e-5 {
			t.Errorf("loss of all rows %v, by its definition %v", m.Info["loss_all_rows"], want)
		}
		if first == nil {
			first = m
			continue
		}
		for i, v := range m.Tensors["encoder"].Data {
			if v != first.Tensors["encoder"].Data[i] {
				t.Fatal("other bits with another number of threads")
			}
		}
	}
}

func TestSAEOddInput(t *testing.T) {
	fit := func(x linalg.Matrix, k int) (*Model, error) {
		return fitSAE(t.Context(), Input{X: x, K: k, Seed: 1, Threads: 2, Options: map[string]any{"max_epochs": 5}})
	}
	x := directions(513, 8, 3, 0.3) // the last batch has one row
	if m, err := fit(x, 5); err != nil || len(m.Labels) != 513 || m.Info["epochs"] != 5 {
		t.Errorf("513 rows: %v, %v", m, err)
	}
	if _, err := fit(x.Slice(0, 4), 4); err != nil { // N = k
		t.Error(err)
	}
	same := linalg.NewMatrix(20, 4)
	for i := range same.Data {
		same.Data[i] = 0.5
	}
	if _, err := fit(same, 3); !errors.Is(err, errNoSpread) {
		t.Errorf("equal rows: %v", err)
	}
	bad := x.Clone()
	bad.Row(7)[2] = float32(math.Inf(1))
	var row *RowError
	if _, err := fit(bad, 3); !errors.As(err, &row) || row.Row != 7 {
		t.Errorf("an infinite value: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fitSAE(ctx, Input{X: x, K: 3, Threads: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
