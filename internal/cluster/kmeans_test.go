package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"clusterflow/internal/linalg"
)

// blobs returns rows around centers well apart, and which they belong to.
func blobs(rng *rand.Rand, k, per, d int, noise float64) (linalg.Matrix, []int) {
	centers := linalg.NewMatrix(k, d)
	for i := range centers.Data {
		centers.Data[i] = float32(rng.NormFloat64())
	}
	x := linalg.NewMatrix(k*per, d)
	truth := make([]int, x.Rows)
	for i := range x.Rows {
		truth[i] = i % k
		for j, c := range centers.Row(i % k) {
			x.Row(i)[j] = c + float32(noise*rng.NormFloat64())
		}
	}
	return x, truth
}

func unit(t *testing.T, x linalg.Matrix) linalg.Matrix {
	t.Helper()
	out, err := Prepare(x, nil, false, true, 1)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sameGrouping reports whether two labelings differ only in the names of the
// groups.
func sameGrouping(a []int32, b []int) bool {
	to, from := map[int32]int{}, map[int]int32{}
	for i := range a {
		if v, ok := to[a[i]]; ok && v != b[i] {
			return false
		}
		if v, ok := from[b[i]]; ok && v != a[i] {
			return false
		}
		to[a[i]], from[b[i]] = b[i], a[i]
	}
	return true
}

// inputFor gives a method what its space asks for.
func inputFor(t *testing.T, m Method, x linalg.Matrix, k, threads int) Input {
	t.Helper()
	in := Input{X: x, K: k, Seed: 42, Threads: threads}
	if m.Space == "pca" {
		p, err := PCA(t.Context(), x, PCAComponents, threads, nil)
		if err != nil {
			t.Fatal(err)
		}
		in.Coords = p.Transform(x, threads)
	}
	if m.Space == "text" {
		for i := range x.Rows {
			in.Texts = append(in.Texts, fmt.Sprintf("so word%d then word%d makes word%d", i%7, i%5, i%11))
			in.Groups = append(in.Groups, fmt.Sprint("topic ", i%3))
		}
	}
	if m.Shared == "linkage" {
		points := x
		if m.Space == "pca" {
			points = in.Coords
		}
		var err error
		if in.Tree, err = AverageLinkage(t.Context(), points, threads, nil); err != nil {
			t.Fatal(err)
		}
	}
	return in
}

func fitted() []Method {
	return slices.DeleteFunc(slices.Clone(Methods), func(m Method) bool { return m.Fit == nil })
}

// kmeansMethods are those of which a label is the nearest centre.
func kmeansMethods() []Method {
	return slices.DeleteFunc(fitted(), func(m Method) bool { return m.Null || !strings.HasSuffix(m.Name, "kmeans") })
}

func TestFitFindsBlobs(t *testing.T) {
	for _, m := range kmeansMethods() {
		for _, k := range []int{1, 2, 5, 20} {
			x, truth := blobs(linalg.Rand(int64(k), "blobs"), k, 40, 33, 0.02)
			x = unit(t, x)
			in := inputFor(t, m, x, k, 2)
			model, err := m.Fit(t.Context(), in)
			if err != nil {
				t.Fatalf("%s, %d clusters: %v", m.Name, k, err)
			}
			if !sameGrouping(model.Labels, truth) {
				t.Errorf("%s, %d clusters: the blobs were not found", m.Name, k)
			}
			if model.Info["converged"] != 1 || model.Info["empty"] != 0 {
				t.Errorf("%s, %d clusters: info %v", m.Name, k, model.Info)
			}
			if model.Centers.Rows != k || model.Centers.Cols != x.Cols {
				t.Errorf("%s, %d clusters: centres %d × %d", m.Name, k, model.Centers.Rows, model.Centers.Cols)
			}
		}
	}
}

// The definition, in float64: labels are by nearest centre, the inertia is
// the sum of squared distances, and centres are what reference.md says.
func TestFitAgainstDefinition(t *testing.T) {
	x, _ := blobs(linalg.Rand(7, "blobs"), 9, 60, 40, 0.7)
	x = unit(t, x)
	for _, m := range kmeansMethods() {
		in := inputFor(t, m, x, 12, 2)
		model, err := m.Fit(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		points, centers := x, model.Tensors["kmeans_centers"]
		if m.Space == "pca" {
			points, centers = in.Coords, model.Tensors["pca_centers"]
		}
		inertia := 0.0
		for i, label := range model.Labels {
			best, at := math.Inf(1), 0
			for c := range centers.Rows {
				if d := squaredDistance(points.Row(i), centers.Row(c)); d < best {
					best, at = d, c
				}
			}
			if at != int(label) {
				t.Fatalf("%s: row %d has label %d, its nearest centre is %d", m.Name, i, label, at)
			}
			inertia += best
		}
		if got := model.Info["inertia"]; math.Abs(got-inertia) > 1e-9*inertia {
			t.Errorf("%s: inertia %v, want %v", m.Name, got, inertia)
		}
		for c := range model.Centers.Rows {
			want, n := make([]float64, x.Cols), 0.0
			for i, label := range model.Labels {
				if int(label) == c {
					n++
					for j, v := range x.Row(i) {
						want[j] += float64(v)
					}
				}
			}
			scale := 1 / n
			if m.Name == "spherical_kmeans" {
				// Converged: the k-means centres are the means to the tolerance.
				sum := 0.0
				for j := range want {
					want[j] = float64(centers.Row(c)[j])
					sum += want[j] * want[j]
				}
				scale = 1 / math.Sqrt(sum)
			}
			for j, got := range model.Centers.Row(c) {
				if math.Abs(float64(got)-want[j]*scale) > 1e-6 {
					t.Fatalf("%s: centre %d element %d is %v, want %v", m.Name, c, j, got, want[j]*scale)
				}
			}
		}
	}
}

func TestFitBitsDoNotDependOnThreads(t *testing.T) {
	x, _ := blobs(linalg.Rand(3, "blobs"), 6, 150, 300, 0.8)
	x = unit(t, x)
	for _, m := range fitted() {
		var want *Model
		for _, threads := range []int{1, 2, 7} {
			model, err := m.Fit(t.Context(), inputFor(t, m, x, 8, threads))
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = model
				continue
			}
			if !slices.Equal(model.Labels, want.Labels) || !slices.Equal(model.Centers.Data, want.Centers.Data) || model.Info["inertia"] != want.Info["inertia"] {
				t.Errorf("%s: %d threads give another result than 1", m.Name, threads)
			}
			for name, tensor := range want.Tensors {
				if !slices.Equal(model.Tensors[name].Data, tensor.Data) {
					t.Errorf("%s: %d threads give another %s", m.Name, threads, name)
				}
			}
		}
	}
}

func TestFitLeavesInputAlone(t *testing.T) {
	x, _ := blobs(linalg.Rand(3, "blobs"), 3, 20, 10, 0.5)
	before := slices.Clone(x.Data)
	for _, m := range fitted() {
		if _, err := m.Fit(t.Context(), inputFor(t, m, x, 3, 2)); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(x.Data, before) {
		t.Error("the rows were changed")
	}
}

func TestDegenerateRows(t *testing.T) {
	ctx := t.Context()
	spherical, _ := ByName("spherical_kmeans")
	rng := linalg.Rand(5, "rows")
	distinct := linalg.NewMatrix(12, 30)
	for i := range distinct.Data {
		distinct.Data[i] = float32(rng.NormFloat64())
	}
	// Each of 12 rows five times, in turn.
	repeated := linalg.NewMatrix(60, 30)
	for i := range repeated.Rows {
		copy(repeated.Row(i), distinct.Row(i%12))
	}

	t.Run("as many clusters as rows", func(t *testing.T) {
		model, err := spherical.Fit(ctx, Input{X: unit(t, distinct), K: 12, Seed: 1, Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[int32]bool{}
		for _, label := range model.Labels {
			seen[label] = true
		}
		if len(seen) != 12 || model.Info["inertia"] > 1e-12 {
			t.Errorf("labels %v, inertia %v", model.Labels, model.Info["inertia"])
		}
	})
	t.Run("as many clusters as distinct rows", func(t *testing.T) {
		truth := make([]int, 60)
		for i := range truth {
			truth[i] = i % 12
		}
		model, err := spherical.Fit(ctx, Input{X: unit(t, repeated), K: 12, Seed: 1, Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		if !sameGrouping(model.Labels, truth) {
			t.Errorf("labels %v", model.Labels)
		}
	})
	t.Run("more clusters than distinct rows", func(t *testing.T) {
		_, err := spherical.Fit(ctx, Input{X: unit(t, repeated), K: 13, Seed: 1, Threads: 2})
		if err == nil || !strings.Contains(err.Error(), "only 12 of the rows are distinct") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("almost equal rows", func(t *testing.T) {
		// Closer than products in float32 can tell: differences decide.
		x := linalg.NewMatrix(8, 30)
		for i := range x.Rows {
			copy(x.Row(i), distinct.Row(0))
			x.Row(i)[i] *= 1 + 1e-5
		}
		model, err := spherical.Fit(ctx, Input{X: x, K: 8, Seed: 1, Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		if model.Info["empty"] != 0 {
			t.Errorf("labels %v", model.Labels)
		}
	})
	t.Run("too many or too few clusters", func(t *testing.T) {
		for _, k := range []int{0, -1, 13} {
			if _, err := spherical.Fit(ctx, Input{X: distinct, K: k}); err == nil || !strings.Contains(err.Error(), "number of clusters") {
				t.Errorf("%d clusters: %v", k, err)
			}
		}
	})
	t.Run("not finite", func(t *testing.T) {
		x := distinct.Clone()
		x.Row(4)[2] = float32(math.NaN())
		_, err := spherical.Fit(ctx, Input{X: x, K: 2})
		var row *RowError
		if !errors.As(err, &row) || row.Row != 4 {
			t.Errorf("error %v", err)
		}
	})
	t.Run("no coordinates", func(t *testing.T) {
		m, _ := ByName("pca_kmeans")
		if _, err := m.Fit(ctx, Input{X: distinct, K: 2}); err == nil {
			t.Error("pca_kmeans without coordinates gave a model")
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := spherical.Fit(ctx, Input{X: distinct, K: 2}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

// Rows far from the origin keep their clusters: distances from products alone
// would lose them (|x|² is 10⁸ here, and the blobs are 1 apart).
func TestFarFromOrigin(t *testing.T) {
	x, truth := blobs(linalg.Rand(9, "blobs"), 4, 30, 16, 0.05)
	for i := range x.Data {
		x.Data[i] += 3000
	}
	spherical, _ := ByName("spherical_kmeans")
	model, err := spherical.Fit(t.Context(), Input{X: x, K: 4, Seed: 1, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	if !sameGrouping(model.Labels, truth) {
		t.Error("the blobs were not found")
	}
	if got := model.Tensors["kmeans_centers"].Row(0)[0]; math.Abs(float64(got)-3000) > 10 {
		t.Errorf("a centre lies at %v, not near the rows", got)
	}
}

// From a start that leaves a cluster empty, the farthest point fills it.
func TestEmptyClusterIsRelocated(t *testing.T) {
	points := linalg.Matrix{Rows: 5, Cols: 1, Stride: 1, Data: []float32{-1, -1.1, 1, 1.1, 9}}
	s, err := newKMeans(points, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	start := linalg.Matrix{Rows: 3, Cols: 1, Stride: 1, Data: []float32{-1, 1, -100}}
	if s.mean != nil {
		t.Fatalf("the points were moved by %v", s.mean)
	}
	p, err := s.lloyd(t.Context(), start, 300, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []int32{0, 0, 1, 1, 2}; !slices.Equal(p.labels, want) || !p.converged {
		t.Errorf("labels %v, want %v", p.labels, want)
	}
	// 2 · (0.05² + 0.05²)
	if math.Abs(p.inertia-0.01) > 1e-6 {
		t.Errorf("inertia %v, want 0.01", p.inertia)
	}
}

func TestOptionsAreObeyed(t *testing.T) {
	x, _ := blobs(linalg.Rand(11, "blobs"), 10, 50, 20, 1.5)
	x = unit(t, x)
	spherical, _ := ByName("spherical_kmeans")
	fit := func(options map[string]any) map[string]float64 {
		t.Helper()
		model, err := spherical.Fit(t.Context(), Input{X: x, K: 10, Seed: 1, Threads: 1, Options: options})
		if err != nil {
			t.Fatal(err)
		}
		return model.Info
	}
	once := fit(nil)
	if got := fit(map[string]any{"max_iter": 2}); got["iterations"] != 2 || got["converged"] != 0 || got["inertia"] < once["inertia"] {
		t.Errorf("max_iter = 2: %v", got)
	}
	if got := fit(map[string]any{"n_init": int64(8)}); got["starts"] != 8 || got["inertia"] > once["inertia"] {
		t.Errorf("n_init = 8: %v, against %v", got, once)
	}
	if got := fit(map[string]any{"tol": 1.0}); got["iterations"] >= once["iterations"] {
		t.Errorf("tol = 1: %v, against %v", got, once)
	}
	for _, bad := range []map[string]any{{"n_init": 0}, {"n_init": 1.5}, {"tol": "x"}, {"tol": math.NaN()}, {"nint": 1}, {"n_init": true}, {"n_init": []int{1}}} {
		if _, err := spherical.Fit(t.Context(), Input{X: x, K: 2, Options: bad}); err == nil || !strings.Contains(err.Error(), "spherical_kmeans") {
			t.Errorf("options %v: error %v", bad, err)
		}
	}
}

func TestMethods(t *testing.T) {
	var names []string
	for _, m := range Methods {
		names = append(names, m.Name)
		if m.Doc == "" || m.Version == "" || !slices.Contains([]string{"rows", "pca", "text"}, m.Space) {
			t.Errorf("method %s: %+v", m.Name, m)
		}
		all, err := m.Complete(nil)
		if err != nil || len(all) != len(m.Options) {
			t.Errorf("method %s: %v %v", m.Name, all, err)
		}
		again, err := m.Complete(all) // defaults lie in their own ranges
		if err != nil || fmt.Sprint(again) != fmt.Sprint(all) {
			t.Errorf("method %s: %v %v", m.Name, again, err)
		}
	}
	want := []string{"spherical_kmeans", "pca_kmeans", "gmm", "pca_gmm", "agglomerative", "pca_agglomerative", "sae_topk", "random", "tfidf_kmeans", "category"}
	if !slices.Equal(names, want) {
		t.Errorf("methods %v, want %v", names, want)
	}
	if _, ok := ByName("kmeans"); ok {
		t.Error("a method that is not there was found")
	}
}

// Far from the origin centres are rounded when they go back there; what is
// stored must still agree.
func TestLabelsAgreeWithStoredCentres(t *testing.T) {
	const n, d = 3000, 24
	x := linalg.NewMatrix(n, d)
	rng := linalg.Rand(5, "far rows")
	for i := range n {
		for j := range x.Row(i) {
			x.Row(i)[j] = 4096 + float32(rng.NormFloat64())/512 // a few units in the last place
		}
	}
	s, err := newKMeans(x, 12, 2)
	if err != nil || s.mean == nil {
		t.Fatalf("rows far from the origin were not moved: %v", err)
	}
	first, err := s.seed(t.Context(), []*rand.Rand{rng})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.lloyd(t.Context(), first[0], 50, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range p.labels {
		for c := range p.centers.Rows {
			if squaredDistance(x.Row(i), p.centers.Row(c)) < squaredDistance(x.Row(i), p.centers.Row(int(l))) {
				t.Fatalf("row %d is labelled %d and nearer to %d", i, l, c)
			}
		}
	}
}

// What a model predicts for the rows that it was fitted to are its own labels,
// agglomerative ones aside.
func TestPredictTrainingRows(t *testing.T) {
	x, _ := blobs(linalg.Rand(3, "blobs"), 6, 150, 120, 0.8)
	x = unit(t, x)
	for _, m := range fitted() {
		if m.Null {
			if _, err := Predict(m.Name, nil, x, 1); err == nil {
				t.Errorf("%s predicts from activations", m.Name)
			}
			continue
		}
		in := inputFor(t, m, x, 8, 2)
		model, err := m.Fit(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		tensors := map[string]linalg.Matrix{"centers": model.Centers}
		for name, v := range model.Tensors {
			tensors[name] = v
		}
		if m.Space == "pca" {
			p, err := PCA(t.Context(), x, PCAComponents, 2, nil)
			if err != nil {
				t.Fatal(err)
			}
			tensors[PCAComponentsTensor], tensors[PCAMeanTensor] = p.Components, rowMatrix(p.Mean)
		}
		got, err := Predict(m.Name, tensors, x, 3)
		if err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		differ := 0
		for i, l := range got {
			if l != model.Labels[i] {
				differ++
			}
		}
		if differ > 0 && m.Shared != "linkage" || differ > len(got)/2 {
			t.Errorf("%s: %d of %d rows get another label", m.Name, differ, len(got))
		}
		if _, err := Predict(m.Name, tensors, linalg.NewMatrix(3, 7), 1); err == nil {
			t.Errorf("%s: rows of another width were labelled", m.Name)
		}
	}
}
