//go:build cuda

// Cuda measures extraction on an NVIDIA card: errors against float32, tokens a
// second from opening the checkpoint to the last sentence's mean, and the speed
// of products. run.sh beside it does all of it, with transformers on the same
// card for comparison (peer.py).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"runtime"
	"sync"
	"time"

	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
	"clusterflow/internal/llm/cuda"
)

type bench struct {
	model, ids, precision, compare string
	layer, n, repeat               int
	own, old, timed                bool
	memory                         int64
}

func main() {
	var b bench
	flag.StringVar(&b.model, "model", "", "`folder` of the checkpoint")
	flag.StringVar(&b.ids, "ids", "", "`file` of responses with ids and spans: shards of a study's sentences")
	flag.StringVar(&b.precision, "precision", "bf16", "bf16, f16, f32 or int8")
	flag.IntVar(&b.layer, "layer", 12, "whose states are wanted")
	flag.IntVar(&b.n, "n", 0, "how many of the lines; 0 for all")
	flag.IntVar(&b.repeat, "repeat", 1, "passes")
	flag.BoolVar(&b.own, "own", false, "products by our own kernels")
	flag.BoolVar(&b.old, "old", false, "kernels of compute capability 8.0 on newer cards too")
	flag.Int64Var(&b.memory, "memory", 0, "bytes of the card to get by with")
	flag.StringVar(&b.compare, "compare", "", "`file` of reference states to compare all layers with, or processor: what it computes in the same precision")
	flag.BoolVar(&b.timed, "timed", false, "time each kind of kernel, one after the other")
	gemm := flag.Bool("gemm", false, "measure products alone")
	flag.Parse()
	do := b.run
	if *gemm {
		do = b.products
	}
	if err := do(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench/cuda:", err)
		os.Exit(1)
	}
}

type line struct {
	IDs   []int32  `json:"ids"` // to the end of the last sentence: nothing after it matters
	Spans [][2]int `json:"spans"`
}

func (b *bench) lines() ([]line, error) {
	f, err := os.Open(b.ids)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dec := json.NewDecoder(bufio.NewReader(f))
	var all []line
	for b.n == 0 || len(all) < b.n {
		var l line
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if n := len(l.Spans); n > 0 {
			l.IDs = l.IDs[:l.Spans[n-1][1]]
			all = append(all, l)
		}
	}
	return all, nil
}

func (b *bench) run(ctx context.Context) error {
	begin := time.Now()
	card, err := cuda.Open(cuda.Options{Memory: b.memory, Own: b.own, Old: b.old, Timed: b.timed})
	if err != nil {
		return err
	}
	opened := time.Since(begin)
	lines, err := b.lines()
	if err != nil {
		return err
	}
	if b.compare != "" {
		return b.errors(ctx, card, lines)
	}
	out := map[string]any{"device": card.Name(), "precision": b.precision, "layer": b.layer, "open_s": opened.Seconds()}
	var seconds []float64
	for range b.repeat {
		begin := time.Now()
		ckpt, err := llm.Open(b.model)
		if err != nil {
			return err
		}
		p := llm.Pass{Precision: llm.Precision(b.precision), Device: card}
		tokens, rows, squares := 0, 0, 0.0
		for _, l := range lines {
			p.Sequences = append(p.Sequences, llm.Sequence{IDs: l.IDs, Layers: []int{b.layer}, Means: l.Spans})
			tokens += len(l.IDs)
			squares += float64(len(l.IDs)) * float64(len(l.IDs))
			rows += len(l.Spans)
		}
		f, err := os.CreateTemp("", "rows-*")
		if err != nil {
			return err
		}
		sum, sums := 0.0, [6]uint32{} // of the first sequences, to the bit
		p.Visit = func(layer, seq int, states linalg.Matrix) error {
			data := linalg.Bytes(states.Data)
			if seq < len(sums) {
				sums[seq] = crc32.ChecksumIEEE(data)
			}
			for _, v := range states.Row(0) {
				sum += float64(v)
			}
			_, err := f.Write(data)
			return err
		}
		if err := ckpt.Forward(ctx, p); err != nil {
			return err
		}
		s := time.Since(begin).Seconds()
		seconds = append(seconds, s)
		work := ckpt.Work(float64(tokens), squares, b.layer+1)
		out["tokens"], out["sentences"], out["sum"] = tokens, rows, sum
		out["first_rows_crc32"] = sums
		out["tokens_per_s"], out["tflops"] = float64(tokens)/s, work/s/1e12
		ckpt.Close()
		f.Close()
		os.Remove(f.Name())
	}
	out["seconds"], out["stages"] = seconds, card.Stages()
	return json.NewEncoder(os.Stdout).Encode(out)
}

