package tasks

import (
	"errors"
	"fmt"
	"strings"

	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
)

// Metadata of a "model" output: what its tensors do not say.
const (
	metaMethod    = "method"
	metaCenter    = "center"    // "true" or "false": whether activation_mean is taken off rows
	metaNormalize = "normalize" // "true" or "false": whether rows are scaled to unit length
)

// Model is a clustering as train writes it, to label rows that it has not seen.
type Model struct {
	Method            string
	Center, Normalize bool
	Clusters, Width   int // rows and columns of the centres

	mean    []float32 // [Width]
	tensors map[string]linalg.Matrix
}

// LoadModel reads a "model" output of train, or a safetensors file of the same
// layout. method is for files that do not say what method made them, as those of
// other programs may not; where they do it must be empty or the same. Such files
// are taken to mean rows that are centred, if they have an activation_mean, and
// scaled.
func LoadModel(data []byte, method string) (*Model, error) {
	st, err := linalg.ParseSafetensors(data)
	if err != nil {
		return nil, err
	}
	meta := st.Metadata()
	m := &Model{Method: meta[metaMethod], Normalize: meta[metaNormalize] != "false", tensors: map[string]linalg.Matrix{}}
	switch {
	case m.Method == "" && method == "":
		return nil, errors.New("it does not say which method made it; name the method")
	case m.Method == "":
		m.Method = method
	case method != "" && method != m.Method:
		return nil, fmt.Errorf("it is a model of %s, not of %s", m.Method, method)
	}
	known, ok := cluster.ByName(m.Method)
	if !ok {
		return nil, fmt.Errorf("there is no method %q; methods are %s", m.Method, methodNames())
	}
	if known.Predict == nil {
		return nil, fmt.Errorf("%s (%s) has no say on new rows: its labels do not come from activations", known.Name, known.Doc)
	}
	for _, name := range st.Names() {
		t, _ := st.Tensor(name)
		if strings.HasPrefix(t.DType, "I") {
			continue // labels and the like, of the rows that it was fitted to
		}
		if m.tensors[name], err = t.Matrix(); err != nil {
			return nil, err
		}
	}
	centers, ok := m.tensors["centers"]
	if !ok {
		return nil, fmt.Errorf("it is no clustering: it has no tensor %q, only %s", "centers", strings.Join(st.Names(), ", "))
	}
	m.Clusters, m.Width = centers.Rows, centers.Cols
	mean, ok := m.tensors["activation_mean"]
	if m.Center = ok && meta[metaCenter] != "false"; m.Center {
		if m.mean = mean.Data; len(m.mean) != m.Width {
			return nil, fmt.Errorf("its activation_mean has %d numbers and its centers have %d columns", len(m.mean), m.Width)
		}
	}
	return m, nil
}

// Predict gives each row of raw [N, Width], activations as the layer has them,
// the label of a cluster, 0 to Clusters−1. The rows are prepared as those were
// that the model was fitted to. The error is a *cluster.RowError where a row is
// not finite, or has no direction.
func (m *Model) Predict(raw linalg.Matrix, threads int) ([]int32, error) {
	if raw.Cols != m.Width {
		return nil, fmt.Errorf("rows of %d numbers, and the model was fitted to rows of %d; it labels activations of the same model's same layer only", raw.Cols, m.Width)
	}
	x, err := cluster.Prepare(raw, m.mean, m.Center, m.Normalize, threads)
	if err != nil {
		return nil, err
	}
	return cluster.Predict(m.Method, m.tensors, x, threads)
}

func methodNames() string {
	var names []string
	for _, m := range cluster.Methods {
		if m.Predict != nil {
			names = append(names, m.Name)
		}
	}
	return strings.Join(names, ", ")
}
