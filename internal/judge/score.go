package judge

import (
	"slices"
	"strconv"
)

// The metrics that a study can ask for.
const (
	MetricAccuracy      = "accuracy"
	MetricCompleteness  = "completeness"
	MetricOrthogonality = "orthogonality"
)

// The two ways to ask for completeness.
const (
	ModeAssign = "assign"
	ModeFit    = "fit"
)

// maxExamples is how many sentences of a cluster the result files show.
const maxExamples = 15

// Item is a sentence of the data that was put before the judge.
type Item struct {
	Row     int    // position in the list of sentences
	Text    string // as in the prompt
	Cluster int    // the label that is graded
}

// Items gives the texts of items the ids 1, 2, … that a prompt uses; Score
// takes item i−1 for id i.
func Items(items []Item) []Sentence {
	texts := make([]string, len(items))
	for i := range items {
		texts[i] = items[i].Text
	}
	return Numbered(texts)
}

// TitleAnswer is the reply to the title prompt of one cluster.
type TitleAnswer struct {
	Cluster int
	Reply   Reply
}

// AccuracyAnswer is the reply to one accuracy prompt about Cluster's category.
type AccuracyAnswer struct {
	Cluster int
	Items   []Item // in the order of the prompt
	Reply   Reply
}

// CompletenessAnswer is the reply to one completeness prompt.
type CompletenessAnswer struct {
	Items []Item // in the order of the prompt
	Reply Reply
}

// FitAnswer is the reply to one fit prompt, about the category of the item's
// own cluster.
type FitAnswer struct {
	Item  Item
	Reply Reply
}

// PairAnswer is the reply to one similarity prompt. A and B are positions in
// ScoreInput.PairCategories, A < B.
type PairAnswer struct {
	A, B  int
	Reply Reply
}

// ScoreInput is everything that one repetition of one clustering is scored
// from. What was asked is what stands here: a request that never came back is
// an element with Reply.Error set, not one left out.
type ScoreInput struct {
	Metrics []string // any of accuracy, completeness, orthogonality
	Mode    string   // assign (also when empty) or fit

	Titles     AnswerCount      // of this repetition, from Titles
	Categories []Category       // of this repetition: the clusters whose title answer could be read
	Sizes      map[int]int      // sentences per cluster
	Examples   map[int][]string // sentences per cluster, best first; the first 15 are shown

	Accuracy     []AccuracyAnswer
	Completeness []CompletenessAnswer // mode assign
	Fit          []FitAnswer          // mode fit

	// PairCategories are the categories that the similarity answers are about:
	// those of the first repetition, or this one's when nil.
	PairCategories []Category
	Pairs          []PairAnswer
	Threshold      float64 // a pair counts as orthogonal above it; the protocol's value is 0.5

	CentroidOrthogonality float64 // mean over pairs of 1−|cos|; 0 is put for a value that is not finite
}

// Titles reads the title answers of one repetition. Clusters whose answer
// failed are left out of the categories and counted.
func Titles(answers []TitleAnswer) ([]Category, AnswerCount) {
	var cs []Category
	count := AnswerCount{}
	for _, a := range answers {
		text, err := a.Reply.Text()
		var title, description string
		if err == nil {
			title, description, err = ParseTitle(text)
		}
		count.add(1, err)
		if err == nil {
			cs = append(cs, Category{ID: a.Cluster, Title: title, Description: description})
		}
	}
	slices.SortStableFunc(cs, func(a, b Category) int { return a.ID - b.ID })
	return cs, count
}

// add counts a request with n items that was answered as a whole or failed as
// a whole.
func (c *AnswerCount) add(n int, err error) {
	c.Requests++
	c.Asked += n
	if err == nil {
		c.Answered += n
		return
	}
	c.FailedRequests++
	c.lose(n, ReasonOf(err))
}

// lose counts n failed items.
func (c *AnswerCount) lose(n int, r Reason) {
	if n == 0 {
		return
	}
	c.Failed += n
	if c.Reasons == nil {
		c.Reasons = map[string]int{}
	}
	c.Reasons[string(r)] += n
}

// addPart counts a request with n items of which answered could be read.
func (c *AnswerCount) addPart(n, answered int) {
	c.Requests++
	c.Asked += n
	c.Answered += answered
	c.lose(n-answered, Missing)
}

// Score computes every number of one repetition.
//
// A metric of which not a single answer could be read has no value in the
// repetition (Repetition.Value is false), and neither has a final score that
// asks for it: a failed answer is never a zero.
func Score(in ScoreInput) Repetition {
	r := Repetition{
		Metrics:         slices.Clone(in.Metrics),
		DetailedResults: map[string]ClusterDetail{},
		Categories:      []Triple{},
		Answers:         map[string]AnswerCount{},
	}
	if r.Metrics == nil {
		r.Metrics = []string{}
	}
	if in.Titles.Requests > 0 {
		r.Answers[TaskTitle] = in.Titles
	}
	for _, c := range in.Categories {
		r.Categories = append(r.Categories, Triple{strconv.Itoa(c.ID), c.Title, c.Description})
	}
	r.Orthogonality = finite(in.CentroidOrthogonality)
	r.define("orthogonality")

	var parts []string // what the final score is the mean of
	if slices.Contains(in.Metrics, MetricAccuracy) {
		parts = append(parts, "avg_f1")
		scoreAccuracy(&r, in)
	}
	if slices.Contains(in.Metrics, MetricCompleteness) {
		parts = append(parts, "avg_confidence")
		if in.Mode == ModeFit {
			r.Mode = ModeFit
			scoreFit(&r, in)
		} else {
			r.Mode = ModeAssign
			scoreCompleteness(&r, in)
		}
	}
	if slices.Contains(in.Metrics, MetricOrthogonality) {
		parts = append(parts, "semantic_orthogonality_score")
		scorePairs(&r, in)
	}
	for _, c := range in.Categories {
		id := strconv.Itoa(c.ID)
		a := r.AccuracyResultsByCluster[id]
		examples := in.Examples[c.ID]
		r.DetailedResults[id] = ClusterDetail{
			Title: c.Title, Description: c.Description, Size: in.Sizes[c.ID],
			Precision: a.Precision, Recall: a.Recall, Accuracy: a.Accuracy, F1: a.F1,
			Examples: append([]string{}, examples[:min(len(examples), maxExamples)]...),
		}
	}
	r.finalScore(parts)
	return r
}

// finalScore is the mean of the parts, if all of them have a value.
func (r *Repetition) finalScore(parts []string) {
	sum := 0.0
	for _, p := range parts {
		v, ok := r.Value(p)
		if !ok {
			return
		}
		sum += v
	}
	if len(parts) > 0 {
		r.FinalScore = sum / float64(len(parts))
		r.define("final_score")
	}
}

func (r *Repetition) define(metrics ...string) { r.Defined = append(r.Defined, metrics...) }
