package judge

import (
	"math"
	"strconv"
)

// scoreAccuracy fills in the Yes/No metrics.
func scoreAccuracy(r *Repetition, in ScoreInput) {
	r.AccuracyResultsByCluster = map[string]ClusterAccuracy{}
	var count AnswerCount
	for _, a := range in.Accuracy {
		id := strconv.Itoa(a.Cluster)
		c := r.AccuracyResultsByCluster[id]
		c.Asked += len(a.Items)
		verdicts, err := readAccuracy(a)
		if err != nil {
			count.add(len(a.Items), err)
			r.AccuracyResultsByCluster[id] = c
			continue
		}
		count.addPart(len(a.Items), len(verdicts))
		for i, item := range a.Items {
			v, ok := verdicts[i+1]
			if !ok {
				continue
			}
			c.Answered++
			inside := item.Cluster == a.Cluster
			switch {
			case inside && v.Yes:
				c.TruePositives++
			case inside:
				c.FalseNegatives++
			case v.Yes:
				c.FalsePositives++
			default:
				c.TrueNegatives++
			}
			c.Classifications = append(c.Classifications, Classification{
				SentenceID: item.Row, SentenceText: item.Text,
				Belongs: yesNoText(v.Yes), GroundTruth: yesNoText(inside), Explanation: v.Explanation,
			})
		}
		r.AccuracyResultsByCluster[id] = c
	}
	r.Answers[TaskAccuracy] = count

	valid := 0
	for _, id := range sortedIDs(r.AccuracyResultsByCluster) {
		c := r.AccuracyResultsByCluster[id]
		c.Accuracy = ratio(c.TruePositives+c.TrueNegatives, c.Answered)
		c.Precision = ratio(c.TruePositives, c.TruePositives+c.FalsePositives)
		c.Recall = ratio(c.TruePositives, c.TruePositives+c.FalseNegatives)
		if c.Precision+c.Recall > 0 {
			c.F1 = 2 * c.Precision * c.Recall / (c.Precision + c.Recall)
		}
		if c.Classifications == nil {
			c.Classifications = []Classification{}
		}
		r.AccuracyResultsByCluster[id] = c
		if c.Answered == 0 {
			continue
		}
		valid++
		r.AvgAccuracy += c.Accuracy
		r.AvgPrecision += c.Precision
		r.AvgRecall += c.Recall
		r.AvgF1 += c.F1
	}
	if valid > 0 {
		n := float64(valid)
		r.AvgAccuracy /= n
		r.AvgPrecision /= n
		r.AvgRecall /= n
		r.AvgF1 /= n
		r.define("avg_accuracy", "avg_f1", "avg_precision", "avg_recall")
	}
}

func readAccuracy(a AccuracyAnswer) (map[int]Verdict, error) {
	text, err := a.Reply.Text()
	if err != nil {
		return nil, err
	}
	return ParseAccuracy(text, positions(len(a.Items)))
}

// scoreCompleteness fills in the metrics of mode assign.
func scoreCompleteness(r *Repetition, in ScoreInput) {
	titled := map[int]bool{}
	ids := make([]int, 0, len(in.Categories))
	r.CategoryCounts = map[string]int{none: 0}
	r.CategoryConfidences = map[string][]float64{none: {}}
	for _, c := range in.Categories {
		titled[c.ID] = true
		ids = append(ids, c.ID)
		r.CategoryCounts[strconv.Itoa(c.ID)] = 0
		r.CategoryConfidences[strconv.Itoa(c.ID)] = []float64{}
	}
	detailed := &CompletenessDetailed{Correct: []Categorized{}, Incorrect: []Categorized{}, Missed: []Categorized{}}
	var count AnswerCount
	assigned, total := 0, 0.0
	for _, a := range in.Completeness {
		text, err := a.Reply.Text()
		var given map[int]Assignment
		if err == nil {
			given, err = ParseCompleteness(text, positions(len(a.Items)), ids)
		}
		if err != nil {
			count.add(len(a.Items), err)
			continue
		}
		count.addPart(len(a.Items), len(given))
		for i, item := range a.Items {
			g, ok := given[i+1]
			if !ok {
				continue
			}
			name, confidence := none, 0.0
			if g.Category != None {
				name, confidence = strconv.Itoa(g.Category), g.Confidence/10
				assigned++
			}
			total += confidence
			r.CategoryCounts[name]++
			r.CategoryConfidences[name] = append(r.CategoryConfidences[name], confidence)
			entry := Categorized{
				SentenceID: item.Row, SentenceText: item.Text, Assigned: name,
				GroundTruth: strconv.Itoa(item.Cluster), Confidence: confidence, Explanation: g.Explanation,
			}
			switch {
			case !titled[item.Cluster]:
				detailed.Untitled = append(detailed.Untitled, entry)
			case g.Category == item.Cluster:
				detailed.Correct = append(detailed.Correct, entry)
			case g.Category == None:
				detailed.Missed = append(detailed.Missed, entry)
			default:
				detailed.Incorrect = append(detailed.Incorrect, entry)
			}
		}
	}
	r.Answers[TaskCompleteness] = count
	r.CategoryAvgConfidences = map[string]float64{}
	for id, cs := range r.CategoryConfidences {
		r.CategoryAvgConfidences[id] = mean(cs)
	}
	r.CompletenessDetailed = detailed
	correct, incorrect, missed := len(detailed.Correct), len(detailed.Incorrect), len(detailed.Missed)
	r.CompletenessMetrics = &CompletenessMetrics{
		CorrectAssignments:     correct,
		IncorrectAssignments:   incorrect,
		MissedAssignments:      missed,
		AssignmentAccuracy:     ratio(correct, correct+incorrect),
		AssignmentPrecision:    ratio(correct, correct+incorrect),
		AssignmentRecall:       ratio(correct, correct+incorrect+missed),
		AvgCorrectConfidence:   meanConfidence(detailed.Correct),
		AvgIncorrectConfidence: meanConfidence(detailed.Incorrect),
	}
	if count.Answered > 0 {
		r.AssignedFraction = ratio(assigned, count.Answered)
		r.AvgConfidence = total / float64(count.Answered)
		r.define("assigned_fraction", "avg_confidence")
	}
}

