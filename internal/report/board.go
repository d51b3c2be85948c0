package report

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"clusterflow/internal/judge"
)

// metric is one number that a clustering gets.
type metric struct {
	Key   string // name in the result files
	Label string // axis label
	Short string // column heading
	Doc   string // what it says, one sentence
}

// metrics lists what the page can show, final score first. The first seven are
// the panels of the figures.
var metrics = []metric{
	{"final_score", "Final score", "Final", "Mean of F1, completeness and semantic orthogonality, as far as the study asks for them."},
	{"avg_f1", "F1", "F1", "How well the judge recognises a cluster's sentences from its title and description: mean of the clusters' F1."},
	{"semantic_orthogonality_score", "Semantic orthogonality", "Sem. orth.", "Fraction of category pairs whose dissimilarity, by the judge, lies above the threshold."},
	{"avg_confidence", "Completeness", "Compl.", "The judge's mean confidence (0–1) when it puts sentences into the categories; None counts 0. In fit mode: mean fit to the own category."},
	{"orthogonality", "Centroid orthogonality", "Cent. orth.", "Mean over pairs of centroids of 1 − |cos|."},
	{"avg_accuracy", "Accuracy", "Acc.", "Share of the judge's Yes/No answers that agree with the clustering, mean over clusters."},
	{"avg_recall", "Recall", "Recall", "Share of a cluster's sentences that the judge says Yes to, mean over clusters."},
	{"avg_precision", "Precision", "Prec.", "Share of the judge's Yes answers that lie in the cluster, mean over clusters."},
	{"assigned_fraction", "Assigned fraction", "Assigned", "Share of sentences that got any category."},
	{"normalized_score", "Normalised score", "Norm.", "Mean of F1, completeness and semantic orthogonality after each is scaled to 0–1 (min–max) over the layers and sizes of one model and method: the paper's heatmap. It does not compare methods."},
}

const panelMetrics = 7 // metrics[:panelMetrics] are the panels

func metricByKey(key string) metric {
	for _, m := range metrics {
		if m.Key == key {
			return m
		}
	}
	return metric{Key: key, Label: key, Short: key}
}

// cell is one clustering with its scores.
type cell struct {
	Layer, K int
	Method   string
	Res      *Result
	Score    judge.SizeResult
	Clust    *Clustering // nil when Data has none
	Norm     float64     // NaN without a normalised score
}

// stat returns a metric's statistics; false when it has no value.
func (c *cell) stat(key string) (judge.Stat, bool) {
	if key == "normalized_score" {
		return judge.Stat{Mean: c.Norm, CI95: [2]float64{c.Norm, c.Norm}}, !math.IsNaN(c.Norm)
	}
	s, ok := c.Score.Statistics[key]
	return s, ok && !math.IsNaN(s.Mean)
}

// empty counts the clusters without a sentence.
func (c *cell) empty() int {
	if c.Clust == nil {
		return 0
	}
	n := 0
	for _, s := range c.Clust.Sizes {
		if s == 0 {
			n++
		}
	}
	return n
}

// values returns a metric's value in every repetition that has one.
func (c *cell) values(key string) []float64 {
	var out []float64
	for _, r := range c.Score.AllResults {
		if v, ok := r.Value(key); ok {
			out = append(out, v)
		}
	}
	return out
}

// board is all clusterings of one model under one pair of titles and judge:
// what a heatmap shows, and the set within which scores compare.
type board struct {
	Index              int
	Model              Model
	Titles, Judge      string
	TitledBy, JudgedBy string
	Lexical            bool
	Methods            []string // in the reference's order
	Layers, Sizes      []int    // ascending
	Results            []*Result
	Cells              []*cell // by layer, method, size
}

// methodOrder fixes order, colour and marker of the methods, so that they look
// the same in every report.
var methodOrder = []string{"gmm", "pca_gmm", "spherical_kmeans", "pca_kmeans", "agglomerative", "pca_agglomerative", "sae_topk",
	"tfidf_kmeans", "category", "random"} // the nulls, in greys

func methodRank(m string) int {
	base := m
	for i := range m {
		if m[i] == '@' {
			base = m[:i]
			break
		}
	}
	if i := slices.Index(methodOrder, base); i >= 0 {
		return i
	}
	return len(methodOrder)
}

func compareMethods(a, b string) int {
	return cmp.Or(cmp.Compare(methodRank(a), methodRank(b)), cmp.Compare(a, b))
}

// boards groups the results; the order is that of first appearance.
func boards(d Data) []*board {
	type key struct{ model, titles, judge string }
	at := map[key]*board{}
	var out []*board
	for i := range d.Results {
		r := &d.Results[i]
		k := key{r.Model, r.Titles, r.Judge}
		b := at[k]
		if b == nil {
			b = &board{Index: len(out), Model: Model{Label: r.Model, ID: r.R.ModelID},
				Titles: r.Titles, Judge: r.Judge, TitledBy: r.TitledBy, JudgedBy: r.JudgedBy}
			for _, m := range d.Models {
				if m.Label == r.Model {
					b.Model = m
				}
			}
			at[k] = b
			out = append(out, b)
		}
		b.Lexical = b.Lexical || r.Lexical
		b.Results = append(b.Results, r)
	}
	for _, b := range out {
		b.fill()
	}
	return out
}

