package report

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"

	"clusterflow/internal/judge"
)

// What the page holds of one clustering; the rest is in the result files.
const (
	maxExamples   = 15
	maxText       = 420  // characters of one sentence or title
	maxLong       = 1500 // characters of a description
	maxPairs      = 20   // overlapping pairs with explanations
	maxCases      = 12   // sentences of each kind of completeness answer
	maxTraces     = 3
	maxTraceParts = 160
)

// detailView is one clustering in full, as the page shows it.
type detailView struct {
	ID, Name         string
	Model, Method    string
	Layer, K         int
	Best             bool // the best of its board
	Score            string
	Facts            []fact
	Rows             []clusterRow
	Reps             []int // repetition numbers from 1, when there are several
	Semantic, Cosine template.HTML
	Threshold        string
	Marked           bool // the semantic matrix has frames
	Pairs            []pairRow
	MorePairs        int
	Cases            []caseGroup
	FitMode          bool
	Traces           []traceView
	MoreTraces       int

	data detailData
}

// detailData is what the script needs of a clustering.
type detailData struct {
	IDs   []string     `json:"ids"`
	Names []string     `json:"names"`
	Sem   [][]*float64 `json:"sem,omitempty"` // judged similarity 0..1
	Cos   [][]*float64 `json:"cos,omitempty"`
	Reps  [][]repRow   `json:"reps,omitempty"` // by repetition, by row of the table
}

// repRow is a table row of another repetition: title, description, precision,
// recall, f1, accuracy ("–" where not measured).
type repRow [6]string

type fact struct{ Name, Value string }

type clusterRow struct {
	ID                              string
	Hue                             int // degrees
	Title, Description              string
	Size                            int
	Bar                             int // percent of the largest cluster
	Precision, Recall, F1, Accuracy string
	MeanF1                          string
	Examples                        []Example
	Others                          []otherTitle
}

type otherTitle struct {
	Rep       int
	Title, F1 string
}

type pairRow struct {
	A, B        categoryRef
	Sim, Cos    string
	Explanation string
}

type categoryRef struct {
	ID, Title string
	Hue       int
}

type caseGroup struct {
	Kind, Doc string
	Total     int
	Rows      []caseRow
}

type caseRow struct {
	Text        string
	Own, Given  categoryRef // Given.ID is "None" without a category
	Value       string
	Explanation string
}

type traceView struct {
	Response, Question string
	Parts              []tracePart
	Cut                int // parts left out
	Legend             []categoryRef
}

type tracePart struct {
	Text    string
	Cluster string // "" when not clustered
	Title   string
	Hue     int
}

// hue spreads clusters over the colour circle by the golden angle, so that
// neighbours differ whatever their number.
func hue(id string) int {
	i, err := strconv.Atoi(id)
	if err != nil {
		return 0
	}
	return int(math.Mod(float64(i)*137.508+20, 360))
}

func detailID(b *board, c *cell) string {
	return fmt.Sprintf("c-%d-%d-%s-%d", b.Index, c.Layer, fileName(c.Method), c.K)
}

// newDetail builds the view of one clustering from its first repetition, with
// the other repetitions' titles beside it. board names the board where the page
// has several.
func newDetail(b *board, c *cell, board string) detailView {
	v := detailView{ID: detailID(b, c), Model: b.Model.Label, Method: c.Method, Layer: c.Layer, K: c.K}
	v.Name = fmt.Sprintf("%s, layer %d, %d clusters", c.Method, c.Layer, c.K)
	if board != "" {
		v.Name = board + ", " + v.Name
	}
	if s, ok := c.stat("final_score"); ok {
		v.Score = interval(s.Mean, s.CI95, s.N)
	}
	v.Facts = trainingFacts(c)
	if len(c.Score.AllResults) == 0 {
		return v
	}
	first := &c.Score.AllResults[0]
	name := func(id string) categoryRef {
		return categoryRef{ID: id, Title: clip(first.DetailedResults[id].Title, maxText), Hue: hue(id)}
	}
	v.clusters(c, first)
	v.matrices(c, first, name)
	v.cases(first, name)
	v.traces(c, name)
	return v
}

func trainingFacts(c *cell) []fact {
	t := c.Clust
	if t == nil {
		return nil
	}
	var f []fact
	if t.Iterations > 0 {
		how := " iterations"
		if !t.Converged {
			how += ", not converged"
		}
		f = append(f, fact{"Fit", strconv.Itoa(t.Iterations) + how})
	}
	if t.Backend != "" {
		f = append(f, fact{"Backend", t.Backend})
	}
	if t.RowsDiffer >= 0 {
		f = append(f, fact{"Labels", plural(t.RowsDiffer, "row") + " would get another label by the model's own predict"})
	}
	for _, q := range qualities {
		if x, ok := t.quality(q.Key); ok {
			f = append(f, fact{q.Label, short(x)})
		}
	}
	if n := c.empty(); n > 0 {
		f = append(f, fact{"Empty clusters", strconv.Itoa(n)})
	}
	if t.Address != "" {
		f = append(f, fact{"Address", t.Address})
	}
	return f
}

