package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"clusterflow/internal/linalg"
)

// labelText writes the labels of a safetensors file as text, one a line.
func labelText(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: labels FILE.safetensors FILE")
	}
	st, err := linalg.OpenSafetensors(ts.MkAbs(args[0]))
	ts.Check(err)
	defer st.Close()
	t, _ := st.Tensor("labels")
	labels, err := t.Int32()
	ts.Check(err)
	var b strings.Builder
	for _, l := range labels {
		fmt.Fprintln(&b, l)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b.String()), 0o666))
}

// TestPredictFiles labels rows of each kind of file by a model that is not ours:
// two centres and no metadata.
func TestPredictFiles(t *testing.T) {
	b := newBench(t)
	b.write("model.safetensors", safetensors(t, "centers", 2, 2, []float32{1, 0, 0, 1}))
	x := []float32{5, 1, 0.5, 3, 2, -1}
	b.write("rows.npy", npy(3, 2, x))
	b.write("rows.npz", npz(t, "activations", npy(3, 2, x)))
	b.write("rows.safetensors", safetensors(t, "activations", 3, 2, x))
	for _, file := range []string{"rows.npy", "rows.npz", "rows.safetensors"} {
		b.must(0, `^0\n1\n0\n$`, "predict", "--model", "model.safetensors", "--method", "agglomerative", "--activations", file)
	}
	b.must(0, `^3 rows in 2 clusters`, "predict", "--model", "model.safetensors", "--method", "agglomerative", "--activations", "rows.npy", "--out", "labels.npy")
	if raw := b.read("labels.npy"); !strings.HasPrefix(raw, "\x93NUMPY\x01\x00") || !strings.Contains(raw, "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }") ||
		!strings.HasSuffix(raw, "\n\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00") || (strings.IndexByte(raw, '\n')+1)%64 != 0 {
		t.Errorf("labels.npy is %q", raw)
	}
	fails := func(want, method string, rows, cols int, x []float32) {
		t.Helper()
		b.write("bad.npy", npy(rows, cols, x))
		b.must(1, want, "predict", "--model", "model.safetensors", "--method", method, "--activations", "bad.npy")
	}
	fails(`bad.npy, by model.safetensors: rows of 3 numbers, and the model was fitted to rows of 2`, "agglomerative", 2, 3, x)
	fails(`bad.npy, by model.safetensors: row 1 has a value that is not finite`, "agglomerative", 2, 2, []float32{1, 2, float32(math.NaN()), 1})
	fails(`row 0 is zero, so it has no direction`, "agglomerative", 1, 2, []float32{0, 0})
	fails(`there is no method "kmeans"; methods are spherical_kmeans, `, "kmeans", 1, 2, x[:2])
	fails(`has no say on new rows`, "random", 1, 2, x[:2])
	fails(`a projection of 0`, "pca_kmeans", 1, 2, x[:2])
	fails(`means`, "gmm", 1, 2, x[:2])
	fails(`encoder`, "sae_topk", 1, 2, x[:2])
}

// TestTypicalNorm looks at what a steering vector is scaled by: the mean norm of
// the rows as they are centred, before they are scaled.
func TestTypicalNorm(t *testing.T) {
	b := newBench(t)
	b.write("sentences.jsonl", strings.Repeat("{\"text\": \"A sentence.\"}\n", 4))
	b.write("rows.npy", npy(4, 2, []float32{3 + 1, 4 + 2, -3 + 1, -4 + 2, 0 + 1, 1 + 2, 0 + 1, -1 + 2})) // the mean is (1, 2)
	b.write("mine.hcl", fmt.Sprintf(activationsStudy, "rows.npy"))
	b.must(0, ``, "apply", "--quiet", "--only", "train", "mine.hcl")
	b.must(0, ``, "show", "mine.hcl", "mine/4/spherical_kmeans/2/train", "--export", "out")
	st, err := linalg.OpenSafetensors(filepath.Join(b.dir, "out/model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	norm, _ := st.Tensor("activation_norm")
	if got, err := norm.Float32(); err != nil || len(got) != 1 || got[0] != (5+5+1+1)/4. {
		t.Errorf("activation_norm is %v, %v, want 3", got, err)
	}
	mean, _ := st.Tensor("activation_mean")
	if got, err := mean.Float32(); err != nil || len(got) != 2 || got[0] != 1 || got[1] != 2 {
		t.Errorf("activation_mean is %v, %v, want 1, 2", got, err)
	}
}
