package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

//go:embed peer.py
var peerProgram string

// cores are the kernels of OpenBLAS that PyTorch is tried with; "" leaves the
// choice to OpenBLAS.
var cores = []string{"", "HASWELL", "SKYLAKEX", "COOPERLAKE", "SAPPHIRERAPIDS"}

// bestCore returns the kernels with which PyTorch's products are fastest, and
// PyTorch's version.
func (b *bench) bestCore(ctx context.Context) (core, version string, err error) {
	best := 0.0
	for _, c := range cores {
		var probe struct {
			GFLOPS  float64 `json:"gflops"`
			Version string  `json:"version"`
		}
		if err := b.python(ctx, c, map[string]any{"probe": true, "threads": b.threads}, &probe); err != nil {
			if c == "" {
				return "", "", err
			}
			continue // kernels that this processor or library does not have
		}
		fmt.Printf("PyTorch      OPENBLAS_CORETYPE=%-14s %4.0f GFLOPS\n", c, probe.GFLOPS)
		if probe.GFLOPS > best {
			best, core, version = probe.GFLOPS, c, "PyTorch "+probe.Version
		}
	}
	return core, version, nil
}

// peer runs the same blocks in PyTorch.
func (b *bench) peer(ctx context.Context, ids [][]int32, core string) (result, error) {
	var r result
	err := b.python(ctx, core, map[string]any{"model": b.model, "blocks": b.blocks, "threads": b.threads, "ids": ids}, &r)
	return r, err
}

func (b *bench) python(ctx context.Context, core string, job, reply any) error {
	in, err := json.Marshal(job)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, b.torch, "-c", peerProgram)
	cmd.Stdin = bytes.NewReader(in)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = withoutCore(os.Environ())
	if core != "" {
		cmd.Env = append(cmd.Env, "OPENBLAS_CORETYPE="+core)
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running PyTorch with %s: %w\n%s", b.torch, err, errs.Bytes())
	}
	return json.Unmarshal(out.Bytes(), reply)
}

// withoutCore drops OPENBLAS_CORETYPE, which this program has set for itself.
func withoutCore(env []string) []string {
	var kept []string
	for _, v := range env {
		if len(v) < 18 || v[:18] != "OPENBLAS_CORETYPE=" {
			kept = append(kept, v)
		}
	}
	return kept
}
