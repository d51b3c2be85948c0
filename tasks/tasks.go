// Package tasks turns a study into a graph and holds every kind of task, one
// file each, with its parameters beside what it does.
//
// The data flows
//
//	sentences → extract (one per layer and shard) → rows → pca → linkage → train
//	train → submit-titles → await-titles → submit-eval → await-eval → score
//	score (all) → report
//
// Titles from a file take the place of submit-titles and await-titles by one node.
//
// An activations block takes the place of sentences and extract by two import
// nodes. Files between tasks are safetensors for tensors, JSONL for sentences,
// requests and answers, and JSON for scores.
package tasks

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"clusterflow/cache"
	"clusterflow/studies"
)

// Stages of a study, as a plan shows them.
const (
	StageData    = "DATA"
	StageExtract = "EXTRACT"
	StageShared  = "SHARED"
	StageTrain   = "TRAIN"
	StageJudge   = "JUDGE"
	StageReport  = "REPORT"
)

// Stages in the order of a study.
var Stages = []string{StageData, StageExtract, StageShared, StageTrain, StageJudge, StageReport}

// Kind describes one kind of task.
type Kind struct {
	Name    string
	Version string // changes when the same key lines may give another result
	Doc     string
}

// The kinds of tasks.
var (
	kindSentences    = Kind{"sentences", "2", "split responses into sentences, tokenize, find token spans"}
	kindImport       = Kind{"import", "1", "read sentences or rows that another program made"}
	kindExtract      = Kind{"extract", "7", "hidden states of one layer, mean per sentence, for one shard of responses"}
	kindRows         = Kind{"rows", "2", "join the shards of a layer and their mean vector"}
	kindPCA          = Kind{"pca", "1", "principal components of a layer's rows"}
	kindLinkage      = Kind{"linkage", "4", "the tree of an agglomerative clustering, for every size"}
	kindTrain        = Kind{"train", "5", "fit one clustering"}
	kindTitles       = Kind{"titles", "1", "take the names of the clusters from a file"}
	kindSubmitTitles = Kind{"submit-titles", "2", "write the requests that name the clusters"}
	kindAwaitTitles  = Kind{"await-titles", "1", "collect the names"}
	kindSubmitEval   = Kind{"submit-eval", "3", "write the requests that grade the clustering"}
	kindAwaitEval    = Kind{"await-eval", "1", "collect the grades"}
	kindScore        = Kind{"score", "4", "compute every metric of one clustering"}
	kindReport       = Kind{"report", "7", "result files, figures and the page"}
)

// Kinds lists every kind in the order in which a study runs them.
var Kinds = []Kind{
	kindSentences, kindImport, kindExtract, kindRows, kindPCA, kindLinkage, kindTrain,
	kindTitles, kindSubmitTitles, kindAwaitTitles, kindSubmitEval, kindAwaitEval, kindScore, kindReport,
}

// params builds the parameter lines of a task.
type params struct{ lines []cache.Line }

// add appends a parameter; where says in which line of the study it stands.
func (p *params) add(label string, value any, where string) {
	p.lines = append(p.lines, cache.Line{Label: label, Value: text(value), Origin: where})
}

// set appends a parameter that stands in the study.
func set[T any](p *params, label string, v studies.Value[T]) { p.add(label, v.V, v.Origin()) }

// text writes a parameter's value the way that a person would read it, and so
// that equal values give equal text.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	case []int:
		return strings.ReplaceAll(fmt.Sprint(v), " ", ", ")
	default:
		return fmt.Sprint(v)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
