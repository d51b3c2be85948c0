package judge

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Resamples is how many bootstrap samples intervals and comparisons are made of.
const Resamples = 1000

// BootstrapMetrics are the metrics whose intervals over responses are computed.
var BootstrapMetrics = []string{"avg_f1", "avg_accuracy", "assigned_fraction", "avg_confidence", "final_score"}

// Weights says how often each response stands in each bootstrap sample. The
// sentences of one trace are not independent, so whole responses are drawn, with
// replacement, and their sentences come along (the cluster bootstrap: Davison and
// Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). The same
// weights for two clusterings make their samples paired.
type Weights struct {
	responses int
	counts    []uint16 // [samples, responses]
}

// NewWeights draws so many samples of the responses.
func NewWeights(responses, samples int, rng *rand.Rand) *Weights {
	w := &Weights{responses, make([]uint16, samples*responses)}
	for s := range samples {
		row := w.counts[s*responses : (s+1)*responses]
		for range responses {
			row[rng.IntN(responses)]++
		}
	}
	return w
}

// Samples is how many there are.
func (w *Weights) Samples() int {
	if w.responses == 0 {
		return 0
	}
	return len(w.counts) / w.responses
}

// verdicts are what the judge said about sentences of one response.
type verdicts struct {
	response       int
	tp, fp, fn, tn float64
}

// sums are the answered sentences of one response, and what they add up to.
type sums struct {
	response                       int
	answered, assigned, confidence float64
}

// outcomes are one repetition by responses.
type outcomes struct {
	clusters [][]verdicts
	complete []sums
	rest     float64 // parts of the final score that do not hang on sentences
	parts    int     // of the final score
	final    bool
	accuracy bool
}

// Bootstrap computes the BootstrapMetrics that a clustering has, as means over
// its repetitions, in every sample: [samples] each. responseOf says which response
// a sentence is of, from 0. In a sample in which a metric is undefined it has the
// value of the whole. What does not hang on sentences, as the similarity of
// titles, stays as it is; a final score of nothing else has no samples.
func Bootstrap(r SizeResult, responseOf func(row int) int, w *Weights) map[string][]float32 {
	reps := make([]outcomes, len(r.AllResults))
	sentences := false
	for i := range reps {
		reps[i] = outcomesOf(&r.AllResults[i], responseOf)
		sentences = sentences || len(reps[i].clusters) > 0 || len(reps[i].complete) > 0
	}
	out := map[string][]float32{}
	for _, m := range BootstrapMetrics {
		if _, ok := r.Statistics[m]; ok && sentences {
			out[m] = make([]float32, w.Samples())
		}
	}
	for s := range w.Samples() {
		row := w.counts[s*w.responses : (s+1)*w.responses]
		total, n := map[string]float64{}, map[string]float64{}
		for i := range reps {
			reps[i].add(row, total, n)
		}
		for m, values := range out {
			if n[m] > 0 {
				values[s] = float32(total[m] / n[m])
			} else {
				values[s] = float32(r.Statistics[m].Mean)
			}
		}
	}
	return out
}

