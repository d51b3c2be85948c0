package tasks

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clusterflow/internal/linalg"
)

// tensorFile writes a file of the given tensors, of []float32 or []int32.
func tensorFile(t *testing.T, ts ...tensor) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "x.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	specs := make([]linalg.TensorSpec, len(ts))
	for i, x := range ts {
		specs[i] = linalg.TensorSpec{Name: x.name, DType: "F32", Shape: x.shape}
		if _, ok := x.data.([]int32); ok {
			specs[i].DType = "I32"
		}
	}
	w, err := linalg.NewSafetensorsWriter(f, nil, specs)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range ts {
		switch data := x.data.(type) {
		case []int32:
			err = w.WriteInt32(data)
		case []float32:
			err = w.WriteFloat32(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func textFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNear(t *testing.T) {
	rows := func(xs ...float32) string { return tensorFile(t, tensor{"rows", []int{2, 2}, xs}) }
	labels := func(differ int) string {
		ls := make([]int32, 1000)
		for i := range differ {
			ls[i] = 1
		}
		return tensorFile(t, tensor{"labels", []int{len(ls)}, ls}, tensor{"centers", []int{1, 2}, []float32{1, 2}})
	}
	nan := float32(math.NaN())
	for _, c := range []struct {
		name, kind, was, now string
		near                 bool
		how                  string
	}{
		{"rounding", "extract", rows(3, 4, 1, 0), rows(3, 4.0001, 1, 0), true, "rows off by 2e-05"},
		{"one row of many", "extract", rows(300, 400, 1, 0), rows(300, 400, 1, 0.001), false, "off by 0.001, more than the 0.0001"},
		{"what a forward pass may not, a fit may", "train", rows(300, 400, 1, 0), rows(300, 400, 1, 0.001), true, "0.001"},
		{"a number that was none", "train", rows(nan, 4, 1, 0), rows(1, 4, 1, 0), false, "rows"},
		{"none where there was a number", "train", rows(1, 4, 1, 0), rows(nan, 4, 1, 0), false, "rows"},
		{"from nothing", "train", rows(0, 0, 1, 0), rows(1e-9, 0, 1, 0), false, "rows"},
		{"another shape", "train", rows(1, 2, 3, 4), tensorFile(t, tensor{"rows", []int{1, 4}, []float32{1, 2, 3, 4}}), false, "[2 2], now F32 [1 4]"},
		{"another name", "train", rows(1, 2, 3, 4), tensorFile(t, tensor{"r", []int{2, 2}, []float32{1, 2, 3, 4}}), false, "other tensors"},
		{"another type", "train", rows(1, 2, 3, 4), tensorFile(t, tensor{"rows", []int{2, 2}, []int32{1, 2, 3, 4}}), false, "now I32"},
		{"a hundredth of the labels", "train", labels(0), labels(10), true, "a share of labels off by 0.01"},
		{"more labels", "train", labels(0), labels(11), false, "0.011"},
		{"labels of a kind that has no choice", "extract", labels(0), labels(1), false, "labels"},
		{"no tensors any more", "train", labels(0), textFile(t, "{}"), false, "the other is not"},
		{"what made it", "train", textFile(t, `{"backend":"a","info":{"iterations":9},"sizes":[5,5]}`),
			textFile(t, `{"backend":"b","info":{"iterations":12},"sizes":[5,5]}`), true, "but for what says how"},
		{"sizes", "train", textFile(t, `{"sizes":[500,500]}`), textFile(t, `{"sizes":[505,495]}`), true, "sizes off by 0.01"},
		{"other sizes", "train", textFile(t, `{"sizes":[500,500]}`), textFile(t, `{"sizes":[520,480]}`), false, "sizes off by 0.04"},
		{"cosines", "train", textFile(t, `{"c":[[1,-1e-9],[2e-9,1]]}`), textFile(t, `{"c":[[1,1e-9],[-2e-9,1]]}`), true, "c["},
		{"a scalar", "train", textFile(t, `{"a":{"b":0.5}}`), textFile(t, `{"a":{"b":0.6}}`), false, "a.b off by 0.1"},
		{"a word", "train", textFile(t, `{"a":"x"}`), textFile(t, `{"a":"y"}`), false, "a is x, now y"},
		{"another member", "train", textFile(t, `{"a":1}`), textFile(t, `{"b":1}`), false, "other members"},
		{"another length", "train", textFile(t, `[1]`), textFile(t, `[1,1]`), false, "another length"},
		{"lines", "sentences", textFile(t, "{}\n{}\n"), textFile(t, "{}\n{ }\n"), false, "their bytes differ"},
	} {
		how, near, err := nearWithin(toleranceOf(c.kind), c.was, c.now)
		if err != nil || near != c.near || !strings.Contains(how, c.how) {
			t.Errorf("%s: near %v, %q (%v); want %v, %q", c.name, near, how, err, c.near, c.how)
		}
		if how, near, err := nearWithin(toleranceOf(c.kind), c.was, c.was); err != nil || !near && c.kind != "sentences" && !strings.Contains(c.was, "nan") {
			t.Errorf("%s: not near to itself: %q %v", c.name, how, err)
		}
	}
}
