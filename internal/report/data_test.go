package report

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"clusterflow/internal/judge"
)

// sample describes the study that makeData invents.
type sample struct {
	models, methods []string
	layers, sizes   []int
	reps            int
	pairs           [][2]string // titles, judge
	detail          bool        // examples, traces, explanations
	random, lexical bool
}

var small = sample{
	models: []string{"tiny"}, methods: []string{"spherical_kmeans", "pca_kmeans"},
	layers: []int{2, 5}, sizes: []int{3, 5, 8}, reps: 3,
	pairs: [][2]string{{"auto", "judge"}}, detail: true,
}

var kinds = []struct{ title, desc string }{
	{"Stating the problem in one's own words", "The sentence says what is asked or given, without working on it. Included are restatements of goals and known quantities; not included are plans and calculations."},
	{"Declaring the next step", "The sentence announces what the reasoner is about to do. It includes stepwise plans and single intentions, but neither the step itself nor its result."},
	{"Recalling a definition or fact", "The sentence brings in knowledge that is not in the question: a formula, a definition, an accepted fact."},
	{"Carrying out a calculation", "The sentence computes with concrete quantities and states the outcome of the operation."},
	{"Proposing a hypothesis", "A tentative answer or cause is put forward to be tested. Words such as perhaps or might are common."},
	{"Checking an earlier result", "The sentence verifies, repeats or compares a result that stands already. Not included are first computations."},
	{"Admitting uncertainty", "The reasoner says that it does not know, is confused or is not sure."},
	{"Drawing the conclusion", "The final answer or a closing statement that follows from what precedes."},
}

var sentences = []string{
	"Okay, so I need to find how many trains leave the station before noon.",
	"Let me first write down what I know about the triangle.",
	"I remember that the area of a circle is πr².",
	"So 17 × 24 = 408, and adding 12 gives 420.",
	"Maybe the extra heat comes from friction in the bearing?",
	"Wait, let me check that again; 0.3 + 0.25 should be 0.55.",
	"Hmm, I'm not sure whether the order matters here.",
	"Therefore the answer is 42.",
	"But if every second seat is taken, then only half of them remain.",
	"日本語の文も混ざることがあります、例えばこのように。",
}

// makeData invents a study; the same sample gives the same data.
func makeData(s sample) Data {
	rng := rand.New(rand.NewPCG(7, 11))
	d := Data{
		Study: "demo", File: "studies/demo.hcl", Protocol: "2025-07", Seed: 42,
		Settings: []Setting{
			{"study", "seed", "42", "42", ""},
			{"dataset responses", "n_examples", "80", "500", "studies/demo.hcl:14"},
			{"evaluation main", "accuracy.examples", "40", "100", "studies/demo.hcl:44"},
			{"evaluation main", "completeness.examples", "500", "500", ""},
			{"evaluation main", "orthogonality.threshold", "0.5", "0.5", ""},
		},
		Notes: []string{"3 sentences lie inside one token and were skipped."},
	}
	for mi, m := range s.models {
		d.Models = append(d.Models, Model{Label: m, ID: m + "-id", Source: "builtin:" + m, Precision: "f32", Random: s.random,
			Layers: s.layers, Responses: 80, Truncated: 4, Sentences: 1480, Skipped: 3})
		for _, pair := range s.pairs {
			for _, layer := range s.layers {
				for me, method := range s.methods {
					r := Result{Model: m, Titles: pair[0], Judge: pair[1], TitledBy: "titler-model at example.org", JudgedBy: "judge-model at example.org", Lexical: s.lexical}
					r.R = judge.MethodResults{ClusteringMethod: method, ModelID: m + "-id", Layer: layer, ResultsByClusterSize: map[string]judge.SizeResult{}}
					for _, k := range s.sizes {
						level := 0.45 + 0.25*math.Exp(-math.Pow(float64(layer-s.layers[len(s.layers)/2])/8, 2)) +
							0.12*math.Exp(-math.Pow((float64(k)-18)/16, 2)) - 0.02*float64(me) - 0.03*float64(mi)
						size, cl := makeClustering(rng, s, k, level, layer, method, m)
						r.R.ResultsByClusterSize[strconv.Itoa(k)] = size
						r.Clusterings = append(r.Clusterings, cl)
					}
					d.Results = append(d.Results, r)
				}
			}
		}
	}
	rival := func(k int, value float64, against judge.Comparison) Compared {
		return Compared{Address: "tiny/2/pca_kmeans/" + strconv.Itoa(k), Layer: 2, Method: "pca_kmeans", K: k, Value: value, CI95: [2]float64{0.7, 0.8}, Against: against}
	}
	d.Comparisons = []Comparisons{{Model: s.models[0], Titles: "auto", Judge: "judge", Metric: "final_score", Best: rival(3, 0.75, judge.Comparison{}), Others: []Compared{
		rival(6, 0.5, judge.Comparison{Difference: 0.25, CI95: [2]float64{0.125, 0.375}, P: 0.001, Holm: 0.002}),
		rival(9, 0.7, judge.Comparison{Difference: 0.05, CI95: [2]float64{-0.125, 0.25}, P: 0.5, Holm: 0.5}),
	}}}
	agreed := Kappa{Model: s.models[0], Titles: "auto", Layer: 2, Method: "pca_kmeans", K: 3, Between: "repetitions", Judges: "judge", Metric: "accuracy",
		Kappa: judge.Kappa{Value: 0.5, Observed: 0.75, Items: 40, Defined: true}}
	alone := agreed
	alone.Between, alone.Judges, alone.Metric, alone.Kappa = "judges", "judge, other", "completeness", judge.Kappa{Observed: 1, Items: 20}
	d.Kappas = []Kappa{agreed, alone}
	for i := range d.Results {
		d.Results[i].R.BestCluster = judge.Best(d.Results[i].R.ResultsByClusterSize)
	}
	return d
}

