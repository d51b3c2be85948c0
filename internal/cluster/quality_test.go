package cluster

import (
	"context"
	"math"
	"testing"

	"clusterflow/internal/linalg"
)

// The expected numbers of this file are scikit-learn's (1.x), of the same rows.

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if !(math.Abs(got-want) <= within) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestAgree(t *testing.T) {
	a, b := []int32{0, 0, 0, 1, 1, 1, 2, 2, 2, 2}, []int32{0, 0, 1, 1, 1, 1, 2, 2, 0, 3}
	got := Agree(a, b)
	near(t, "ARI", got.ARI, 0.28, 1e-12)
	near(t, "AMI", got.AMI, 0.3357010026515791, 1e-12)
	near(t, "NMI", got.NMI, 0.568241032922968, 1e-12)
	if other := Agree(b, a); math.Abs(other.AMI-got.AMI) > 1e-12 || other.ARI != got.ARI {
		t.Errorf("the agreement of b with a is %v, of a with b %v", other, got)
	}
	renamed := []int32{5, 5, 5, 0, 0, 0, 9, 9, 9, 9} // names do not matter, nor gaps among them
	got = Agree(a, renamed)
	near(t, "ARI of equal partitions", got.ARI, 1, 1e-12)
	near(t, "AMI of equal partitions", got.AMI, 1, 1e-12)
	one := make([]int32, len(a))
	if got = Agree(a, one); got.ARI != 0 || got.NMI != 0 || got.AMI != 0 {
		t.Errorf("a partition and a single cluster agree by %v", got)
	}
	if got = Agree(one, one); got != (Agreement{1, 1, 1}) {
		t.Errorf("two single clusters agree by %v", got)
	}
}

func TestAdjustedRand(t *testing.T) {
	for _, test := range []struct {
		a, b []int32
		want float64
	}{
		{[]int32{0, 0, 1, 1}, []int32{1, 1, 0, 0}, 1},
		{[]int32{0, 0, 1, 1}, []int32{0, 0, 1, 2}, 4.0 / 7}, // by hand: (1 − 1/3) / (3/2 − 1/3)
		{[]int32{0, 0, 0, 0}, []int32{0, 1, 2, 3}, 0},
		{[]int32{0, 1, 0, 1}, []int32{0, 0, 1, 1}, -0.5},
	} {
		if got := AdjustedRand(test.a, test.b); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("%v beside %v: %g, want %g", test.a, test.b, got, test.want)
		}
	}
}

func TestMeasure(t *testing.T) {
	x := rowsOf([][]float32{{0, 0}, {0, 1}, {1, 0}, {5, 5}, {5, 6}, {6, 5}, {9, 0}, {9, 1}})
	q := Measure(x, []int32{0, 0, 0, 1, 1, 1, 2, 2}, 3, 1, 2)
	near(t, "silhouette", q.Silhouette, 0.8276825032365227, 1e-6)
	near(t, "Calinski–Harabasz", q.CalinskiHarabasz, 110.69078947368418, 1e-4)
	near(t, "Davies–Bouldin", q.DaviesBouldin, 0.18847891292763608, 1e-6)
	// A single row in a cluster, and a cluster without rows.
	q = Measure(x, []int32{0, 0, 0, 1, 1, 1, 3, 1}, 4, 1, 2)
	near(t, "silhouette", q.Silhouette, 0.4361520642237036, 1e-6)
	near(t, "Calinski–Harabasz", q.CalinskiHarabasz, 10.857919254658386, 1e-4)
	near(t, "Davies–Bouldin", q.DaviesBouldin, 0.41738817404547596, 1e-6)
	// One cluster, and nothing but single rows, have none of them.
	for _, labels := range [][]int32{make([]int32, 8), {0, 1, 2, 3, 4, 5, 6, 7}} {
		q = Measure(x, labels, 8, 1, 2)
		if !math.IsNaN(q.Silhouette) || !math.IsNaN(q.CalinskiHarabasz) || !math.IsNaN(q.DaviesBouldin) {
			t.Errorf("the quality of %v is %v", labels, q)
		}
	}
}

