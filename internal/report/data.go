// Package report turns the scores of a study into what people read: the result
// files of the reference workflow, CSV tables, figures for papers (PDF, SVG)
// and one HTML page that needs no network and no JavaScript for its content.
//
// [Render] is a function of its [Data] alone. It reads no clock, no file and no
// random source, so the same Data gives the same bytes.
package report

import "clusterflow/internal/judge"

// Data is everything that a report shows. Render does not change it.
type Data struct {
	Study    string // name of the study
	File     string // the study file, as the user named it
	Protocol string // "2025-07" or "paper"
	Seed     int64
	// HeldOut says that titles were graded on sentences that the titler had not
	// seen. False is the reference's way, and the page says so.
	HeldOut bool

	// Settings lists what was in force, in the order to be shown.
	Settings []Setting
	// Warnings are what a reader must know before any number, as plain
	// sentences. Render itself adds those that follow from Data: random weights,
	// a lexical judge, mixed backends, failed answers, empty clusters.
	Warnings []string
	// Notes are further remarks, shown near the settings.
	Notes []string

	// Agreement compares the methods of a layer at one size, each pair once.
	Agreement []Agreement

	// Comparisons sets the best clustering of each model, titles and judge against
	// others; Kappas are agreements of judges with themselves and each other.
	Comparisons []Comparisons
	Kappas      []Kappa

	Models []Model
	// Results holds one entry per model, layer, method, titles and judge. The
	// order decides the order of models and of pairs of titles and judge; the
	// first pair's files get the names that the reference uses.
	Results []Result
}

// Setting is one value of the study and where it came from.
type Setting struct {
	Group   string // heading, e.g. "evaluation main"; equal neighbours share one
	Name    string // e.g. "completeness.examples"
	Value   string
	Default string // the protocol's default, "" if there is none
	Origin  string // "studies/r1.hcl:31", "--var judge", …; "" when the default holds
}

// Overridden reports whether the study replaced the protocol's default.
func (s Setting) Overridden() bool {
	return s.Origin != "" && s.Default != "" && s.Value != s.Default
}

// Model is one model (or activations) block.
type Model struct {
	Label     string // the block's label, unique
	ID        string // model_id of the result files: last part of the name in lower case
	Source    string // hub id, directory, "builtin:tiny" or the activations' files
	Precision string // of the forward pass; "" when the activations were given
	Random    bool   // the weights are random: the clusters mean nothing
	Layers    []int
	Responses int
	Truncated int // responses whose thinking was cut off
	Sentences int // rows that were clustered
	Skipped   int // sentences without tokens of their own
}

// Result is one method on one layer of one model, with the titles of one
// titler graded by one judge.
type Result struct {
	Model   string // Model.Label
	Variant string // label of the method block where several blocks of one method exist, else ""
	Titles  string // label of the titles block
	Judge   string // label of the evaluator that judged
	// TitledBy and JudgedBy say who answered, for people: "gpt-4o at
	// api.openai.com", "the lexical baseline".
	TitledBy, JudgedBy string
	// Lexical says that titler or judge was the offline baseline.
	Lexical bool

	R judge.MethodResults
	// StatesBy is what computed the layer's hidden states, each way once; empty
	// for activations of another program.
	StatesBy    []string
	Clusterings []Clustering // one per size in R; a size without one has no sizes, times or matrices on the page
}

// Method is the name under which the result is shown and filed: the method,
// with "@block" where the study has several blocks of it.
func (r Result) Method() string {
	if r.Variant == "" {
		return r.R.ClusteringMethod
	}
	return r.R.ClusteringMethod + "@" + r.Variant
}

// Clustering is what is known of one trained clustering beside its scores.
type Clustering struct {
	K       int
	Address string // graph address, e.g. "r1-qwen/12/gmm/10"
	Sizes   []int  // [K] sentences per cluster; 0 is an empty cluster (a dead latent)

	Backend    string // library and kernel that computed it, e.g. "OpenBLAS 0.3.21 SKYLAKEX"
	Iterations int    // of the fit that was kept; 0 when the method has none
	Converged  bool   // meaningful where Iterations > 0
	RowsDiffer int    // rows whose predicted label is not the trained one; −1 when not computed

	// Quality measures the trained labels without a judge: silhouette,
	// calinski_harabasz, davies_bouldin, category_nmi; a measure that the labels
	// do not have is absent.
	Quality map[string]float64
	// Stability compares fits with several seeds; nil where there is one.
	Stability *Stability

	// CentroidCosine is [K, K], cos(cᵢ, cⱼ); nil when not given. Rows of
	// clusters without a centre may hold NaN.
	CentroidCosine [][]float64
	// Examples is [K][≤15], the sentences nearest the centre first; nil leaves
	// the page with the bare texts of the result file.
	Examples [][]Example
	// Traces are whole thinking texts cut into their sentences. The page shows
	// them for the clusterings whose details it holds.
	Traces []Trace
}

// Stability is how much fits of one method and size with other seeds agree.
type Stability struct {
	Seeds    int     // that were compared, at least 2
	ARI, AMI float64 // means over all pairs: adjusted Rand index, adjusted mutual information
}

// Agreement is how much two methods agree on the rows of a layer.
type Agreement struct {
	Model string // Model.Label
	Layer int
	K     int
	A, B  string // the methods, in the order of the results
	ARI   float64
}

// Example is one sentence of a cluster.
type Example struct {
	Text     string
	Response string // which response it stands in, e.g. "17" or a question id
	Sentence int    // its place in that response, from 0
}

// Trace is one response's thinking text.
type Trace struct {
	Response string // as in Example
	Question string // "" when the dataset has none
	Parts    []Part // in order; what lies between sentences may be left out
}

// Part is one piece of a trace.
type Part struct {
	Text    string
	Cluster int // the sentence's cluster; −1 for text that was not clustered
}

// File is one rendered file.
type File struct {
	Path    string // relative to the report's directory, with slashes
	Content []byte
}
