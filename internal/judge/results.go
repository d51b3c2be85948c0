package judge

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// MethodResults is the content of one result file,
// {method}_results_{model_id}_layer{layer}.json: every cluster size of one
// method on one layer of one model.
type MethodResults struct {
	ClusteringMethod     string                `json:"clustering_method"`
	ModelID              string                `json:"model_id"`
	Layer                int                   `json:"layer"`
	ResultsByClusterSize map[string]SizeResult `json:"results_by_cluster_size"` // key: the cluster size in decimal
	BestCluster          *BestCluster          `json:"best_cluster"`            // nil (null) when no size has a final score
}

// SizeResult is one clustering: its repetitions and the statistics over them.
type SizeResult struct {
	AllResults    []Repetition    `json:"all_results"`
	AvgFinalScore float64         `json:"avg_final_score"` // mean over the repetitions that have one, else 0
	Statistics    map[string]Stat `json:"statistics"`      // by metric name; a metric without a value in any repetition is absent
	// NormalizedScore is this clustering's NormalizedScores cell; nil (absent)
	// until somebody has compared it with the other cells of its model.
	NormalizedScore *float64 `json:"normalized_score,omitempty"`
	// Intervals are 95 % intervals over responses, by metric; see Bootstrap. They
	// hold what other responses would have changed, as Statistics holds the judge's
	// own noise over repetitions.
	Intervals map[string][2]float64 `json:"bootstrap_ci_95,omitempty"`
	// Agreement is that of the repetitions with each other: accuracy and
	// completeness, where anything was asked twice.
	Agreement map[string]Kappa `json:"repetition_agreement,omitempty"`
	// Quality measures the clustering without a judge: silhouette,
	// calinski_harabasz, davies_bouldin, category_nmi, where it has them.
	Quality map[string]float64 `json:"quality,omitempty"`
}

// Stat summarises one metric over repetitions.
type Stat struct {
	Mean   float64    `json:"mean"`
	StdDev float64    `json:"std_dev"` // sample standard deviation (n−1); 0 with one repetition
	SEM    float64    `json:"sem"`     // StdDev/√n
	CI95   [2]float64 `json:"ci_95"`   // Mean ± t(0.975, n−1)·SEM
	N      int        `json:"n"`       // repetitions that have a value
}

// BestCluster is the cluster size with the highest mean final score.
type BestCluster struct {
	Size                  int             `json:"size"`
	AvgFinalScore         float64         `json:"avg_final_score"`
	AvgAccuracy           float64         `json:"avg_accuracy"`
	AvgPrecision          float64         `json:"avg_precision"`
	AvgRecall             float64         `json:"avg_recall"`
	AvgF1                 float64         `json:"avg_f1"`
	Completeness          float64         `json:"completeness"`     // mean assigned_fraction; in fit mode mean avg_confidence
	AvgCompleteness       float64         `json:"avg_completeness"` // the same number under its second name
	Orthogonality         float64         `json:"orthogonality"`
	SemanticOrthogonality float64         `json:"semantic_orthogonality"`
	Statistics            map[string]Stat `json:"statistics"`
	// Indistinguishable lists, in ascending order, the other sizes whose final
	// score cannot be told apart from the best one's; see Best.
	Indistinguishable []int `json:"indistinguishable"`
}

