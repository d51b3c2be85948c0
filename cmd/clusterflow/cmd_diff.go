package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/judge"
	"clusterflow/tasks"
)

func (a *app) diffCommand() *cobra.Command {
	var f studyFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "diff STUDY_OR_RESULTS [STUDY_OR_RESULTS]",
		Short: "Compare two studies, a study and its last run, or two results folders, side by side",
		Long: "Parameters, scores and best categories side by side. Each argument is a study file or the folder\n" +
			"of a report. With one study, its last run is compared with the study as it is now.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 2 {
				return fmt.Errorf("diff takes one study, or two studies or results folders; these are %d", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			left, right, err := a.sides(c.Context(), args, &f)
			if err != nil {
				return err
			}
			d := compareSides(left, right)
			if asJSON {
				return writeJSON(a.out, d)
			}
			return d.write(a.out, painter(a.colors(a.out)))
		},
	}
	f.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

// side is one of two things that are compared.
type side struct {
	Name       string `json:"name"`
	What       string `json:"what"`     // "study", "last run" or "results"
	Clustering int    `json:"expected"` // clusterings that it asks for; 0 where that is not known
	Scored     int    `json:"scored"`   // of those, how many have a score

	settings map[string]settingValue          // nil where nothing is known of them
	results  map[string]map[string]sizeResult // by model/layer/method and pair, by number of clusters
}

type settingValue struct{ value, origin string }

type sizeResult = judge.SizeResult

// put keeps the result of one clustering.
func (s *side) put(group, size string, r sizeResult) {
	if s.results[group] == nil {
		s.results[group] = map[string]sizeResult{}
	}
	s.results[group][size] = r
	s.Scored++
}

