package main

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
)

const activationsStudy = `
study {
  name = "mine"
  seed = 1
}
activations "mine" {
  model     = "org/Model-X"
  sentences = "sentences.jsonl"
  files     = { 4 = "%s" }
}
grid {
  methods  = ["spherical_kmeans", "pca_kmeans"]
  clusters = [2]
}
evaluator "lexical" {
  provider = "lexical"
}
titles "auto" {
  evaluator            = evaluator.lexical
  description_examples = 6
  repetitions          = 1
}
evaluation "main" {
  titles = [titles.auto]
  judges = [evaluator.lexical]
  accuracy {
    examples = 4
  }
}
`

// TestActivations runs a study on a matrix made elsewhere. What file it comes
// in must not matter: the second and third form run only the import.
func TestActivations(t *testing.T) {
	b := newBench(t)
	const rows, cols = 24, 8
	var sentences strings.Builder
	x := make([]float32, rows*cols)
	for i := range rows {
		word := []string{"number", "garden"}[i%2]
		fmt.Fprintf(&sentences, "{\"text\": \"Sentence %d is about a %s.\", \"response\": %d}\n", i, word, i/6)
		for j := range cols { // two directions, with a little of everything
			x[i*cols+j] = float32(math.Sin(float64(i*cols+j)))/8 + 3
		}
		x[i*cols+i%2] += 2
	}
	b.write("sentences.jsonl", sentences.String())
	b.write("rows.npy", npy(rows, cols, x))
	b.write("rows.npz", npz(t, "activations", npy(rows, cols, x)))
	b.write("rows.safetensors", safetensors(t, "activations", rows, cols, x))
	use := func(file string) { b.write("mine.hcl", fmt.Sprintf(activationsStudy, file)) }

	use("rows.npy")
	b.must(0, `^DATA +mine: 4 responses · about 24 sentences`, "plan", "mine.hcl")
	b.must(0, `^16 run · 0 cached`, "apply", "--quiet", "mine.hcl")
	b.must(0, `^0 run · 16 cached`, "apply", "--quiet", "mine.hcl")
	clusters := b.read("results/mine/clusters.csv")
	b.read("results/mine/vars/spherical_kmeans_results_model-x_layer4.json")
	b.read("results/mine/vars/pca_kmeans_results_model-x_layer4.json")
	for _, file := range []string{"rows.npz", "rows.safetensors"} {
		use(file)
		b.must(0, `rows changed`, "plan", "mine.hcl")
		b.must(0, `^1 run · 1 cached · 14 spared`, "apply", "--quiet", "mine.hcl")
		if b.read("results/mine/clusters.csv") != clusters {
			t.Errorf("%s gives other clusters", file)
		}
	}

	// The two directions are what k-means finds.
	var labels struct {
		ResultsByClusterSize map[string]struct {
			AllResults []struct {
				Categories json.RawMessage `json:"categories"`
			} `json:"all_results"`
		} `json:"results_by_cluster_size"`
	}
	if err := json.Unmarshal([]byte(b.read("results/mine/vars/spherical_kmeans_results_model-x_layer4.json")), &labels); err != nil || len(labels.ResultsByClusterSize) != 1 {
		t.Errorf("result file: %v, %+v", err, labels)
	}
	if n := strings.Count(clusters, ",12,"); n != 4 { // 2 methods × 2 clusters of every second row
		t.Errorf("clusters of 12 sentences: %d, want 4 in\n%s", n, clusters)
	}

	// Another number in the matrix is another result.
	x[5] += 0.25
	b.write("rows.safetensors", safetensors(t, "activations", rows, cols, x))
	b.must(0, `2 train in`, "apply", "--quiet", "mine.hcl")

	// What does not fit is said before anything runs.
	b.write("short.npy", npy(rows-1, cols, x[:(rows-1)*cols]))
	use("short.npy")
	b.must(1, `The file holds 23 rows, sentences.jsonl holds 24 sentences`, "validate", "mine.hcl")
	b.write("cut.npy", npy(rows, cols, x)[:300])
	use("cut.npy")
	b.must(1, `cut.npy: its shape \[24 8\] asks for more data than the 172 bytes`, "validate", "mine.hcl")
	b.write("text.npz", "no archive")
	use("text.npz")
	b.must(1, `Activations cannot be read`, "validate", "mine.hcl")
	x[9] = float32(math.NaN())
	b.write("nan.npy", npy(rows, cols, x))
	use("nan.npy")
	b.must(1, `row 1, component 1 is not finite`, "apply", "--quiet", "mine.hcl")
	use("rows.npy")
	b.write("sentences.jsonl", "{\"text\": \"One.\"}\n{\"txt\": \"Two.\"}\n")
	b.must(1, `row 1 has no text`, "validate", "mine.hcl")
}

// npy is a matrix in the NumPy format, version 1.0
// (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
func npy(rows, cols int, x []float32) string {
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", rows, cols)
	header += strings.Repeat(" ", 63-(10+len(header))%64) + "\n"
	var b bytes.Buffer
	b.WriteString("\x93NUMPY\x01\x00")
	binary.Write(&b, binary.LittleEndian, uint16(len(header))) //nolint:errcheck // to memory
	b.WriteString(header)
	binary.Write(&b, binary.LittleEndian, x) //nolint:errcheck // to memory
	return b.String()
}

// npz is a zip of npy files.
func npz(t *testing.T, name, content string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(name + ".npy")
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// safetensors is a matrix in the format of
// https://github.com/huggingface/safetensors.
func safetensors(t *testing.T, name string, rows, cols int, x []float32) string {
	t.Helper()
	header, err := json.Marshal(map[string]any{
		name: map[string]any{"dtype": "F32", "shape": []int{rows, cols}, "data_offsets": []int{0, 4 * len(x)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, uint64(len(header))) //nolint:errcheck // to memory
	b.Write(header)
	binary.Write(&b, binary.LittleEndian, x) //nolint:errcheck // to memory
	return b.String()
}
