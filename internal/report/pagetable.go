package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"clusterflow/internal/judge"
)

// summary fills the opening of the page: what was run, and what a reader must
// know first.
func (v *pageView) summary(bs []*board) {
	d := v.D
	var models, layers, methods, sizes, titled, judged []string
	clusterings, reps := 0, 0
	random, lexical := []string{}, false
	once := func(list []string, s string) []string {
		if s == "" || slices.Contains(list, s) {
			return list
		}
		return append(list, s)
	}
	seen := map[string]bool{}
	allLayers, allSizes := map[int]bool{}, map[int]bool{}
	backends := map[string]bool{}
	emptyCells, titledClusters, seenClusters := 0, 0, 0
	for _, b := range bs {
		lexical = lexical || b.Lexical
		titled, judged = once(titled, b.TitledBy), once(judged, b.JudgedBy)
		for _, m := range b.Methods {
			methods = once(methods, m)
		}
		for _, c := range b.Cells {
			allLayers[c.Layer], allSizes[c.K] = true, true
			reps = max(reps, len(c.Score.AllResults))
			if len(c.Score.AllResults) > 0 {
				t, s := allSeen(&c.Score.AllResults[0])
				titledClusters, seenClusters = titledClusters+t, seenClusters+s
			}
			if key := fmt.Sprint(b.Model.Label, "\x00", c.Method, "\x00", c.Layer, "\x00", c.K); !seen[key] {
				seen[key] = true
				clusterings++
				if c.empty() > 0 {
					emptyCells++
				}
				if c.Clust != nil && c.Clust.Backend != "" {
					backends[c.Clust.Backend] = true
				}
			}
		}
	}
	slices.SortFunc(methods, compareMethods)
	for _, l := range slices.Sorted(maps.Keys(allLayers)) {
		layers = append(layers, strconv.Itoa(l))
	}
	for _, k := range slices.Sorted(maps.Keys(allSizes)) {
		sizes = append(sizes, strconv.Itoa(k))
	}
	responses, sentences, cutoff := 0, 0, 0
	for _, m := range d.Models {
		models = append(models, m.Label)
		responses, sentences, cutoff = max(responses, m.Responses), max(sentences, m.Sentences), max(cutoff, m.Truncated)
		if m.Random {
			random = append(random, m.Label)
		}
	}
	v.Lead = fmt.Sprintf("Sentences of %s reasoning traces were clustered by their activations in %s, with %s on %s into %s; each clustering was titled and graded by a judge %s.",
		comma(responses), list(models), plural(len(methods), "method"), plural(len(layers), "layer"), sizeRange(sizes), times(reps))
	add := func(name, value string) {
		if value != "" {
			v.Facts = append(v.Facts, fact{name, value})
		}
	}
	for _, m := range d.Models {
		value := m.Source
		if m.Precision != "" {
			value += ", " + m.Precision
		}
		add("Model "+m.Label, value)
	}
	data := fmt.Sprintf("%s responses, %s sentences", comma(responses), comma(sentences))
	if cutoff > 0 {
		data += fmt.Sprintf(", %s cut-off traces", comma(cutoff))
	}
	add("Data", data)
	add("Layers", strings.Join(layers, ", "))
	add("Methods", strings.Join(methods, ", "))
	add("Cluster sizes", strings.Join(sizes, ", "))
	add("Clusterings", comma(clusterings))
	add("Titles by", strings.Join(titled, "; "))
	add("Graded by", strings.Join(judged, "; "))
	add("Repetitions", strconv.Itoa(reps))
	add("Protocol", d.Protocol)
	add("Seed", strconv.FormatInt(d.Seed, 10))
	add("Study file", d.File)

	v.Warnings = slices.Clone(d.Warnings)
	warn := func(format string, args ...any) { v.Warnings = append(v.Warnings, fmt.Sprintf(format, args...)) }
	if len(random) > 0 {
		warn("The weights of %s are random. Its clusters mean nothing: this report shows that the pipeline works, not how a model reasons.", list(random))
	}
	if lexical {
		warn("Titles or grades come from the lexical baseline. It compares words and understands none of them, so its scores judge nothing and compare only with each other.")
	}
	if len(backends) > 1 {
		warn("The clusterings were computed by %d backends (%s). Small differences between them may come from that.", len(backends), strings.Join(slices.Sorted(maps.Keys(backends)), "; "))
	}
	ways := map[string]bool{}
	for _, r := range d.Results {
		for _, way := range r.StatesBy {
			ways[way] = true
		}
	}
	if len(ways) > 1 {
		warn("The hidden states were computed in %d ways (%s). Small differences between layers, models and clusterings may come from that.", len(ways), strings.Join(slices.Sorted(maps.Keys(ways)), "; "))
	}
	v.answers(bs)
	if asked, failed := v.failures(); failed > 0 {
		warn("%s of %s answers failed (%s). They are left out of every average; the section on answers says which.", comma(failed), comma(asked), percent(failed, asked))
	}
	if emptyCells > 0 {
		warn("%s of %s clusterings have empty clusters; the heatmap shows them in grey.", comma(emptyCells), comma(clusterings))
	}
	if seenClusters > 0 {
		warn("%s of %s titled clusters have no sentence that their titler did not see. Their accuracy is not asked, and the averages leave them out; a smaller description_examples leaves more.", comma(seenClusters), comma(titledClusters))
	}
	if reps == 1 {
		warn("There is one repetition, so no score has an interval.")
	}
	for i, s := range d.Settings {
		if s.Overridden() {
			v.Overridden++
		}
		if i == 0 || s.Group != d.Settings[i-1].Group {
			v.Settings = append(v.Settings, settingGroup{Name: s.Group})
		}
		g := &v.Settings[len(v.Settings)-1]
		g.Rows = append(g.Rows, s)
	}
}