// rates formats a cluster's precision, recall, F1 and accuracy.
func rates(r *judge.Repetition, id string) (p, rc, f1, acc string) {
	d, ok := r.DetailedResults[id]
	if !ok || !graded(r, id) {
		return "–", "–", "–", "–"
	}
	two := func(x float64) string { return strconv.FormatFloat(x, 'f', 2, 64) }
	return two(d.Precision), two(d.Recall), two(d.F1), two(d.Accuracy)
}

func (v *detailView) clusters(c *cell, first *judge.Repetition) {
	ids := clusterIDs(c, first)
	largest := 1
	for _, id := range ids {
		largest = max(largest, clusterSize(c, id, first.DetailedResults[id].Size))
	}
	reps := c.Score.AllResults
	for _, id := range ids {
		d, titled := first.DetailedResults[id]
		row := clusterRow{ID: id, Hue: hue(id), Title: clip(d.Title, maxText), Description: clip(d.Description, maxLong), Size: clusterSize(c, id, d.Size)}
		row.Bar = row.Size * 100 / largest
		if !titled {
			row.Title = "(no title)"
			if row.Size == 0 {
				row.Title = "(empty)"
			}
		}
		row.Precision, row.Recall, row.F1, row.Accuracy = rates(first, id)
		var f1 []float64
		for i := range reps {
			if graded(&reps[i], id) {
				f1 = append(f1, reps[i].DetailedResults[id].F1)
			}
			if i > 0 {
				_, _, f, _ := rates(&reps[i], id)
				if t := reps[i].DetailedResults[id].Title; t != "" {
					row.Others = append(row.Others, otherTitle{i + 1, clip(t, maxText), f})
				}
			}
		}
		if s := judge.NewStat(f1); s.N > 0 {
			row.MeanF1 = strconv.FormatFloat(s.Mean, 'f', 2, 64)
			if s.N > 1 {
				row.MeanF1 += " ± " + strconv.FormatFloat(s.StdDev, 'f', 2, 64)
			}
		} else {
			row.MeanF1 = "–"
		}
		row.Examples = examples(c, id, d.Examples)
		v.Rows = append(v.Rows, row)
		v.data.IDs = append(v.data.IDs, id)
	}
	if len(reps) < 2 {
		return
	}
	for i := range reps {
		v.Reps = append(v.Reps, i+1)
		var rows []repRow
		for _, id := range ids {
			d := reps[i].DetailedResults[id]
			p, r, f, a := rates(&reps[i], id)
			rows = append(rows, repRow{clip(d.Title, maxText), clip(d.Description, maxLong), p, r, f, a})
		}
		v.data.Reps = append(v.data.Reps, rows)
	}
}

// examples prefers those that name their response.
func examples(c *cell, id string, texts []string) []Example {
	var out []Example
	if i, err := strconv.Atoi(id); err == nil && c.Clust != nil && i >= 0 && i < len(c.Clust.Examples) {
		out = slices.Clone(c.Clust.Examples[i])
	}
	if len(out) == 0 {
		for _, t := range texts {
			out = append(out, Example{Text: t})
		}
	}
	out = out[:min(len(out), maxExamples)]
	for i := range out {
		out[i].Text = clip(out[i].Text, maxText)
	}
	return out
}

// clip shortens text to n characters.
func clip(s string, n int) string {
	count := 0
	for i := range s {
		if count == n {
			return s[:i] + " […]"
		}
		count++
	}
	return s
}

func round3(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	r := math.Round(x*1000) / 1000
	return &r
}

