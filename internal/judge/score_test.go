package judge

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
)

// items makes n items of one cluster with rows from, from+1, ….
func itemsOf(cluster, from, n int) []Item {
	list := make([]Item, n)
	for i := range list {
		list[i] = Item{Row: from + i, Text: fmt.Sprintf("sentence %d", from+i), Cluster: cluster}
	}
	return list
}

// yes writes an accuracy answer from one letter a sentence: y, n, or - for a
// sentence that is left out.
func yes(letters string) Reply {
	var parts []string
	for i, l := range letters {
		if l != '-' {
			parts = append(parts, fmt.Sprintf(`{"id": %d, "explanation": "because %d", "answer": %q}`, i+1, i+1, map[rune]string{'y': "Yes", 'n': "No"}[l]))
		}
	}
	return Reply{Content: `{"answers": [` + strings.Join(parts, ",") + `]}`}
}

// assign writes a completeness answer from "category/confidence" a sentence.
func assign(pairs ...string) Reply {
	var parts []string
	for i, p := range pairs {
		c, confidence, _ := strings.Cut(p, "/")
		if p != "" {
			parts = append(parts, fmt.Sprintf(`{"id": %d, "explanation": "e", "category": %q, "confidence": %s}`, i+1, c, confidence))
		}
	}
	return Reply{Content: `{"answers": [` + strings.Join(parts, ",") + `]}`}
}

func scored(score float64) Reply {
	return Reply{Content: fmt.Sprintf(`{"explanation": "e", "score": %g}`, score)}
}

func near(t *testing.T, name string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-12 {
		t.Errorf("%s = %.15g, want %.15g", name, got, want)
	}
}

func threeCategories() []Category {
	return []Category{{0, "A", "first"}, {1, "B", "second"}, {2, "C", "third"}}
}

func TestScoreAccuracy(t *testing.T) {
	in := func(cluster, n int) []Item { return itemsOf(cluster, 100*cluster, n) }
	mixed := func(cluster, inside, outside int) []Item {
		return append(in(cluster, inside), itemsOf(9, 900, outside)...)
	}
	r := Score(ScoreInput{
		Metrics:    []string{MetricAccuracy},
		Categories: threeCategories(),
		Sizes:      map[int]int{0: 4, 1: 2, 2: 3},
		Examples:   map[int][]string{0: make([]string, 20)},
		Accuracy: []AccuracyAnswer{
			// Cluster 0, two chunks. Chunk 1: inside y y n, outside y n.
			{Cluster: 0, Items: mixed(0, 3, 2), Reply: yes("yynyn")},
			// Chunk 2: inside y, outside n n n, the last one left out.
			{Cluster: 0, Items: mixed(0, 1, 3), Reply: yes("ynn-")},
			// Cluster 1: nothing is recognised, so precision and F1 are undefined.
			{Cluster: 1, Items: mixed(1, 2, 2), Reply: yes("nnnn")},
			// Cluster 2: two chunks, both failed.
			{Cluster: 2, Items: mixed(2, 2, 2), Reply: Reply{Content: `{"answers": [{"id": 9, "answer": "Yes"}]}`}},
			{Cluster: 2, Items: mixed(2, 1, 0), Reply: Reply{Error: "batch_expired"}},
		},
	})
	// Cluster 0: tp 2+1 = 3, fn 1, fp 1, tn 1+2 = 3 of 8 answered.
	// accuracy 6/8, precision 3/4, recall 3/4, F1 2·¾·¾/(¾+¾) = 3/4.
	c := r.AccuracyResultsByCluster["0"]
	if c.TruePositives != 3 || c.FalseNegatives != 1 || c.FalsePositives != 1 || c.TrueNegatives != 3 || c.Asked != 9 || c.Answered != 8 {
		t.Errorf("cluster 0: %+v", c)
	}
	near(t, "accuracy of 0", c.Accuracy, 0.75)
	near(t, "precision of 0", c.Precision, 0.75)
	near(t, "recall of 0", c.Recall, 0.75)
	near(t, "F1 of 0", c.F1, 0.75)
	want := Classification{SentenceID: 900, SentenceText: "sentence 900", Belongs: "Yes", GroundTruth: "No", Explanation: "because 4"}
	if c.Classifications[3] != want {
		t.Errorf("fourth classification %+v, want %+v", c.Classifications[3], want)
	}
	// Cluster 1: fn 2, tn 2: accuracy 1/2, the rest 0.
	c = r.AccuracyResultsByCluster["1"]
	near(t, "accuracy of 1", c.Accuracy, 0.5)
	near(t, "precision, recall, F1 of 1", c.Precision+c.Recall+c.F1, 0)
	// Cluster 2 has no valid answer and is in no mean: means over two clusters.
	near(t, "avg_accuracy", r.AvgAccuracy, (0.75+0.5)/2)
	near(t, "avg_precision", r.AvgPrecision, 0.375)
	near(t, "avg_recall", r.AvgRecall, 0.375)
	near(t, "avg_f1", r.AvgF1, 0.375)
	near(t, "final_score", r.FinalScore, 0.375) // the only metric asked for
	wantCount := AnswerCount{
		Asked: 9 + 4 + 5, Answered: 8 + 4, Failed: 1 + 5, Requests: 5, FailedRequests: 2,
		Reasons: map[string]int{"missing": 1 + 1, "sentence id": 4},
	}
	if got := r.Answers[TaskAccuracy]; !reflect.DeepEqual(got, wantCount) {
		t.Errorf("answers %+v, want %+v", got, wantCount)
	}
	d := r.DetailedResults["0"]
	if d.Title != "A" || d.Size != 4 || d.F1 != 0.75 || len(d.Examples) != 15 {
		t.Errorf("details of 0: %+v", d)
	}
	if len(r.DetailedResults) != 3 || r.DetailedResults["2"].Examples == nil {
		t.Errorf("details: %+v", r.DetailedResults)
	}
	for _, absent := range []string{"avg_confidence", "assigned_fraction", "semantic_orthogonality_score", "avg_fit_score"} {
		if v, ok := r.Value(absent); ok {
			t.Errorf("%s = %g although nobody asked for it", absent, v)
		}
	}
}

