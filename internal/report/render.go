package report

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"

	"clusterflow/internal/judge"
)

// Render makes all files of a report, sorted by path:
//
//   - vars/{method}_results_{model_id}_layer{layer}.json, the reference's result
//     files; for a second pair of titles and judge under vars/{titles}-{judge}/,
//     and for a second block of the same model_id under vars/{label}/;
//   - scores.csv, clusters.csv, training.csv, agreement.csv, comparisons.csv, judging.csv;
//   - figures/*.pdf and *.svg, as far as figures ("pdf", "svg") names them;
//   - index.html, which needs none of the others.
//
// An error says which file could not be made; a report is never partial.
func Render(ctx context.Context, d Data, figures []string) ([]File, error) {
	for _, f := range figures {
		if f != "pdf" && f != "svg" {
			return nil, fmt.Errorf("figure format %q is not known: use \"pdf\" or \"svg\"", f)
		}
	}
	bs := boards(d)
	dirs := pairDirs(bs)
	out, err := varsFiles(bs, dirs)
	if err != nil {
		return nil, err
	}
	for _, table := range []struct {
		path string
		rows [][]string
	}{
		{"scores.csv", scoreRows(bs)},
		{"clusters.csv", clusterRows(bs)},
		{"training.csv", trainingRows(bs)},
		{"agreement.csv", agreementRows(d)},
		{"comparisons.csv", comparisonRows(d)},
		{"judging.csv", kappaRows(d)},
	} {
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		if err := w.WriteAll(table.rows); err != nil {
			return nil, fmt.Errorf("writing %s: %w", table.path, err)
		}
		out = append(out, File{table.path, b.Bytes()})
	}
	figs := figuresOf(bs, dirs)
	drawn, err := renderFigures(ctx, figs, figures)
	if err != nil {
		return nil, err
	}
	out = append(out, drawn...)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("writing index.html: %w", err)
	}
	page, err := renderPage(d, bs, out)
	if err != nil {
		return nil, fmt.Errorf("writing index.html: %w", err)
	}
	out = append(out, File{"index.html", page})
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out, nil
}

// pairDirs gives each board the folder of its pair of titles and judge: none
// for the first pair, "titles-judge/" for the others.
func pairDirs(bs []*board) []string {
	dirs := make([]string, len(bs))
	for i, b := range bs {
		if b.Titles != bs[0].Titles || b.Judge != bs[0].Judge {
			dirs[i] = fileName(b.Titles) + "-" + fileName(b.Judge) + "/"
		}
	}
	return dirs
}

