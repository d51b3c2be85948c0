package report

import (
	"slices"
	"strconv"
)

// agreementRows is one row per pair of methods, layer and size.
func agreementRows(d Data) [][]string {
	rows := [][]string{{"model", "layer", "clusters", "method_a", "method_b", "ari"}}
	for _, a := range d.Agreement {
		rows = append(rows, []string{a.Model, strconv.Itoa(a.Layer), strconv.Itoa(a.K), a.A, a.B, number(a.ARI)})
	}
	return rows
}

// agreementView is how much the methods of a layer agree, as a table.
type agreementView struct {
	Model   string
	Layer   int
	Sizes   int // over which the means run
	Methods []string
	Rows    []agreementRow
}

type agreementRow struct {
	Method string
	Cells  []string // one per method; "" on and above the diagonal
}

// agreements fills one table per model and layer: means over the sizes.
func (v *pageView) agreements(d Data) {
	type layer struct {
		model string
		layer int
	}
	type pair struct{ a, b string }
	var order []layer
	sums, counts := map[layer]map[pair]float64{}, map[layer]map[pair]int{}
	methods, sizes := map[layer][]string{}, map[layer][]int{}
	for _, a := range d.Agreement {
		at := layer{a.Model, a.Layer}
		if sums[at] == nil {
			order = append(order, at)
			sums[at], counts[at] = map[pair]float64{}, map[pair]int{}
		}
		for _, m := range []string{a.A, a.B} {
			if !slices.Contains(methods[at], m) {
				methods[at] = append(methods[at], m)
			}
		}
		if !slices.Contains(sizes[at], a.K) {
			sizes[at] = append(sizes[at], a.K)
		}
		sums[at][pair{a.A, a.B}] += a.ARI
		counts[at][pair{a.A, a.B}]++
	}
	for _, at := range order {
		view := agreementView{Model: at.model, Layer: at.layer, Sizes: len(sizes[at]), Methods: methods[at]}
		for i, m := range view.Methods {
			row := agreementRow{Method: m, Cells: make([]string, len(view.Methods))}
			for j, other := range view.Methods[:i] {
				for _, p := range []pair{{other, m}, {m, other}} {
					if n := counts[at][p]; n > 0 {
						row.Cells[j] = n3(sums[at][p] / float64(n))
					}
				}
			}
			view.Rows = append(view.Rows, row)
		}
		v.Agreement = append(v.Agreement, view)
	}
}

// qualities are the measures of a clustering that tables show, in their order.
var qualities = []struct{ Key, Label, Short, Doc string }{
	{"silhouette", "Silhouette", "Silh.", "Mean over a sample of sentences of (b − a)/max(a, b): a is the mean distance to the own cluster, b to the nearest other. From −1 to 1, higher is better."},
	{"calinski_harabasz", "Calinski–Harabasz", "CH", "Variance between clusters by that within. Higher is better; compare only within one layer."},
	{"davies_bouldin", "Davies–Bouldin", "DB", "Mean over clusters of the worst ratio of spread to distance. Lower is better."},
	{"category_nmi", "Topic leakage", "Topic", "Normalised mutual information with the dataset’s own categories. High means that clusters follow what a problem is about rather than how it is thought about."},
	{"stability_ari", "Stability, ARI", "Stab. ARI", "Mean adjusted Rand index between fits with other seeds: 1 the same clusters every time, 0 as alike as chance."},
	{"stability_ami", "Stability, AMI", "Stab. AMI", "Mean adjusted mutual information between fits with other seeds."},
}

// quality is a measure of a clustering, and whether it has it.
func (c *Clustering) quality(key string) (float64, bool) {
	switch {
	case key == "stability_ari" && c.Stability != nil:
		return c.Stability.ARI, true
	case key == "stability_ami" && c.Stability != nil:
		return c.Stability.AMI, true
	}
	v, ok := c.Quality[key]
	return v, ok
}

// short writes a measure in few characters.
func short(v float64) string {
	if v >= 10 || v <= -10 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return n3(v)
}
