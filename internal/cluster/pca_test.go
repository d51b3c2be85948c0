package cluster

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"clusterflow/internal/linalg"
)

// decaying returns rows whose variances fall along turned axes, far from the
// origin.
func decaying(seed int64, n, d int, decay float64) linalg.Matrix {
	rng := linalg.Rand(seed, "decaying")
	basis := mat.NewDense(d, d, nil)
	for i := range d {
		for j := range d {
			basis.Set(i, j, rng.NormFloat64()/math.Sqrt(float64(d)))
		}
	}
	x := linalg.NewMatrix(n, d)
	z, y := mat.NewVecDense(d, nil), mat.NewVecDense(d, nil)
	for i := range n {
		for j := range d {
			z.SetVec(j, rng.NormFloat64()*math.Pow(float64(j+1), -decay))
		}
		y.MulVec(basis, z)
		for j := range d {
			x.Row(i)[j] = float32(y.AtVec(j)) + 3
		}
	}
	return x
}

func dense(x linalg.Matrix) *mat.Dense {
	m := mat.NewDense(x.Rows, x.Cols, nil)
	for i := range x.Rows {
		for j, v := range x.Row(i) {
			m.Set(i, j, float64(v))
		}
	}
	return m
}

// checkProjection holds p against gonum's singular value decomposition of the
// centred rows.
func checkProjection(t *testing.T, name string, x linalg.Matrix, p *Projection, components int) {
	t.Helper()
	var pc stat.PC
	if !pc.PrincipalComponents(dense(x), nil) {
		t.Fatal("the peer failed")
	}
	peer := pc.VarsTo(nil)
	if p.Components.Rows != components || len(p.Variance) != components {
		t.Fatalf("%s: %d components, want %d", name, p.Components.Rows, components)
	}
	want, captured, total := 0.0, 0.0, 0.0
	for i, v := range peer {
		total += v
		if i < components {
			want += v
			if math.Abs(p.Variance[i]-v) > 1e-5*v+1e-6*peer[0] {
				t.Errorf("%s: variance %d is %v, want %v", name, i, p.Variance[i], v)
			}
		}
	}
	// What the coordinates really capture, not what was said.
	coords := p.Transform(x, 1)
	for j := range coords.Cols {
		captured += stat.Variance(mat.Col(nil, j, dense(coords)), nil)
	}
	if captured < want*(1-1e-4) || captured > want*(1+1e-4) {
		t.Errorf("%s: captured variance %v, want %v", name, captured, want)
	}
	if math.Abs(p.Total-total) > 1e-5*total {
		t.Errorf("%s: total variance %v, want %v", name, p.Total, total)
	}
	for i := range components {
		row := p.Components.Row(i)
		for j := range i + 1 {
			want := 0.0
			if i == j {
				want = 1
			}
			if got := dot(row, p.Components.Row(j)); math.Abs(got-want) > 1e-5 {
				t.Fatalf("%s: components %d · %d = %v", name, i, j, got)
			}
		}
		if high, low := slices.Max(row), slices.Min(row); high < -low {
			t.Errorf("%s: the largest element of component %d is negative", name, i)
		}
	}
}

func TestPCAAgainstSVD(t *testing.T) {
	for _, c := range []struct {
		name        string
		n, d, p     int
		decay       float64
		wantedPairs int
	}{
		{"full decomposition", 300, 40, 10, 0.5, 10},
		{"all components", 60, 20, 100, 0.5, 20},
		{"subspace, steep", 500, 320, 30, 1, 30},
		{"subspace, flat", 600, 300, 20, 0, 20},
		{"fewer rows than columns", 30, 200, 10, 0.3, 10},
		{"as many components as rows", 25, 200, 100, 0.3, 25},
		{"subspace of inner products", 290, 500, 15, 0.6, 15},
	} {
		x := decaying(1, c.n, c.d, c.decay)
		p, err := PCA(t.Context(), x, c.p, 2, nil)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		checkProjection(t, c.name, x, p, c.wantedPairs)
	}
}

// Eigenvalues over eight orders of magnitude: a filter that let the largest
// drown the others would fail.
func TestPCAOfSteepSpectrum(t *testing.T) {
	x := decaying(2, 700, 320, 4)
	p, err := PCA(t.Context(), x, 25, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkProjection(t, "steep", x, p, 25)
}

func TestPCADegenerate(t *testing.T) {
	t.Run("constant columns", func(t *testing.T) {
		x := decaying(3, 80, 12, 0.5)
		for i := range x.Rows {
			x.Row(i)[3], x.Row(i)[7] = 5, 0
		}
		p, err := PCA(t.Context(), x, 12, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		checkProjection(t, "constant columns", x, p, 12)
		if p.Variance[10] > 1e-9 || p.Variance[11] > 1e-9 {
			t.Errorf("variances %v", p.Variance)
		}
	})
	t.Run("equal rows", func(t *testing.T) {
		for _, shape := range [][2]int{{20, 5}, {5, 20}, {900, 400}} {
			x := linalg.NewMatrix(shape[0], shape[1])
			for i := range x.Data {
				x.Data[i] = 2
			}
			p, err := PCA(t.Context(), x, 4, 2, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range p.Transform(x, 2).Data {
				if v != 0 {
					t.Fatalf("%v: a coordinate is %v", shape, v)
				}
			}
		}
	})
	t.Run("low rank", func(t *testing.T) {
		// Two directions in 300 columns: the subspace has no more to find.
		x := linalg.NewMatrix(400, 300)
		rng := linalg.Rand(1, "low rank")
		for i := range x.Rows {
			a, b := float32(rng.NormFloat64()), float32(rng.NormFloat64())
			for j := range x.Cols {
				x.Row(i)[j] = a*float32(j%7) + b*float32(j%3)
			}
		}
		p, err := PCA(t.Context(), x, 20, 2, nil)
		if err != nil {
			t.Fatal(err)
		}
		checkProjection(t, "low rank", x, p, 20)
	})
	t.Run("errors", func(t *testing.T) {
		if _, err := PCA(t.Context(), linalg.NewMatrix(1, 5), 2, 1, nil); err == nil {
			t.Error("one row has components")
		}
		if _, err := PCA(t.Context(), linalg.NewMatrix(5, 5), 0, 1, nil); err == nil {
			t.Error("zero components were found")
		}
		x := linalg.NewMatrix(5, 5)
		x.Row(2)[1] = float32(math.Inf(1))
		if _, err := PCA(t.Context(), x, 2, 1, nil); err == nil || !strings.Contains(err.Error(), "column 1") {
			t.Errorf("an infinite element: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := PCA(ctx, decaying(1, 50, 10, 1), 2, 1, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

func TestPCABitsDoNotDependOnThreads(t *testing.T) {
	x := decaying(4, 700, 530, 0.7)
	want, err := PCA(t.Context(), x, 30, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, threads := range []int{2, 5} {
		got, err := PCA(t.Context(), x, 30, threads, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Components.Data, want.Components.Data) || !slices.Equal(got.Variance, want.Variance) || !slices.Equal(got.Mean, want.Mean) {
			t.Errorf("%d threads give other components than 1", threads)
		}
		if !slices.Equal(got.Transform(x, threads).Data, want.Transform(x, 1).Data) {
			t.Errorf("%d threads give other coordinates than 1", threads)
		}
	}
}