// TestProtocolsDiffer holds reference.md §0: the same judge (recall .65,
// false-positive rate .08) has F1 .75 on the 50/50 sample and .66 on the 20/80
// one. With 100+100: tp 65, fp 8, fn 35: F1 = 130/173 = .7514. With 40+160:
// tp 26, fp .08·160 = 12.8 ≈ 13, fn 14: F1 = 52/79 = .6582.
func TestProtocolsDiffer(t *testing.T) {
	for _, tc := range []struct {
		tp, fn, fp, tn int
		want           float64
	}{{65, 35, 8, 92, 130.0 / 173}, {26, 14, 13, 147, 52.0 / 79}} {
		var answers []AccuracyAnswer
		add := func(cluster, n int, letter string) {
			answers = append(answers, AccuracyAnswer{Cluster: 0, Items: itemsOf(cluster, 0, n), Reply: yes(strings.Repeat(letter, n))})
		}
		add(0, tc.tp, "y")
		add(0, tc.fn, "n")
		add(1, tc.fp, "y")
		add(1, tc.tn, "n")
		r := Score(ScoreInput{Metrics: []string{MetricAccuracy}, Categories: threeCategories()[:1], Accuracy: answers})
		near(t, "F1", r.AvgF1, tc.want)
	}
}

func TestScoreCompleteness(t *testing.T) {
	chunk := append(itemsOf(0, 0, 3), append(itemsOf(1, 10, 2), itemsOf(7, 20, 2)...)...) // cluster 7 has no title
	r := Score(ScoreInput{
		Metrics:    []string{MetricCompleteness},
		Categories: threeCategories(),
		Completeness: []CompletenessAnswer{
			// 0: right with 8, right with 10, None. 1: wrong with 5, left out. 7: 2 with 1, None.
			{Items: chunk, Reply: assign("0/8", "0/10", "None/0", "2/5", "", "2/1", "None/0")},
			{Items: itemsOf(2, 30, 4), Reply: Reply{Content: "I'm sorry, I can't help with that."}},
		},
	})
	// Answered 6 of 11; assigned 4: 4/6. Confidence (.8+1+0+.5+.1+0)/6 = 2.4/6 = .4.
	near(t, "assigned_fraction", r.AssignedFraction, 4.0/6)
	near(t, "avg_confidence", r.AvgConfidence, 0.4)
	near(t, "final_score", r.FinalScore, 0.4)
	if got, want := r.CategoryCounts, map[string]int{"0": 2, "1": 0, "2": 2, "None": 2}; !reflect.DeepEqual(got, want) {
		t.Errorf("category_counts %v, want %v", got, want)
	}
	if got, want := r.CategoryConfidences, map[string][]float64{"0": {0.8, 1}, "1": {}, "2": {0.5, 0.1}, "None": {0, 0}}; !reflect.DeepEqual(got, want) {
		t.Errorf("category_confidences %v, want %v", got, want)
	}
	for id, want := range map[string]float64{"0": 0.9, "1": 0, "2": 0.3, "None": 0} {
		near(t, "category_avg_confidences of "+id, r.CategoryAvgConfidences[id], want)
	}
	// With a title of their own: correct 2, incorrect 1, missed 1.
	// accuracy = precision = 2/3, recall 2/4; confidences (.8+1)/2 and .5.
	m := *r.CompletenessMetrics
	if m.CorrectAssignments != 2 || m.IncorrectAssignments != 1 || m.MissedAssignments != 1 {
		t.Errorf("metrics %+v", m)
	}
	near(t, "assignment_accuracy", m.AssignmentAccuracy, 2.0/3)
	near(t, "assignment_precision", m.AssignmentPrecision, 2.0/3)
	near(t, "assignment_recall", m.AssignmentRecall, 0.5)
	near(t, "avg_correct_confidence", m.AvgCorrectConfidence, 0.9)
	near(t, "avg_incorrect_confidence", m.AvgIncorrectConfidence, 0.5)
	d := r.CompletenessDetailed
	if len(d.Correct) != 2 || len(d.Incorrect) != 1 || len(d.Missed) != 1 || len(d.Untitled) != 2 {
		t.Fatalf("detailed %+v", d)
	}
	if got, want := d.Incorrect[0], (Categorized{10, "sentence 10", "2", "1", 0.5, "e"}); got != want {
		t.Errorf("incorrect %+v, want %+v", got, want)
	}
	want := AnswerCount{Asked: 11, Answered: 6, Failed: 5, Requests: 2, FailedRequests: 1, Reasons: map[string]int{"missing": 1, "refused": 4}}
	if got := r.Answers[TaskCompleteness]; !reflect.DeepEqual(got, want) {
		t.Errorf("answers %+v, want %+v", got, want)
	}
}

