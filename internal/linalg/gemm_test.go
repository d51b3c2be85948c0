package linalg

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/blas/blas64"
)

func randomMatrix(rng *rand.Rand, rows, cols, stride int) Matrix {
	m := Matrix{Rows: rows, Cols: cols, Stride: stride, Data: make([]float32, rows*stride)}
	for i := range m.Data {
		m.Data[i] = rng.Float32()*2 - 1
	}
	return m
}

// naive is the definition of the product, in float64.
func naive(transA, transB bool, alpha float32, a, b Matrix, beta float32, c Matrix) Matrix {
	at := func(m Matrix, t bool, i, j int) float64 {
		if t {
			i, j = j, i
		}
		return float64(m.Row(i)[j])
	}
	k := a.Cols
	if transA {
		k = a.Rows
	}
	out := NewMatrix(c.Rows, c.Cols)
	for i := range c.Rows {
		for j := range c.Cols {
			sum := 0.0
			for l := range k {
				sum += at(a, transA, i, l) * at(b, transB, l, j)
			}
			v := float64(alpha) * sum
			if beta != 0 {
				v += float64(beta) * float64(c.Row(i)[j])
			}
			out.Row(i)[j] = float32(v)
		}
	}
	return out
}

// operands returns a and b as [Gemm] takes them, and a c whose old elements
// are NaN when they must not be read.
func operands(rng *rand.Rand, transA, transB bool, m, n, k int, beta float32) (a, b, c Matrix) {
	a, b = randomMatrix(rng, m, k, k+3), randomMatrix(rng, k, n, n+1)
	if transA {
		a = randomMatrix(rng, k, m, m)
	}
	if transB {
		b = randomMatrix(rng, n, k, k+2)
	}
	c = randomMatrix(rng, m, n, n+5)
	if beta == 0 {
		for i := range c.Data {
			c.Data[i] = float32(math.NaN())
		}
	}
	return a, b, c
}

func TestGemmAgainstDefinition(t *testing.T) {
	rng := Rand(1, "test gemm")
	inGo := goBackend().sgemm
	shapes := [][3]int{{1, 1, 1}, {1, 700, 5}, {3, 2, 129}, {65, 67, 33}, {300, 520, 17}, {257, 1, 40}, {64, 192, 64}, {1030, 2060, 3}}
	for _, s := range shapes {
		for flags := range 4 {
			transA, transB := flags&1 != 0, flags&2 != 0
			for _, beta := range []float32{0, 1, -0.5} {
				a, b, c := operands(rng, transA, transB, s[0], s[1], s[2], beta)
				want := naive(transA, transB, 1.25, a, b, beta, c)
				byGonum := c.Clone()
				Gemm(2, transA, transB, 1.25, a, b, beta, c)
				inGo(transA, transB, s[0], s[1], s[2], 1.25, a.Data, a.Stride, b.Data, b.Stride, beta, byGonum.Data, byGonum.Stride)
				name := fmt.Sprintf("%v transA=%v transB=%v beta=%v", s, transA, transB, beta)
				// k products below 1 each: the error of float32 sums stays below k ulps of k.
				tol := 1.25 * float64(s[2]*s[2]) * 0x1p-23
				compare(t, name, c, want, tol)
				compare(t, name+" gonum", byGonum, want, tol)
			}
		}
	}
}

func compare(t *testing.T, name string, got, want Matrix, tol float64) {
	t.Helper()
	for i := range want.Rows {
		for j, w := range want.Row(i) {
			if d := math.Abs(float64(got.Row(i)[j] - w)); !(d <= tol+1e-7) {
				t.Fatalf("%s: [%d, %d] = %v, want %v", name, i, j, got.Row(i)[j], w)
			}
		}
	}
}

func TestGemmLeavesTheRestOfCAlone(t *testing.T) {
	a, b := NewMatrix(2, 2), NewMatrix(2, 2)
	c := Matrix{Rows: 2, Cols: 2, Stride: 4, Data: []float32{1, 1, 7, 7, 1, 1, 7, 7}}
	Gemm(1, false, false, 1, a, b, 0, c)
	if want := []float32{0, 0, 7, 7, 0, 0, 7, 7}; !slices.Equal(c.Data, want) {
		t.Errorf("c = %v, want %v", c.Data, want)
	}
	Gemm(1, false, false, 1, NewMatrix(2, 0), NewMatrix(0, 2), 3, Matrix{Rows: 2, Cols: 2, Stride: 4, Data: c.Data})
	Gemm(1, false, false, 1, NewMatrix(0, 5), NewMatrix(5, 2), 0, NewMatrix(0, 2))
}

func TestGemmBitsDoNotDependOnThreads(t *testing.T) {
	rng := Rand(2, "test gemm")
	for _, s := range [][3]int{{600, 1100, 70}, {31, 1300, 257}, {2100, 2100, 30}, {900, 40, 30}} {
		a, b, c := operands(rng, false, true, s[0], s[1], s[2], 0)
		Gemm(1, false, true, 1, a, b, 0, c)
		for _, threads := range []int{2, 3, 16} {
			again := NewMatrix(s[0], s[1])
			Gemm(threads, false, true, 1, a, b, 0, again)
			for i := range again.Rows {
				if !slices.Equal(again.Row(i), c.Row(i)) {
					t.Fatalf("%v: row %d differs between 1 and %d threads", s, i, threads)
				}
			}
		}
	}
}