// Repetition holds every number of one repetition of one clustering (an entry
// of all_results). The plain fields are 0 both for "measured as 0" and for
// "not measured": Value tells the two apart, and the JSON leaves the second
// kind out.
type Repetition struct {
	Metrics []string `json:"metrics"` // what the study asks for: accuracy, completeness, orthogonality
	Mode    string   `json:"completeness_mode,omitempty"`

	AvgAccuracy  float64 `json:"avg_accuracy"`
	AvgF1        float64 `json:"avg_f1"`
	AvgPrecision float64 `json:"avg_precision"`
	AvgRecall    float64 `json:"avg_recall"`

	AccuracyResultsByCluster map[string]ClusterAccuracy `json:"accuracy_results_by_cluster,omitempty"`

	AssignedFraction       float64               `json:"assigned_fraction"`
	AvgConfidence          float64               `json:"avg_confidence"`                     // 0..1
	CategoryCounts         map[string]int        `json:"category_counts,omitempty"`          // by category id, and "None"
	CategoryConfidences    map[string][]float64  `json:"category_confidences,omitempty"`     // 0..1, in order of asking
	CategoryAvgConfidences map[string]float64    `json:"category_avg_confidences,omitempty"` // 0..1; 0 for a category without sentences
	CompletenessDetailed   *CompletenessDetailed `json:"completeness_detailed,omitempty"`
	CompletenessMetrics    *CompletenessMetrics  `json:"completeness_metrics,omitempty"`

	AvgFitScore            float64            `json:"avg_fit_score"` // 0..10, fit mode only
	AvgFitScoreByClusterID map[string]float64 `json:"avg_fit_score_by_cluster_id,omitempty"`
	CompletenessResponses  []FitResponse      `json:"completeness_responses,omitempty"`

	DetailedResults map[string]ClusterDetail `json:"detailed_results"`

	Orthogonality float64 `json:"orthogonality"` // of the centroids

	// SemanticOrthogonalityMatrix is [categories, categories] in the order of
	// Categories: 1 − similarity/10, 0 on the diagonal, null (nil) for a pair
	// whose answer failed. Explanations are keyed "i,j" by the same positions,
	// both ways round.
	SemanticOrthogonalityMatrix       [][]*float64      `json:"semantic_orthogonality_matrix,omitempty"`
	SemanticOrthogonalityExplanations map[string]string `json:"semantic_orthogonality_explanations,omitempty"`
	SemanticOrthogonalityScore        float64           `json:"semantic_orthogonality_score"`
	SemanticOrthogonalityThreshold    float64           `json:"semantic_orthogonality_threshold"`

	Categories []Triple `json:"categories"`

	FinalScore float64 `json:"final_score"`

	// Answers counts, by kind (title, accuracy, completeness, fit, similarity),
	// what was asked and what came back.
	Answers map[string]AnswerCount `json:"answers"`

	// Defined names the metrics of StatisticNames (and avg_fit_score) that have
	// a value in this repetition; in JSON they are the ones whose key is there.
	Defined []string `json:"-"`
}

// AnswerCount says how much of what was asked was answered. The unit is what
// the metric averages over: a cluster for titles, a sentence for accuracy,
// completeness and fit, a pair for similarity. Asked = Answered + Failed.
type AnswerCount struct {
	Asked          int            `json:"asked"`
	Answered       int            `json:"answered"`
	Failed         int            `json:"failed"`
	Requests       int            `json:"requests"`
	FailedRequests int            `json:"failed_requests"`   // requests of which nothing could be used
	Reasons        map[string]int `json:"reasons,omitempty"` // failed items by Reason
}

// ClusterAccuracy is the outcome of the Yes/No questions of one cluster. The
// rates are over the answered sentences, 0 where undefined.
type ClusterAccuracy struct {
	Accuracy        float64          `json:"accuracy"`
	Precision       float64          `json:"precision"`
	Recall          float64          `json:"recall"`
	F1              float64          `json:"f1"`
	TruePositives   int              `json:"true_positives"`
	FalsePositives  int              `json:"false_positives"`
	TrueNegatives   int              `json:"true_negatives"`
	FalseNegatives  int              `json:"false_negatives"`
	Asked           int              `json:"asked"`
	Answered        int              `json:"answered"`
	Classifications []Classification `json:"classifications"`
}

// Classification is one sentence judged for one cluster.
type Classification struct {
	SentenceID   int    `json:"sentence_id"` // row in the list of sentences
	SentenceText string `json:"sentence_text"`
	Belongs      string `json:"belongs_to_category"` // Yes or No
	GroundTruth  string `json:"ground_truth"`        // Yes or No
	Explanation  string `json:"explanation"`
}

