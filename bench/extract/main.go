// Command extract measures extraction on a made checkpoint of a real model's
// shape over real responses: tokens a second, the share of what the processor's
// fused multiply-adds allow, and the peak of memory; and beside it the same
// blocks in PyTorch, in one run.
//
//	go run ./bench/extract -model /tmp/made -responses FILE -tokenizer DIR -torch python3
//
// The checkpoint is made in the folder of -model if it is not there: with the
// shape r1-1.5b and 13 blocks 1.7 GB.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/pprof"
	"time"

	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
)

func main() {
	var b bench
	flag.StringVar(&b.model, "model", "", "`folder` of the made checkpoint")
	flag.StringVar(&b.shape, "shape", "r1-1.5b", "of the checkpoint: r1-1.5b or 70b")
	flag.IntVar(&b.blocks, "blocks", 13, "blocks of the checkpoint; the last one's states are extracted")
	flag.StringVar(&b.responses, "responses", "", "JSON `file`, a list of objects with full_response")
	flag.StringVar(&b.tokenizer, "tokenizer", "", "`folder` with tokenizer.json")
	flag.IntVar(&b.n, "n", 32, "how many of the responses, spread evenly over the file; 0 for all")
	flag.IntVar(&b.most, "tokens", 0, "cut responses after so many tokens; 0 for none")
	flag.IntVar(&b.threads, "threads", runtime.NumCPU(), "for both programs")
	flag.StringVar(&b.precision, "precision", "f32", "f32, bf16, f16 or int8")
	flag.Int64Var(&b.memory, "memory", 0, "bytes that the pass may take; states that do not fit go to files")
	flag.StringVar(&b.torch, "torch", "", "`program` that runs Python with PyTorch, for the comparison")
	flag.StringVar(&b.profile, "cpuprofile", "", "write a profile of clusterflow's pass to this `file`")
	flag.Parse()
	if err := b.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "extract:", err)
		os.Exit(1)
	}
}

type bench struct {
	model, shape, responses, tokenizer, precision, torch, profile string
	blocks, n, most, threads                                      int
	memory                                                        int64
}

func (b *bench) run(ctx context.Context) error {
	shape, ok := shapes[b.shape]
	if !ok || b.model == "" || b.responses == "" || b.tokenizer == "" || b.blocks < 1 {
		return fmt.Errorf("-model, -responses and -tokenizer are needed, and a known -shape; see -help")
	}
	ids, err := b.ids()
	if err != nil {
		return err
	}
	shape.blocks = b.blocks
	if err := shape.write(b.model); err != nil {
		return fmt.Errorf("making the checkpoint: %w", err)
	}
	tokens, squares := 0, 0.0
	for _, seq := range ids {
		tokens += len(seq)
		squares += float64(len(seq)) * float64(len(seq))
	}
	fmt.Printf("%s, %d blocks; %d responses, %d tokens; %d threads\n", b.shape, b.blocks, len(ids), tokens, b.threads)

	top, name := ceiling(b.threads)
	ours, means, m, err := b.own(ctx, ids)
	if err != nil {
		return err
	}
	again, _ := ceiling(b.threads)
	fmt.Printf("ceiling      %.0f GFLOPS before, %.0f after, %.0f meanwhile (fused multiply-adds on registers, %s)\n", top, again, m.gflops()*float64(b.threads), name)
	if top = max(top, again); m.processor > 0 {
		fmt.Printf("             %.0f meanwhile per second of processor time of a thread\n", m.perProcessor())
	}
	ckpt, err := llm.Open(b.model)
	if err != nil {
		return err
	}
	work := ckpt.Work(float64(tokens), squares, b.blocks)
	ckpt.Close()
	fmt.Printf("work         %.1f TFLOP\n", work/1e12)
	show := func(what string, r result) {
		fmt.Printf("%-12s %8.1f s  %6.0f tokens/s  %4.0f GFLOPS", what, r.Seconds, float64(tokens)/r.Seconds, work/r.Seconds/1e9)
		if top > 0 {
			fmt.Printf(" = %.0f %% of the highest ceiling", 100*work/r.Seconds/1e9/top)
		}
		if m.processor > 0 {
			fmt.Printf(", %.0f %% by processor time", 100*work/r.CPU/1e9/m.perProcessor())
		}
		fmt.Printf("  peak memory %.2f GB\n", float64(r.Peak)/1e9)
	}
	show("clusterflow", ours)
	fmt.Printf("             %s, %s\n", b.precision, linalg.Backend().Name)
	if b.torch == "" {
		return nil
	}
	core, version, err := b.bestCore(ctx)
	if err != nil {
		return err
	}
	peer, err := b.peer(ctx, ids, core)
	if err != nil {
		return err
	}
	show("PyTorch", peer)
	fmt.Printf("             %s, float32, OPENBLAS_CORETYPE=%s; its means are off ours by %.1e\n", version, core, difference(means, peer.Means))
	fmt.Printf("             clusterflow is %.2f times as fast\n", peer.Seconds/ours.Seconds)
	return nil
}