// outcomesOf takes a repetition apart by responses.
func outcomesOf(r *Repetition, responseOf func(int) int) outcomes {
	var o outcomes
	for _, id := range sortedIDs(r.AccuracyResultsByCluster) {
		at := map[int]*verdicts{}
		var order []*verdicts
		for _, c := range r.AccuracyResultsByCluster[id].Classifications {
			response := responseOf(c.SentenceID)
			v := at[response]
			if v == nil {
				v = &verdicts{response: response}
				at[response], order = v, append(order, v)
			}
			switch said, is := c.Belongs == "Yes", c.GroundTruth == "Yes"; {
			case said && is:
				v.tp++
			case said:
				v.fp++
			case is:
				v.fn++
			default:
				v.tn++
			}
		}
		list := make([]verdicts, len(order))
		for i, v := range order {
			list[i] = *v
		}
		if len(list) > 0 {
			o.clusters = append(o.clusters, list)
		}
	}
	at := map[int]int{}
	add := func(row int, assigned bool, confidence float64) {
		response := responseOf(row)
		i, ok := at[response]
		if !ok {
			i = len(o.complete)
			at[response] = i
			o.complete = append(o.complete, sums{response: response})
		}
		o.complete[i].answered++
		o.complete[i].confidence += confidence
		if assigned {
			o.complete[i].assigned++
		}
	}
	if d := r.CompletenessDetailed; d != nil {
		for _, list := range [][]Categorized{d.Correct, d.Incorrect, d.Missed, d.Untitled} {
			for _, c := range list {
				add(c.SentenceID, c.Assigned != none, c.Confidence)
			}
		}
	}
	for _, f := range r.CompletenessResponses {
		add(f.SentenceIdx, true, f.CompletenessScore/10)
	}
	_, o.accuracy = r.Value("avg_f1")
	_, o.final = r.Value("final_score")
	if slices.Contains(r.Metrics, MetricAccuracy) {
		o.parts++
	}
	if slices.Contains(r.Metrics, MetricCompleteness) {
		o.parts++
	}
	if v, ok := r.Value("semantic_orthogonality_score"); ok && slices.Contains(r.Metrics, MetricOrthogonality) {
		o.parts++
		o.rest = v
	}
	return o
}

// add adds the metrics of one sample of the repetition.
func (o *outcomes) add(row []uint16, total, n map[string]float64) {
	put := func(metric string, v float64) {
		total[metric] += v
		n[metric]++
	}
	sum, parts := o.rest, o.parts
	defined := true
	if o.accuracy {
		f1, accuracy, clusters := 0.0, 0.0, 0.0
		for _, list := range o.clusters {
			var tp, fp, fn, tn float64
			for _, v := range list {
				k := float64(row[v.response])
				tp, fp, fn, tn = tp+k*v.tp, fp+k*v.fp, fn+k*v.fn, tn+k*v.tn
			}
			answered := tp + fp + fn + tn
			if answered == 0 {
				continue // none of its sentences was drawn
			}
			clusters++
			accuracy += (tp + tn) / answered
			if tp > 0 {
				f1 += 2 * tp / (2*tp + fp + fn)
			}
		}
		if clusters > 0 {
			put("avg_f1", f1/clusters)
			put("avg_accuracy", accuracy/clusters)
			sum += f1 / clusters
		} else {
			defined = false
		}
	}
	if len(o.complete) > 0 {
		var all sums
		for _, s := range o.complete {
			k := float64(row[s.response])
			all.answered += k * s.answered
			all.assigned += k * s.assigned
			all.confidence += k * s.confidence
		}
		if all.answered > 0 {
			put("assigned_fraction", all.assigned/all.answered)
			put("avg_confidence", all.confidence/all.answered)
			sum += all.confidence / all.answered
		} else {
			defined = false
		}
	}
	if o.final && defined && parts > 0 {
		put("final_score", sum/float64(parts))
	}
}

// Percentile is the interval that holds 95 % of the replicates: the percentile
// interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
// 13); 0, 0 for none.
func Percentile(replicates []float32) [2]float64 {
	if len(replicates) == 0 {
		return [2]float64{}
	}
	x := make([]float64, len(replicates))
	for i, v := range replicates {
		x[i] = float64(v)
	}
	slices.Sort(x)
	return [2]float64{stat.Quantile(0.025, stat.LinInterp, x, nil), stat.Quantile(0.975, stat.LinInterp, x, nil)}
}

// Comparison is the difference of one metric of two clusterings.
type Comparison struct {
	Difference float64    `json:"difference"` // first less second
	CI95       [2]float64 `json:"ci_95"`      // percentile interval over responses
	P          float64    `json:"p"`          // two-sided, of no difference
	Holm       float64    `json:"p_holm"`     // corrected for the comparisons beside it; set by Holm
}

