// Package cluster holds the seven clustering methods of a study, and what
// they share: the preparation of rows and their principal components.
//
// The rows X are a matrix [N, d], one row per sentence. Every result is the
// same to the bit for any number of threads, given the same rows, options,
// seed and matrix library. Inputs are never changed.
package cluster

import (
	"context"
	"fmt"
	"math"
	"sort"
	"strings"

	"clusterflow/internal/linalg"
)

// Option is a setting of a method that a study can change.
type Option struct {
	Name     string
	Kind     string  // "int", "float", "string" or "bool"
	Default  any     // int64, float64, string or bool, by Kind
	Min, Max float64 // the range of numbers, both included
	Doc      string
}

// Method is one way to cluster rows.
type Method struct {
	Name, Doc string
	Space     string // what Fit is given as coordinates: "rows" (none but X), "pca" or "text" (texts and groups)
	Null      bool   // made without the activations, for comparison
	Unseeded  bool   // every seed gives the same result
	Shared    string // what the method shares with other fits: "", "pca" or "linkage"
	Options   []Option
	Version   string // changes whenever the same input can give another result

	// Fit computes a clustering. It is nil for a method that this release
	// names but does not have.
	Fit func(ctx context.Context, in Input) (*Model, error)

	// Memory is about how many bytes Fit takes at its peak beside rows [n, d] for
	// k clusters, by the method's whole-number options. nil: little.
	Memory func(n, d, k int64, option func(name string) int64) int64

	// Predict labels new rows, given the model's tensors and, for methods of the
	// space "pca", coordinates. nil: the method has nothing to say of them.
	Predict func(tensors map[string]linalg.Matrix, x linalg.Matrix, threads int) ([]int32, error)
}

// Input is what a method is fitted to.
type Input struct {
	X        linalg.Matrix // [N, d] prepared rows
	Coords   linalg.Matrix // [N, p] their PCA coordinates, for methods of the space "pca"
	Texts    []string      // [N] the sentences, for methods of the space "text"
	Groups   []string      // [N] the dataset's category of each, for methods of the space "text"; "" for none
	Tree     *Dendrogram   // of the rows, or of the coordinates, for methods that share a linkage
	K        int           // clusters, 1 to N
	Options  map[string]any
	Seed     int64
	Starts   []linalg.Matrix // [K, d] the first centres of every start of k-means, for its own points; nil: drawn from the seed
	Threads  int
	Progress func(done, total int, note string) // may be nil
}

// Model is a fitted clustering.
type Model struct {
	Labels  []int32                  // [N], 0 to K−1
	Centers linalg.Matrix            // [K, d] in the space of the rows, as each method defines them
	Tensors map[string]linalg.Matrix // what else predicting a label for new rows needs
	Info    map[string]float64       // how the fit went: iterations, inertia, converged (0 or 1), …
}

// PCAComponents is the number of principal components that methods of the
// space "pca" work on by default, where rows and columns allow as many.
const PCAComponents = 100

// ComponentsOption is the option of methods of the space "pca" that says how many
// coordinates Fit is to be given; Fit takes it and has no use for it.
const ComponentsOption = "components"

var kmeansOptions = []Option{
	{Name: "n_init", Kind: "int", Default: int64(1), Min: 1, Max: 1000, Doc: "starts, of which the one with the lowest inertia is kept"},
	{Name: "max_iter", Kind: "int", Default: int64(300), Min: 1, Max: 1e6, Doc: "iterations at most, for each start"},
	{Name: "tol", Kind: "float", Default: 1e-4, Min: 0, Max: 1, Doc: "stop when the centres' squared shift is at most this part of the mean variance of a feature"},
}

var mixtureOptions = []Option{
	{Name: "n_init", Kind: "int", Default: int64(10), Min: 1, Max: 1000, Doc: "starts, of which the most likely one is kept"},
	{Name: "max_iter", Kind: "int", Default: int64(100), Min: 1, Max: 1e6, Doc: "iterations at most, for each start"},
	{Name: "tol", Kind: "float", Default: 1e-3, Min: 0, Max: 1, Doc: "stop when the mean log-likelihood gains less than this"},
	{Name: "race", Kind: "bool", Default: true, Doc: "end a start early when, at its pace, it cannot catch up with the best one in the iterations it has left"},
	{Name: "reg_covar", Kind: "float", Default: 1e-6, Min: 0, Max: 1, Doc: "added to every variance"},
	{Name: "init_rows", Kind: "int", Default: int64(50_000), Min: 2, Max: 1e9, Doc: "with more rows than this, the starts see this many, drawn at random, and one fit on all rows begins from the best"},
}

var saeOptions = []Option{
	{Name: "top_k", Kind: "int", Default: int64(3), Min: 1, Max: 1e6, Doc: "latents kept of each row"},
	{Name: "learning_rate", Kind: "float", Default: 2e-4, Min: 0, Max: 1, Doc: "Adam's learning rate at 2^14 latents; divided by sqrt(clusters / 2^14)"},
	{Name: "batch_size", Kind: "int", Default: int64(512), Min: 1, Max: 1e9, Doc: "rows in a batch"},
	{Name: "max_epochs", Kind: "int", Default: int64(300), Min: 1, Max: 1e6, Doc: "passes over the rows at most"},
	{Name: "patience", Kind: "int", Default: int64(10), Min: 1, Max: 1e6, Doc: "epochs without a better mean loss before training stops"},
}

