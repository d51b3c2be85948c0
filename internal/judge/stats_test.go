package judge

import (
	"math"
	"reflect"
	"strconv"
	"testing"
)

func TestNewStat(t *testing.T) {
	// 2 4 4 4 6: mean 4, squared deviations 4+0+0+0+4 = 8, sd √(8/4) = √2,
	// sem √2/√5 = √0.4, and t(0.975, 4) = 2.7764451051977987 (R: qt(0.975, 4)).
	s := NewStat([]float64{2, 4, 4, 4, 6})
	near(t, "mean", s.Mean, 4)
	near(t, "sd", s.StdDev, math.Sqrt2)
	near(t, "sem", s.SEM, math.Sqrt(0.4))
	if half := 2.7764451051977987 * math.Sqrt(0.4); math.Abs(s.CI95[0]-(4-half)) > 1e-8 || math.Abs(s.CI95[1]-(4+half)) > 1e-8 {
		t.Errorf("ci %v, want 4 ± %g", s.CI95, half)
	}
	// Two values 0 and 1: sd √½, sem ½, t(0.975, 1) = 12.706204736432095.
	if s = NewStat([]float64{0, 1}); math.Abs(s.CI95[1]-(0.5+12.706204736432095/2)) > 1e-7 {
		t.Errorf("ci of two values %v", s.CI95)
	}
	if s = NewStat([]float64{0.3}); s != (Stat{Mean: 0.3, CI95: [2]float64{0.3, 0.3}, N: 1}) {
		t.Errorf("one value: %+v", s)
	}
	// Equal values have no spread, not a rounding error's.
	if s = NewStat([]float64{0.1, 0.1, 0.1}); s.StdDev != 0 || s.Mean != 0.1 || s.CI95 != [2]float64{0.1, 0.1} {
		t.Errorf("equal values: %+v", s)
	}
	if s = NewStat(nil); s != (Stat{}) {
		t.Errorf("no values: %+v", s)
	}
}

// rep is a repetition with these metrics.
func rep(values map[string]float64) Repetition {
	var r Repetition
	for name, v := range values {
		*r.field(name) = v
		r.define(name)
	}
	return r
}

func finals(scores ...float64) SizeResult {
	reps := make([]Repetition, len(scores))
	for i, s := range scores {
		reps[i] = rep(map[string]float64{"final_score": s})
	}
	return Summarize(reps)
}

func TestSummarizeLeavesOutWhatHasNoValue(t *testing.T) {
	r := Summarize([]Repetition{
		rep(map[string]float64{"avg_f1": 0.2, "final_score": 0.2}),
		rep(map[string]float64{"orthogonality": 0.5}), // every judge's answer failed
		rep(map[string]float64{"avg_f1": 0.4, "final_score": 0.4}),
	})
	near(t, "avg_final_score", r.AvgFinalScore, 0.3)
	if s := r.Statistics["avg_f1"]; s.N != 2 || math.Abs(s.Mean-0.3) > 1e-12 {
		t.Errorf("avg_f1 %+v", s)
	}
	if _, ok := r.Statistics["avg_confidence"]; ok {
		t.Error("avg_confidence has statistics without a value")
	}
	if r = Summarize(nil); len(r.Statistics) != 0 || r.AllResults == nil {
		t.Errorf("no repetitions: %+v", r)
	}
}

func TestBest(t *testing.T) {
	// Differences to size 10, paired: size 5: .1 each time, no spread, told apart;
	// size 20: −.1 .1 .06, mean .02, 0 within; size 30: one repetition only, so
	// there is no interval; size 40: the same scores.
	results := map[string]SizeResult{
		"5": finals(0.4, 0.5, 0.6), "10": finals(0.5, 0.6, 0.7), "20": finals(0.6, 0.5, 0.64),
		"30": finals(0.1), "40": finals(0.5, 0.6, 0.7), "50": Summarize(nil), "x": finals(1),
	}
	b := Best(results)
	if b.Size != 10 { // equal to 40: the smaller one
		t.Fatalf("best size %d", b.Size)
	}
	near(t, "avg_final_score", b.AvgFinalScore, 0.6)
	if want := []int{20, 30, 40}; !reflect.DeepEqual(b.Indistinguishable, want) {
		t.Errorf("indistinguishable %v, want %v", b.Indistinguishable, want)
	}
	// Repetitions that differ much, but by the same amount in both sizes, are
	// told apart by pairing: differences .02 .03 .04, mean .03, sem .01/√3,
	// half width 4.3027·.00577 = .0248.
	b = Best(map[string]SizeResult{"5": finals(0.1, 0.5, 0.9), "6": finals(0.12, 0.53, 0.94)})
	if b.Size != 6 || len(b.Indistinguishable) != 0 {
		t.Errorf("paired: %+v", b)
	}
	if Best(nil) != nil || Best(map[string]SizeResult{"5": Summarize(nil)}) != nil {
		t.Error("no final score, and yet a best size")
	}
	assigned := rep(map[string]float64{"final_score": 0.5, "assigned_fraction": 0.8, "avg_confidence": 0.6})
	fit := rep(map[string]float64{"final_score": 0.5, "avg_confidence": 0.6})
	for want, r := range map[float64]Repetition{0.8: assigned, 0.6: fit} {
		if b := Best(map[string]SizeResult{"5": Summarize([]Repetition{r})}); b.Completeness != want || b.AvgCompleteness != want {
			t.Errorf("completeness %g, want %g", b.Completeness, want)
		}
	}
}

func TestNormalizedScores(t *testing.T) {
	cell := func(f1, confidence, semantic float64) SizeResult {
		return Summarize([]Repetition{rep(map[string]float64{
			"avg_f1": f1, "avg_confidence": confidence, "semantic_orthogonality_score": semantic})})
	}
	// f1 .2 .4 .6 → 0 ½ 1; confidence .5 .9 .7 → 0 1 ½; semantic all .8 → 0.
	got := NormalizedScores([]SizeResult{cell(0.2, 0.5, 0.8), cell(0.4, 0.9, 0.8), cell(0.6, 0.7, 0.8)})
	for i, want := range []float64{0, 0.5, 0.5} {
		near(t, "cell "+strconv.Itoa(i), *got[i], want)
	}
	// It can name another best cell than the final score: final .55 and .5, but
	// f1 1 0, confidence 0 1, semantic 0 1: 1/3 and 2/3.
	a, b := cell(0.9, 0.4, 0.35), cell(0.5, 0.5, 0.5)
	got = NormalizedScores([]SizeResult{a, b})
	near(t, "first", *got[0], 1.0/3)
	near(t, "second", *got[1], 2.0/3)
	// A metric that nobody asked for is left out; a cell that lacks one is nil
	// and does not stretch the scale.
	f1 := func(v float64) SizeResult { return Summarize([]Repetition{rep(map[string]float64{"avg_f1": v})}) }
	got = NormalizedScores([]SizeResult{f1(0.1), Summarize(nil), f1(0.3), f1(0.2)})
	if got[1] != nil || *got[0] != 0 || *got[2] != 1 || math.Abs(*got[3]-0.5) > 1e-12 {
		t.Errorf("one metric: %v", got)
	}
	if got = NormalizedScores([]SizeResult{cell(0.2, 0.5, 0.8), f1(99)}); got[1] != nil || *got[0] != 0 {
		t.Errorf("a cell without all metrics: %v", got)
	}
	if got = NormalizedScores([]SizeResult{Summarize(nil)}); got[0] != nil {
		t.Errorf("no metric: %v", *got[0])
	}
}