func TestMeasureSamples(t *testing.T) {
	const n = SilhouetteRows + 1500
	x, labels := linalg.NewMatrix(n, 3), make([]int32, n)
	rng := linalg.Rand(3, "rows")
	for i := range labels {
		labels[i] = int32(i % 2)
		for j := range x.Row(i) {
			x.Row(i)[j] = float32(rng.NormFloat64()) + 4*float32(labels[i])
		}
	}
	one, two := Measure(x, labels, 2, 1, 1), Measure(x, labels, 2, 1, 4)
	if one != two {
		t.Errorf("with one thread %v, with four %v", one, two)
	}
	other := Measure(x, labels, 2, 2, 4)
	if other.Silhouette == one.Silhouette {
		t.Error("another seed drew the same sample")
	}
	near(t, "silhouette of another sample", other.Silhouette, one.Silhouette, 0.02)
}

func TestNulls(t *testing.T) {
	texts := []string{"Wait, wait.", "Wait, so the sum!", "The sum of both.", "Add the sum.", "?", "wait"}
	groups := []string{"b", "a", "b", "c", "a", "b"}
	x := linalg.NewMatrix(len(texts), 2)
	for i := range texts {
		x.Row(i)[0], x.Row(i)[1] = float32(i), 1
	}
	fit := func(method string, k int) *Model {
		t.Helper()
		m, _ := ByName(method)
		got, err := m.Fit(context.Background(), Input{X: x, Texts: texts, Groups: groups, K: k, Seed: 1, Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	// b is the most frequent, then a and c; two clusters leave a and c in one.
	for i, want := range []int32{0, 1, 0, 2, 1, 0} {
		if got := fit("category", 3).Labels[i]; got != want {
			t.Errorf("category of row %d is %d, want %d", i, got, want)
		}
		if got := fit("category", 2).Labels[i]; got != min(want, 1) {
			t.Errorf("of two clusters, category of row %d is %d, want %d", i, got, min(want, 1))
		}
	}
	if got := fit("category", 5).Centers.Row(4); got[0] != 0 || got[1] != 0 {
		t.Errorf("an empty category has the centre %v", got)
	}
	counts := make([]int, 4)
	for _, l := range fit("random", 4).Labels {
		counts[l]++
	}
	for c, n := range counts {
		if n < 1 || n > 2 {
			t.Errorf("random cluster %d of 4 has %d of 6 rows", c, n)
		}
	}
	// The two texts that say nothing but wait are one point.
	if got := fit("tfidf_kmeans", 3).Labels; got[0] != got[5] || got[0] == got[3] {
		t.Errorf("tfidf_kmeans gives %v", got)
	}

	m, _ := ByName("category")
	if _, err := m.Fit(context.Background(), Input{X: x, Groups: make([]string, 6), K: 2}); err == nil {
		t.Error("rows without any category have been clustered by it")
	}
}

func TestTFIDF(t *testing.T) {
	rows, terms := tfidfRows([]string{"Wait, let me check the sum.", "The sum is 12 apples and 12 pears.", "So the answer is 12.", "!"}, 5)
	if terms != 5 { // by frequency: 12 and the, then is and sum, then the first of those that come once
		t.Fatalf("%d terms", terms)
	}
	want := map[string]float64{"12": 0, "the": 0.629228}
	near(t, "weight of the in the first text", float64(rows.Row(0)[1]), want["the"], 1e-6)
	near(t, "weight of sum in the first text", float64(rows.Row(0)[3]), 0.777221, 1e-6)
	near(t, "weight of 12 in the second text", float64(rows.Row(1)[0]), 0.695712, 1e-6)
	near(t, "weight of is in the third text", float64(rows.Row(2)[2]), 0.613667, 1e-6)
	if Norm(rows.Row(3)) != 0 {
		t.Error("a text without terms has some")
	}
}

func rowsOf(rows [][]float32) linalg.Matrix {
	m := linalg.NewMatrix(len(rows), len(rows[0]))
	for i, r := range rows {
		copy(m.Row(i), r)
	}
	return m
}