var tfidfOptions = append([]Option{
	{Name: "terms", Kind: "int", Default: int64(2000), Min: 1, Max: 1e6, Doc: "terms at most, the most frequent ones"},
}, kmeansOptions...)

// pcaOptions are the options of a method on principal components.
func pcaOptions(own ...Option) []Option {
	return append([]Option{{Name: ComponentsOption, Kind: "int", Default: int64(PCAComponents), Min: 1, Max: 1e5, Doc: "principal components, where rows and columns allow as many"}}, own...)
}

// Methods lists every method, in the order in which reports show them.
var Methods = []Method{
	{
		Name: "spherical_kmeans", Doc: "k-means on the unit rows; centres scaled to unit length",
		Space: "rows", Options: kmeansOptions, Version: "3", Fit: fitSphericalKMeans, Memory: kmeansMemory,
		Predict: nearestOfTensor("kmeans_centers"),
	},
	{
		Name: "pca_kmeans", Doc: "k-means on the PCA coordinates; centres are the means of the rows",
		Space: "pca", Shared: "pca", Options: pcaOptions(kmeansOptions...), Version: "3", Fit: fitPCAKMeans, Memory: kmeansMemory,
		Predict: nearestOfTensor("pca_centers"),
	},
	{
		Name: "gmm", Doc: "Gaussian mixture with diagonal covariances on the unit rows",
		Space: "rows", Options: mixtureOptions, Version: "3", Fit: fitGMM, Memory: mixtureMemory(false),
		Predict: predictMixture(false),
	},
	{
		Name: "pca_gmm", Doc: "Gaussian mixture with full covariances on the PCA coordinates",
		Space: "pca", Shared: "pca", Options: pcaOptions(mixtureOptions...), Version: "3", Fit: fitPCAGMM, Memory: mixtureMemory(true),
		Predict: predictMixture(true),
	},
	{
		Name: "agglomerative", Doc: "average linkage on the cosine distance of the unit rows",
		Space: "rows", Shared: "linkage", Unseeded: true, Version: "1", Fit: fitAgglomerative,
		Predict: nearestByCosine("centers"),
	},
	{
		Name: "pca_agglomerative", Doc: "average linkage on the cosine distance of the PCA coordinates",
		Space: "pca", Shared: "linkage", Unseeded: true, Options: pcaOptions(), Version: "1", Fit: fitAgglomerative,
		Predict: nearestByCosine("pca_centers"),
	},
	{
		Name: "sae_topk", Doc: "sparse autoencoder whose latents are the clusters",
		Space: "rows", Version: "1", Options: saeOptions, Fit: fitSAE, Predict: predictSAE,
	},
	{
		Name: "random", Doc: "labels at random, clusters of equal sizes",
		Space: "text", Null: true, Version: "1", Fit: fitRandom,
	},
	{
		Name: "tfidf_kmeans", Doc: "spherical k-means on the words of the sentences, weighted by TF-IDF",
		Space: "text", Null: true, Options: tfidfOptions, Version: "3", Fit: fitTFIDF, Memory: tfidfMemory,
	},
	{
		Name: "category", Doc: "the dataset's own categories, the most frequent first, the rest in the last cluster",
		Space: "text", Null: true, Unseeded: true, Version: "1", Fit: fitCategory,
	},
}

// ByName returns the method of that name, and whether there is one.
func ByName(name string) (Method, bool) {
	for _, m := range Methods {
		if m.Name == name {
			return m, true
		}
	}
	return Method{}, false
}

// Complete returns all of the method's options: those given, checked against
// kind and range, and the defaults of the others. Integers are int64 and
// numbers float64 in what it returns.
func (m Method) Complete(given map[string]any) (map[string]any, error) {
	all := make(map[string]any, len(m.Options))
	known := make([]string, 0, len(m.Options))
	for _, o := range m.Options {
		known = append(known, o.Name)
		v, ok := given[o.Name]
		if !ok {
			all[o.Name] = o.Default
			continue
		}
		v, err := o.convert(v)
		if err != nil {
			return nil, fmt.Errorf("method %s: option %s: %w", m.Name, o.Name, err)
		}
		all[o.Name] = v
	}
	var unknown []string
	for name := range given {
		if _, ok := all[name]; !ok {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		sort.Strings(unknown)
		return nil, fmt.Errorf("method %s has no option %s; it has: %s", m.Name, strings.Join(unknown, ", "), strings.Join(known, ", "))
	}
	return all, nil
}

// convert returns v as the option's kind.
func (o Option) convert(v any) (any, error) {
	var number float64
	switch v := v.(type) {
	case int:
		number = float64(v)
	case int64:
		number = float64(v)
	case float64:
		number = v
	case string:
		if o.Kind == "string" {
			return v, nil
		}
		return nil, fmt.Errorf("%q is no %s", v, o.Kind)
	case bool:
		if o.Kind == "bool" {
			return v, nil
		}
		return nil, fmt.Errorf("%v is no %s", v, o.Kind)
	default:
		return nil, fmt.Errorf("a value of type %T is no %s", v, o.Kind)
	}
	if o.Kind != "int" && o.Kind != "float" {
		return nil, fmt.Errorf("%v is no %s", number, o.Kind)
	}
	if !(number >= o.Min && number <= o.Max) {
		return nil, fmt.Errorf("%v is outside %v to %v", number, o.Min, o.Max)
	}
	if o.Kind == "float" {
		return number, nil
	}
	if number != math.Trunc(number) {
		return nil, fmt.Errorf("%v is no whole number", number)
	}
	return int64(number), nil
}
