// Command rows measures how time and memory of each clustering method grow with
// the number of rows N and their width d, and draws both.
//
//	go run ./bench/rows -x ROWS.npy [-n 5000,22000,110000] [-d 384,768,1536] [-cells FILE] [-plot docs/rows]
//
// Each cell runs in a process of its own, whose peak of resident memory is that
// of the cell: its rows, what the method shares (components, tree) and one fit
// of -k clusters. Widths are measured at the smallest number of rows. Rows wider
// than d are cut to their first d columns and scaled to unit length again.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"clusterflow/bench/internal/cells"
	"clusterflow/bench/internal/loglog"
	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
)

// cell is one measurement.
type cell struct {
	Method  string
	N, D, K int
	Seconds float64 // of what is shared and the fit
	Peak    float64 // bytes
}

func main() {
	var x, methods, ns, ds, kept, plot, child string
	var k int
	flag.StringVar(&x, "x", "", "rows, .npy or .safetensors")
	flag.StringVar(&methods, "methods", "spherical_kmeans,pca_kmeans,gmm,pca_gmm,agglomerative,pca_agglomerative,sae_topk", "methods to measure")
	flag.StringVar(&ns, "n", "5000,22000,110000", "numbers of rows")
	flag.StringVar(&ds, "d", "384,768,1536", "widths")
	flag.StringVar(&kept, "cells", "", "`file` of the cells that have been measured, added to; without it nothing is kept")
	flag.StringVar(&plot, "plot", "", "write PLOT-time.svg, PLOT-memory.svg and PLOT-width.svg")
	flag.StringVar(&child, "cell", "", "measure this cell and print it as JSON (for the program itself)")
	flag.IntVar(&k, "k", 10, "clusters")
	flag.Parse()
	err := func() error {
		if child != "" {
			return measure(child)
		}
		return run(x, strings.Split(methods, ","), ns, ds, k, kept, plot)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rows:", err)
		os.Exit(1)
	}
}

func numbers(list string) ([]int, error) {
	var out []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no number of rows or columns", s)
		}
		out = append(out, n)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func run(x string, methods []string, ns, ds string, k int, kept, plot string) error {
	rows, err := numbers(ns)
	if err != nil {
		return err
	}
	widths, err := numbers(ds)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rows")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	type shape struct{ n, d int }
	widest := widths[len(widths)-1]
	var shapes []shape
	for _, n := range rows {
		shapes = append(shapes, shape{n, widest})
	}
	for _, d := range widths[:len(widths)-1] {
		shapes = append(shapes, shape{rows[0], d})
	}
	fmt.Printf("%s, %d processors, %d clusters; each cell with what its method shares\n\n", linalg.Backend().Name, runtime.GOMAXPROCS(0), k)
	fmt.Println("| method | rows | columns | seconds | peak memory, GB |\n|---|---|---|---|---|")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	measured, err := cells.Read[cell](kept)
	if err != nil {
		return err
	}
	for _, m := range methods {
		for _, s := range shapes {
			c := cell{Method: m, N: s.n, D: s.d, K: k}
			if slices.ContainsFunc(measured, func(o cell) bool { return o.Method == m && o.N == s.n && o.D == s.d && o.K == k }) {
				continue
			}
			file := filepath.Join(dir, fmt.Sprintf("%d-%d", s.n, s.d))
			if _, err := os.Stat(file); err != nil {
				if err := cut(x, file, s.n, s.d); err != nil {
					return err
				}
				runtime.GC()
			}
			raw, err := json.Marshal(c)
			if err != nil {
				return err
			}
			cmd := exec.Command(self, "-cell", string(raw))
			cmd.Dir, cmd.Stderr = dir, os.Stderr
			out, err := cmd.Output()
			if err != nil {
				return fmt.Errorf("%s on %d × %d: %w", m, s.n, s.d, err)
			}
			if err := json.Unmarshal(out, &c); err != nil {
				return err
			}
			measured = append(measured, c)
			if err := cells.Append(kept, c); err != nil {
				return err
			}
			fmt.Printf("| %s | %d | %d | %.1f | %.2f |\n", m, c.N, c.D, c.Seconds, c.Peak/1e9)
		}
	}
	if plot == "" {
		return nil
	}
	line := func(fixed func(cell) bool, at, value func(cell) float64) []loglog.Line {
		var lines []loglog.Line
		for _, m := range methods {
			l := loglog.Line{Name: m}
			mine := slices.DeleteFunc(slices.Clone(measured), func(c cell) bool { return c.Method != m || !fixed(c) })
			slices.SortFunc(mine, func(a, b cell) int { return int(at(a) - at(b)) })
			for _, c := range mine {
				l.X, l.Y = append(l.X, at(c)), append(l.Y, value(c))
			}
			lines = append(lines, l)
		}
		return lines
	}
	n, d := func(c cell) float64 { return float64(c.N) }, func(c cell) float64 { return float64(c.D) }
	seconds, bytes := func(c cell) float64 { return c.Seconds }, func(c cell) float64 { return c.Peak / 1e9 }
	whole := func(c cell) bool { return c.D == widest }
	if err := loglog.Write(plot+"-time.svg", "rows", "N", "s", line(whole, n, seconds)); err != nil {
		return err
	}
	if err := loglog.Write(plot+"-memory.svg", "rows", "N", "GB", line(whole, n, bytes)); err != nil {
		return err
	}
	return loglog.Write(plot+"-width.svg", "columns", "d", "s", line(func(c cell) bool { return c.N == rows[0] }, d, seconds))
}

