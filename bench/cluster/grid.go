package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"clusterflow/internal/cluster"
)

// gridSizes are the ten sizes of the full grid.
var gridSizes = []int{5, 10, 15, 20, 25, 30, 35, 40, 45, 50}

// spread estimates the sum over gridSizes from the sizes that were measured:
// by straight lines between them, flat before the first and after the last.
func spread(sizes []int, seconds []float64) float64 {
	total := 0.0
	for _, k := range gridSizes {
		at, found := slices.BinarySearch(sizes, k)
		switch {
		case found:
			total += seconds[at]
		case at == 0:
			total += seconds[0]
		case at == len(sizes):
			total += seconds[at-1]
		default:
			part := float64(k-sizes[at-1]) / float64(sizes[at]-sizes[at-1])
			total += seconds[at-1] + part*(seconds[at]-seconds[at-1])
		}
	}
	return total
}

// printGrid adds the sampled sizes up to each method's ten, ours sharing PCA
// and tree among them, and the peer nothing; then the methods to the grid, in
// which ours has one PCA for all of them.
func printGrid(w io.Writer, rows []row) {
	fmt.Fprintln(w, "| method | sampled sizes | ours, ten sizes, s | peer, ten sizes, s | ratio |")
	fmt.Fprintln(w, "|---|---|---|---|---|")
	oursAll, peerAll, pca, above, missing := 0.0, 0.0, 0.0, "", []string(nil)
	for _, m := range cluster.Methods {
		if !known[m.Name] {
			continue
		}
		var sizes []int
		var names []string
		var ours, peer []float64
		shared, more := 0.0, ""
		for _, r := range rows {
			if r.method != m.Name || r.starts != (&bench{}).startsOf(m) {
				continue
			}
			sizes, names = append(sizes, r.k), append(names, fmt.Sprint(r.k))
			ours = append(ours, r.mean(func(c cell) float64 { return c.Ours.Seconds }))
			peer = append(peer, r.peer())
			shared = r.mean(func(c cell) float64 { return c.Ours.Linkage })
			if p := r.mean(func(c cell) float64 { return c.Ours.PCA }); p > 0 {
				pca = p
			}
			if r.stopped() {
				more, above = "> ", "> "
			}
		}
		if len(sizes) == 0 {
			missing = append(missing, m.Name)
			continue
		}
		own, theirs := shared+spread(sizes, ours), spread(sizes, peer)
		oursAll, peerAll = oursAll+own, peerAll+theirs
		if pcaSpace(m) {
			own += pca
		}
		fmt.Fprintf(w, "| %s | %s | %.1f | %s%.1f | %s%.1f |\n", m.Name, strings.Join(names, ", "), own, more, theirs, more, theirs/own)
	}
	oursAll += pca
	if oursAll > 0 {
		fmt.Fprintf(w, "| all of these, one PCA | | %.1f | %s%.1f | %s%.1f |\n", oursAll, above, peerAll, above, peerAll/oursAll)
	}
	fmt.Fprint(w, "\nSizes that were not sampled are estimated: straight lines between those that were, flat beyond them.")
	if len(missing) > 0 {
		fmt.Fprintf(w, " Not sampled, and not in the sum: %s.", strings.Join(missing, ", "))
	}
	fmt.Fprintln(w)
}
