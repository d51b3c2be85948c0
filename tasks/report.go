package tasks

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/judge"
	result "clusterflow/internal/report"
	"clusterflow/studies"
)

// shownTraces is how many whole traces the page colours by cluster.
const shownTraces = 3

// report renders the result files, the figures and the page. Each file is an
// output under its path in the report's directory; Publish writes them there.
type report struct {
	study  *studies.Study
	mats   []*material
	scores []scored
}

func (t *report) Kind() string    { return kindReport.Name }
func (t *report) Version() string { return kindReport.Version }

func (t *report) Params() []cache.Line {
	var p params
	set(&p, "study", t.study.Name)
	p.add("study file", filepath.Base(t.study.File), "")
	set(&p, "protocol", t.study.Protocol)
	set(&p, "seed", t.study.Seed)
	set(&p, "figures", t.study.Report.Figures)
	settings := t.shown()
	slices.SortStableFunc(settings, func(a, b studies.Setting) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range settings { // blocks may stand in any order
		p.add(s.Name, s.Value, s.Origin)
	}
	for _, m := range t.mats {
		p.add("model "+m.label, strings.Join([]string{m.id, text(m.layers), strconv.FormatBool(m.random)}, " "), "")
	}
	return p.lines
}

// InReport reports whether a report shows the setting of a name: not those of
// paths and of money, because a study is the same on another machine and for
// less, and not those of grids, because the results say what was made.
func InReport(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	return !strings.HasPrefix(name, "grid[") && !slices.Contains([]string{
		"file", "dir", "sentences", "files", "mean", "source", "revision",
		"budget_usd", "max_cost_usd", "max_enqueued_tokens", "retries", "input", "output", "batch_discount", "on_complete", "concurrency",
	}, last)
}

// shown are the study's settings that a report shows.
func (t *report) shown() []studies.Setting {
	return slices.DeleteFunc(slices.Clone(t.study.Settings), func(s studies.Setting) bool { return !InReport(s.Name) })
}

// settings are the shown settings as the page has them, without line numbers,
// which move when a comment is written. Blocks may stand in any order.
func (t *report) settings() []result.Setting {
	var out []result.Setting
	for _, s := range t.shown() {
		origin := ""
		if s.Overridden() {
			origin = "the study"
		}
		group, rest, _ := strings.Cut(s.Name, ".")
		if label, attr, ok := strings.Cut(rest, "."); ok {
			group, rest = group+" "+label, attr
		}
		out = append(out, result.Setting{Group: group, Name: rest, Value: s.Value, Default: s.Default, Origin: origin})
	}
	slices.SortStableFunc(out, func(a, b result.Setting) int { return strings.Compare(a.Group, b.Group) })
	return out
}

func (t *report) Run(ctx context.Context, job *graph.Job) error {
	d := result.Data{
		Study: t.study.Name.V, File: filepath.Base(t.study.File), Protocol: t.study.Protocol.V, Seed: t.study.Seed.V, Settings: t.settings(),
		// Of titles from a file nobody knows what their author saw.
		HeldOut: !slices.ContainsFunc(t.scores, func(s scored) bool { return !s.eval.HeldOut.V || s.titles.File.Set }),
	}
	data := map[string]*labelled{}
	for _, m := range t.mats {
		l, err := t.model(job, m)
		if err != nil {
			return err
		}
		if l == nil {
			continue // no clustering of this model is graded
		}
		data[m.label] = l
		d.Models = append(d.Models, l.model)
		d.Notes = append(d.Notes, l.notes...)
	}
	if err := t.results(ctx, job, &d, data); err != nil {
		return err
	}
	files, err := result.Render(ctx, d, t.study.Report.Figures.V)
	if err != nil {
		return fmt.Errorf("rendering the report: %w", err)
	}
	for _, f := range files {
		if err := job.Put(f.Path, f.Content); err != nil {
			return err
		}
	}
	job.Note("files", strconv.Itoa(len(files)))
	return nil
}

// labelled is what all clusterings of a model share.
type labelled struct {
	model     result.Model
	notes     []string
	sentences []Sentence
	traces    []Trace
	byTrace   map[int][]int // rows by response
}

func (t *report) model(job *graph.Job, m *material) (*labelled, error) {
	if _, err := job.Digest(m.label + " sentences"); err != nil {
		return nil, nil
	}
	l := &labelled{byTrace: map[int][]int{}}
	var info DataInfo
	err := readJSON(job, m.label+" info", &info)
	if err != nil {
		return nil, err
	}
	if l.sentences, err = readInput[Sentence](job, m.label+" sentences"); err != nil {
		return nil, err
	}
	if l.traces, err = readInput[Trace](job, m.label+" traces"); err != nil {
		return nil, err
	}
	for i, s := range l.sentences {
		l.byTrace[s.Response] = append(l.byTrace[s.Response], i)
	}
	l.model = result.Model{
		Label: m.label, ID: m.id, Source: m.id, Random: m.random, Layers: m.layers,
		Responses: info.Responses, Truncated: info.CutOff, Sentences: info.Sentences, Skipped: info.InsideToken,
	}
	if m.model != nil {
		l.model.Precision = m.model.Precision.V
	} else {
		l.notes = append(l.notes, m.label+": activations were computed by another program.")
	}
	for _, n := range []struct {
		count int
		text  string
	}{
		{info.HadBOS, "%d responses begin with the BOS token already; none was added to them."},
		{info.CutTokens, "%d responses were cut at max_tokens."},
		{info.PastMax, "%d sentences beyond max_tokens were left out."},
		{info.NoSentences, "%d responses have no sentence and were left out."},
		{info.InsideToken, "%d sentences lie inside a single token and were skipped."},
	} {
		if n.count > 0 {
			l.notes = append(l.notes, m.label+": "+fmt.Sprintf(n.text, n.count))
		}
	}
	return l, nil
}

// results gathers the scores: one result per model, layer, method, titles and
// judge, with its clusterings by size.
func (t *report) results(ctx context.Context, job *graph.Job, d *result.Data, data map[string]*labelled) error {
	index, compared := map[string]int{}, newComparison()
	rivals := new(contest)
	for _, s := range t.scores {
		if err := ctx.Err(); err != nil {
			return err
		}
		key := fmt.Sprintf("%s/%d/%s %s %s", s.mat.label, s.layer, s.method, s.titles.Name, s.judge.Name)
		i, ok := index[key]
		if !ok {
			i = len(d.Results)
			index[key] = i
			d.Results = append(d.Results, result.Result{
				Model: s.mat.label, Titles: s.titles.Name, Judge: s.judge.Name,
				TitledBy: whoTitles(s.titles), JudgedBy: whoAnswers(s.judge),
				Lexical: s.titles.Evaluator != nil && s.titles.Evaluator.Provider.V == lexical || s.judge.Provider.V == lexical,
				R: judge.MethodResults{
					ClusteringMethod: s.method, ModelID: s.mat.id, Layer: s.layer, ResultsByClusterSize: map[string]judge.SizeResult{},
				},
			})
		}
		if r := &d.Results[i]; s.mat.model != nil && r.StatesBy == nil {
			var made Made
			if err := readJSON(job, fmt.Sprintf("%s/%d/rows made", s.mat.label, s.layer), &made); err != nil {
				return err
			}
			r.StatesBy = made.Backend
		}
		var scores scoreFile
		if err := readJSON(job, s.node.Addr, &scores); err != nil {
			return err
		}
		size := scores.SizeResult
		rivals.add(s, scores)
		c, err := t.clustering(job, s, data[s.mat.label], compared)
		if err != nil {
			return err
		}
		d.Results[i].R.ResultsByClusterSize[strconv.Itoa(s.k)] = size
		d.Results[i].Clusterings = append(d.Results[i].Clusterings, c)
	}
	d.Agreement = compared.agreement()
	d.Comparisons, d.Kappas = rivals.comparisons(), rivals.kappas()
	for i := range d.Results {
		r := &d.Results[i]
		r.R.BestCluster = judge.Best(r.R.ResultsByClusterSize)
		slices.SortFunc(r.Clusterings, func(a, b result.Clustering) int { return a.K - b.K })
	}
	return nil
}

func whoTitles(t *studies.Titles) string {
	if t.File.Set {
		return "a file of fixed titles"
	}
	return whoAnswers(t.Evaluator)
}

func whoAnswers(e *studies.Evaluator) string {
	if e.Provider.V == lexical {
		return "the lexical baseline"
	}
	return e.Model.V + " at " + settings(e).Host()
}

// clustering gathers what the page shows of one clustering beside its scores.
func (t *report) clustering(job *graph.Job, s scored, l *labelled, compared *comparison) (result.Clustering, error) {
	out := result.Clustering{K: s.k, Address: strings.TrimSuffix(s.train.Addr, "/train")}
	c, err := readLabels(job, s.train.Addr+" "+labelsOutput(s.eval), l.sentences)
	if err != nil {
		return out, err
	}
	var info TrainInfo
	if err := readJSON(job, s.train.Addr+" info", &info); err != nil {
		return out, err
	}
	out.Sizes, out.CentroidCosine, out.Backend = info.Sizes, info.Cosines, info.Backend
	out.RowsDiffer, out.Quality = info.RowsDiffer, info.Quality
	if out.Stability, err = compared.stability(job, s, c); err != nil {
		return out, err
	}
	if labelsOutput(s.eval) == "predicted" { // these are what is shown
		out.Sizes = make([]int, s.k)
		for cluster, rows := range c.members {
			out.Sizes[cluster] = len(rows)
		}
	}
	out.Iterations, out.Converged = int(info.Info["iterations"]), info.Info["converged"] > 0
	out.Examples = make([][]result.Example, s.k)
	for cluster, rows := range c.members {
		for _, row := range c.nearest(rows, shownExamples) {
			q := l.sentences[row]
			out.Examples[cluster] = append(out.Examples[cluster], result.Example{Text: q.Text, Response: responseName(q), Sentence: q.Index})
		}
	}
	for _, tr := range l.traces[:min(shownTraces, len(l.traces))] {
		shown := result.Trace{Response: strconv.Itoa(tr.Response), Question: tr.Question}
		if tr.QuestionID != "" {
			shown.Response = tr.QuestionID
		}
		for _, row := range l.byTrace[tr.Response] {
			shown.Parts = append(shown.Parts, result.Part{Text: l.sentences[row].Text, Cluster: int(c.labels[row])})
		}
		out.Traces = append(out.Traces, shown)
	}
	return out, nil
}

func responseName(s Sentence) string {
	if s.QuestionID != "" {
		return s.QuestionID
	}
	return strconv.Itoa(s.Response)
}