// errors compares the states of all layers with those of a reference.
func (b *bench) errors(ctx context.Context, card *cuda.Card, lines []line) error {
	ckpt, err := llm.Open(b.model)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	var layers []int
	for i := range ckpt.Layers() {
		layers = append(layers, i)
	}
	p := llm.Pass{Precision: llm.Precision(b.precision), Device: card}
	for _, l := range lines {
		p.Sequences = append(p.Sequences, llm.Sequence{IDs: l.IDs, Layers: layers})
	}
	reference := b.fromFile
	if b.compare == "processor" {
		reference = b.fromProcessor
	}
	wanted, err := reference(ctx, ckpt, p)
	if err != nil {
		return err
	}
	off, size := make([]float64, len(layers)), make([]float64, len(layers))
	p.Visit = func(layer, seq int, states linalg.Matrix) error {
		want, ok := wanted[[2]int{layer, seq}]
		if !ok {
			return fmt.Errorf("the reference lacks layer %d", layer)
		}
		for i := range states.Rows {
			w := want.Row(i)
			for j, v := range states.Row(i) {
				d := float64(v) - float64(w[j])
				off[layer] += d * d
				size[layer] += float64(w[j]) * float64(w[j])
			}
		}
		return nil
	}
	if err := ckpt.Forward(ctx, p); err != nil {
		return err
	}
	worst := []float64{}
	for i := range off {
		worst = append(worst, math.Sqrt(off[i]/size[i]))
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"model": b.model, "device": card.Name(), "precision": b.precision, "reference": b.compare, "relative_error": worst})
}

// states are those of layers and sequences.
type states map[[2]int]linalg.Matrix

// fromFile reads states, f32 [tokens of all lines, hidden] for each layer, as the
// tensors layer.N.
func (b *bench) fromFile(_ context.Context, ckpt *llm.Checkpoint, p llm.Pass) (states, error) {
	st, err := linalg.OpenSafetensors(b.compare)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	out := states{}
	for layer := range ckpt.Layers() {
		t, ok := st.Tensor(fmt.Sprintf("layer.%d", layer))
		if !ok {
			continue
		}
		m, err := t.Matrix()
		if err != nil {
			return nil, err
		}
		m, at := m.Clone(), 0
		for seq, q := range p.Sequences {
			out[[2]int{layer, seq}] = m.Slice(at, at+len(q.IDs))
			at += len(q.IDs)
		}
	}
	return out, nil
}

// fromProcessor computes states without the card.
func (b *bench) fromProcessor(ctx context.Context, ckpt *llm.Checkpoint, p llm.Pass) (states, error) {
	var mu sync.Mutex
	out := states{}
	p.Device, p.Threads = nil, runtime.NumCPU()
	p.Visit = func(layer, seq int, m linalg.Matrix) error {
		mu.Lock()
		defer mu.Unlock()
		out[[2]int{layer, seq}] = m.Clone()
		return nil
	}
	return out, ckpt.Forward(ctx, p)
}

// products measures cuBLAS and our own kernels on the shapes of a block.
func (b *bench) products(context.Context) error {
	for _, o := range []cuda.Options{{}, {Own: true}, {Own: true, Old: true}} {
		card, err := cuda.Open(o)
		if err != nil {
			return err
		}
		fmt.Println(card.Name())
		for _, shape := range []struct {
			m, n, k int
			gated   bool
		}{{8192, 8192, 8192, false}, {8192, 2048, 1536, false}, {8192, 17920, 1536, false}, {8192, 17920, 1536, true}, {8192, 1536, 8960, false},
			{8192, 28672, 4096, false}, {8192, 28672, 4096, true}, {8192, 4096, 14336, false}} {
			t, err := card.MeasureProduct(shape.m, shape.n, shape.k, shape.gated, 20)
			if err != nil {
				return err
			}
			what := ""
			if shape.gated {
				what = " and SwiGLU"
			}
			fmt.Printf("[%d, %d]·[%d, %d]ᵀ%s: %.0f TFLOP/s\n", shape.m, shape.k, shape.n, shape.k, what, t/1e12)
		}
	}
	return nil
}
