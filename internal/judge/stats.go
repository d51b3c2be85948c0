package judge

import (
	"maps"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// NewStat computes the statistics of values, one per repetition: the mean, the
// sample standard deviation, the standard error of the mean and the 95 %
// interval mean ± t(0.975, n−1)·sem of Student's t distribution. With one value
// they are 0, 0 and (mean, mean); with none all is 0.
func NewStat(values []float64) Stat {
	n := len(values)
	if n == 0 {
		return Stat{}
	}
	m, sd := values[0], 0.0
	if n > 1 && slices.ContainsFunc(values, func(v float64) bool { return v != values[0] }) {
		m, sd = stat.MeanStdDev(values, nil)
	}
	s := Stat{Mean: m, StdDev: sd, CI95: [2]float64{m, m}, N: n}
	if n > 1 {
		s.SEM = sd / math.Sqrt(float64(n))
		half := quantileT(0.975, n-1) * s.SEM
		s.CI95 = [2]float64{m - half, m + half}
	}
	return s
}

// quantileT is the p-quantile of Student's t distribution with df degrees of
// freedom.
func quantileT(p float64, df int) float64 {
	return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(df)}.Quantile(p)
}

// Summarize puts the repetitions of one clustering together. Repetitions
// without a value for a metric are left out of its statistics.
func Summarize(reps []Repetition) SizeResult {
	r := SizeResult{AllResults: reps, Statistics: map[string]Stat{}}
	if r.AllResults == nil {
		r.AllResults = []Repetition{}
	}
	for _, metric := range StatisticNames() {
		if v := valuesOf(reps, metric); len(v) > 0 {
			r.Statistics[metric] = NewStat(v)
		}
	}
	r.AvgFinalScore = r.Statistics["final_score"].Mean
	return r
}

func valuesOf(reps []Repetition, metric string) []float64 {
	var v []float64
	for _, rep := range reps {
		if x, ok := rep.Value(metric); ok {
			v = append(v, x)
		}
	}
	return v
}

// Best returns the size with the highest mean final score, the smaller one of
// equals; nil when no size has a final score. Keys that are no numbers are left
// out.
//
// A size is listed as indistinguishable unless the data speak against it: the
// differences of the two final scores, paired by repetition (the repetitions of
// two sizes are judged on the same samples where the metric allows it), have a
// 95 % t interval without 0. Fewer than two common repetitions speak against
// nothing. The intervals are not corrected for the number of sizes, nor for the
// best one having been chosen as the best: read the list as the sizes that the
// judge's noise alone could have put first, not as a test.
func Best(results map[string]SizeResult) *BestCluster {
	sizes := scoredSizes(results)
	if len(sizes) == 0 {
		return nil
	}
	best := slices.MaxFunc(sizes, func(a, b int) int { // the first of equals
		x, y := results[strconv.Itoa(a)].AvgFinalScore, results[strconv.Itoa(b)].AvgFinalScore
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	r := results[strconv.Itoa(best)]
	s := r.Statistics
	b := &BestCluster{
		Size:                  best,
		AvgFinalScore:         r.AvgFinalScore,
		AvgAccuracy:           s["avg_accuracy"].Mean,
		AvgPrecision:          s["avg_precision"].Mean,
		AvgRecall:             s["avg_recall"].Mean,
		AvgF1:                 s["avg_f1"].Mean,
		Orthogonality:         s["orthogonality"].Mean,
		SemanticOrthogonality: s["semantic_orthogonality_score"].Mean,
		Statistics:            s,
		Indistinguishable:     []int{},
	}
	if completeness, ok := s["assigned_fraction"]; ok {
		b.Completeness = completeness.Mean
	} else {
		b.Completeness = s["avg_confidence"].Mean
	}
	b.AvgCompleteness = b.Completeness
	for _, size := range sizes {
		if size != best && !apart(r.AllResults, results[strconv.Itoa(size)].AllResults) {
			b.Indistinguishable = append(b.Indistinguishable, size)
		}
	}
	return b
}

// scoredSizes are the sizes that have a final score, ascending.
func scoredSizes(results map[string]SizeResult) []int {
	var sizes []int
	for key, r := range results {
		size, err := strconv.Atoi(key)
		_, scored := r.Statistics["final_score"]
		if err == nil && strconv.Itoa(size) == key && scored {
			sizes = append(sizes, size)
		}
	}
	slices.Sort(sizes)
	return sizes
}

// rounding is far above the rounding error of a final score and far below any
// difference that counts.
const rounding = 1e-12

// apart reports whether the 95 % t interval of the paired differences of the
// final scores leaves out 0.
func apart(a, b []Repetition) bool {
	var d []float64
	for i := range min(len(a), len(b)) {
		x, ok1 := a[i].Value("final_score")
		y, ok2 := b[i].Value("final_score")
		if ok1 && ok2 {
			d = append(d, x-y)
		}
	}
	if len(d) < 2 {
		return false
	}
	ci := NewStat(d).CI95
	return ci[0] > rounding || ci[1] < -rounding
}

// NormalizedScores computes the heatmap of the paper for the cells (layer ×
// size) of one model and method: the means over repetitions of avg_f1,
// avg_confidence and semantic_orthogonality_score are each scaled to 0..1 by
// their minimum and maximum over all cells, and averaged. Those that no cell
// has are left out, because the study does not ask for them; a cell that lacks
// one of the others is nil, and takes no part in the scaling. A metric that is
// the same in all cells scales to 0.
func NormalizedScores(cells []SizeResult) []*float64 {
	var metrics []string
	for _, m := range []string{"avg_f1", "avg_confidence", "semantic_orthogonality_score"} {
		if slices.ContainsFunc(cells, func(c SizeResult) bool { return c.has(m) }) {
			metrics = append(metrics, m)
		}
	}
	out := make([]*float64, len(cells))
	if len(metrics) == 0 {
		return out
	}
	complete := func(c SizeResult) bool {
		return !slices.ContainsFunc(metrics, func(m string) bool { return !c.has(m) })
	}
	for _, m := range metrics {
		lo, hi := math.Inf(1), math.Inf(-1)
		for _, c := range cells {
			if complete(c) {
				lo, hi = min(lo, c.Statistics[m].Mean), max(hi, c.Statistics[m].Mean)
			}
		}
		for i, c := range cells {
			if !complete(c) {
				continue
			}
			if out[i] == nil {
				out[i] = new(float64)
			}
			if hi > lo {
				*out[i] += (c.Statistics[m].Mean - lo) / (hi - lo) / float64(len(metrics))
			}
		}
	}
	return out
}

func (r SizeResult) has(metric string) bool {
	_, ok := r.Statistics[metric]
	return ok
}

// sortedIDs returns the decimal keys in numeric order.
func sortedIDs[V any](m map[string]V) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	})
}
