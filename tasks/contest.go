package tasks

import (
	"slices"
	"strings"

	"clusterflow/internal/cluster"
	"clusterflow/internal/judge"
	result "clusterflow/internal/report"
)

// mostRivals is how many clusterings the best one is compared with, nulls beside
// them: more comparisons would cost all of them their power.
const mostRivals = 15

// contest gathers the scores of a study, to set clusterings and judges against
// each other.
type contest struct{ entries []entry }

type entry struct {
	scored
	scores scoreFile
}

func (c *contest) add(s scored, scores scoreFile) { c.entries = append(c.entries, entry{s, scores}) }

func (e entry) address() string { return strings.TrimSuffix(e.train.Addr, "/train") }

// null reports whether a clustering never saw an activation.
func (e entry) null() bool {
	m, _ := cluster.ByName(e.method)
	return m.Null
}

// comparisons sets the best clustering of each model, titles and judge against the
// next ones and the nulls, by their final score or, where a study has none, by F1
// or completeness. All that is shown is corrected together.
func (c *contest) comparisons() []result.Comparisons {
	type id struct{ model, titles, judge string }
	groups := map[id][]entry{}
	var order []id
	for _, e := range c.entries {
		at := id{e.mat.label, e.titles.Name, e.judge.Name}
		if groups[at] == nil {
			order = append(order, at)
		}
		groups[at] = append(groups[at], e)
	}
	var out []result.Comparisons
	for _, at := range order {
		for _, metric := range []string{"final_score", "avg_f1", "avg_confidence"} {
			if found, ok := compare(groups[at], metric); ok {
				found.Model, found.Titles, found.Judge, found.Metric = at.model, at.titles, at.judge, metric
				out = append(out, found)
				break
			}
		}
	}
	var shown []judge.Comparison
	for _, one := range out {
		for _, o := range one.Others {
			shown = append(shown, o.Against)
		}
	}
	judge.Holm(shown)
	for _, one := range out {
		for i := range one.Others {
			one.Others[i].Against, shown = shown[0], shown[1:]
		}
	}
	return out
}

// compare is the comparison of some clusterings by a metric, false if fewer than
// two have it.
func compare(all []entry, metric string) (result.Comparisons, bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(e entry) bool {
		_, ok := e.scores.Statistics[metric]
		return !ok || len(e.scores.Replicates[metric]) == 0
	})
	if len(all) < 2 {
		return result.Comparisons{}, false
	}
	slices.SortStableFunc(all, func(a, b entry) int {
		x, y := a.scores.Statistics[metric].Mean, b.scores.Statistics[metric].Mean
		switch {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	one := func(e entry) result.Compared {
		return result.Compared{
			Address: e.address(), Layer: e.layer, Method: e.method, K: e.k,
			Value: e.scores.Statistics[metric].Mean, CI95: e.scores.Intervals[metric],
		}
	}
	out := result.Comparisons{Best: one(all[0])}
	best := all[0].scores.replicates(metric)
	for i, e := range all[1:] {
		if i >= mostRivals && !e.null() {
			out.Left++
			continue
		}
		o := one(e)
		o.Against = judge.Compare(out.Best.Value, o.Value, best, e.scores.replicates(metric))
		out.Others = append(out.Others, o)
	}
	return out, true
}

// kappas are the agreements of the repetitions of every clustering, and of its
// judges where there are several.
func (c *contest) kappas() []result.Kappa {
	var out []result.Kappa
	type id struct{ clustering, titles string }
	byTitles := map[id][]entry{}
	var order []id
	put := func(e entry, between, judges, metric string, k judge.Kappa) {
		if k.Items > 0 {
			out = append(out, result.Kappa{
				Model: e.mat.label, Titles: e.titles.Name, Layer: e.layer, Method: e.method, K: e.k,
				Between: between, Judges: judges, Metric: metric, Kappa: k,
			})
		}
	}
	for _, e := range c.entries {
		for _, metric := range []string{judge.MetricAccuracy, judge.MetricCompleteness} {
			put(e, "repetitions", e.judge.Name, metric, e.scores.Agreement[metric])
		}
		at := id{e.train.Addr, e.titles.Name}
		if byTitles[at] == nil {
			order = append(order, at)
		}
		byTitles[at] = append(byTitles[at], e)
	}
	for _, at := range order {
		all := byTitles[at]
		if len(all) < 2 {
			continue
		}
		var results []judge.SizeResult
		var names []string
		for _, e := range all {
			results, names = append(results, e.scores.SizeResult), append(names, e.judge.Name)
		}
		accuracy, completeness := judge.JudgeAgreement(results)
		put(all[0], "judges", strings.Join(names, ", "), judge.MetricAccuracy, accuracy)
		put(all[0], "judges", strings.Join(names, ", "), judge.MetricCompleteness, completeness)
	}
	return out
}
