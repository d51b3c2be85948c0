package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
)

//go:embed peer.py
var peerProgram string

// cores are the kernels of OpenBLAS that the peer is tried with; "" leaves the
// choice to OpenBLAS.
var cores = []string{"", "HASWELL", "SKYLAKEX", "COOPERLAKE", "SAPPHIRERAPIDS"}

// probe finds the kernels with which the peer's products are fastest.
func (b *bench) probe(ctx context.Context) error {
	best := 0.0
	for _, core := range cores {
		b.core = core
		var reply struct {
			GFLOPS                float64
			Sklearn, Numpy, Torch string
		}
		if err := b.call(ctx, map[string]any{"probe": true}, &reply); err != nil {
			if core == "" {
				return err
			}
			continue // kernels that this processor or library does not have
		}
		if reply.GFLOPS > best*1.02 {
			best = reply.GFLOPS
			b.versions = fmt.Sprintf("scikit-learn %s, numpy %s, PyTorch %s, OPENBLAS_CORETYPE=%s (%.0f GFLOPS)", reply.Sklearn, reply.Numpy, reply.Torch, core, best)
		}
	}
	_, after, _ := strings.Cut(b.versions, "CORETYPE=")
	b.core, _, _ = strings.Cut(after, " ")
	return nil
}

// peer fits with scikit-learn or PyTorch. The methods on coordinates get ours;
// the seconds that scikit-learn's own PCA takes are measured once.
func (b *bench) peer(ctx context.Context, m cluster.Method, c *cell) (side, error) {
	out := b.outFolder()
	if err := errors.Join(os.RemoveAll(out), os.Mkdir(out, 0o755)); err != nil {
		return side{}, err
	}
	s := side{Starts: c.Starts}
	job := map[string]any{"method": m.Name, "x": b.x, "out": out, "k": c.K, "seed": c.Seed, "threads": b.threads}
	for _, o := range m.Options {
		job[o.Name] = o.Default
	}
	if pcaSpace(m) {
		if err := b.project(ctx); err != nil {
			return s, err
		}
		if b.peerPCA.Seconds == 0 {
			var reply peerReply
			if err := b.call(ctx, map[string]any{"method": "pca", "x": b.x, "components": cluster.PCAComponents, "seed": 0}, &reply); err != nil {
				return s, err
			}
			b.peerPCA = reply.span
		}
		s.PCA, job["x"] = b.peerPCA, b.coordsFile
	}
	if b.peerStarts > 0 && strings.HasSuffix(m.Name, "gmm") {
		s.Starts = b.peerStarts
	}
	job["starts"] = s.Starts
	if c.Paired {
		path := filepath.Join(b.folder, "centers.npy")
		if err := writeNPY(path, firstCenters(b.pointsOf(m), c)); err != nil {
			return s, err
		}
		job["init"] = path
	}
	limited, stop := context.WithTimeout(ctx, time.Duration(b.budget*float64(time.Second)))
	defer stop()
	var reply peerReply
	err := b.call(limited, job, &reply)
	if limited.Err() != nil && ctx.Err() == nil {
		s.Fit, s.Stopped = span{Seconds: b.budget}, true
		return s, nil
	}
	s.Fit, s.Iterations, s.Peak = reply.span, reply.Iterations, reply.Peak
	return s, err
}

type peerReply struct {
	span
	Iterations float64
	Peak       int64
}

func (b *bench) outFolder() string { return filepath.Join(b.folder, "peer") }

// peerTensors reads what the last fit of the peer returned.
func (b *bench) peerTensors() (map[string]linalg.Matrix, error) {
	files, err := filepath.Glob(filepath.Join(b.outFolder(), "*.npy"))
	if err != nil {
		return nil, err
	}
	out := map[string]linalg.Matrix{}
	for _, f := range files {
		if out[strings.TrimSuffix(filepath.Base(f), ".npy")], err = linalg.ReadMatrixFile(f); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (b *bench) call(ctx context.Context, job, reply any) error {
	in, err := json.Marshal(job)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, b.python, "-c", peerProgram)
	cmd.Stdin = bytes.NewReader(in)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "OPENBLAS_") && !strings.HasPrefix(v, "OMP_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	for _, name := range []string{"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"} {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", name, b.threads))
	}
	if b.core != "" {
		cmd.Env = append(cmd.Env, "OPENBLAS_CORETYPE="+b.core)
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running the peer with %s: %w\n%s", b.python, err, errs.Bytes())
	}
	return json.Unmarshal(out.Bytes(), reply)
}