// sides loads what the arguments name.
func (a *app) sides(ctx context.Context, args []string, f *studyFlags) (left, right *side, err error) {
	folder := make([]bool, len(args))
	for i, arg := range args {
		info, err := os.Stat(arg)
		folder[i] = err == nil && info.IsDir()
	}
	if len(args) == 1 {
		if folder[0] {
			return nil, nil, fmt.Errorf("%s is a folder; give a second one, or the study file, to compare it with", args[0])
		}
		p, known, err := a.look(ctx, args[0], f)
		if err != nil {
			return nil, nil, err
		}
		if left, err = sideOfLast(p, known); err != nil {
			return nil, nil, err
		}
		right, err = sideOfStudy(p, known)
		return left, right, err
	}
	loaded := make([]*side, 2)
	for i, arg := range args {
		if folder[i] {
			loaded[i], err = sideOfFolder(arg)
		} else {
			var p *planned
			var known *cache.Reader
			if p, known, err = a.look(ctx, arg, f); err != nil {
				return nil, nil, err
			}
			loaded[i], err = sideOfStudy(p, known)
			if err == nil && folder[1-i] { // result files name models by their id
				err = loaded[i].published(p.compiled.Study.Report.Dir.V)
			}
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return loaded[0], loaded[1], nil
}

// sideOfStudy is a study as it is now, with the scores that the cache has for it.
func sideOfStudy(p *planned, known *cache.Reader) (*side, error) {
	s := &side{Name: p.compiled.Study.File, What: "study", settings: map[string]settingValue{}, results: map[string]map[string]sizeResult{}}
	for _, set := range p.compiled.Study.Settings {
		s.settings[set.Name] = settingValue{set.Value, set.Origin}
	}
	for _, st := range p.Steps {
		group, size, ok := scoredCell(st.Node.Addr)
		if !ok {
			continue
		}
		s.Clustering++
		if st.State != graph.Cached {
			continue
		}
		if err := s.read(known, st.Record, group, size); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// sideOfLast is what the last run of a study left: the settings of its report
// and the scores of its nodes.
func sideOfLast(p *planned, known *cache.Reader) (*side, error) {
	s := &side{Name: p.compiled.Study.File, What: "last run", results: map[string]map[string]sizeResult{}}
	if p.Last == nil {
		return nil, fmt.Errorf("%s has not been applied with the cache %s; there is no last run to compare with", s.Name, p.cacheDir)
	}
	s.Name += " as of " + moment(p.Last.Started)
	for addr, st := range p.Last.Nodes {
		record, ok := known.Record(st.Key)
		if !ok {
			continue
		}
		if record.Kind == "report" {
			s.settings = map[string]settingValue{}
			for _, l := range record.Lines {
				if name, ok := strings.CutPrefix(l.Label, "param "); ok && strings.Contains(name, ".") && !strings.Contains(name, " ") {
					s.settings[name] = settingValue{l.Value, ""}
				}
			}
			continue
		}
		if group, size, ok := scoredCell(addr); ok {
			s.Clustering++
			if err := s.read(known, record, group, size); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// scoredCell splits the address of a score: model/layer/method/clusters/titles/judge/score.
func scoredCell(addr string) (group, size string, ok bool) {
	parts := strings.Split(addr, "/")
	if len(parts) != 7 || parts[6] != "score" {
		return "", "", false
	}
	return strings.Join(parts[:3], "/") + " " + parts[4] + "/" + parts[5], parts[3], true
}

func (s *side) read(known *cache.Reader, record *cache.Record, group, size string) error {
	o, ok := record.Output("score")
	if !ok {
		return nil
	}
	content, err := tasks.OpenOutput(known.Blobs(), o)
	var missing *cache.MissingError
	if errors.As(err, &missing) {
		return nil // counts as not scored
	}
	if err != nil {
		return fmt.Errorf("reading the score of %s: %w", record.Address, err)
	}
	defer content.Close()
	var r sizeResult
	if err := json.NewDecoder(content).Decode(&r); err != nil {
		return fmt.Errorf("reading the score of %s: %w", record.Address, err)
	}
	s.put(group, size, r)
	return nil
}

// published replaces a study's results by those in its report's folder.
func (s *side) published(dir string) error {
	other, err := sideOfFolder(dir)
	if err != nil {
		return fmt.Errorf("%w; apply %s to publish its report", err, s.Name)
	}
	s.results, s.Scored = other.results, other.Scored
	return nil
}

// sideOfFolder reads the result files of a report's folder, or of its vars.
func sideOfFolder(dir string) (*side, error) {
	s := &side{Name: dir, What: "results", results: map[string]map[string]sizeResult{}}
	vars := filepath.Join(dir, "vars")
	if info, err := os.Stat(vars); err != nil || !info.IsDir() {
		vars = dir
	}
	err := fs.WalkDir(os.DirFS(vars), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || path.Ext(name) != ".json" {
			return err
		}
		raw, err := fs.ReadFile(os.DirFS(vars), name)
		if err != nil {
			return err
		}
		var m judge.MethodResults
		if err := json.Unmarshal(raw, &m); err != nil {
			return fmt.Errorf("%s is no result file: %w", filepath.Join(vars, name), err)
		}
		if m.ClusteringMethod == "" {
			return nil
		}
		group := fmt.Sprintf("%s/%d/%s", m.ModelID, m.Layer, m.ClusteringMethod)
		if sub := path.Dir(name); sub != "." {
			group += " " + sub
		}
		for size, r := range m.ResultsByClusterSize {
			s.put(group, size, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the results in %s: %w", dir, err)
	}
	if s.Scored == 0 {
		return nil, fmt.Errorf("%s holds no result files (vars/*_results_*.json); give the folder of a report, or a study file", dir)
	}
	return s, nil
}

// comparison is what diff shows.
type comparison struct {
	A          *side           `json:"a"`
	B          *side           `json:"b"`
	Known      bool            `json:"parameters_known"` // of both
	Parameters []parameterDiff `json:"parameters"`       // those that differ
	Scores     []scoreDiff     `json:"scores"`
	Best       []bestDiff      `json:"best"`
}

type parameterDiff struct {
	Name    string  `json:"name"`
	A       *string `json:"a"` // null: not there
	B       *string `json:"b"`
	OriginA string  `json:"origin_a,omitempty"`
	OriginB string  `json:"origin_b,omitempty"`
}

// scoreDiff holds the means over the repetitions, by metric.
type scoreDiff struct {
	Group    string             `json:"clustering"` // model/layer/method, titles/judge
	Clusters int                `json:"clusters"`
	A        map[string]float64 `json:"a"` // null: not scored
	B        map[string]float64 `json:"b"`
	// Apart: the 95 % intervals of the final score do not overlap.
	Apart bool `json:"apart"`
}

type bestDiff struct {
	Group string     `json:"clustering"`
	A     *bestGroup `json:"a"`
	B     *bestGroup `json:"b"`
}

// bestGroup is the number of clusters with the best final score, and the
// categories of its first repetition.
type bestGroup struct {
	Clusters   int      `json:"clusters"`
	FinalScore float64  `json:"final_score"`
	Categories []string `json:"categories"`
}

func compareSides(left, right *side) *comparison {
	d := &comparison{A: left, B: right, Known: left.settings != nil && right.settings != nil, Parameters: []parameterDiff{}, Scores: []scoreDiff{}, Best: []bestDiff{}}
	if d.Known {
		d.compareSettings()
	}
	for _, group := range unionKeys(left.results, right.results) {
		x, y := left.results[group], right.results[group]
		sizes := unionKeys(x, y)
		slices.SortFunc(sizes, func(a, b string) int {
			m, _ := strconv.Atoi(a)
			n, _ := strconv.Atoi(b)
			return m - n
		})
		for _, size := range sizes {
			k, _ := strconv.Atoi(size)
			row := scoreDiff{Group: group, Clusters: k, A: means(x, size), B: means(y, size)}
			row.Apart = apart(x[size], y[size])
			d.Scores = append(d.Scores, row)
		}
		d.Best = append(d.Best, bestDiff{group, bestOf(x), bestOf(y)})
	}
	return d
}

// compareSettings lists the parameters that differ. A report does not keep
// all of them, so against it the others are passed over.
func (d *comparison) compareSettings() {
	report := d.A.What == "last run"
	for _, name := range unionKeys(d.A.settings, d.B.settings) {
		x, inA := d.A.settings[name]
		y, inB := d.B.settings[name]
		if inA && inB && x.value == y.value || report && !inA && !tasks.InReport(name) {
			continue
		}
		p := parameterDiff{Name: name, OriginA: x.origin, OriginB: y.origin}
		if inA {
			p.A = &x.value
		}
		if inB {
			p.B = &y.value
		}
		d.Parameters = append(d.Parameters, p)
	}
}

func unionKeys[V any](a, b map[string]V) []string {
	var out []string
	for k := range a {
		out = append(out, k)
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func means(results map[string]sizeResult, size string) map[string]float64 {
	r, ok := results[size]
	if !ok {
		return nil
	}
	out := map[string]float64{}
	for name, s := range r.Statistics {
		if !math.IsNaN(s.Mean) && !math.IsInf(s.Mean, 0) {
			out[name] = s.Mean
		}
	}
	return out
}

func apart(a, b sizeResult) bool {
	x, okX := a.Statistics["final_score"]
	y, okY := b.Statistics["final_score"]
	return okX && okY && x.N > 1 && y.N > 1 && (x.CI95[1] < y.CI95[0] || y.CI95[1] < x.CI95[0])
}

func bestOf(results map[string]sizeResult) *bestGroup {
	best := judge.Best(results)
	if best == nil {
		return nil
	}
	g := &bestGroup{Clusters: best.Size, FinalScore: best.AvgFinalScore, Categories: []string{}}
	if reps := results[strconv.Itoa(best.Size)].AllResults; len(reps) > 0 {
		for _, c := range reps[0].Categories {
			g.Categories = append(g.Categories, c.Title)
		}
	}
	return g
}
