package cluster

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"clusterflow/internal/linalg"
)

// Bounds never change a label, and save most of the distances.
func TestBoundsKeepLabels(t *testing.T) {
	spread, _ := blobs(linalg.Rand(41, "blobs"), 6, 200, 20, 3)
	ties, _ := blobs(linalg.Rand(42, "blobs"), 3, 300, 2, 4)
	for i, v := range ties.Data {
		ties.Data[i] = float32(int(v)) // many equal rows, many equal distances
	}
	far, _ := blobs(linalg.Rand(43, "blobs"), 5, 100, 8, 1)
	for i := range far.Data {
		far.Data[i] += 3000
	}
	for name, c := range map[string]struct {
		x     linalg.Matrix
		k     int
		start []int // rows, nil: by seed
	}{
		"overlapping": {spread, 40, nil},
		"ties":        {ties, 9, nil},
		"far away":    {far, 12, nil},
		"empty":       {spread, 4, []int{0, 0, 0, 1}},
	} {
		s, err := newKMeans(c.x, c.k, 2)
		if err != nil {
			t.Fatal(err)
		}
		centers := linalg.NewMatrix(c.k, c.x.Cols)
		for j, i := range c.start {
			copy(centers.Row(j), s.x.Row(i))
		}
		if c.start == nil {
			first, err := s.seed(t.Context(), []*rand.Rand{linalg.Rand(44, name)})
			if err != nil {
				t.Fatal(err)
			}
			centers = first[0]
		}
		d := newDescent(0, c.x.Rows, centers)
		d.bounds = newBounds(c.x.Rows, c.k)
		asked, open := 0, 0
		for more := true; more; {
			asked += c.x.Rows * c.k
			open += d.bounds.open(0, c.x.Rows, d.labels)
			s.assign(t.Context(), []*descent{d})
			want := s.nearestTo(d.centers)
			if !slices.Equal(d.next, want) {
				t.Fatalf("%s: after %d updates of the centres, labels differ from those of the nearest ones", name, d.out.iterations)
			}
			more = s.advance(d, 300, 0, func(_, _, _ int) {})
			for i, label := range d.labels {
				if label != want[i] && d.bounds.upper[i] <= math.MaxFloat32 {
					t.Errorf("%s: row %d was given to an empty cluster and keeps the bound of its old one", name, i)
				}
			}
		}
		if !d.out.converged || d.out.iterations < 3 {
			t.Errorf("%s: converged %v after %d iterations, which says little", name, d.out.converged, d.out.iterations)
		}
		if open > asked*2/3 {
			t.Errorf("%s: bounds leave %d of %d distances open", name, open, asked)
		}
	}
}

// A start gets the centres that it gets alone.
func TestStartsAreSeededApart(t *testing.T) {
	x, _ := blobs(linalg.Rand(45, "blobs"), 5, 80, 16, 1)
	s, err := newKMeans(x, 7, 2)
	if err != nil {
		t.Fatal(err)
	}
	sources := func(only ...int) []*rand.Rand {
		var out []*rand.Rand
		for _, i := range only {
			out = append(out, rand.New(rand.NewPCG(46, uint64(i))))
		}
		return out
	}
	together, err := s.seed(t.Context(), sources(0, 1, 2))
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range together {
		alone, err := s.seed(t.Context(), sources(i))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Data, alone[0].Data) {
			t.Errorf("start %d of three has other centres than alone", i)
		}
	}
	if slices.Equal(together[0].Data, together[1].Data) {
		t.Error("two starts have the same centres")
	}
}

// Given first centres are where k-means begins, also where it moves its points
// to the origin.
func TestGivenStarts(t *testing.T) {
	x, _ := blobs(linalg.Rand(47, "blobs"), 5, 60, 8, 1)
	for i := range x.Data {
		x.Data[i] += 40
	}
	method, _ := ByName("pca_kmeans")
	in := Input{X: x, Coords: x, K: 5, Threads: 2}
	fit := func(starts ...linalg.Matrix) (*Model, error) {
		in.Starts, in.Options = starts, map[string]any{"n_init": int64(max(1, len(starts)))}
		return method.Fit(t.Context(), in)
	}
	drawn, err := fit()
	if err != nil {
		t.Fatal(err)
	}
	again, err := fit(drawn.Tensors["pca_centers"])
	if err != nil {
		t.Fatal(err)
	}
	if again.Info["iterations"] > 1 || !slices.Equal(again.Labels, drawn.Labels) {
		t.Errorf("from the centres of a fit, another one takes %v iterations and has the same labels: %v", again.Info["iterations"], slices.Equal(again.Labels, drawn.Labels))
	}
	if _, err := fit(x.Slice(0, 4)); err == nil || !strings.Contains(err.Error(), "5 × 8 are needed") {
		t.Errorf("four centres for five clusters: %v", err)
	}
	in.Options = map[string]any{"n_init": int64(3)}
	if _, err := method.Fit(t.Context(), in); err == nil || !strings.Contains(err.Error(), "1 starts") {
		t.Errorf("centres of one start for three: %v", err)
	}
}