func makeClustering(rng *rand.Rand, s sample, k int, level float64, layer int, method, model string) (judge.SizeResult, Clustering) {
	cl := Clustering{K: k, Address: fmt.Sprintf("%s/%d/%s/%d", model, layer, method, k),
		Backend: "OpenBLAS 0.3.21 SKYLAKEX", Iterations: 12 + rng.IntN(60), Converged: true, RowsDiffer: rng.IntN(30),
		Quality: map[string]float64{"silhouette": 0.25, "calinski_harabasz": 1234.5678}, Stability: &Stability{Seeds: 3, ARI: 0.75, AMI: 0.625}}
	for i := range k {
		n := 20 + rng.IntN(160)
		if i > 6 && rng.IntN(90) == 0 {
			n = 0
		}
		cl.Sizes = append(cl.Sizes, n)
	}
	for i := range k {
		row := make([]float64, k)
		for j := range k {
			row[j] = math.Round((rng.Float64()*1.1-0.35)*1000) / 1000
			if j < i {
				row[j] = cl.CentroidCosine[j][i]
			}
			if i == j {
				row[j] = 1
			}
		}
		cl.CentroidCosine = append(cl.CentroidCosine, row)
		if s.detail {
			var ex []Example
			for e := range 15 {
				ex = append(ex, Example{Text: sentences[(i+e)%len(sentences)], Response: strconv.Itoa(rng.IntN(80)), Sentence: rng.IntN(30)})
			}
			cl.Examples = append(cl.Examples, ex)
		}
	}
	if s.detail {
		for t := range 3 {
			tr := Trace{Response: strconv.Itoa(t), Question: "A train leaves at 9:40 and needs 2 h 35 min. When does it arrive?"}
			for p := range 14 + t {
				tr.Parts = append(tr.Parts, Part{Text: sentences[(p*3+t)%len(sentences)], Cluster: rng.IntN(k)})
			}
			tr.Parts = append(tr.Parts, Part{Text: "Yes.", Cluster: -1})
			cl.Traces = append(cl.Traces, tr)
		}
	}
	var reps []judge.Repetition
	for rep := range s.reps {
		reps = append(reps, makeRepetition(rng, s, cl, level, rep))
	}
	size := judge.Summarize(reps)
	size.Intervals = map[string][2]float64{"final_score": {0.25, 0.75}, "avg_accuracy": {0.25, 0.75}}
	return size, cl
}