// cut writes the first n rows and d columns, scaled to unit length.
func cut(x, path string, n, d int) error {
	m, err := linalg.ReadMatrixFile(x)
	if err != nil {
		return err
	}
	if m.Rows < n || m.Cols < d {
		return fmt.Errorf("%s has %d × %d elements, and %d × %d were asked for", x, m.Rows, m.Cols, n, d)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	line := make([]byte, 4*d)
	for i := range n {
		row := m.Row(i)[:d]
		norm := cluster.Norm(row)
		for j, v := range row {
			if norm > 0 {
				v = float32(float64(v) / norm)
			}
			binary.LittleEndian.PutUint32(line[4*j:], math.Float32bits(v))
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// measure runs one cell.
func measure(raw string) error {
	var c cell
	if err := json.Unmarshal([]byte(raw), &c); err != nil {
		return err
	}
	f, err := os.Open(fmt.Sprintf("%d-%d", c.N, c.D))
	if err != nil {
		return err
	}
	defer f.Close()
	x := linalg.NewMatrix(c.N, c.D)
	r, line := bufio.NewReaderSize(f, 1<<20), make([]byte, 4*c.D)
	for i := range c.N {
		if _, err := io.ReadFull(r, line); err != nil {
			return err
		}
		for j := range x.Row(i) {
			x.Row(i)[j] = math.Float32frombits(binary.LittleEndian.Uint32(line[4*j:]))
		}
	}
	m, ok := cluster.ByName(c.Method)
	if !ok {
		return fmt.Errorf("there is no method %q", c.Method)
	}
	ctx, threads := context.Background(), runtime.GOMAXPROCS(0)
	begin := time.Now()
	in := cluster.Input{X: x, K: c.K, Seed: 42, Threads: threads, Options: map[string]any{}}
	points := x
	if m.Space == "pca" {
		p, err := cluster.PCA(ctx, x, cluster.PCAComponents, threads, nil)
		if err != nil {
			return err
		}
		in.Coords = p.Transform(x, threads)
		points = in.Coords
	}
	if m.Shared == "linkage" {
		if in.Tree, err = cluster.AverageLinkage(ctx, points, threads, nil); err != nil {
			return err
		}
	}
	if _, err := m.Fit(ctx, in); err != nil {
		return err
	}
	c.Seconds, c.Peak = time.Since(begin).Seconds(), peak()
	return json.NewEncoder(os.Stdout).Encode(c)
}