func TestScoreCompletenessWithoutAssignments(t *testing.T) {
	r := Score(ScoreInput{
		Metrics: []string{MetricCompleteness}, Categories: threeCategories(),
		Completeness: []CompletenessAnswer{{Items: itemsOf(0, 0, 2), Reply: assign("None/0", "None/0")}},
	})
	// Nothing assigned: rates without a denominator are 0, the rest is measured as 0.
	if m := *r.CompletenessMetrics; m != (CompletenessMetrics{MissedAssignments: 2}) {
		t.Errorf("metrics %+v", m)
	}
	if v, ok := r.Value("avg_confidence"); v != 0 || !ok {
		t.Errorf("avg_confidence %g, %v; want a measured 0", v, ok)
	}
}

func TestScoreFit(t *testing.T) {
	item := func(cluster, row int) Item { return Item{Row: row, Text: "t", Cluster: cluster} }
	r := Score(ScoreInput{
		Metrics: []string{MetricCompleteness}, Mode: ModeFit, Categories: threeCategories(),
		Fit: []FitAnswer{
			{item(0, 3), scored(10)}, {item(0, 4), scored(7)}, {item(1, 5), scored(4)},
			{item(2, 6), scored(11)}, // out of range: failed
			{item(2, 7), Reply{Refusal: "no"}},
		},
	})
	// (10+7+4)/3 = 7; cluster 0 (10+7)/2 = 8.5; cluster 2 has no answer.
	near(t, "avg_fit_score", r.AvgFitScore, 7)
	near(t, "avg_confidence", r.AvgConfidence, 0.7)
	near(t, "final_score", r.FinalScore, 0.7)
	if got, want := r.AvgFitScoreByClusterID, map[string]float64{"0": 8.5, "1": 4}; !reflect.DeepEqual(got, want) {
		t.Errorf("by cluster %v, want %v", got, want)
	}
	if got, want := r.CompletenessResponses[2], (FitResponse{5, "t", "1", "B", "second", 4, "e"}); got != want || len(r.CompletenessResponses) != 3 {
		t.Errorf("responses %+v", r.CompletenessResponses)
	}
	if _, ok := r.Value("assigned_fraction"); ok {
		t.Error("fit mode has an assigned_fraction")
	}
	want := AnswerCount{Asked: 5, Answered: 3, Failed: 2, Requests: 5, FailedRequests: 2, Reasons: map[string]int{"value": 1, "refused": 1}}
	if got := r.Answers[TaskFit]; !reflect.DeepEqual(got, want) {
		t.Errorf("answers %+v, want %+v", got, want)
	}
}

