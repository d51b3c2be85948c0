package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"clusterflow/internal/linalg"
)

// naiveLinkage is average linkage by its definition: the nearest two of all
// clusters join, where the distance of two is the mean over all pairs of rows.
func naiveLinkage(x linalg.Matrix) (heights []float64, members [][][]int) {
	n := x.Rows
	dist := make([][]float64, n)
	clusters := make([][]int, n)
	for i := range dist {
		clusters[i] = []int{i}
		dist[i] = make([]float64, n)
		for j := range dist[i] {
			dist[i][j] = 1
			if a, b := Norm(x.Row(i)), Norm(x.Row(j)); a > 0 && b > 0 {
				dist[i][j] = 1 - dot(x.Row(i), x.Row(j))/a/b
			}
		}
	}
	for len(clusters) > 1 {
		best, a, b := math.Inf(1), 0, 0
		for i := range clusters {
			for j := range i {
				sum := 0.0
				for _, p := range clusters[i] {
					for _, q := range clusters[j] {
						sum += dist[p][q]
					}
				}
				if sum /= float64(len(clusters[i]) * len(clusters[j])); sum < best-1e-12 {
					best, a, b = sum, j, i
				}
			}
		}
		heights = append(heights, best)
		clusters[a] = append(clusters[a], clusters[b]...)
		clusters = slices.Delete(clusters, b, b+1)
		now := make([][]int, len(clusters))
		for i, c := range clusters {
			now[i] = slices.Sorted(slices.Values(c))
		}
		members = append(members, now)
	}
	return heights, members
}

func linkages(t *testing.T, x linalg.Matrix, threads int) map[string]*Dendrogram {
	t.Helper()
	out := map[string]*Dendrogram{}
	for name, run := range map[string]func(*tree, context.Context, int) error{"chain": (*tree).chain, "rounds": (*tree).rounds} {
		unit, err := unitRows(x, threads)
		if err != nil {
			t.Fatal(err)
		}
		tr := newTree(unit, func(int, int, string) {})
		if err := run(tr, t.Context(), threads); err != nil {
			t.Fatal(err)
		}
		out[name] = tr.dendrogram()
	}
	return out
}

func TestLinkageAgainstDefinition(t *testing.T) {
	some, _ := blobs(linalg.Rand(4, "blobs"), 5, 12, 6, 0.7)
	tight, _ := blobs(linalg.Rand(8, "blobs"), 7, 9, 20, 0.05)
	for i := range tight.Data {
		tight.Data[i] += 3
	}
	twice := some.Clone()
	for i := range 20 {
		copy(twice.Row(i), some.Row(i/5*5))
	}
	zero := some.Clone()
	clear(zero.Row(3))
	clear(zero.Row(9))
	for name, x := range map[string]linalg.Matrix{"some": some, "tight": tight, "duplicates": twice, "zero rows": zero, "two": some.Slice(0, 2), "one": some.Slice(0, 1)} {
		heights, members := naiveLinkage(x)
		for how, d := range linkages(t, x, 2) {
			if len(d.Heights) != len(heights) || len(d.Merges) != len(heights) {
				t.Fatalf("%s, %s: %d merges of %d rows", name, how, len(d.Merges), x.Rows)
			}
			for i, h := range d.Heights {
				if math.Abs(h-heights[i]) > 1e-5 {
					t.Fatalf("%s, %s: height %d is %v, want %v", name, how, i, h, heights[i])
				}
			}
			for k := 2; k < x.Rows; k++ {
				at := x.Rows - k // the cut lies before this merge
				if heights[at]-heights[at-1] < 1e-5 {
					continue
				}
				labels, err := d.Cut(k)
				if err != nil {
					t.Fatal(err)
				}
				truth := make([]int, x.Rows)
				for c, rows := range members[at-1] {
					for _, i := range rows {
						truth[i] = c
					}
				}
				if !sameGrouping(labels, truth) {
					t.Errorf("%s, %s: other clusters at a cut into %d", name, how, k)
				}
			}
		}
	}
}

// Where rows are so much alike that float32 cannot tell which two are nearest,
// the tree is still the right one.
func TestLinkageOfRowsAlike(t *testing.T) {
	for seed := range int64(4) {
		x, _ := blobs(linalg.Rand(70+seed, "blobs"), 1, 250, 12, 3e-2)
		for i := range x.Rows {
			x.Row(i)[0] += 1
		}
		heights, _ := naiveLinkage(x)
		for how, d := range linkages(t, x, 2) {
			for i, h := range d.Heights {
				if math.Abs(h-heights[i]) > 3e-7 {
					t.Errorf("seed %d, %s: height %d is %v, want %v", seed, how, i, h, heights[i])
					break
				}
			}
		}
	}
}

