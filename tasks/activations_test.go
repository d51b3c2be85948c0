package tasks_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"clusterflow/internal/linalg"
)

// Matrices of another program are clustered as if they had been extracted:
// whether they come raw, with their mean, or centred already.
func TestActivations(t *testing.T) {
	dir, texts := threeGroups(t)
	raw := randomMatrix(12, 4, 6)
	for i := range raw.Rows {
		raw.Row(i)[strings.Index("ABC", texts[i][:1])] += 9
	}
	mean, centred, unit := randomMatrix(1, 4, 7), randomMatrix(12, 4, 0), randomMatrix(12, 4, 0)
	copy(unit.Data, raw.Data)
	for c := range raw.Cols {
		sum := 0.0
		for i := range raw.Rows {
			sum += float64(raw.Row(i)[c])
		}
		mean.Data[c] = float32(sum / 12)
		for i := range raw.Rows {
			centred.Row(i)[c] = raw.Row(i)[c] - mean.Data[c]
			unit.Row(i)[c] = 0.5
		}
	}
	unit.Row(7)[2] = 0.9
	write(t, dir, "raw.npy", npy(raw))
	write(t, dir, "mean.npy", npy(mean))
	write(t, dir, "centred.npy", npy(centred))
	write(t, dir, "unit.npy", npy(unit))
	study := func(block string) string {
		return fmt.Sprintf(`
study { name = "s" }
activations "x" {
  sentences = "x.jsonl"
  %s
}
grid {
  methods  = ["spherical_kmeans"]
  clusters = [3]
}
`, block)
	}
	const rows, train = "x/4/rows", "x/4/spherical_kmeans/3/train"
	first := newBench(t).apply(dir, study(`files = { 4 = "raw.npy" }`))
	if m := first.matrix(rows, "activations", "activations"); !slices.Equal(m.Data, raw.Data) {
		t.Error("the stored rows are not those of the file")
	}
	centers := first.matrix(train, "model", "centers")
	for block, knowsMean := range map[string]bool{
		"files = { 4 = \"raw.npy\" }\n mean = { 4 = \"mean.npy\" }":                       true,
		"files = { 4 = \"centred.npy\" }\n mean = { 4 = \"mean.npy\" }\n centered = true": true,
		"files = { 4 = \"centred.npy\" }\n centered = true":                               false,
		"files = { 4 = \"centred.npy\" }\n centered = true\n center = false":              false,
	} {
		a := newBench(t).apply(dir, study(block))
		if !slices.Equal(a.labels(train), first.labels(train)) {
			t.Errorf("%s: labels %v, from raw rows %v", block, a.labels(train), first.labels(train))
			continue
		}
		got := a.matrix(train, "model", "centers")
		for i := range got.Rows {
			want := make([]float64, got.Cols)
			for c, v := range centers.Row(i) {
				want[c] = float64(v)
			}
			near(t, fmt.Sprintf("%s: centre %d", block, i), got.Row(i), want)
		}
		m, err := a.tensor(train, "model", "activation_mean").Float32()
		if err != nil {
			t.Fatal(err)
		}
		if slices.Equal(m, mean.Data) != knowsMean {
			t.Errorf("%s: the mean is %v, of the raw rows %v", block, m, mean.Data)
		}
	}

	sum := newBench(t).try(dir, study("files = { 4 = \"unit.npy\" }\n normalized = true")).sum
	if len(sum.Failures) != 1 || !strings.Contains(sum.Failures[0].Err.Error(), "row 7") {
		t.Errorf("a row that is not of unit length: %v", sum.Failures)
	}
}

// randomMatrix is [rows, cols] of normal numbers.
func randomMatrix(rows, cols int, seed int64) linalg.Matrix {
	m := linalg.NewMatrix(rows, cols)
	rng := linalg.Rand(seed, "test matrix")
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64())
	}
	return m
}

// npy is a matrix in NumPy's format, version 1.0
// (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
func npy(m linalg.Matrix) []byte {
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", m.Rows, m.Cols)
	header += strings.Repeat(" ", 64-(10+len(header)+1)%64) + "\n"
	out := append([]byte("\x93NUMPY\x01\x00"), byte(len(header)), byte(len(header)>>8))
	out = append(out, header...)
	for _, v := range m.Data {
		out = appendFloat32(out, v)
	}
	return out
}
