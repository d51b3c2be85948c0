package main

import (
	"fmt"
	"math"

	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
)

// ownTensors are the parameters of our model by the names that peer.py gives its.
func ownTensors(m cluster.Method, model *cluster.Model, t *tree) map[string]linalg.Matrix {
	out := map[string]linalg.Matrix{}
	for name, tensor := range model.Tensors {
		switch name {
		case "kmeans_centers", "pca_centers":
			name = "centers"
		case "variances":
			name = "covariances"
		}
		out[name] = tensor
	}
	if m.Shared == "linkage" {
		labels, heights := linalg.NewMatrix(1, len(model.Labels)), linalg.NewMatrix(1, len(t.Heights))
		for i, l := range model.Labels {
			labels.Data[i] = float32(l)
		}
		for i, h := range t.Heights {
			heights.Data[i] = float32(h)
		}
		out["labels"], out["heights"] = labels, heights
	}
	return out
}

// gain is the scorer's word on parameters.
func gain(s *scorer, m cluster.Method, k int, t map[string]linalg.Matrix) (float64, error) {
	switch m.Name {
	case "spherical_kmeans", "pca_kmeans":
		return s.kmeans(t["centers"]), nil
	case "gmm", "pca_gmm":
		return s.mixture(t["weights"].Data, t["means"], t["covariances"], m.Name == "pca_gmm", number(m, "reg_covar"))
	case "agglomerative", "pca_agglomerative":
		return s.cosine(labelsOf(t["labels"]), k), nil
	case "sae_topk":
		return s.autoencoder(t["encoder"], t["decoder"], t["encoder_bias"].Data, t["decoder_bias"].Data, int(number(m, "top_k"))), nil
	}
	return 0, fmt.Errorf("there is no score of %s", m.Name)
}

// number is the default of an option.
func number(m cluster.Method, option string) float64 {
	for _, o := range m.Options {
		if o.Name != option {
			continue
		}
		switch v := o.Default.(type) {
		case int64:
			return float64(v)
		case float64:
			return v
		}
	}
	panic(fmt.Sprintf("%s has no number %s", m.Name, option))
}

func labelsOf(m linalg.Matrix) []int32 {
	out := make([]int32, len(m.Data))
	for i, v := range m.Data {
		out[i] = int32(v)
	}
	return out
}

// furthest is the largest difference of two sorted lists.
func furthest(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	most := 0.0
	for i := range a {
		most = max(most, math.Abs(float64(a[i])-float64(b[i])))
	}
	return most
}

// moved is how many rows lie elsewhere when each cluster of a is taken for the
// cluster of b with which it shares the most rows, or the other way round if
// those are more; 0 for the same partition only.
func moved(a, b []int32) int { return max(strays(a, b), strays(b, a)) }

func strays(a, b []int32) int {
	shared, best := map[[2]int32]int{}, map[int32]int{}
	for i := range a {
		pair := [2]int32{a[i], b[i]}
		shared[pair]++
		best[a[i]] = max(best[a[i]], shared[pair])
	}
	left := len(a)
	for _, n := range best {
		left -= n
	}
	return left
}
