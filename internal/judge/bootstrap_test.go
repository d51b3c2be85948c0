package judge

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"gonum.org/v1/gonum/stat"
)

// graded is a clustering of two clusters with so many sentences per response, each
// judged in every repetition: the judge is right about a sentence with the
// probability of its response.
func graded(t *testing.T, reps, responses, perResponse int, right func(response int) float64, rng *rand.Rand) SizeResult {
	t.Helper()
	var all []Repetition
	for range reps {
		in := ScoreInput{
			Metrics: []string{MetricAccuracy, MetricCompleteness, MetricOrthogonality}, Threshold: 0.5,
			Categories: []Category{{ID: 0, Title: "a", Description: "a"}, {ID: 1, Title: "b", Description: "b"}},
		}
		for cluster := range 2 {
			a := AccuracyAnswer{Cluster: cluster}
			c := CompletenessAnswer{}
			accuracy, completeness := `{"answers": [`, `{"answers": [`
			n := 0
			for row := range responses * perResponse {
				own := row % 2
				ok := rng.Float64() < right(row/perResponse)
				verdict := (own == cluster) == ok
				said := map[bool]string{true: "Yes", false: "No"}[verdict]
				a.Items = append(a.Items, Item{Row: row, Text: "s", Cluster: own})
				if n++; n > 1 {
					accuracy += ","
				}
				accuracy += `{"id": ` + strconv.Itoa(n) + `, "answer": "` + said + `"}`
				if own == cluster {
					c.Items = append(c.Items, Item{Row: row, Text: "s", Cluster: own})
					if len(c.Items) > 1 {
						completeness += ","
					}
					category, confidence := strconv.Itoa(own), 5+row%5
					if !ok {
						category, confidence = "None", 0
					}
					completeness += `{"id": ` + strconv.Itoa(len(c.Items)) + `, "category": "` + category + `", "confidence": ` + strconv.Itoa(confidence) + `}`
				}
			}
			a.Reply.Content, c.Reply.Content = accuracy+"]}", completeness+"]}"
			in.Accuracy, in.Completeness = append(in.Accuracy, a), append(in.Completeness, c)
		}
		in.Pairs = []PairAnswer{{A: 0, B: 1, Reply: Reply{Content: `{"score": 2}`}}}
		all = append(all, Score(in))
	}
	return Summarize(all)
}

func TestBootstrapOfTheWholeIsTheScore(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	r := graded(t, 3, 12, 4, func(int) float64 { return 0.7 }, rng)
	ones := &Weights{responses: 12, counts: slices.Repeat([]uint16{1}, 12)}
	got := Bootstrap(r, func(row int) int { return row / 4 }, ones)
	for _, m := range BootstrapMetrics {
		if v := got[m]; len(v) != 1 || math.Abs(float64(v[0])-r.Statistics[m].Mean) > 1e-6 {
			t.Errorf("%s is %v with every response once, and %g", m, v, r.Statistics[m].Mean)
		}
	}
}

// Responses cannot move a final score of titles alone: it has no interval over
// them, rather than one of no width.
func TestBootstrapOfTitlesAlone(t *testing.T) {
	r := Summarize([]Repetition{Score(ScoreInput{
		Metrics: []string{MetricOrthogonality}, Threshold: 0.5,
		Categories: []Category{{ID: 0, Title: "a", Description: "a"}, {ID: 1, Title: "b", Description: "b"}},
		Pairs:      []PairAnswer{{A: 0, B: 1, Reply: Reply{Content: `{"score": 2}`}}},
	})})
	if r.AvgFinalScore != 1 {
		t.Fatalf("final score %g", r.AvgFinalScore)
	}
	w := NewWeights(5, 10, rand.New(rand.NewPCG(1, 2)))
	if got := Bootstrap(r, func(row int) int { return row }, w); len(got) > 0 {
		t.Errorf("%v", got)
	}
}