func TestScorePairs(t *testing.T) {
	score := func(n int, pairs ...PairAnswer) Repetition {
		return Score(ScoreInput{
			Metrics: []string{MetricOrthogonality}, Categories: threeCategories()[:n], Pairs: pairs,
			Threshold: 0.5, CentroidOrthogonality: 0.25,
		})
	}
	// Similarity 5 is orthogonality exactly 0.5, which is not above 0.5; 3 is .7.
	r := score(3, PairAnswer{0, 1, scored(5)}, PairAnswer{0, 2, scored(3)}, PairAnswer{1, 2, scored(4.9)})
	near(t, "score", r.SemanticOrthogonalityScore, 2.0/3)
	near(t, "matrix[2][0]", *r.SemanticOrthogonalityMatrix[2][0], 0.7)
	near(t, "matrix[1][1]", *r.SemanticOrthogonalityMatrix[1][1], 0)
	near(t, "centroids", r.Orthogonality, 0.25)
	if r.SemanticOrthogonalityExplanations["2,0"] != "e" || len(r.SemanticOrthogonalityExplanations) != 6 {
		t.Errorf("explanations %v", r.SemanticOrthogonalityExplanations)
	}
	// A failed pair leaves the denominator: 1 of 2, where counting it as
	// similarity 0 would give 2 of 3.
	r = score(3, PairAnswer{0, 1, scored(5)}, PairAnswer{0, 2, scored(3)}, PairAnswer{1, 2, Reply{Content: "no"}})
	near(t, "score without the failed pair", r.SemanticOrthogonalityScore, 0.5)
	if r.SemanticOrthogonalityMatrix[1][2] != nil {
		t.Error("the failed pair has a value")
	}
	// One category: 0. None that was answered: no value.
	if v, ok := score(1).Value("semantic_orthogonality_score"); v != 0 || !ok {
		t.Errorf("one category: %g, %v; want 0", v, ok)
	}
	r = score(2, PairAnswer{0, 1, Reply{}})
	for _, metric := range []string{"semantic_orthogonality_score", "final_score"} {
		if v, ok := r.Value(metric); ok {
			t.Errorf("every answer failed, and %s = %g", metric, v)
		}
	}
	// The first repetition's categories serve the others.
	r = Score(ScoreInput{
		Metrics: []string{MetricOrthogonality}, Categories: threeCategories()[:1], PairCategories: threeCategories(),
		Pairs: []PairAnswer{{1, 2, scored(0)}}, Threshold: 0.5,
	})
	near(t, "score of the first repetition's titles", r.SemanticOrthogonalityScore, 1)
	if got := Pairs(3); !reflect.DeepEqual(got, [][2]int{{0, 1}, {0, 2}, {1, 2}}) || Pairs(1) != nil {
		t.Errorf("pairs of 3: %v", got)
	}
}