// result is what a program took for all responses and blocks.
type result struct {
	Seconds float64     `json:"seconds"`
	CPU     float64     `json:"cpu"`  // processor seconds
	Peak    int64       `json:"peak"` // bytes
	Means   [][]float64 `json:"means"`
}

// ids tokenizes the responses.
func (b *bench) ids() ([][]int32, error) {
	data, err := os.ReadFile(b.responses)
	if err != nil {
		return nil, err
	}
	var all []struct {
		Text string `json:"full_response"`
	}
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", b.responses, err)
	}
	tok, err := llm.OpenTokenizer(os.DirFS(b.tokenizer))
	if err != nil {
		return nil, err
	}
	n := b.n
	if n <= 0 || n > len(all) {
		n = len(all)
	}
	ids := make([][]int32, n)
	for i := range ids {
		e, err := tok.Encode(all[i*len(all)/n].Text, "auto")
		if err != nil {
			return nil, err
		}
		ids[i] = e.IDs
		if b.most > 0 && len(ids[i]) > b.most {
			ids[i] = ids[i][:b.most]
		}
	}
	return ids, nil
}

// own runs clusterflow's forward pass. Between two sequences the ceiling of one
// thread is sampled; the time that this takes is left out.
func (b *bench) own(ctx context.Context, ids [][]int32) (r result, means [][]float64, m meter, err error) {
	ckpt, err := llm.Open(b.model)
	if err != nil {
		return r, nil, m, err
	}
	defer ckpt.Close()
	seqs := make([]llm.Sequence, len(ids))
	for i := range ids {
		seqs[i] = llm.Sequence{IDs: ids[i], Layers: []int{b.blocks - 1}}
	}
	linalg.Backend() // is looked for before the clock starts, as PyTorch is imported
	means = make([][]float64, len(ids))
	if b.profile != "" {
		f, err := os.Create(b.profile)
		if err != nil {
			return r, nil, m, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return r, nil, m, err
		}
		defer pprof.StopCPUProfile()
	}
	begin, cpu := time.Now(), processorTime()
	err = ckpt.Forward(ctx, llm.Pass{
		Progress:  func(int, int) { m.sample() },
		Sequences: seqs, Precision: llm.Precision(b.precision), Threads: b.threads, Memory: b.memory,
		Visit: func(_, seq int, states linalg.Matrix) error {
			mean := make([]float64, states.Cols)
			for i := range states.Rows {
				for j, v := range states.Row(i) {
					mean[j] += float64(v) / float64(states.Rows)
				}
			}
			means[seq] = mean
			return nil
		},
	})
	r = result{Seconds: time.Since(begin).Seconds() - m.seconds/float64(b.threads), CPU: processorTime() - cpu - m.processor, Peak: peakMemory()}
	return r, means, m, err
}

// difference is ‖a − b‖ / ‖a‖.
func difference(a, b [][]float64) float64 {
	var diff, norm float64
	for i := range a {
		for j, v := range a[i] {
			diff += (v - b[i][j]) * (v - b[i][j])
			norm += v * v
		}
	}
	return math.Sqrt(diff / norm)
}