// Where sentences of one response are alike, resampling sentences would claim too
// much: the interval has to be that of the responses' own spread.
func TestBootstrapKeepsResponsesTogether(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const responses, each = 40, 10
	r := graded(t, 1, responses, each, func(i int) float64 { return float64(i % 2) }, rng) // all right or all wrong
	w := NewWeights(responses, 2000, rng)
	got := Bootstrap(r, func(row int) int { return row / each }, w)["assigned_fraction"]
	x := make([]float64, len(got))
	for i, v := range got {
		x[i] = float64(v)
	}
	// Half of the responses have 1, half 0: the mean's standard error is 0.5/√40.
	if se, want := stat.StdDev(x, nil), 0.5/math.Sqrt(responses); math.Abs(se/want-1) > 0.1 {
		t.Errorf("standard error %.4f, want %.4f", se, want)
	}
	if ci := Percentile(got); ci[0] > 0.5-0.12 || ci[1] < 0.5+0.12 || ci[0] < 0.25 || ci[1] > 0.75 {
		t.Errorf("interval %v", ci)
	}
	again := Bootstrap(r, func(row int) int { return row / each }, NewWeights(responses, 2000, rand.New(rand.NewPCG(5, 6))))["assigned_fraction"]
	if slices.Equal(got, again) {
		t.Error("two draws give the same samples")
	}
}

func TestCompare(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	of := func(row int) int { return row / 5 }
	good := graded(t, 2, 60, 5, func(int) float64 { return 0.9 }, rng)
	poor := graded(t, 2, 60, 5, func(int) float64 { return 0.6 }, rng)
	twin := graded(t, 2, 60, 5, func(int) float64 { return 0.9 }, rng)
	w := NewWeights(60, 500, rng)
	value := func(r SizeResult) (float64, []float32) {
		return r.Statistics["avg_f1"].Mean, Bootstrap(r, of, w)["avg_f1"]
	}
	x, a := value(good)
	y, b := value(poor)
	z, c := value(twin)
	if d := Compare(x, y, a, b); d.P > 1e-6 || d.CI95[0] <= 0 || d.Difference != x-y {
		t.Errorf("0.9 against 0.6: %+v", d)
	}
	if d := Compare(x, z, a, c); d.P < 0.001 {
		t.Errorf("two alike: %+v", d)
	}
	if d := Compare(x, x, a, a); d.P != 1 || d.Difference != 0 || d.CI95 != [2]float64{} {
		t.Errorf("one with itself: %+v", d)
	}
	if d := Compare(1, 2, nil, nil); d.P != 1 {
		t.Errorf("without samples: %+v", d)
	}
}

func TestHolm(t *testing.T) {
	cs := []Comparison{{P: 0.01}, {P: 0.04}, {P: 0.03}, {P: 0.005}}
	Holm(cs)
	for i, want := range []float64{0.03, 0.06, 0.06, 0.02} {
		if math.Abs(cs[i].Holm-want) > 1e-12 {
			t.Errorf("p %g is corrected to %g, want %g", cs[i].P, cs[i].Holm, want)
		}
	}
	one := []Comparison{{P: 0.9}, {P: 0.8}}
	Holm(one)
	if one[0].Holm != 1 || one[1].Holm != 1 {
		t.Errorf("%+v", one)
	}
}

func TestAgreementOfRepetitionsAndJudges(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	sure := graded(t, 3, 20, 4, func(int) float64 { return 1 }, rng)
	a, c := RepetitionAgreement(sure)
	if a.Value != 1 || a.Items != 2*80 || c.Value != 1 || c.Items != 80 {
		t.Errorf("always right: %+v, %+v", a, c)
	}
	coin := graded(t, 3, 200, 4, func(int) float64 { return 0.5 }, rng)
	if a, _ = RepetitionAgreement(coin); math.Abs(a.Value) > 0.1 || !a.Defined {
		t.Errorf("by chance: %+v", a)
	}
	if a, _ = RepetitionAgreement(graded(t, 1, 20, 4, func(int) float64 { return 1 }, rng)); a.Defined || a.Items != 0 {
		t.Errorf("one repetition: %+v", a)
	}
	if a, c = JudgeAgreement([]SizeResult{sure, sure}); a.Value != 1 || a.Items != 3*160 || c.Items != 3*80 {
		t.Errorf("one judge twice: %+v, %+v", a, c)
	}
}
