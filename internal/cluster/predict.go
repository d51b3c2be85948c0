package cluster

import (
	"fmt"
	"math"

	"clusterflow/internal/linalg"
)

// Names of the tensors by which a model of the space "pca" brings its rows
// there: components [p, d] and their mean [1, d].
const (
	PCAComponentsTensor = "pca_components"
	PCAMeanTensor       = "pca_mean"
)

// Predict gives each row of x [N, d], prepared as the rows were that the model
// was fitted to, the label of a cluster of the model: what each method says of
// rows that it has not seen. tensors are those of Model, with its centers, and
// for methods of the space "pca" the projection. Agglomerative methods say
// nothing of new rows, so theirs get the nearest centre by cosine.
func Predict(method string, tensors map[string]linalg.Matrix, x linalg.Matrix, threads int) ([]int32, error) {
	fail := func(err error) ([]int32, error) { return nil, fmt.Errorf("predicting with %s: %w", method, err) }
	m, ok := ByName(method)
	if !ok {
		return fail(fmt.Errorf("there is no such method"))
	}
	if m.Predict == nil {
		return fail(fmt.Errorf("its labels do not come from activations, so it has none for new ones"))
	}
	if _, err := squaredNorms(x, threads); err != nil {
		return fail(err)
	}
	if m.Space == "pca" {
		p := Projection{Components: tensors[PCAComponentsTensor], Mean: tensors[PCAMeanTensor].Data}
		if p.Components.Cols != x.Cols || len(p.Mean) != x.Cols {
			return fail(fmt.Errorf("rows of %d columns, and a projection of %d", x.Cols, p.Components.Cols))
		}
		x = p.Transform(x, threads)
	}
	labels, err := m.Predict(tensors, x, threads)
	if err != nil {
		return fail(err)
	}
	return labels, nil
}

// nearestOfTensor labels by the nearest row of a tensor, in Euclidean distance.
func nearestOfTensor(name string) func(map[string]linalg.Matrix, linalg.Matrix, int) ([]int32, error) {
	return func(tensors map[string]linalg.Matrix, x linalg.Matrix, threads int) ([]int32, error) {
		centers := tensors[name]
		if err := fits(name, centers, x); err != nil {
			return nil, err
		}
		s := &kmeans{x: x, k: centers.Rows, threads: threads}
		if err := s.takeNorms(); err != nil {
			return nil, err
		}
		return s.nearestTo(centers), nil
	}
}

// nearestByCosine labels by the largest cosine to a row of a tensor.
func nearestByCosine(name string) func(map[string]linalg.Matrix, linalg.Matrix, int) ([]int32, error) {
	return func(tensors map[string]linalg.Matrix, x linalg.Matrix, threads int) ([]int32, error) {
		centers := tensors[name]
		if err := fits(name, centers, x); err != nil {
			return nil, err
		}
		unit, err := unitRows(centers, 1)
		if err != nil {
			return nil, err
		}
		labels := make([]int32, x.Rows)
		linalg.ForEach(threads, linalg.Blocks(x.Rows, rowBlock), func(b int) {
			from, to := b*rowBlock, min(x.Rows, (b+1)*rowBlock)
			y := linalg.NewMatrix(to-from, unit.Rows)
			linalg.Gemm(1, false, true, 1, x.Slice(from, to), unit, 0, y)
			for i := range y.Rows {
				best := float32(math.Inf(-1))
				for j, v := range y.Row(i) {
					if v > best {
						best, labels[from+i] = v, int32(j)
					}
				}
			}
		})
		return labels, nil
	}
}

func predictMixture(full bool) func(map[string]linalg.Matrix, linalg.Matrix, int) ([]int32, error) {
	return func(tensors map[string]linalg.Matrix, x linalg.Matrix, threads int) ([]int32, error) {
		if err := fits("means", tensors["means"], x); err != nil {
			return nil, err
		}
		g, err := loadGaussians(tensors, full)
		if err != nil {
			return nil, err
		}
		labels, _ := g.assign(x, threads)
		return labels, nil
	}
}

func predictSAE(tensors map[string]linalg.Matrix, x linalg.Matrix, threads int) ([]int32, error) {
	enc, dec := tensors["encoder"], tensors["decoder"]
	if err := fits("encoder", enc, x); err != nil {
		return nil, err
	}
	bias, origin := tensors["encoder_bias"].Data, tensors["decoder_bias"].Data
	if dec.Rows != enc.Rows || dec.Cols != enc.Cols || len(bias) != enc.Rows || len(origin) != enc.Cols {
		return nil, fmt.Errorf("encoder, decoder and their biases do not fit each other")
	}
	s := &sae{k: enc.Rows, d: enc.Cols, keep: 1, weights: linalg.NewMatrix(2*enc.Rows, enc.Cols), bias: bias, origin: origin, threads: threads}
	copy(s.weights.Data, enc.Data)
	copy(s.weights.Data[enc.Rows*enc.Cols:], dec.Data)
	norms, err := squaredNorms(x, threads)
	if err != nil {
		return nil, err
	}
	labels, _ := s.label(x, norms)
	return labels, nil
}

func fits(name string, centers, x linalg.Matrix) error {
	if centers.Rows == 0 || centers.Cols != x.Cols {
		return fmt.Errorf("tensor %s is %d × %d, and the rows have %d columns", name, centers.Rows, centers.Cols, x.Cols)
	}
	return nil
}
