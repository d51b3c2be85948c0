package cluster

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"clusterflow/internal/linalg"
)

func TestPrepare(t *testing.T) {
	raw := linalg.Matrix{Rows: 2, Cols: 2, Stride: 2, Data: []float32{4, 5, 1, 4}}
	for _, c := range []struct {
		center, normalize bool
		want              []float32
	}{
		{true, true, []float32{0.6, 0.8, 0, 1}}, // (3, 4)/5 and (0, 3)/3
		{true, false, []float32{3, 4, 0, 3}},
		{false, false, raw.Data},
	} {
		got, err := Prepare(raw, []float32{1, 1}, c.center, c.normalize, 2)
		if err != nil || !slices.Equal(got.Data, c.want) {
			t.Errorf("center %v, normalize %v: %v %v, want %v", c.center, c.normalize, got.Data, err, c.want)
		}
	}
	// Norms whose squares leave float32 on either side.
	for _, v := range []float32{1e-30, 1e30} {
		got, err := Prepare(linalg.Matrix{Rows: 1, Cols: 2, Stride: 2, Data: []float32{3 * v, 4 * v}}, nil, false, true, 1)
		if err != nil || math.Abs(float64(got.Data[0])-0.6) > 1e-6 || math.Abs(float64(got.Data[1])-0.8) > 1e-6 {
			t.Errorf("rows of size %v: %v %v", v, got.Data, err)
		}
	}
}

func TestPrepareNamesTheFirstBadRow(t *testing.T) {
	for name, c := range map[string]struct {
		value, mean float32
		want        string
	}{
		"nan":       {float32(math.NaN()), 0, "not finite"},
		"infinite":  {float32(math.Inf(-1)), 0, "not finite"},
		"zero":      {0, 0, "no direction"},
		"mean only": {2, 2, "equals the mean"},
	} {
		x := linalg.NewMatrix(1000, 3)
		for i := range x.Data {
			x.Data[i] = 7
		}
		for _, i := range []int{700, 701, 999} {
			for j := range 3 {
				x.Row(i)[j] = c.value
			}
		}
		_, err := Prepare(x, []float32{c.mean, c.mean, c.mean}, c.mean != 0, true, 3)
		var row *RowError
		if !errors.As(err, &row) || row.Row != 700 || !strings.Contains(row.Reason, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Prepare(linalg.NewMatrix(1, 3), []float32{1}, true, true, 1); err == nil {
		t.Error("a mean of the wrong length was taken")
	}
}

func TestMeasures(t *testing.T) {
	x := linalg.Matrix{Rows: 3, Cols: 2, Stride: 2, Data: []float32{0, 0, 3, 4, 1, 1}}
	centers := linalg.Matrix{Rows: 2, Cols: 2, Stride: 2, Data: []float32{0, 0, 1, 1}}
	if got, want := Distances(x, centers, []int32{0, 0, 1}, 2), []float64{0, 5, 0}; !slices.Equal(got, want) {
		t.Errorf("distances %v, want %v", got, want)
	}
	for _, c := range []struct {
		name    string
		centers []float32
		want    float64
	}{
		{"right angles", []float32{1, 0, 0, 0, 2, 0, 0, 0, -3}, 1},
		{"one line", []float32{1, 1, 0, -2, -2, 0, 3, 3, 0}, 0},
		{"an empty one", []float32{1, 0, 0, 0, 0, 0, 0, 1, 0}, 1},
		// cos = 1/√2 once, 0 twice: (1 − 1/√2 + 2) / 3
		{"mixed", []float32{1, 0, 0, 1, 1, 0, 0, 0, 1}, (3 - math.Sqrt2/2) / 3},
	} {
		m := linalg.Matrix{Rows: 3, Cols: 3, Stride: 3, Data: c.centers}
		if got := CentroidOrthogonality(m); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := CentroidOrthogonality(centers.Slice(1, 2)); got != 0 {
		t.Errorf("one centre: %v", got)
	}
}

func TestNormsBeforeScaling(t *testing.T) {
	raw := linalg.Matrix{Rows: 2, Cols: 2, Stride: 3, Data: []float32{4, 5, 99, 7, 1, 99}}
	for _, c := range []struct {
		center bool
		want   []float64
	}{{true, []float64{5, 6}}, {false, []float64{math.Sqrt(41), math.Sqrt(50)}}} {
		x := raw.Clone()
		norms, err := PrepareInPlace(x, []float32{1, 1}, c.center, true, 2)
		if err != nil || len(norms) != 2 || norms[0] != c.want[0] || norms[1] != c.want[1] {
			t.Errorf("center %v: %v, %v, want %v", c.center, norms, err, c.want)
		}
		if n := Norm(x.Row(1)); math.Abs(n-1) > 1e-6 {
			t.Errorf("center %v: the second row has the length %v", c.center, n)
		}
	}
}
