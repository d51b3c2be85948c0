package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"clusterflow/cache"
	"clusterflow/graph"
)

// noteMixed says that the states of one model were computed on different devices
// or with different libraries: small differences between its layers, and between
// clusterings, may come from that. The report cannot say it, since the same results
// make the same report wherever they come from.
func noteMixed(w io.Writer, p *planned, sum *graph.Summary, store *cache.Store) {
	if sum.Runs["extract"]+sum.Runs["rows"]+sum.Runs["report"] == 0 {
		return // it was said when something changed
	}
	known, err := store.Reader()
	if err != nil {
		return // a courtesy
	}
	run, err := known.Run(p.id)
	if err != nil || run == nil {
		return
	}
	by := map[string]map[string]bool{} // backends by model
	for _, n := range p.Graph.Nodes {
		st := run.Node(n.Addr)
		if n.Kind() != "extract" || st == nil || st.Key.IsZero() {
			continue
		}
		r, ok := known.Record(st.Key)
		if !ok || r.Backend == "" {
			continue
		}
		model := n.Attr("model")
		if by[model] == nil {
			by[model] = map[string]bool{}
		}
		by[model][r.Backend] = true
	}
	for _, model := range slices.Sorted(maps.Keys(by)) {
		if backends := slices.Sorted(maps.Keys(by[model])); len(backends) > 1 {
			fmt.Fprintf(w, "note: the states of %s were computed in %d ways (%s): small differences between layers may come from that; --force '%s/**/extract/*' computes them alike\n",
				model, len(backends), strings.Join(backends, "; "), model)
		}
	}
}
