package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/tasks"
)

// noteMixed says that the states that a report compares, of one model or of several,
// were computed on different devices or with different libraries: small differences
// between layers, models and clusterings may come from that. The report says so too,
// but not how to mend it.
func noteMixed(w io.Writer, p *planned, sum *graph.Summary, store *cache.Store) {
	if sum.Runs["extract"]+sum.Runs["rows"]+sum.Runs["report"] == 0 {
		return // it was said when something changed
	}
	known, err := store.Reader()
	if err != nil {
		return // a courtesy
	}
	defer known.Close()
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
		if !ok {
			continue
		}
		model := n.Attr("model")
		for _, backend := range madeBy(known, r) {
			if by[model] == nil {
				by[model] = map[string]bool{}
			}
			by[model][backend] = true
		}
	}
	writeMixed(w, by)
}

// madeBy is what computed the states of an extract node, those of responses that
// were kept from an earlier run included.
func madeBy(known *cache.Reader, r *cache.Record) []string {
	if o, ok := r.Output("made"); ok {
		if content, err := tasks.OpenOutput(known.Blobs(), o); err == nil {
			defer content.Close()
			var made tasks.Made
			if json.NewDecoder(content).Decode(&made) == nil {
				return made.Backend
			}
		}
	}
	if r.Backend == "" {
		return nil
	}
	return []string{r.Backend}
}

// writeMixed is the note about the backends of each model.
func writeMixed(w io.Writer, by map[string]map[string]bool) {
	all := map[string][]string{} // models that are alike in themselves, by backend
	for _, model := range slices.Sorted(maps.Keys(by)) {
		backends := slices.Sorted(maps.Keys(by[model]))
		if len(backends) > 1 {
			fmt.Fprintf(w, "note: the states of %s were computed in %d ways (%s): small differences between layers may come from that; --force '%s/**/extract/*' computes them alike\n",
				model, len(backends), strings.Join(backends, "; "), model)
			continue
		}
		all[backends[0]] = append(all[backends[0]], model)
	}
	if len(all) < 2 {
		return
	}
	var ways []string
	for _, backend := range slices.Sorted(maps.Keys(all)) {
		ways = append(ways, strings.Join(all[backend], ", ")+" by "+backend)
	}
	fmt.Fprintf(w, "note: the states of models that are compared were computed in %d ways (%s): small differences between the models may come from that; --force 'MODEL/**/extract/*' computes those of a MODEL again\n",
		len(all), strings.Join(ways, "; "))
}