func makeRepetition(rng *rand.Rand, s sample, cl Clustering, level float64, rep int) judge.Repetition {
	noise := func(sd float64) float64 { return min(max(level+rng.NormFloat64()*sd, 0.02), 0.99) }
	r := judge.Repetition{
		Metrics: []string{"accuracy", "completeness", "orthogonality"}, Mode: "assign",
		AvgAccuracy: noise(0.02), AvgF1: noise(0.02), AvgPrecision: noise(0.02), AvgRecall: noise(0.03),
		AssignedFraction: noise(0.02), AvgConfidence: noise(0.02) - 0.05, Orthogonality: 0.6 + 0.3*rng.Float64(),
		SemanticOrthogonalityScore: noise(0.03), SemanticOrthogonalityThreshold: 0.5,
		AccuracyResultsByCluster: map[string]judge.ClusterAccuracy{}, DetailedResults: map[string]judge.ClusterDetail{},
		SemanticOrthogonalityExplanations: map[string]string{}, Defined: judge.StatisticNames(),
		CategoryCounts: map[string]int{}, CategoryAvgConfidences: map[string]float64{}, CategoryConfidences: map[string][]float64{},
	}
	r.FinalScore = (r.AvgF1 + r.AvgConfidence + r.SemanticOrthogonalityScore) / 3
	det := judge.CompletenessDetailed{}
	for i, n := range cl.Sizes {
		if n == 0 {
			continue
		}
		id := strconv.Itoa(i)
		kind := kinds[(i+rep/2)%len(kinds)]
		f1 := min(max(level+rng.NormFloat64()*0.12, 0), 1)
		r.AccuracyResultsByCluster[id] = judge.ClusterAccuracy{Accuracy: f1, Precision: f1, Recall: f1, F1: f1, Asked: 80, Answered: 79}
		d := judge.ClusterDetail{Title: kind.title, Description: kind.desc, Size: n, Precision: min(f1+0.03, 1), Recall: max(f1-0.04, 0), Accuracy: f1, F1: f1, Examples: sentences[:5]}
		r.DetailedResults[id] = d
		r.Categories = append(r.Categories, judge.Triple{ID: id, Title: kind.title, Description: kind.desc})
		r.CategoryCounts[id] = rng.IntN(40)
		r.CategoryAvgConfidences[id] = 0.7
		if s.detail {
			c := judge.Categorized{SentenceID: i, SentenceText: sentences[i%len(sentences)], Assigned: id, GroundTruth: id, Confidence: 0.8, Explanation: "It performs exactly this function."}
			det.Correct = append(det.Correct, c)
			c.Assigned = "0"
			c.Explanation = "The sentence rather restates the question."
			det.Incorrect = append(det.Incorrect, c)
			c.Assigned, c.Confidence = "None", 0
			c.Explanation = "No category describes small talk."
			det.Missed = append(det.Missed, c)
		}
	}
	r.CompletenessDetailed = &det
	r.CompletenessMetrics = &judge.CompletenessMetrics{CorrectAssignments: 240, IncorrectAssignments: 130, MissedAssignments: 127}
	n := len(r.Categories)
	for i := range n {
		row := make([]*float64, n)
		for j := range n {
			v := math.Round(rng.Float64()*10) / 10
			if j < i && r.SemanticOrthogonalityMatrix[j][i] != nil {
				v = *r.SemanticOrthogonalityMatrix[j][i]
			}
			if i == j {
				v = 0
			}
			row[j] = &v
			if s.detail && i != j && v <= 0.5 {
				r.SemanticOrthogonalityExplanations[fmt.Sprintf("%d,%d", i, j)] = "Both describe looking back at what was found before."
			}
		}
		r.SemanticOrthogonalityMatrix = append(r.SemanticOrthogonalityMatrix, row)
	}
	r.Answers = map[string]judge.AnswerCount{
		"title":        {Asked: n, Answered: n, Requests: n},
		"accuracy":     {Asked: n * 80, Answered: n*80 - 2, Failed: 2, Requests: 2 * n, FailedRequests: 0, Reasons: map[string]int{"missing": 2}},
		"completeness": {Asked: 500, Answered: 497, Failed: 3, Requests: 10, Reasons: map[string]int{"id out of range": 3}},
		"similarity":   {Asked: n * (n - 1) / 2, Answered: n * (n - 1) / 2, Requests: n * (n - 1) / 2},
	}
	return r
}
