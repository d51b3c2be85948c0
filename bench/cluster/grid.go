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
	fmt.Fprintln(w, "| method | sampled sizes | ours, ten sizes, s | peer, ten sizes, s | ratio | of processor time |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|")
	var oursAll, peerAll, pca span
	above, missing := "", []string(nil)
	for _, m := range cluster.Methods {
		if !known[m.Name] {
			continue
		}
		var sizes []int
		var names []string
		var ours, peer []span
		var shared span
		more := ""
		for _, r := range rows {
			if r.method != m.Name || r.starts != (&bench{}).startsOf(m) {
				continue
			}
			sizes, names = append(sizes, r.k), append(names, fmt.Sprint(r.k))
			ours = append(ours, r.meanSpan(func(c cell) span { return c.Ours.Fit }))
			peer = append(peer, r.peer())
			shared = r.meanSpan(func(c cell) span { return c.Ours.Linkage })
			if p := r.meanSpan(func(c cell) span { return c.Ours.PCA }); p.Seconds > 0 {
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
		own, theirs := shared.add(spreadSpans(sizes, ours)), spreadSpans(sizes, peer)
		oursAll, peerAll = oursAll.add(own), peerAll.add(theirs)
		if pcaSpace(m) {
			own = own.add(pca)
		}
		fmt.Fprintln(w, gridLine(m.Name, strings.Join(names, ", "), own, theirs, more))
	}
	oursAll = oursAll.add(pca)
	if oursAll.Seconds > 0 {
		fmt.Fprintln(w, gridLine("all of these, one PCA", "", oursAll, peerAll, above))
	}
	fmt.Fprint(w, "\nSizes that were not sampled are estimated: straight lines between those that were, flat beyond them.")
	if len(missing) > 0 {
		fmt.Fprintf(w, " Not sampled, and not in the sum: %s.", strings.Join(missing, ", "))
	}
	fmt.Fprintln(w)
}

// gridLine is a row of the table; more is "> " where the peer was stopped.
func gridLine(name, sizes string, ours, peer span, more string) string {
	cpu := ""
	if more == "" {
		cpu = fmt.Sprintf("%.1f", peer.CPU/ours.CPU)
	}
	return fmt.Sprintf("| %s | %s | %.1f | %s%.1f | %s%.1f | %s |", name, sizes, ours.Seconds, more, peer.Seconds, more, peer.Seconds/ours.Seconds, cpu)
}

func (s span) add(t span) span { return span{s.Seconds + t.Seconds, s.CPU + t.CPU} }

// spreadSpans is spread of both kinds of seconds.
func spreadSpans(sizes []int, spans []span) span {
	seconds, cpu := make([]float64, len(spans)), make([]float64, len(spans))
	for i, s := range spans {
		seconds[i], cpu[i] = s.Seconds, s.CPU
	}
	return span{spread(sizes, seconds), spread(sizes, cpu)}
}