func TestGemm64(t *testing.T) {
	// [1 2; 3 4] · [5 6; 7 8]ᵀ, by hand; 2⁻⁴⁰ would be lost in float32.
	a := blas64.General{Rows: 2, Cols: 2, Stride: 2, Data: []float64{1 + 0x1p-40, 2, 3, 4}}
	b := blas64.General{Rows: 2, Cols: 2, Stride: 2, Data: []float64{5, 6, 7, 8}}
	want := []float64{17 + 5*0x1p-40, 23 + 7*0x1p-40, 39, 53}
	for name, dgemm := range map[string]gemmFunc[float64]{"backend": backend().dgemm, "gonum": goBackend().dgemm} {
		c := make([]float64, 4)
		dgemm(false, true, 2, 2, 2, 1, a.Data, 2, b.Data, 2, 0, c, 2)
		if !slices.Equal(c, want) {
			t.Errorf("%s: %v, want %v", name, c, want)
		}
	}
	c := blas64.General{Rows: 2, Cols: 2, Stride: 2, Data: []float64{1, 1, 1, 1}}
	Gemm64(2, true, false, 1, a, b, 1, c)
	if want := []float64{27 + 5*0x1p-40, 31 + 6*0x1p-40, 39, 45}; !slices.Equal(c.Data, want) {
		t.Errorf("aᵀb + 1 = %v, want %v", c.Data, want)
	}
}

func TestGemmPanicsOnShapes(t *testing.T) {
	defer func() {
		if e, ok := recover().(ShapeError); !ok || !strings.Contains(e.Error(), "[2, 3] · [2, 3] into [2, 3]") {
			t.Errorf("recovered %v", e)
		}
	}()
	Gemm(1, false, false, 1, NewMatrix(2, 3), NewMatrix(2, 3), 0, NewMatrix(2, 3))
}

func TestBackendChoice(t *testing.T) {
	t.Setenv("CLUSTERFLOW_BLAS", "gonum")
	if got := findBackend().info; got.Name != "gonum" || got.Problem != "" {
		t.Errorf("CLUSTERFLOW_BLAS=gonum chose %+v", got)
	}
	missing := t.TempDir() + "/libmissing.so"
	t.Setenv("CLUSTERFLOW_BLAS", missing)
	got := findBackend()
	if got.info.Name != "gonum" || !strings.Contains(got.info.Problem, missing) {
		t.Errorf("a missing library chose %+v", got.info)
	}
	if Backend().Name == "" || Backend().How == "" {
		t.Errorf("Backend() = %+v", Backend())
	}
	if MeasureGFLOPS(t.Context()) <= 0 {
		t.Error("MeasureGFLOPS measured nothing")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if MeasureGFLOPS(ctx) != 0 {
		t.Error("MeasureGFLOPS measured although its context had ended")
	}
}

func TestProductsAreTested(t *testing.T) {
	right := goBackend()
	if err := testProducts(right); err != nil {
		t.Errorf("gonum: %v", err)
	}
	for _, lib := range libraries() {
		b, err := loadFirst(lib.files)
		if err != nil {
			t.Logf("%s is not here: %v", lib.title, err)
			continue
		}
		if speed := compareSpeed([]loadedBackend{b, right}); !(speed[0] > 0 && speed[1] > 0) {
			t.Errorf("%s: speeds %v", lib.title, speed)
		}
	}
	wrong := right
	wrong.info.Name = "a library"
	wrong.sgemm = func(transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
		right.sgemm(transA, transB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
		if transA && !transB {
			c[m*n-1]++
		}
	}
	if err := testProducts(wrong); err == nil || !strings.Contains(err.Error(), "a library multiplies wrongly in float32: [36, 40]") {
		t.Errorf("a wrong product: %v", err)
	}
}

func TestWeakKernels(t *testing.T) {
	best := openBLASCore()
	if best == "" {
		t.Skip("OpenBLAS chooses by itself on this processor")
	}
	for name, want := range map[string]bool{
		"OpenBLAS 0.3.21 " + best: false, "OpenBLAS 0.3.26 SapphireRapids": false, "OpenBLAS 0.3.21 Prescott": true,
		"OpenBLAS 0.3.21 Zen": best == "SKYLAKEX", "oneDNN 2.6.3": false, "gonum": false,
	} {
		if weakKernels(loadedBackend{info: BackendInfo{Name: name}}) != want {
			t.Errorf("%s on a processor for %s: want weak %v", name, best, want)
		}
	}
}

func TestRandStreams(t *testing.T) {
	draw := func(r *rand.Rand) [4]uint64 {
		return [4]uint64{r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()}
	}
	base := draw(Rand(42, "shuffle", "a", "b"))
	if draw(Rand(42, "shuffle", "a", "b")) != base {
		t.Error("the same draw differs")
	}
	for name, r := range map[string]*rand.Rand{
		"seed":     Rand(43, "shuffle", "a", "b"),
		"purpose":  Rand(42, "sample", "a", "b"),
		"part":     Rand(42, "shuffle", "a", "c"),
		"boundary": Rand(42, "shuffle", "ab"),
		"newline":  Rand(42, "shuffle", "a\"\npart \"b"),
		"fewer":    Rand(42, "shuffle", "a"),
	} {
		if draw(r) == base {
			t.Errorf("%s: another draw has the same stream", name)
		}
	}
}

func TestForEach(t *testing.T) {
	for _, threads := range []int{0, 1, 3, 50} {
		hits := make([]int, 20)
		ForEach(threads, len(hits), func(i int) { hits[i]++ })
		if slices.ContainsFunc(hits, func(h int) bool { return h != 1 }) {
			t.Errorf("%d threads: calls %v", threads, hits)
		}
	}
}
