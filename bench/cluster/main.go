// Command cluster compares the clustering methods with scikit-learn's, and with
// PyTorch's for sae_topk, on one matrix of activations: seconds of single cells
// of the grid of methods and sizes and of the whole grid, iterations, starts,
// and how good the results are by one scorer for both.
//
//	go run ./bench/cluster -x activations.npy -methods pca_kmeans,gmm -sizes 10,50 -seeds 2 -cells cells.jsonl
//
// Both sides run in turn, never at once, with the same threads, starts,
// tolerance and limits of iterations. Cells go to the file of -cells and are not
// run again, so that a grid can be sampled in several runs; the tables are made
// from all cells of the file.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"clusterflow/bench/internal/cells"
	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
)

func main() {
	var b bench
	var methods, sizes string
	flag.StringVar(&b.x, "x", "", ".npy `file` of float32 rows of unit length")
	flag.StringVar(&b.made, "case", "", "rows made by hand in place of -x: "+strings.Join(caseNames(), ", "))
	flag.StringVar(&methods, "methods", strings.Join(methodNames(), ","), "of the grid")
	flag.StringVar(&sizes, "sizes", "5,10,15,20,25,30,35,40,45,50", "numbers of clusters")
	flag.IntVar(&b.seeds, "seeds", 1, "how many seeds")
	flag.IntVar(&b.starts, "starts", 0, "of the mixtures, for both sides; 0 for the default of the method")
	flag.IntVar(&b.peerStarts, "peer-starts", 0, "of the peer's mixtures, whose seconds are then multiplied; 0 for as many as ours")
	flag.BoolVar(&b.paired, "paired", false, "one start of k-means and mixtures, from the same first centres on both sides: rows at random")
	flag.Float64Var(&b.budget, "budget", 600, "`seconds` after which a cell of the peer is stopped")
	flag.IntVar(&b.threads, "threads", 2, "for both programs")
	flag.StringVar(&b.python, "python", "python3", "`program` that runs Python with scikit-learn and PyTorch")
	flag.StringVar(&b.cells, "cells", "", "`file` of the cells that have been measured, added to; without it nothing is kept")
	flag.StringVar(&b.profile, "cpuprofile", "", "write a profile of clusterflow's fits to this `file` and leave the peer out")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := b.grid(methods, sizes)
	if err == nil {
		err = b.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

type bench struct {
	x, made, python, cells, profile    string
	methods                            []cluster.Method
	sizes                              []int
	seeds, starts, peerStarts, threads int
	budget                             float64
	paired                             bool

	rows, coords       linalg.Matrix
	scorers            map[string]*scorer // by space
	folder, coordsFile string             // temporary
	trees              map[string]*tree   // by method
	pca, peerPCA       span               // zero for not yet
	core, versions     string             // of the peer
}

func methodNames() []string {
	var names []string
	for _, m := range cluster.Methods {
		if known[m.Name] {
			names = append(names, m.Name)
		}
	}
	return names
}

// known are the methods that the peer has too.
var known = map[string]bool{
	"spherical_kmeans": true, "pca_kmeans": true, "gmm": true, "pca_gmm": true,
	"agglomerative": true, "pca_agglomerative": true, "sae_topk": true,
}

func (b *bench) grid(methods, sizes string) error {
	for _, name := range strings.Split(methods, ",") {
		m, ok := cluster.ByName(name)
		if !ok || !known[name] {
			return fmt.Errorf("-methods has %q; there are %s", name, strings.Join(methodNames(), ", "))
		}
		b.methods = append(b.methods, m)
	}
	for _, size := range strings.Split(sizes, ",") {
		k, err := strconv.Atoi(size)
		if err != nil || k < 1 {
			return fmt.Errorf("-sizes has %q, which is no number of clusters", size)
		}
		b.sizes = append(b.sizes, k)
	}
	if (b.x == "") == (b.made == "") {
		return fmt.Errorf("one of -x and -case is needed; see -help")
	}
	return nil
}

func (b *bench) run(ctx context.Context) error {
	measured, err := cells.Read[cell](b.cells)
	if err != nil {
		return err
	}
	if b.folder, err = os.MkdirTemp("", "cluster-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.folder)
	if b.made != "" {
		if b.x, err = handMade(b.made, b.folder); err != nil {
			return err
		}
	}
	if b.rows, err = linalg.ReadMatrixFile(b.x); err != nil {
		return err
	}
	b.scorers, b.trees = map[string]*scorer{}, map[string]*tree{}
	if b.profile == "" {
		if err := b.probe(ctx); err != nil {
			return err
		}
		fmt.Printf("%d × %d; %d threads; ours with %s; peer %s\n\n", b.rows.Rows, b.rows.Cols, b.threads, linalg.Backend().Name, b.versions)
	} else {
		stop, err := startProfile(b.profile)
		if err != nil {
			return err
		}
		defer stop()
	}
	for _, m := range b.methods {
		for _, k := range b.sizes {
			for seed := range b.seeds {
				c := cell{Method: m.Name, K: k, Seed: int64(seed), Starts: b.startsOf(m), Paired: b.paired && iterates(m)}
				if c.in(measured) {
					continue
				}
				if err := b.measure(ctx, m, &c); err != nil {
					return err
				}
				measured = append(measured, c)
				if err := cells.Append(b.cells, c); err != nil {
					return err
				}
				fmt.Fprintln(os.Stderr, c)
			}
		}
	}
	if b.profile == "" {
		printTables(os.Stdout, measured)
	}
	return nil
}

// startsOf is how many starts both sides are asked for.
func (b *bench) startsOf(m cluster.Method) int {
	for _, o := range m.Options {
		if o.Name != "n_init" {
			continue
		}
		if b.paired {
			return 1
		}
		if b.starts > 0 && strings.HasSuffix(m.Name, "gmm") {
			return b.starts
		}
		return int(o.Default.(int64))
	}
	return 1
}

// measure runs both sides, the first of them by turns.
func (b *bench) measure(ctx context.Context, m cluster.Method, c *cell) (err error) {
	var model *cluster.Model
	ours := func() error {
		model, c.Ours, err = b.own(ctx, m, c)
		return err
	}
	peer := func() error {
		if b.profile != "" {
			return nil
		}
		c.Peer, err = b.peer(ctx, m, c)
		return err
	}
	order := []func() error{ours, peer}
	if c.Seed%2 == 1 {
		order = []func() error{peer, ours}
	}
	for _, side := range order {
		if err := side(); err != nil {
			return fmt.Errorf("%s, %d clusters: %w", m.Name, c.K, err)
		}
	}
	if b.profile != "" {
		return nil
	}
	return b.score(m, c, model)
}
