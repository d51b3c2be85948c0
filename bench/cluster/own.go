package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"

	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
)

// tree is a dendrogram and what it took to grow.
type tree struct {
	*cluster.Dendrogram
	span
	peak int64
}

// own fits with clusterflow. What fits share is computed once in a run; its
// seconds are noted with every fit that uses it.
func (b *bench) own(ctx context.Context, m cluster.Method, c *cell) (*cluster.Model, side, error) {
	options := map[string]any{}
	for _, o := range m.Options {
		if o.Name == "n_init" {
			options["n_init"] = c.Starts
		}
	}
	in := cluster.Input{X: b.rows, K: c.K, Options: options, Seed: c.Seed, Threads: b.threads}
	s := side{Starts: c.Starts}
	if m.Space == "pca" {
		if err := b.project(ctx); err != nil {
			return nil, s, err
		}
		s.PCA, in.Coords = b.pca, b.coords
	}
	if c.Paired {
		in.Starts = []linalg.Matrix{firstCenters(b.pointsOf(m), c)}
	}
	if m.Shared == "linkage" {
		t, err := b.grow(ctx, m, b.pointsOf(m))
		if err != nil {
			return nil, s, err
		}
		s.Linkage, in.Tree, s.Peak = t.span, t.Dendrogram, t.peak
	}
	resetPeak()
	watch := stopwatch()
	model, err := m.Fit(ctx, in)
	if err != nil {
		return nil, s, err
	}
	s.Fit, s.Peak = watch(), max(s.Peak, peak())
	s.Iterations = model.Info["iterations"] + model.Info["epochs"]
	return model, s, nil
}

// iterates says whether the method begins from centres.
func iterates(m cluster.Method) bool {
	return strings.HasSuffix(m.Name, "kmeans") || strings.HasSuffix(m.Name, "gmm")
}

// firstCenters are distinct rows at random.
func firstCenters(points linalg.Matrix, c *cell) linalg.Matrix {
	centers := linalg.NewMatrix(c.K, points.Cols)
	for j, i := range linalg.Rand(c.Seed, "first centres").Perm(points.Rows)[:c.K] {
		copy(centers.Row(j), points.Row(i))
	}
	return centers
}

// pointsOf are what the method works on; coordinates have been computed by then.
func (b *bench) pointsOf(m cluster.Method) linalg.Matrix {
	if pcaSpace(m) {
		return b.coords
	}
	return b.rows
}

// pcaSpace says whether the method works on coordinates.
func pcaSpace(m cluster.Method) bool { return strings.HasPrefix(m.Name, "pca_") }

// project computes the coordinates, for both sides.
func (b *bench) project(ctx context.Context) error {
	if b.pca.Seconds > 0 {
		return nil
	}
	watch := stopwatch()
	p, err := cluster.PCA(ctx, b.rows, cluster.PCAComponents, b.threads, nil)
	if err != nil {
		return err
	}
	b.coords = p.Transform(b.rows, b.threads)
	b.pca = watch()
	b.coordsFile = filepath.Join(b.folder, "coords.npy")
	return writeNPY(b.coordsFile, b.coords)
}

func writeNPY(path string, m linalg.Matrix) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(linalg.WriteNPY(f, []int{m.Rows, m.Cols}, m), f.Close())
}

// grow makes the tree of a space.
func (b *bench) grow(ctx context.Context, m cluster.Method, points linalg.Matrix) (*tree, error) {
	if t := b.trees[m.Name]; t != nil {
		return t, nil
	}
	resetPeak()
	watch := stopwatch()
	d, err := cluster.AverageLinkage(ctx, points, b.threads, nil)
	if err != nil {
		return nil, err
	}
	b.trees[m.Name] = &tree{d, watch(), peak()}
	return b.trees[m.Name], nil
}

func startProfile(path string) (stop func(), err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}

// resetPeak lets the peak of this process's memory begin anew, where the system
// can: on Linux.
func resetPeak() {
	debug.FreeOSMemory()
	os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// peak is the most memory that this process has held, in bytes; 0 for unknown.
func peak() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	if fields := strings.Fields(after); len(fields) > 1 {
		n, _ := strconv.ParseInt(fields[0], 10, 64)
		return n << 10
	}
	return 0
}

// score judges what both sides returned.
func (b *bench) score(m cluster.Method, c *cell, model *cluster.Model) error {
	space := "rows"
	points := b.rows
	if pcaSpace(m) {
		space, points = "pca", b.coords
	}
	s := b.scorers[space]
	if s == nil {
		s = newScorer(points, b.threads)
		b.scorers[space] = s
	}
	var err error
	t := ownTensors(m, model, b.trees[m.Name])
	if c.Ours.Gain, err = gain(s, m, c.K, t); err != nil {
		return fmt.Errorf("our result: %w", err)
	}
	if c.Peer.Stopped {
		return nil
	}
	p, err := b.peerTensors()
	if err != nil {
		return err
	}
	if c.Peer.Gain, err = gain(s, m, c.K, p); err != nil {
		return fmt.Errorf("the peer's result: %w", err)
	}
	if t["heights"].Cols > 0 {
		c.Heights = furthest(t["heights"].Data, p["heights"].Data)
		c.Moved = moved(labelsOf(t["labels"]), labelsOf(p["labels"]))
	}
	return nil
}