// varsFiles writes one result file per board, layer and method.
func varsFiles(bs []*board, dirs []string) ([]File, error) {
	var out []File
	taken := map[string]bool{}
	for i, b := range bs {
		for _, r := range b.Results {
			name := fmt.Sprintf("%s_results_%s_layer%d.json", fileName(r.Method()), fileName(r.R.ModelID), r.R.Layer)
			path := "vars/" + dirs[i] + name
			if taken[path] {
				path = "vars/" + dirs[i] + fileName(b.Model.Label) + "/" + name
			}
			if taken[path] {
				return nil, fmt.Errorf("writing %s: two results of model %q have the same method, layer, titles and judge", path, b.Model.Label)
			}
			taken[path] = true
			full := r.R
			full.ResultsByClusterSize = map[string]judge.SizeResult{}
			for key, s := range r.R.ResultsByClusterSize {
				if k, err := strconv.Atoi(key); err == nil {
					if c := b.cell(r.R.Layer, r.Method(), k); c != nil && !math.IsNaN(c.Norm) {
						norm := c.Norm
						s.NormalizedScore = &norm
					}
				}
				full.ResultsByClusterSize[key] = s
			}
			var buf bytes.Buffer
			enc := json.NewEncoder(&buf)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(full); err != nil {
				return nil, fmt.Errorf("writing %s: %w", path, err)
			}
			out = append(out, File{path, indent(buf.Bytes())})
		}
	}
	return out, nil
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// scoreRows is one row per clustering, pair of titles and judge, and metric.
func scoreRows(bs []*board) [][]string {
	rows := [][]string{{"model", "model_id", "layer", "method", "size", "titles", "judge", "metric", "mean", "std_dev", "sem", "ci_lo", "ci_hi", "n", "responses_lo", "responses_hi"}}
	for _, b := range bs {
		for _, c := range b.Cells {
			head := []string{b.Model.Label, c.Res.R.ModelID, strconv.Itoa(c.Layer), c.Method, strconv.Itoa(c.K), b.Titles, b.Judge}
			keys := make([]string, 0, len(c.Score.Statistics))
			for key := range c.Score.Statistics {
				keys = append(keys, key)
			}
			slices.Sort(keys)
			for _, key := range keys {
				s := c.Score.Statistics[key]
				lo, hi := "", ""
				if ci, ok := c.Score.Intervals[key]; ok {
					lo, hi = number(ci[0]), number(ci[1])
				}
				rows = append(rows, append(slices.Clone(head), key, number(s.Mean), number(s.StdDev), number(s.SEM), number(s.CI95[0]), number(s.CI95[1]), strconv.Itoa(s.N), lo, hi))
			}
			if !math.IsNaN(c.Norm) {
				rows = append(rows, append(slices.Clone(head), "normalized_score", number(c.Norm), "", "", "", "", "", "", ""))
			}
		}
	}
	return rows
}

// clusterRows is one row per cluster and repetition, with that repetition's
// title; repetition counts from 0. A cluster without a title has empty cells.
func clusterRows(bs []*board) [][]string {
	rows := [][]string{{"model", "model_id", "layer", "method", "clusters", "titles", "judge", "repetition", "id", "title", "description", "size", "precision", "recall", "f1", "accuracy"}}
	for _, b := range bs {
		for _, c := range b.Cells {
			for rep := range c.Score.AllResults {
				r := &c.Score.AllResults[rep]
				for _, id := range clusterIDs(c, r) {
					row := []string{b.Model.Label, c.Res.R.ModelID, strconv.Itoa(c.Layer), c.Method, strconv.Itoa(c.K), b.Titles, b.Judge, strconv.Itoa(rep), id}
					det, ok := r.DetailedResults[id]
					size := clusterSize(c, id, det.Size)
					if !ok {
						rows = append(rows, append(row, "", "", strconv.Itoa(size), "", "", "", ""))
						continue
					}
					row = append(row, det.Title, det.Description, strconv.Itoa(size))
					if graded(r, id) {
						row = append(row, number(det.Precision), number(det.Recall), number(det.F1), number(det.Accuracy))
					} else {
						row = append(row, "", "", "", "")
					}
					rows = append(rows, row)
				}
			}
		}
	}
	return rows
}

// graded reports whether a cluster has an answered Yes/No question.
func graded(r *judge.Repetition, id string) bool {
	return r.AccuracyResultsByCluster[id].Answered > 0
}

// allSeen counts the clusters of a repetition that have a title, and those of
// them whose accuracy was not asked: the titler saw all their sentences, and
// these are held out.
func allSeen(r *judge.Repetition) (titled, seen int) {
	if !slices.Contains(r.Metrics, judge.MetricAccuracy) {
		return 0, 0
	}
	for _, c := range r.Categories {
		if _, asked := r.AccuracyResultsByCluster[c.ID]; !asked {
			seen++
		}
	}
	return len(r.Categories), seen
}

// clusterIDs lists the clusters of a repetition in numeric order: those with a
// title and, where sizes are known, those without.
func clusterIDs(c *cell, r *judge.Repetition) []string {
	seen := map[string]bool{}
	var ids []string
	add := func(id string) {
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for id := range r.DetailedResults {
		add(id)
	}
	if c.Clust != nil {
		for i := range c.Clust.Sizes {
			add(strconv.Itoa(i))
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

// compareIDs orders decimal ids by value, before other ids.
func compareIDs(a, b string) int {
	x, errX := strconv.Atoi(a)
	y, errY := strconv.Atoi(b)
	switch {
	case errX == nil && errY == nil:
		return x - y
	case errX == nil:
		return -1
	case errY == nil:
		return 1
	}
	return slices.Compare([]byte(a), []byte(b))
}

// clusterSize is the trained size where Data has it, else the scores' own.
func clusterSize(c *cell, id string, fallback int) int {
	if i, err := strconv.Atoi(id); err == nil && c.Clust != nil && i >= 0 && i < len(c.Clust.Sizes) {
		return c.Clust.Sizes[i]
	}
	return fallback
}

// trainingRows is one row per clustering: how it was trained and what came out.
func trainingRows(bs []*board) [][]string {
	rows := [][]string{{"model", "model_id", "layer", "method", "clusters", "address", "backend", "iterations", "converged", "rows_differ", "empty_clusters", "smallest", "largest"}}
	for _, q := range qualities {
		rows[0] = append(rows[0], q.Key)
	}
	seen := map[*Clustering]bool{}
	type id struct {
		model, method string
		layer, k      int
	}
	once := map[id]bool{}
	for _, b := range bs {
		for _, c := range b.Cells {
			key := id{b.Model.Label, c.Method, c.Layer, c.K}
			if c.Clust == nil || seen[c.Clust] || once[key] {
				continue // the same clustering under another pair of titles and judge
			}
			seen[c.Clust], once[key] = true, true
			t := c.Clust
			row := []string{b.Model.Label, c.Res.R.ModelID, strconv.Itoa(c.Layer), c.Method, strconv.Itoa(c.K), t.Address, t.Backend, "", "", "", "", "", ""}
			if t.Iterations > 0 {
				row[7], row[8] = strconv.Itoa(t.Iterations), strconv.FormatBool(t.Converged)
			}
			if t.RowsDiffer >= 0 {
				row[9] = strconv.Itoa(t.RowsDiffer)
			}
			if len(t.Sizes) > 0 {
				row[10], row[11], row[12] = strconv.Itoa(c.empty()), strconv.Itoa(slices.Min(t.Sizes)), strconv.Itoa(slices.Max(t.Sizes))
			}
			for _, q := range qualities {
				v, ok := t.quality(q.Key)
				if !ok {
					row = append(row, "")
					continue
				}
				row = append(row, number(v))
			}
			rows = append(rows, row)
		}
	}
	return rows
}