func TestFinalScore(t *testing.T) {
	in := ScoreInput{
		Metrics:      []string{MetricAccuracy, MetricCompleteness, MetricOrthogonality},
		Categories:   threeCategories()[:2],
		Accuracy:     []AccuracyAnswer{{Cluster: 0, Items: append(itemsOf(0, 0, 2), itemsOf(1, 5, 2)...), Reply: yes("yyyn")}},
		Completeness: []CompletenessAnswer{{Items: itemsOf(0, 0, 2), Reply: assign("0/9", "None/0")}},
		Pairs:        []PairAnswer{{0, 1, scored(2)}},
		Threshold:    0.5,
	}
	// F1: tp 2, fp 1, fn 0: 4/5. Confidence .9/2 = .45. Semantic 1. Mean 2.25/3 = .75.
	near(t, "final_score", Score(in).FinalScore, 0.75)
	in.Metrics = []string{MetricAccuracy, MetricOrthogonality}
	near(t, "final_score of two", Score(in).FinalScore, 0.9)
	in.Metrics = nil
	if v, ok := Score(in).Value("final_score"); ok {
		t.Errorf("nothing is asked for, and the final score is %g", v)
	}
}

func TestTitles(t *testing.T) {
	cs, count := Titles([]TitleAnswer{
		{4, Reply{Content: `{"title": "B", "description": "b"}`}},
		{1, Reply{Content: `{"title": "A", "description": "a"}`}},
		{2, Reply{Content: `{"title": "C"`}},
	})
	if want := []Category{{1, "A", "a"}, {4, "B", "b"}}; !reflect.DeepEqual(cs, want) {
		t.Errorf("categories %+v, want %+v", cs, want)
	}
	want := AnswerCount{Asked: 3, Answered: 2, Failed: 1, Requests: 3, FailedRequests: 1, Reasons: map[string]int{"cut off": 1}}
	if !reflect.DeepEqual(count, want) {
		t.Errorf("count %+v, want %+v", count, want)
	}
}