// Compare compares two clusterings on the same bootstrap samples; x and y are
// their values on the whole. P is that of a normal distribution with the
// bootstrap's standard error: the share of samples beyond 0 could not become small
// enough for a correction over many comparisons.
func Compare(x, y float64, a, b []float32) Comparison {
	c := Comparison{Difference: x - y, P: 1, Holm: 1}
	d := make([]float32, min(len(a), len(b)))
	z := make([]float64, len(d))
	for i := range d {
		d[i] = a[i] - b[i]
		z[i] = float64(a[i]) - float64(b[i])
	}
	if len(d) < 2 {
		return c
	}
	c.CI95 = Percentile(d)
	switch se := stat.StdDev(z, nil); {
	case se > rounding:
		c.P = 2 * distuv.UnitNormal.Survival(math.Abs(c.Difference)/se)
	case math.Abs(c.Difference) > 1e-6:
		c.P = 0 // the same in every sample
	}
	return c
}

// Holm corrects the P of comparisons that are shown together, so that the chance
// of one false difference among them is at most the level that they are read at
// (Holm, A simple sequentially rejective multiple test procedure, 1979).
func Holm(cs []Comparison) {
	order := make([]int, len(cs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case cs[a].P < cs[b].P:
			return -1
		case cs[a].P > cs[b].P:
			return 1
		}
		return 0
	})
	worst := 0.0
	for rank, i := range order {
		worst = max(worst, min(1, cs[i].P*float64(len(cs)-rank)))
		cs[i].Holm = worst
	}
}

// ratingOf is a category of an agreement, from text.
func ratingOf(names map[string]int, name string) int {
	i, ok := names[name]
	if !ok {
		i = len(names)
		names[name] = i
	}
	return i
}

// rated is a sentence that was asked about, in one cluster or in all (-1).
type rated struct{ cluster, row int }

// RepetitionAgreement is the agreement between the repetitions of a clustering:
// between the Yes and No about the same sentence and cluster, and between the
// categories of the same sentence. Only what was asked at least twice counts.
func RepetitionAgreement(r SizeResult) (accuracy, completeness Kappa) {
	return agreement([]SizeResult{r}, true)
}

// JudgeAgreement is the agreement between judges that graded the same titles on
// the same sentences, repetition by repetition.
func JudgeAgreement(judges []SizeResult) (accuracy, completeness Kappa) {
	return agreement(judges, false)
}

func agreement(results []SizeResult, acrossReps bool) (accuracy, completeness Kappa) {
	type item struct {
		rated
		rep int
	}
	yes, categories := map[item][]int{}, map[item][]int{}
	var yesOrder, catOrder []item
	names := map[string]int{}
	put := func(m map[item][]int, order *[]item, it item, rating int) {
		if _, ok := m[it]; !ok {
			*order = append(*order, it)
		}
		m[it] = append(m[it], rating)
	}
	for _, r := range results {
		for rep := range r.AllResults {
			at := rep
			if acrossReps {
				at = 0
			}
			all := &r.AllResults[rep]
			for _, id := range sortedIDs(all.AccuracyResultsByCluster) {
				cluster, _ := strconv.Atoi(id)
				for _, c := range all.AccuracyResultsByCluster[id].Classifications {
					rating := 0
					if c.Belongs == "Yes" {
						rating = 1
					}
					put(yes, &yesOrder, item{rated{cluster, c.SentenceID}, at}, rating)
				}
			}
			if d := all.CompletenessDetailed; d != nil {
				for _, list := range [][]Categorized{d.Correct, d.Incorrect, d.Missed, d.Untitled} {
					for _, c := range list {
						put(categories, &catOrder, item{rated{-1, c.SentenceID}, at}, ratingOf(names, c.Assigned))
					}
				}
			}
		}
	}
	list := func(m map[item][]int, order []item) [][]int {
		out := make([][]int, len(order))
		for i, it := range order {
			out[i] = m[it]
		}
		return out
	}
	return Fleiss(list(yes, yesOrder)), Fleiss(list(categories, catOrder))
}
