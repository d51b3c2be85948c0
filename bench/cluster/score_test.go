package main

import (
	"math"
	"testing"

	"clusterflow/internal/linalg"
)

// matrix of rows that are as long as each other.
func matrix(rows ...[]float32) linalg.Matrix {
	m := linalg.NewMatrix(len(rows), len(rows[0]))
	for i, r := range rows {
		copy(m.Row(i), r)
	}
	return m
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-7 {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestScoresByHand is worked on paper over the points (±1, 0) and (0, ±2),
// whose mean is the origin and whose spread is 1 + 1 + 4 + 4 = 10.
func TestScoresByHand(t *testing.T) {
	s := newScorer(matrix([]float32{1, 0}, []float32{-1, 0}, []float32{0, 2}, []float32{0, -2}), 2)

	// (±1, 0) are √2 from the centre (0, 1), (0, 2) is 1 from it; (0, −2) has its own.
	near(t, "k-means", s.kmeans(matrix([]float32{0, 1}, []float32{0, -2})), 10-(2+2+1+0))

	// One standard Gaussian: −log 2π − ‖x‖²/2, in the mean −log 2π − 10/8. The
	// best single one has the variances 1/2 and 2, so −log 2π − log(1)/2 − 1.
	unit := matrix([]float32{1, 1})
	got, err := s.mixture([]float32{1}, matrix([]float32{0, 0}), unit, false, 0)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "diagonal", got, -10.0/8+1)
	// Two equal halves are the whole.
	got, err = s.mixture([]float32{0.5, 0.5}, matrix([]float32{0, 0}, []float32{0, 0}), matrix([]float32{1, 1}, []float32{1, 1}), false, 0)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "two halves", got, -10.0/8+1)

	// [[2, 1], [1, 1]] has determinant 1 and the inverse [[1, −1], [−1, 2]]:
	// squared distances 1, 1, 8, 8, so −18/8. The single one as above.
	got, err = s.mixture([]float32{1}, matrix([]float32{0, 0}), matrix([]float32{2, 1}, []float32{1, 1}), true, 0)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "full", got, -18.0/8+1)
	// With 1/2 added the single one has the variances 1 and 5/2.
	got, err = s.mixture([]float32{1}, matrix([]float32{0, 0}), unit, false, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "regularized", got, -10.0/8-(-math.Log(2.5)/2-(2*1+8/2.5)/8))
	if _, err := s.mixture([]float32{1}, matrix([]float32{0, 0}), matrix([]float32{1, 2}, []float32{2, 1}), true, 0); err == nil {
		t.Error("a covariance that is not positive definite has a score")
	}

	// Latents are x₁ and x₂ + 1/2; one is kept. (1, 0): 1 against 1/2, exact.
	// (−1, 0): the second, guess (0, 1/2), 5/4 off. (0, 2): 5/2, off by 1/4.
	// (0, −2): 0 against −3/2, guess the origin, 4 off.
	eye := matrix([]float32{1, 0}, []float32{0, 1})
	near(t, "autoencoder", s.autoencoder(eye, eye, []float32{0, 0.5}, []float32{0, 0}, 1), 1-(0+1.25+0.25+4)/10)
	// With both kept every row is off by the bias alone.
	near(t, "both latents", s.autoencoder(eye, eye, []float32{0, 0.5}, []float32{0, 0}, 2), 1-4*0.25/10)

	// {(1,0), (0,2)}: cosines 1, 0, 0, 1; {(−1,0), (0,−2)} the same.
	near(t, "cosine", s.cosine([]int32{0, 1, 0, 1}, 2), 0.5)
	near(t, "cosine of opposites", s.cosine([]int32{0, 0, 1, 1}, 2), 0)
}

func TestMovedRows(t *testing.T) {
	for _, c := range []struct {
		a, b []int32
		want int
	}{
		{[]int32{0, 0, 1, 2}, []int32{2, 2, 0, 1}, 0},
		{[]int32{0, 0, 1, 1}, []int32{0, 0, 0, 0}, 2}, // b joins what a tells apart
		{[]int32{0, 0, 0, 1}, []int32{0, 0, 1, 1}, 1},
	} {
		if got := moved(c.a, c.b); got != c.want {
			t.Errorf("%v and %v: %d rows moved, want %d", c.a, c.b, got, c.want)
		}
	}
}