// TestResultFileForm holds the names of reference.md §6, and that what was not
// measured is not written as 0 and comes back as not measured.
func TestResultFileForm(t *testing.T) {
	full := Score(ScoreInput{
		Metrics: []string{MetricAccuracy, MetricCompleteness, MetricOrthogonality}, Categories: threeCategories()[:2],
		Accuracy:              []AccuracyAnswer{{Cluster: 0, Items: itemsOf(0, 0, 1), Reply: yes("y")}},
		Completeness:          []CompletenessAnswer{{Items: itemsOf(0, 0, 1), Reply: assign("0/9")}},
		Pairs:                 []PairAnswer{{0, 1, scored(2)}},
		CentroidOrthogonality: math.NaN(), Threshold: 0.5,
	})
	file := MethodResults{
		ClusteringMethod: "gmm", ModelID: "m", Layer: 3,
		ResultsByClusterSize: map[string]SizeResult{"2": Summarize([]Repetition{full})},
	}
	file.BestCluster = Best(file.ResultsByClusterSize)
	b, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	size := got["results_by_cluster_size"].(map[string]any)["2"].(map[string]any)
	rep := size["all_results"].([]any)[0].(map[string]any)
	hasKeys(t, "file", got, "clustering_method model_id layer results_by_cluster_size best_cluster")
	hasKeys(t, "size", size, "all_results avg_final_score statistics")
	hasKeys(t, "repetition", rep, `avg_accuracy avg_f1 avg_precision avg_recall assigned_fraction avg_confidence
		category_counts category_confidences category_avg_confidences completeness_detailed completeness_metrics
		accuracy_results_by_cluster detailed_results orthogonality semantic_orthogonality_matrix
		semantic_orthogonality_explanations semantic_orthogonality_score semantic_orthogonality_threshold categories final_score`)
	hasKeys(t, "details", rep["detailed_results"].(map[string]any)["0"].(map[string]any), "title description size precision recall accuracy f1 examples")
	hasKeys(t, "statistics", size["statistics"].(map[string]any), `avg_accuracy avg_f1 avg_precision avg_recall orthogonality
		semantic_orthogonality_score assigned_fraction avg_confidence final_score`)
	hasKeys(t, "stat", size["statistics"].(map[string]any)["avg_f1"].(map[string]any), "mean std_dev sem ci_95")
	hasKeys(t, "best", got["best_cluster"].(map[string]any), `size avg_final_score avg_accuracy avg_precision avg_recall avg_f1
		completeness avg_completeness orthogonality semantic_orthogonality statistics`)
	if c := rep["categories"].([]any)[0]; !reflect.DeepEqual(c, []any{"0", "A", "first"}) {
		t.Errorf("a category is written as %v", c)
	}
	if _, ok := rep["avg_fit_score"]; ok {
		t.Error("assign mode writes avg_fit_score")
	}
	var back MethodResults
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil || string(again) != string(b) {
		t.Errorf("read back and written again (%v):\n%s\n%s", err, again, b)
	}

	part, _ := json.Marshal(Score(ScoreInput{Metrics: []string{MetricCompleteness}, Mode: ModeFit,
		Categories: threeCategories(), Fit: []FitAnswer{{Item{}, scored(5)}}}))
	var m map[string]any
	if err := json.Unmarshal(part, &m); err != nil {
		t.Fatal(err)
	}
	hasKeys(t, "fit", m, "avg_fit_score avg_fit_score_by_cluster_id completeness_responses avg_confidence final_score")
	for _, absent := range []string{"avg_f1", "semantic_orthogonality_score", "assigned_fraction", "accuracy_results_by_cluster"} {
		if _, ok := m[absent]; ok {
			t.Errorf("%s is written although it was not asked for", absent)
		}
	}
	var rback Repetition
	if err := json.Unmarshal(part, &rback); err != nil {
		t.Fatal(err)
	}
	if v, ok := rback.Value("avg_fit_score"); v != 5 || !ok {
		t.Errorf("avg_fit_score came back as %g, %v", v, ok)
	}
	if _, ok := rback.Value("avg_f1"); ok {
		t.Error("avg_f1 came back although it was not written")
	}
}

func hasKeys(t *testing.T, what string, m map[string]any, names string) {
	t.Helper()
	for _, name := range strings.Fields(names) {
		if _, ok := m[name]; !ok {
			t.Errorf("%s: no %q", what, name)
		}
	}
}

// FuzzScore: whatever comes back, the result can be written as JSON, asked =
// answered + failed, and rates stay in 0..1.
func FuzzScore(f *testing.F) {
	f.Add(yes("yn").Content, assign("0/3", "None/0").Content, scored(3).Content)
	f.Add("", "{", `{"score": 1e308}`)
	f.Fuzz(func(t *testing.T, a, c, s string) {
		for _, mode := range []string{ModeAssign, ModeFit} {
			r := Score(ScoreInput{
				Metrics: []string{MetricAccuracy, MetricCompleteness, MetricOrthogonality}, Mode: mode, Categories: threeCategories(),
				Accuracy:     []AccuracyAnswer{{Cluster: 0, Items: append(itemsOf(0, 0, 1), itemsOf(1, 1, 1)...), Reply: Reply{Content: a}}},
				Completeness: []CompletenessAnswer{{Items: itemsOf(0, 0, 2), Reply: Reply{Content: c}}},
				Fit:          []FitAnswer{{Item{Cluster: 1}, Reply{Content: s}}},
				Pairs:        []PairAnswer{{0, 1, Reply{Content: s}}},
				Threshold:    0.5,
			})
			if _, err := json.Marshal(Summarize([]Repetition{r, r})); err != nil {
				t.Fatal(err)
			}
			for kind, n := range r.Answers {
				if n.Asked != n.Answered+n.Failed {
					t.Fatalf("%s: %+v", kind, n)
				}
			}
			for _, metric := range StatisticNames() {
				if v, _ := r.Value(metric); v < 0 || v > 1 {
					t.Fatalf("%s = %g", metric, v)
				}
			}
		}
	})
}
