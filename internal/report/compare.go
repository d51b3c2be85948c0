package report

import (
	"fmt"
	"strconv"
	"strings"

	"clusterflow/internal/judge"
)

// Comparisons sets the best clustering of a model, titles and judge against
// others, on the same bootstrap samples of responses. Their p values are corrected
// for all that Data holds.
type Comparisons struct {
	Model, Titles, Judge string
	Metric               string // that it is the best by
	Best                 Compared
	Others               []Compared // best first
	Left                 int        // clusterings that it is not compared with
}

// Compared is one clustering of a comparison.
type Compared struct {
	Address string
	Layer   int
	Method  string
	K       int
	Value   float64
	CI95    [2]float64       // over responses
	Against judge.Comparison // the best less this one
}

// Kappa is how much ratings of the same sentences agree.
type Kappa struct {
	Model, Titles string
	Layer         int
	Method        string
	K             int
	Between       string // "repetitions" or "judges"
	Judges        string // the judge, or all of them
	Metric        string // accuracy or completeness
	judge.Kappa
}

// comparisonRows is one row per clustering that the best one was compared with.
func comparisonRows(d Data) [][]string {
	rows := [][]string{{"model", "titles", "judge", "metric", "best", "value", "other", "other_value", "difference", "ci_lo", "ci_hi", "p", "p_holm"}}
	for _, c := range d.Comparisons {
		for _, o := range c.Others {
			a := o.Against
			rows = append(rows, []string{c.Model, c.Titles, c.Judge, c.Metric, c.Best.Address, number(c.Best.Value), o.Address, number(o.Value),
				number(a.Difference), number(a.CI95[0]), number(a.CI95[1]), number(a.P), number(a.Holm)})
		}
	}
	return rows
}

// kappaRows is one row per clustering, metric and kind of agreement.
func kappaRows(d Data) [][]string {
	rows := [][]string{{"model", "layer", "method", "clusters", "titles", "between", "judges", "metric", "kappa", "agreement", "items"}}
	for _, k := range d.Kappas {
		kappa := ""
		if k.Defined {
			kappa = number(k.Value)
		}
		rows = append(rows, []string{k.Model, strconv.Itoa(k.Layer), k.Method, strconv.Itoa(k.K), k.Titles, k.Between, k.Judges, k.Metric,
			kappa, number(k.Observed), strconv.Itoa(k.Items)})
	}
	return rows
}

// comparisonView is a comparison as a table.
type comparisonView struct {
	Metric, Best, Value, Interval string
	Rows                          []comparisonRow
	Left                          int
}

type comparisonRow struct {
	Name, Value, Difference, Interval, P string
	Apart                                bool // by the corrected p
}

// comparison is the table of a board, nil without one.
func comparison(d Data, b *board) *comparisonView {
	for _, c := range d.Comparisons {
		if c.Model != b.Model.Label || c.Titles != b.Titles || c.Judge != b.Judge || len(c.Others) == 0 {
			continue
		}
		v := &comparisonView{
			Metric: metricByKey(c.Metric).Label, Best: c.Best.name(), Value: n3(c.Best.Value),
			Interval: n3(c.Best.CI95[0]) + "–" + n3(c.Best.CI95[1]), Left: c.Left,
		}
		for _, o := range c.Others {
			v.Rows = append(v.Rows, comparisonRow{
				Name: o.name(), Value: n3(o.Value), Difference: n3(o.Against.Difference),
				Interval: n3(o.Against.CI95[0]) + " to " + n3(o.Against.CI95[1]), P: probability(o.Against.Holm), Apart: o.Against.Holm < 0.05,
			})
		}
		return v
	}
	return nil
}

func (c Compared) name() string {
	return fmt.Sprintf("%s, layer %d, %d clusters", c.Method, c.Layer, c.K)
}

// probability writes a p value.
func probability(p float64) string {
	if p < 0.001 {
		return "< 0.001"
	}
	return n3(p)
}

// kappaView is the agreement of one judge with itself, or of several, over
// clusterings.
type kappaView struct {
	Board, Between, Judges, Metric string
	Mean, Least, Most              string // kappas; "–" where none is defined
	Agreement                      string // mean share of agreeing pairs
	Clusterings, Items             int
}

// kappas sums the kappas up by model, titles, judges and metric.
func (v *pageView) kappas(d Data) {
	type id struct{ model, titles, between, judges, metric string }
	type sum struct {
		kappa, least, most, agreement float64
		defined, n, items             int
	}
	sums := map[id]*sum{}
	var order []id
	for _, k := range d.Kappas {
		at := id{k.Model, k.Titles, k.Between, k.Judges, k.Metric}
		s := sums[at]
		if s == nil {
			s = &sum{}
			sums[at], order = s, append(order, at)
		}
		s.n++
		s.items += k.Items
		s.agreement += k.Observed
		if !k.Defined {
			continue
		}
		if s.defined++; s.defined == 1 {
			s.least, s.most = k.Value, k.Value
		}
		s.kappa += k.Value
		s.least, s.most = min(s.least, k.Value), max(s.most, k.Value)
	}
	for _, at := range order {
		s := sums[at]
		row := kappaView{
			Board: strings.TrimSpace(at.model + " " + at.titles), Between: at.between, Judges: at.judges, Metric: at.metric,
			Mean: "–", Least: "–", Most: "–", Agreement: percent(int(s.agreement/float64(s.n)*1000+0.5), 1000), Clusterings: s.n, Items: s.items,
		}
		if s.defined > 0 {
			row.Mean, row.Least, row.Most = n3(s.kappa/float64(s.defined)), n3(s.least), n3(s.most)
		}
		v.Kappas = append(v.Kappas, row)
	}
}
