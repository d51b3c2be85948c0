package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// shape is how large a study is along each of its axes.
type shape struct {
	models, layers, sizes int
	methods               []string
}

// perCell is how many nodes a clustering has: train, submit-titles,
// await-titles, submit-eval, await-eval, score.
const perCell = 6

// smallest and largest number of clusters, and the sentences that they need.
const (
	smallest  = 2
	largest   = 200
	sentences = 256
	columns   = 8
)

// shapeFor is a study of about n nodes: few models and methods, the more layers
// and sizes the larger it is.
func shapeFor(n int) shape {
	s := shape{models: 4, methods: []string{"spherical_kmeans", "pca_kmeans"}}
	if n < 5000 {
		s.models = 2
	}
	cells := n / perCell / s.models / len(s.methods)
	s.layers = max(1, int(math.Sqrt(float64(cells)/2)))
	s.sizes = cells / s.layers
	if s.sizes > largest-smallest {
		s.sizes = largest - smallest
		s.layers = cells / s.sizes
	}
	return s
}

// writeStudy writes the study and its data into dir and returns its path.
// var.figure changes the report alone; var.edition names the sentences of the
// first model, of which there are two.
func writeStudy(dir string, s shape) (string, error) {
	var b strings.Builder
	b.WriteString(`variable "figure" {
  default = "pdf"
}

variable "edition" {
  default = "first"
}

study {
  name = "scale"
}
`)
	for m := range s.models {
		edition := ""
		if m == 0 {
			edition = "-${var.edition}"
		}
		fmt.Fprintf(&b, "\nactivations \"m%d\" {\n  model     = \"org/m%d\"\n  sentences = \"data/m%d%s.jsonl\"\n  files = {\n", m, m, m, edition)
		for l := range s.layers {
			fmt.Fprintf(&b, "    %d = \"data/m%d-%d.safetensors\"\n", l, m, l)
		}
		b.WriteString("  }\n}\n")
	}
	sizes := make([]string, s.sizes)
	for i := range sizes {
		sizes[i] = fmt.Sprint(smallest + i)
	}
	fmt.Fprintf(&b, `
grid {
  methods  = ["%s"]
  clusters = [%s]
}

evaluator "words" {
  provider = "lexical"
}

titles "auto" {
  evaluator = evaluator.words
}

evaluation "main" {
  titles = [titles.auto]
  judges = [evaluator.words]
}

report {
  dir     = "results"
  figures = [var.figure]
}
`, strings.Join(s.methods, `", "`), strings.Join(sizes, ", "))
	path := filepath.Join(dir, "study.hcl")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return "", err
	}
	return path, writeData(filepath.Join(dir, "data"), s)
}

func writeData(dir string, s shape) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for m := range s.models {
		editions := []string{""}
		if m == 0 {
			editions = []string{"-first", "-second"}
		}
		for _, e := range editions {
			var text strings.Builder
			for i := range sentences {
				fmt.Fprintf(&text, "{\"text\": \"Sentence %d of model %d%s says something.\", \"response\": %d}\n", i, m, e, i/8)
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("m%d%s.jsonl", m, e)), []byte(text.String()), 0o644); err != nil {
				return err
			}
		}
		for l := range s.layers {
			path := filepath.Join(dir, fmt.Sprintf("m%d-%d.safetensors", m, l))
			if err := os.WriteFile(path, tensor(m*s.layers+l), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// tensor is a safetensors file of rows that depend on n.
func tensor(n int) []byte {
	head := fmt.Sprintf(`{"activations":{"dtype":"F32","shape":[%d,%d],"data_offsets":[0,%d]}}`, sentences, columns, 4*sentences*columns)
	head += strings.Repeat(" ", (8-len(head)%8)%8)
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(head)))
	out = append(out, head...)
	for i := range sentences * columns {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(float32(n)+float32(i%17)/17))
	}
	return out
}