func (b *board) fill() {
	slices.SortStableFunc(b.Results, func(x, y *Result) int {
		return cmp.Or(cmp.Compare(x.R.Layer, y.R.Layer), compareMethods(x.Method(), y.Method()))
	})
	for _, r := range b.Results {
		b.Methods = append(b.Methods, r.Method())
		b.Layers = append(b.Layers, r.R.Layer)
		for _, k := range sizes(r.R) {
			c := &cell{Layer: r.R.Layer, K: k, Method: r.Method(), Res: r, Norm: math.NaN(),
				Score: r.R.ResultsByClusterSize[strconv.Itoa(k)]}
			for i := range r.Clusterings {
				if r.Clusterings[i].K == k {
					c.Clust = &r.Clusterings[i]
				}
			}
			b.Cells = append(b.Cells, c)
			b.Sizes = append(b.Sizes, k)
		}
	}
	slices.SortFunc(b.Methods, compareMethods)
	slices.Sort(b.Layers)
	slices.Sort(b.Sizes)
	b.Methods = slices.Compact(b.Methods)
	b.Layers = slices.Compact(b.Layers)
	b.Sizes = slices.Compact(b.Sizes)
	b.normalize()
}

// sizes lists the cluster sizes of a result in ascending order; keys that are
// no numbers are left to the JSON file.
func sizes(r judge.MethodResults) []int {
	var out []int
	for key := range r.ResultsByClusterSize {
		if k, err := strconv.Atoi(key); err == nil && strconv.Itoa(k) == key {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// cell finds one clustering; nil if it was not run.
func (b *board) cell(layer int, method string, k int) *cell {
	for _, c := range b.Cells {
		if c.Layer == layer && c.Method == method && c.K == k {
			return c
		}
	}
	return nil
}

// series is the cells of one method on one layer, by size.
func (b *board) series(layer int, method string) []*cell {
	var out []*cell
	for _, c := range b.Cells {
		if c.Layer == layer && c.Method == method {
			out = append(out, c)
		}
	}
	return out
}

// bestOf returns the cell with the highest mean of a metric, the first of
// several; nil when none has it. sign −1 gives the lowest.
func bestOf(cells []*cell, key string, sign float64) *cell {
	var best *cell
	top := math.Inf(-1)
	for _, c := range cells {
		if s, ok := c.stat(key); ok && sign*s.Mean > top {
			best, top = c, sign*s.Mean
		}
	}
	return best
}

// ranked returns the cells by falling final score; those without one last.
func ranked(cells []*cell) []*cell {
	out := slices.Clone(cells)
	slices.SortStableFunc(out, func(x, y *cell) int {
		sx, okx := x.stat("final_score")
		sy, oky := y.stat("final_score")
		switch {
		case okx && oky:
			return cmp.Compare(sy.Mean, sx.Mean)
		case okx:
			return -1
		case oky:
			return 1
		}
		return 0
	})
	return out
}

// span is the range of a metric's means over cells; ok is false without any.
func span(cells []*cell, key string) (lo, hi float64, ok bool) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, c := range cells {
		if s, has := c.stat(key); has {
			lo, hi, ok = min(lo, s.Mean), max(hi, s.Mean), true
		}
	}
	return lo, hi, ok
}

// band is the range that a chart of a metric must hold: means and intervals
// (never beyond 0 and 1 by the interval alone), widened to tenths.
func band(cells []*cell, key string) (lo, hi float64, ok bool) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, c := range cells {
		if s, has := c.stat(key); has {
			lo = min(lo, s.Mean, max(s.CI95[0], 0))
			hi = max(hi, s.Mean, min(s.CI95[1], 1))
			ok = true
		}
	}
	if !ok {
		return 0, 1, false
	}
	lo, hi = math.Floor(lo*10+1e-9)/10, math.Ceil(hi*10-1e-9)/10
	for hi-lo < 0.2-1e-9 {
		if hi < 1-1e-9 {
			hi += 0.1
		}
		if hi-lo < 0.2-1e-9 && lo > 1e-9 {
			lo -= 0.1
		}
	}
	return math.Round(lo*10) / 10, math.Round(hi*10) / 10, true
}

// normalize fills the cells' normalised scores, over layers × sizes of each
// method as in the paper, which had one. A score that the results already carry
// is kept. So this score ranks the cells of one method only.
func (b *board) normalize() {
	for _, m := range b.Methods {
		var cells []*cell
		var scores []judge.SizeResult
		for _, c := range b.Cells {
			if c.Method == m {
				cells, scores = append(cells, c), append(scores, c.Score)
			}
		}
		for i, norm := range judge.NormalizedScores(scores) {
			if given := cells[i].Score.NormalizedScore; given != nil {
				norm = given
			}
			if norm != nil {
				cells[i].Norm = *norm
			}
		}
	}
}

// extremes returns the best and the worst cell of a metric in one method's
// panel: those of the whole board, or for the normalised score, which does not
// compare methods, those of the method. Both are nil where all are equal.
func (b *board) extremes(key, method string) (best, worst *cell) {
	cells := b.Cells
	if key == "normalized_score" {
		cells = slices.DeleteFunc(slices.Clone(cells), func(c *cell) bool { return c.Method != method })
	}
	best, worst = bestOf(cells, key, 1), bestOf(cells, key, -1)
	if best == worst {
		return nil, nil
	}
	return best, worst
}

// alike counts the other cells whose final score cannot be told apart from c's:
// the 95 % interval of the differences, paired by repetition, holds 0. It is
// the rule of judge.Best, across layers and methods.
func (b *board) alike(c *cell) int {
	n := 0
	for _, o := range b.Cells {
		var diff []float64
		for i := range min(len(c.Score.AllResults), len(o.Score.AllResults)) {
			x, ok1 := c.Score.AllResults[i].Value("final_score")
			y, ok2 := o.Score.AllResults[i].Value("final_score")
			if ok1 && ok2 {
				diff = append(diff, x-y)
			}
		}
		if o == c || len(diff) == 0 {
			continue
		}
		if ci := judge.NewStat(diff).CI95; len(diff) < 2 || ci[0] <= 0 && ci[1] >= 0 {
			n++
		}
	}
	return n
}