// CompletenessDetailed holds the answered sentences, split by how the answer
// compares with the cluster that the sentence lies in.
type CompletenessDetailed struct {
	Correct   []Categorized `json:"correct_assignments"`
	Incorrect []Categorized `json:"incorrect_assignments"`
	Missed    []Categorized `json:"missed_assignments"` // answered None
	// Untitled are sentences whose own cluster has no title (its title answer
	// failed): they can be neither correct nor missed, and count only towards
	// assigned_fraction and avg_confidence.
	Untitled []Categorized `json:"untitled_assignments,omitempty"`
}

// Categorized is one sentence with the category that the judge gave it.
type Categorized struct {
	SentenceID   int     `json:"sentence_id"` // row in the list of sentences
	SentenceText string  `json:"sentence_text"`
	Assigned     string  `json:"assigned_category"`     // category id or None
	GroundTruth  string  `json:"ground_truth_category"` // cluster id
	Confidence   float64 `json:"confidence"`            // 0..1
	Explanation  string  `json:"explanation"`
}

// CompletenessMetrics compares the assigned categories with the cluster
// labels.
type CompletenessMetrics struct {
	CorrectAssignments     int     `json:"correct_assignments"`
	IncorrectAssignments   int     `json:"incorrect_assignments"`
	MissedAssignments      int     `json:"missed_assignments"`
	AssignmentAccuracy     float64 `json:"assignment_accuracy"`      // correct / (correct+incorrect)
	AssignmentRecall       float64 `json:"assignment_recall"`        // correct / (correct+incorrect+missed)
	AssignmentPrecision    float64 `json:"assignment_precision"`     // = AssignmentAccuracy
	AvgCorrectConfidence   float64 `json:"avg_correct_confidence"`   // 0..1
	AvgIncorrectConfidence float64 `json:"avg_incorrect_confidence"` // 0..1
}

// FitResponse is one sentence rated against the category of its own cluster.
type FitResponse struct {
	SentenceIdx       int     `json:"sentence_idx"` // row in the list of sentences
	SentenceText      string  `json:"sentence"`
	ClusterID         string  `json:"cluster_id"`
	Title             string  `json:"title"`
	Description       string  `json:"description"`
	CompletenessScore float64 `json:"completeness_score"` // 0..10
	Explanation       string  `json:"explanation"`
}

// ClusterDetail is the summary of one titled cluster.
type ClusterDetail struct {
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Size        int      `json:"size"` // sentences
	Precision   float64  `json:"precision"`
	Recall      float64  `json:"recall"`
	Accuracy    float64  `json:"accuracy"`
	F1          float64  `json:"f1"`
	Examples    []string `json:"examples"` // at most 15, best first
}

// Triple is a category as the result files write it: [id, title, description].
type Triple struct {
	ID          string
	Title       string
	Description string
}

// MarshalJSON writes the array form.
func (t Triple) MarshalJSON() ([]byte, error) {
	return json.Marshal([3]string{t.ID, t.Title, t.Description})
}

// UnmarshalJSON reads the array form; the id may be a string or a number.
func (t *Triple) UnmarshalJSON(b []byte) error {
	var parts []any
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	if len(parts) != 3 {
		return fmt.Errorf("reading a category: %d parts, want [id, title, description]", len(parts))
	}
	switch id := parts[0].(type) {
	case string:
		t.ID = id
	case float64:
		t.ID = strconv.FormatFloat(id, 'f', -1, 64)
	default:
		return fmt.Errorf("reading a category: its id is neither a string nor a number")
	}
	var ok1, ok2 bool
	t.Title, ok1 = parts[1].(string)
	t.Description, ok2 = parts[2].(string)
	if !ok1 || !ok2 {
		return fmt.Errorf("reading category %s: title and description must be strings", t.ID)
	}
	return nil
}

// StatisticNames lists the metrics that get statistics over repetitions, in
// the order in which reports show them.
func StatisticNames() []string {
	return []string{
		"avg_accuracy", "avg_f1", "avg_precision", "avg_recall",
		"orthogonality", "semantic_orthogonality_score",
		"assigned_fraction", "avg_confidence", "final_score",
	}
}