// Both ways, and any number of threads, give one tree; sizes cross those of
// blocks, and places of the matrix are left out on the way.
func TestLinkageWays(t *testing.T) {
	x, _ := blobs(linalg.Rand(12, "blobs"), 40, 60, 15, 0.6)
	all := linkages(t, x, 1)
	for i, h := range all["rounds"].Heights {
		if math.Abs(h-all["chain"].Heights[i]) > 1e-6 {
			t.Fatalf("height %d: %v in rounds, %v along chains", i, h, all["chain"].Heights[i])
		}
	}
	for how, d := range linkages(t, x, 3) {
		if !slices.Equal(d.Merges, all[how].Merges) || !slices.Equal(d.Heights, all[how].Heights) {
			t.Errorf("%s: another tree with another number of threads", how)
		}
	}
	if !slices.IsSorted(all["chain"].Heights) {
		t.Error("heights fall")
	}
}

// The example of four unit vectors at 0, 10, 40 and 90 degrees, by hand.
func TestLinkageByHand(t *testing.T) {
	angles := []float64{0, 10, 40, 90}
	x := linalg.NewMatrix(4, 2)
	for i, a := range angles {
		s, c := math.Sincos(a * math.Pi / 180)
		x.Row(i)[0], x.Row(i)[1] = float32(3*c), float32(3*s)
	}
	cos := func(d float64) float64 { return math.Cos(d * math.Pi / 180) }
	want := []float64{1 - cos(10), 1 - (cos(40)+cos(30))/2, 1 - (cos(90)+cos(80)+cos(50))/3}
	d, err := AverageLinkage(t.Context(), x, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.Merges, [][2]int32{{0, 1}, {2, 4}, {3, 5}}) {
		t.Errorf("merges %v", d.Merges)
	}
	for i, h := range d.Heights {
		if math.Abs(h-want[i]) > 1e-7 {
			t.Errorf("height %d: %v, want %v", i, h, want[i])
		}
	}
	for k, labels := range map[int]string{1: "[0 0 0 0]", 2: "[0 0 0 1]", 3: "[0 0 1 2]", 4: "[0 1 2 3]"} {
		if got, err := d.Cut(k); err != nil || fmt.Sprint(got) != labels {
			t.Errorf("cut into %d: %v, %v", k, got, err)
		}
	}
	for _, k := range []int{0, 5} {
		if _, err := d.Cut(k); err == nil {
			t.Errorf("cut into %d", k)
		}
	}
}

func TestLinkageOddInput(t *testing.T) {
	x, _ := blobs(linalg.Rand(1, "blobs"), 3, 100, 5, 0.5)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := AverageLinkage(ctx, x, 2, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	bad := x.Clone()
	bad.Row(5)[1] = float32(math.Inf(-1))
	var row *RowError
	if _, err := AverageLinkage(t.Context(), bad, 2, nil); !errors.As(err, &row) || row.Row != 5 {
		t.Errorf("an infinite value: %v", err)
	}
	same := linalg.NewMatrix(50, 3)
	for i := range same.Data {
		same.Data[i] = 2
	}
	for how, d := range linkages(t, same, 2) {
		if h := d.Heights[48]; h > 1e-6 {
			t.Errorf("%s: equal rows join at %v", how, h)
		}
	}
}

func TestNeighboursKeepTheNearest(t *testing.T) {
	rng := linalg.Rand(4, "similarities")
	var l neighbours
	l.clear()
	sims := make([]float32, 200)
	for i := range sims {
		sims[i] = float32(rng.IntN(40)) / 40 // with ties
		l.add(int32(i), sims[i])
	}
	order := make([]int, len(sims))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(sims[b], sims[a]) })
	for j, node := range l.node {
		if int(node) != order[j] || l.sim[j] != sims[order[j]] {
			t.Errorf("neighbour %d is %d at %v, want %d at %v", j, node, l.sim[j], order[j], sims[order[j]])
		}
	}
}

func TestLineage(t *testing.T) {
	g := &lineage{into: []int32{5, 5, 6, -1, 7, 6, 7, -1}} // 0 and 1 to 5, 2 and 5 to 6, 4 and 6 to 7
	for node, want := range []int32{7, 7, 7, 3, 7, 7, 7, 7} {
		for range 2 { // before and after ways are cut short
			if got := g.root(int32(node)); got != want {
				t.Errorf("node %d is part of %d, want %d", node, got, want)
			}
		}
	}
}