func list(s []string) string {
	switch len(s) {
	case 0:
		return "no model"
	case 1:
		return s[0]
	}
	return strings.Join(s[:len(s)-1], ", ") + " and " + s[len(s)-1]
}

func sizeRange(sizes []string) string {
	switch len(sizes) {
	case 0:
		return "no clusters"
	case 1:
		return sizes[0] + " clusters"
	}
	return sizes[0] + " to " + sizes[len(sizes)-1] + " clusters"
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}

func percent(part, whole int) string {
	if whole == 0 {
		return "–"
	}
	p := float64(part) / float64(whole) * 100
	if p > 0 && p < 0.1 {
		return "< 0.1 %"
	}
	return strconv.FormatFloat(p, 'f', 1, 64) + " %"
}

// answerKinds is the order in which kinds of questions are shown.
var answerKinds = []string{"title", "accuracy", "completeness", "fit", "similarity"}

// answers sums what was asked and answered per board, and lists the
// clusterings that lost most.
func (v *pageView) answers(bs []*board) {
	for _, b := range bs {
		total := map[string]judge.AnswerCount{}
		for _, c := range b.Cells {
			own := map[string]judge.AnswerCount{}
			sumAnswers(own, c.Score.AllResults)
			sumAnswers(total, c.Score.AllResults)
			f := failureRow{Name: fmt.Sprintf("%s, layer %d, %d clusters", c.Method, c.Layer, c.K)}
			if len(bs) > 1 {
				f.Name = v.Boards[b.Index].Name + ", " + f.Name
			}
			var kinds []string
			for _, kind := range sortedKinds(own) {
				f.Asked += own[kind].Asked
				f.Failed += own[kind].Failed
				if n := own[kind].Failed; n > 0 {
					kinds = append(kinds, fmt.Sprintf("%s %s of %s", kind, comma(n), comma(own[kind].Asked)))
				}
			}
			f.Kinds = strings.Join(kinds, "; ")
			if f.Failed > 0 {
				v.Failures = append(v.Failures, f)
			}
		}
		for _, kind := range sortedKinds(total) {
			a := total[kind]
			var reasons []string
			for _, r := range slices.Sorted(maps.Keys(a.Reasons)) {
				reasons = append(reasons, fmt.Sprintf("%s %s", r, comma(a.Reasons[r])))
			}
			v.Answers = append(v.Answers, answerRow{v.Boards[b.Index].Name, kind, a.Asked, a.Answered, a.Failed, a.Requests, a.FailedRequests, percent(a.Failed, a.Asked), strings.Join(reasons, ", ")})
		}
	}
	slices.SortStableFunc(v.Failures, func(x, y failureRow) int { return cmp.Compare(y.Failed, x.Failed) })
	v.Failures = v.Failures[:min(len(v.Failures), 50)]
}

func sortedKinds(m map[string]judge.AnswerCount) []string {
	rank := func(k string) int {
		if i := slices.Index(answerKinds, k); i >= 0 {
			return i
		}
		return len(answerKinds)
	}
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
}

func (v *pageView) failures() (asked, failed int) {
	for _, a := range v.Answers {
		asked += a.Asked
		failed += a.Failed
	}
	return asked, failed
}

// tables fills the scores of the best clusterings and how they were trained.
func (v *pageView) tables(bs []*board, links map[*cell]string) {
	var all []*cell
	owner := map[*cell]*boardView{}
	for i, b := range bs {
		all = append(all, b.Cells...)
		for _, c := range b.Cells {
			owner[c] = v.Boards[i]
		}
	}
	for i, c := range ranked(all) {
		if i >= maxScoreRows {
			v.MoreScores = len(all) - i
			break
		}
		row := scoreRow{Model: owner[c].Name, Layer: c.Layer, K: c.K, Method: c.Method, Link: links[c], Empty: c.empty()}
		for _, m := range metrics {
			val := scoreValue{Mean: "–"}
			if s, ok := c.stat(m.Key); ok {
				val.Mean = n3(s.Mean)
				if s.N > 1 {
					val.Half = "±" + strings.TrimPrefix(n3((s.CI95[1]-s.CI95[0])/2), "0")
				}
			}
			row.Values = append(row.Values, val)
		}
		v.Scores = append(v.Scores, row)
	}
	seen := map[string]bool{}
	for _, c := range all {
		t := c.Clust
		key := fmt.Sprint(owner[c].B.Model.Label, "\x00", c.Method, "\x00", c.Layer, "\x00", c.K)
		if t == nil || seen[key] {
			continue
		}
		seen[key] = true
		if len(v.Training) >= maxTrainRows {
			v.MoreTrain++
			continue
		}
		row := trainRow{Model: owner[c].B.Model.Label, Layer: c.Layer, K: c.K, Method: c.Method, Backend: t.Backend, Empty: c.empty(), Differ: "–", Fit: "–"}
		if t.RowsDiffer >= 0 {
			row.Differ = strconv.Itoa(t.RowsDiffer)
		}
		if t.Iterations > 0 {
			row.Fit = strconv.Itoa(t.Iterations)
			if !t.Converged {
				row.Fit += ", not converged"
			}
		}
		for _, q := range qualities {
			shown := "–"
			if x, ok := t.quality(q.Key); ok {
				shown = short(x)
			}
			row.Quality = append(row.Quality, shown)
		}
		v.Training = append(v.Training, row)
	}
}