// scoreFit fills in the metrics of mode fit.
func scoreFit(r *Repetition, in ScoreInput) {
	byID := map[int]Category{}
	for _, c := range in.Categories {
		byID[c.ID] = c
	}
	var count AnswerCount
	scores := map[string][]float64{}
	var all []float64
	r.CompletenessResponses = []FitResponse{}
	for _, a := range in.Fit {
		text, err := a.Reply.Text()
		var score float64
		var why string
		if err == nil {
			score, why, err = ParseFit(text)
		}
		count.add(1, err)
		if err != nil {
			continue
		}
		c := byID[a.Item.Cluster]
		id := strconv.Itoa(a.Item.Cluster)
		scores[id] = append(scores[id], score)
		all = append(all, score)
		r.CompletenessResponses = append(r.CompletenessResponses, FitResponse{
			SentenceIdx: a.Item.Row, SentenceText: a.Item.Text, ClusterID: id,
			Title: c.Title, Description: c.Description, CompletenessScore: score, Explanation: why,
		})
	}
	r.Answers[TaskFit] = count
	r.AvgFitScoreByClusterID = map[string]float64{}
	for id, s := range scores {
		r.AvgFitScoreByClusterID[id] = mean(s)
	}
	if len(all) > 0 {
		r.AvgFitScore = mean(all)
		r.AvgConfidence = r.AvgFitScore / 10
		r.define("avg_fit_score", "avg_confidence")
	}
}

// Pairs lists the positions (i, j), i < j, of n categories in the order in
// which a study asks about them.
func Pairs(n int) [][2]int {
	var pairs [][2]int
	for i := range n {
		for j := i + 1; j < n; j++ {
			pairs = append(pairs, [2]int{i, j})
		}
	}
	return pairs
}

// scorePairs fills in the semantic orthogonality. A single category has the
// score 0.
func scorePairs(r *Repetition, in ScoreInput) {
	cs := in.PairCategories
	if cs == nil {
		cs = in.Categories
	}
	n := len(cs)
	zero := 0.0
	r.SemanticOrthogonalityMatrix = make([][]*float64, n)
	for i := range n {
		r.SemanticOrthogonalityMatrix[i] = make([]*float64, n)
		r.SemanticOrthogonalityMatrix[i][i] = &zero
	}
	r.SemanticOrthogonalityExplanations = map[string]string{}
	r.SemanticOrthogonalityThreshold = finite(in.Threshold)
	var count AnswerCount
	above := 0
	for _, a := range in.Pairs {
		text, err := a.Reply.Text()
		var score float64
		var why string
		if err == nil {
			score, why, err = ParseSimilarity(text)
		}
		if err == nil && (a.A < 0 || a.B < 0 || a.A >= n || a.B >= n || a.A == a.B) {
			err = fail(BadValue, "a pair (%d, %d) of %d categories", a.A, a.B, n)
		}
		count.add(1, err)
		if err != nil {
			continue
		}
		o := (10 - score) / 10
		r.SemanticOrthogonalityMatrix[a.A][a.B] = &o
		r.SemanticOrthogonalityMatrix[a.B][a.A] = &o
		r.SemanticOrthogonalityExplanations[pairKey(a.A, a.B)] = why
		r.SemanticOrthogonalityExplanations[pairKey(a.B, a.A)] = why
		if o > r.SemanticOrthogonalityThreshold {
			above++
		}
	}
	r.Answers[TaskSimilarity] = count
	r.SemanticOrthogonalityScore = ratio(above, count.Answered)
	if count.Answered > 0 || n == 1 {
		r.define("semantic_orthogonality_score")
	}
}

func pairKey(i, j int) string { return strconv.Itoa(i) + "," + strconv.Itoa(j) }

// positions are the prompt ids 1..n.
func positions(n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i + 1
	}
	return ids
}

func yesNoText(yes bool) string {
	if yes {
		return "Yes"
	}
	return "No"
}

// ratio is a/b, 0 where b is 0.
func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// mean is 0 for no values.
func mean(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func meanConfidence(list []Categorized) float64 {
	v := make([]float64, len(list))
	for i := range list {
		v[i] = list[i].Confidence
	}
	return mean(v)
}

func finite(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}