// matrices draws judged similarity and |cos| of the centroids over the titled
// categories, in one order and with one colour scale: bright pairs overlap.
func (v *detailView) matrices(c *cell, first *judge.Repetition, name func(string) categoryRef) {
	n := len(first.Categories)
	ids := make([]string, n)
	for i, t := range first.Categories {
		ids[i] = t.ID
		v.data.Names = append(v.data.Names, clip(t.Title, maxText))
	}
	orth := func(i, j int) float64 {
		m := first.SemanticOrthogonalityMatrix
		if i < len(m) && j < len(m[i]) && m[i][j] != nil {
			return *m[i][j]
		}
		return math.NaN()
	}
	cosine := func(i, j int) float64 {
		a, errA := strconv.Atoi(ids[i])
		b, errB := strconv.Atoi(ids[j])
		if c.Clust != nil && errA == nil && errB == nil && a >= 0 && b >= 0 && a < len(c.Clust.CentroidCosine) && b < len(c.Clust.CentroidCosine[a]) {
			return c.Clust.CentroidCosine[a][b]
		}
		return math.NaN()
	}
	grid := func(f func(i, j int) float64) [][]*float64 {
		rows := make([][]*float64, n)
		for i := range rows {
			for j := range n {
				rows[i] = append(rows[i], round3(f(i, j)))
			}
		}
		return rows
	}
	threshold := first.SemanticOrthogonalityThreshold
	v.Threshold = strconv.FormatFloat(threshold, 'g', 4, 64)
	overlaps := func(i, j int) bool { return i != j && orth(i, j) <= threshold }
	if n > 1 && len(first.SemanticOrthogonalityMatrix) > 0 {
		sim := func(i, j int) float64 { return 1 - orth(i, j) }
		v.Semantic = matrixChart(v.ID+"/sem", "Judged similarity of every pair of categories", ids, sim, overlaps)
		v.data.Sem = grid(sim)
	}
	if n > 1 && c.Clust != nil && len(c.Clust.CentroidCosine) > 0 {
		v.Cosine = matrixChart(v.ID+"/cos", "Cosine of every pair of centroids, without its sign", ids,
			func(i, j int) float64 { return math.Abs(cosine(i, j)) }, nil)
		v.data.Cos = grid(cosine)
	}
	type pair struct{ i, j int }
	var pairs []pair
	for i := range n {
		for j := i + 1; j < n; j++ {
			if overlaps(i, j) {
				pairs = append(pairs, pair{i, j})
			}
		}
	}
	slices.SortStableFunc(pairs, func(x, y pair) int { return cmp.Compare(orth(x.i, x.j), orth(y.i, y.j)) })
	v.Marked = len(pairs) > 0
	v.MorePairs = max(0, len(pairs)-maxPairs)
	for _, p := range pairs[:min(len(pairs), maxPairs)] {
		row := pairRow{A: name(ids[p.i]), B: name(ids[p.j]), Sim: strconv.FormatFloat((1-orth(p.i, p.j))*10, 'f', 0, 64), Cos: "–"}
		if x := cosine(p.i, p.j); !math.IsNaN(x) {
			row.Cos = strconv.FormatFloat(x, 'f', 2, 64)
		}
		row.Explanation = clip(first.SemanticOrthogonalityExplanations[fmt.Sprintf("%d,%d", p.i, p.j)], maxText)
		v.Pairs = append(v.Pairs, row)
	}
}

// cases lists sentences by how the judge's category compares with the cluster.
func (v *detailView) cases(r *judge.Repetition, name func(string) categoryRef) {
	if d := r.CompletenessDetailed; d != nil {
		for _, g := range []struct {
			kind, doc string
			list      []judge.Categorized
		}{
			{"Correct", "the judge chose the category of the sentence's own cluster", d.Correct},
			{"Wrong", "the judge chose another category", d.Incorrect},
			{"Missed", "the judge found that no category fits", d.Missed},
		} {
			group := caseGroup{Kind: g.kind, Doc: g.doc, Total: len(g.list)}
			for _, s := range g.list[:min(len(g.list), maxCases)] {
				group.Rows = append(group.Rows, caseRow{
					Text: clip(s.SentenceText, maxText), Own: name(s.GroundTruth), Given: name(s.Assigned),
					Value: strconv.FormatFloat(s.Confidence, 'f', 1, 64), Explanation: clip(s.Explanation, maxText),
				})
			}
			v.Cases = append(v.Cases, group)
		}
	}
	if len(r.CompletenessResponses) == 0 {
		return
	}
	v.FitMode = true
	list := slices.Clone(r.CompletenessResponses)
	slices.SortStableFunc(list, func(x, y judge.FitResponse) int { return cmp.Compare(x.CompletenessScore, y.CompletenessScore) })
	worst := list[:min(len(list), maxCases)]
	bestFits := slices.Clone(list[max(len(worst), len(list)-maxCases):])
	slices.Reverse(bestFits)
	for _, g := range []struct {
		kind, doc string
		list      []judge.FitResponse
	}{{"Worst fits", "the sentences that fit the category of their own cluster least", worst}, {"Best fits", "the sentences that fit it best", bestFits}} {
		group := caseGroup{Kind: g.kind, Doc: g.doc, Total: len(g.list)}
		for _, s := range g.list {
			group.Rows = append(group.Rows, caseRow{Text: clip(s.SentenceText, maxText), Own: name(s.ClusterID),
				Value: strconv.FormatFloat(s.CompletenessScore, 'f', 0, 64) + "/10", Explanation: clip(s.Explanation, maxText)})
		}
		v.Cases = append(v.Cases, group)
	}
}

func (v *detailView) traces(c *cell, name func(string) categoryRef) {
	if c.Clust == nil {
		return
	}
	all := c.Clust.Traces
	v.MoreTraces = max(0, len(all)-maxTraces)
	for _, t := range all[:min(len(all), maxTraces)] {
		tv := traceView{Response: t.Response, Question: clip(t.Question, 2*maxText), Cut: max(0, len(t.Parts)-maxTraceParts)}
		used := map[string]bool{}
		for _, p := range t.Parts[:min(len(t.Parts), maxTraceParts)] {
			part := tracePart{Text: clip(p.Text, 2*maxText)}
			if p.Cluster >= 0 {
				ref := name(strconv.Itoa(p.Cluster))
				part.Cluster, part.Title, part.Hue = ref.ID, ref.Title, ref.Hue
				if !used[ref.ID] {
					used[ref.ID] = true
					tv.Legend = append(tv.Legend, ref)
				}
			}
			tv.Parts = append(tv.Parts, part)
		}
		slices.SortFunc(tv.Legend, func(x, y categoryRef) int { return compareIDs(x.ID, y.ID) })
		v.Traces = append(v.Traces, tv)
	}
}