// Value returns a metric of StatisticNames, or avg_fit_score, by name. It is
// false where the repetition has no value: the study does not ask for the
// metric, or every answer to it failed.
func (r Repetition) Value(metric string) (float64, bool) {
	for _, d := range r.Defined {
		if d == metric {
			if p := r.field(metric); p != nil && !math.IsNaN(*p) && !math.IsInf(*p, 0) {
				return *p, true
			}
			return 0, false
		}
	}
	return 0, false
}

// field points at the value of a metric; nil for an unknown name.
func (r *Repetition) field(metric string) *float64 {
	switch metric {
	case "avg_accuracy":
		return &r.AvgAccuracy
	case "avg_f1":
		return &r.AvgF1
	case "avg_precision":
		return &r.AvgPrecision
	case "avg_recall":
		return &r.AvgRecall
	case "orthogonality":
		return &r.Orthogonality
	case "semantic_orthogonality_score":
		return &r.SemanticOrthogonalityScore
	case "assigned_fraction":
		return &r.AssignedFraction
	case "avg_confidence":
		return &r.AvgConfidence
	case "avg_fit_score":
		return &r.AvgFitScore
	case "final_score":
		return &r.FinalScore
	}
	return nil
}

// MarshalJSON leaves out the metrics that have no value, so that no reader
// takes a missing measurement for a zero.
func (r Repetition) MarshalJSON() ([]byte, error) {
	type bare Repetition
	value := func(metric string) *float64 {
		if v, ok := r.Value(metric); ok {
			return &v
		}
		return nil
	}
	out := struct {
		bare
		AvgAccuracy                    *float64 `json:"avg_accuracy,omitempty"`
		AvgF1                          *float64 `json:"avg_f1,omitempty"`
		AvgPrecision                   *float64 `json:"avg_precision,omitempty"`
		AvgRecall                      *float64 `json:"avg_recall,omitempty"`
		AssignedFraction               *float64 `json:"assigned_fraction,omitempty"`
		AvgConfidence                  *float64 `json:"avg_confidence,omitempty"`
		AvgFitScore                    *float64 `json:"avg_fit_score,omitempty"`
		Orthogonality                  *float64 `json:"orthogonality,omitempty"`
		SemanticOrthogonalityScore     *float64 `json:"semantic_orthogonality_score,omitempty"`
		SemanticOrthogonalityThreshold *float64 `json:"semantic_orthogonality_threshold,omitempty"`
		FinalScore                     *float64 `json:"final_score,omitempty"`
	}{
		bare:                       bare(r),
		AvgAccuracy:                value("avg_accuracy"),
		AvgF1:                      value("avg_f1"),
		AvgPrecision:               value("avg_precision"),
		AvgRecall:                  value("avg_recall"),
		AssignedFraction:           value("assigned_fraction"),
		AvgConfidence:              value("avg_confidence"),
		AvgFitScore:                value("avg_fit_score"),
		Orthogonality:              value("orthogonality"),
		SemanticOrthogonalityScore: value("semantic_orthogonality_score"),
		FinalScore:                 value("final_score"),
	}
	if out.SemanticOrthogonalityScore != nil {
		out.SemanticOrthogonalityThreshold = &r.SemanticOrthogonalityThreshold
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads a repetition back; the metrics whose keys are present
// become Defined. Files of the three Python scripts are read as well.
func (r *Repetition) UnmarshalJSON(b []byte) error {
	type bare Repetition
	var in bare
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	var present map[string]json.RawMessage
	if err := json.Unmarshal(b, &present); err != nil {
		return err
	}
	*r = Repetition(in)
	r.Defined = nil
	for _, metric := range append(StatisticNames(), "avg_fit_score") {
		if v, ok := present[metric]; ok && string(v) != "null" {
			r.Defined = append(r.Defined, metric)
		}
	}
	return nil
}
