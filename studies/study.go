// Package studies is the study language: it turns a .hcl file into a Study,
// or into diagnostics that say what is wrong, where, and what to write
// instead.
//
// The package knows words, types and ranges, not methods or models: the table
// of clustering methods comes in as data (Options.Methods), and what needs the
// content of files (a model's depth, the number of sentences) is checked by
// whoever opens them, who adds to the same diagnostics with Study.Errorf.
//
// Every value keeps the range it was read from, so that a plan can say
// "clusters 10 → 12 (studies/r1.hcl:31)".
package studies

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Range is a stretch of a source file, from HCL.
type Range = hcl.Range

// Diagnostic is one error or warning with its place, from HCL.
type Diagnostic = hcl.Diagnostic

// Diagnostics are errors with their places, from HCL.
type Diagnostics = hcl.Diagnostics

// Value is a setting with its place in the study.
type Value[T any] struct {
	V     T
	Range Range // of the value; of the block's header where Set is false
	Set   bool  // false: the study does not say, V is the protocol's default
}

// Origin is "studies/r1.hcl:31", with the path as the user gave it, or "" for
// a default.
func (v Value[T]) Origin() string {
	if !v.Set {
		return ""
	}
	return origin(v.Range)
}

func origin(r Range) string {
	return fmt.Sprintf("%s:%d", r.Filename, r.Start.Line)
}

// Study is a decoded study file. Blocks stand in file order. A Study that came
// with errors is partial: attributes in error are not Set, references in error
// are nil or left out.
type Study struct {
	File   string // as given by the user
	Dir    string // the folder that paths in the study are relative to
	Source []byte
	Vars   map[string]string // resolved variables, for display

	Range    Range // of the study block's header
	Name     Value[string]
	Protocol Value[string] // "2025-07" or "paper": names the set of defaults
	Seed     Value[int64]

	BudgetUSD  Value[float64] // most that may be spent on requests; no limit where it is not Set
	OnComplete Value[string]  // address that is told when an apply has ended; "" for none

	Datasets    []*Dataset
	Models      []*Model
	Activations []*Activations
	Methods     []*Method
	Grids       []*Grid
	Evaluators  []*Evaluator
	Titles      []*Titles
	Evaluations []*Evaluation
	Report      *Report // never nil

	// Settings lists every attribute in the order of the blocks, for "what
	// was run and with which settings".
	Settings []Setting

	files map[string]*hcl.File // sources by name, for snippets
}

// Setting is one attribute as a report shows it.
type Setting struct {
	Name    string // "titles.auto.repetitions", "grid[0].clusters"
	Value   string // as text: 5, gpt-4o, [5, 10]
	Default string // the protocol's, "" where it has none
	Origin  string // "studies/r1.hcl:31", "" where the study does not say
}

// Overridden says whether the study departs from its protocol here.
func (s Setting) Overridden() bool {
	return s.Origin != "" && s.Default != "" && s.Value != s.Default
}

// Dataset is a file of responses.
type Dataset struct {
	Name      string
	Range     Range
	File      Value[string] // resolved against the study's folder
	NExamples Value[int]    // responses drawn; 0: all
	MinWords  Value[int]    // shorter sentences are dropped
	Truncated Value[string] // "keep" or "drop": responses cut off while thinking
}

// Model is a checkpoint whose activations on a dataset are clustered.
type Model struct {
	Name      string
	Range     Range
	Source    Value[string] // hub id, local directory (resolved) or "builtin:tiny"
	Revision  Value[string] // of a hub id: branch, tag or commit
	Dataset   *Dataset      // nil only in a study with errors
	Layers    Value[[]int]  // decoder blocks, from 0
	Precision Value[string] // "f32", "bf16", "f16" or "int8"
	Span      Value[string] // "with_previous" or "exact"
	AddBOS    Value[string] // "auto", "true", "false"
	MaxTokens Value[int]    // 0: no limit
	Center    Value[bool]   // subtract the mean vector
	Normalize Value[bool]   // scale rows to unit length

	local bool // the source is a directory
}

// FromHub reports whether the source names a model on the Hugging Face hub.
func (m *Model) FromHub() bool {
	return !m.local && !strings.HasPrefix(m.Source.V, "builtin:")
}

// Activations are matrices that another program computed.
type Activations struct {
	Name       string
	Range      Range
	Model      Value[string] // the name of the model they come from; default: the label
	Sentences  Value[string] // JSONL, one line a row
	Files      []LayerFile   // by layer, ascending
	Centered   Value[bool]   // the rows already had their mean subtracted
	Normalized Value[bool]   // the rows already have unit length
	Center     Value[bool]
	Normalize  Value[bool]
}

// LayerFile holds the rows of one layer.
type LayerFile struct {
	Layer int
	File  Value[string] // safetensors, npy or npz, [sentences, hidden]
	Mean  Value[string] // the mean vector, [hidden]; not Set where not given
}

// Method changes options of a clustering method from their defaults. Options
// holds what the study sets, as int64, float64, string or bool.
type Method struct {
	Name    string
	Range   Range
	Options map[string]Value[any]
}

// Grid asks for clusterings: every model × layer × method × number of
// clusters. Grids of a study add up; cells that several ask for are made once.
type Grid struct {
	Range    Range
	Models   []string        // labels of model and activations blocks, in file order if not given
	Layers   Value[[]int]    // nil: all of each model
	Methods  Value[[]string] // names in Options.Methods
	Clusters Value[[]int]    // at least 2 each
	Seeds    Value[[]int64]  // other seeds to train with as well, to see how stable a clustering is
}

// Evaluator is somebody who answers prompts.
type Evaluator struct {
	Name                string
	Range               Range
	Provider            Value[string] // "openai" (and compatible servers) or "lexical"
	Model               Value[string] // "lexical" for the lexical judge
	BaseURL             Value[string] // no slash at the end; "" for the lexical judge
	APIKeyEnv           Value[string] // the variable's name, never the key; "" for the lexical judge
	Temperature         Value[float64]
	HasTemperature      bool          // false: 0 for models that take one
	ReasoningEffort     Value[string] // "": not sent
	MaxCompletionTokens Value[int]    // 0: chosen per prompt
	Mode                Value[string] // "batch" or "direct"
	Concurrency         Value[int]    // direct requests under way at once

	MaxEnqueued Value[int]     // prompt tokens that may be in batches at a time; 0: learned
	Retries     Value[int]     // how often an answer that cannot be used is asked for again
	Price       Price          // the list price of the model, if there is one, where it is not Given
	MaxCostUSD  Value[float64] // most that may be spent on its requests; no limit where it is not Set
}

// Price is what an evaluator costs where that is not the list price, in US
// dollars per million tokens.
type Price struct {
	Input, Output Value[float64]
	BatchDiscount Value[float64] // taken off in batches, 0 to 1
}

// Given reports whether the study says what the evaluator costs.
func (p Price) Given() bool { return p.Input.Set && p.Output.Set }

// Titles asks an evaluator to name clusters, or takes their names from a file.
type Titles struct {
	Name                string
	Range               Range
	File                Value[string] // resolved against the study's folder; not Set where an evaluator is asked
	Evaluator           *Evaluator    // nil with a File, and in a study with errors
	DescriptionExamples Value[int]    // sentences shown per cluster
	Repetitions         Value[int]
	TraceExamples       Value[int]    // whole traces shown
	ExampleCategories   Value[int]    // 0 to 5
	Prompt              Value[string] // wording of the question; "": the shipped one
}

// Evaluation grades every titles × judge pair of its lists.
type Evaluation struct {
	Name    string
	Range   Range
	Titles  []*Titles
	Judges  []*Evaluator
	Metrics Value[[]string] // of "accuracy", "completeness", "orthogonality"

	Accuracy struct {
		Inside, Outside Value[int]    // sentences per cluster from it and from the others
		Explanations    Value[string] // those of the evaluation, if not said otherwise
		Prompt          Value[string] // wording of the question; "": the shipped one
	}
	Completeness struct {
		Examples Value[int]    // sentences; -1: all
		Mode     Value[string] // "assign" or "fit"
		Prompt   Value[string]
	}
	Orthogonality struct {
		Threshold   Value[float64]
		Repetitions Value[string] // "first" or "each": whose titles are compared
		Prompt      Value[string]
	}
	// Explanations says which verdicts about sentences are explained: "all",
	// "sample" (those of the first repetition) or "none".
	Explanations Value[string]
	HeldOut      Value[bool]   // sentences that the titler saw are not asked about
	ChunkSize    Value[int]    // sentences per prompt, 1 to 50
	Labels       Value[string] // "trained" or "predicted"
}

// Report is where results go.
type Report struct {
	Range   Range
	Dir     Value[string]   // resolved against the study's folder
	Figures Value[[]string] // of "pdf", "svg"; may be empty
}

// MethodSpec describes a clustering method to the decoder.
type MethodSpec struct {
	Name      string
	Options   []OptionSpec
	Available bool
	Null      bool   // not one that a grid takes unless it is named
	Why       string // a sentence: why it is not available
}

// OptionSpec describes one option of a method. Min and Max, both inclusive,
// count for numbers unless both are 0; a Max below Min is none.
type OptionSpec struct {
	Name     string
	Kind     string // "int", "float", "string", "bool"
	Default  any
	Min, Max float64
	Doc      string
}

// Options are what a study is read with besides its file.
type Options struct {
	Vars     []string // "name=value", from --var; later ones win
	VarFiles []string // from --var-file, HCL or (ending in .json) JSON; later ones win
	Environ  []string // "CLUSTERFLOW_VAR_name=value"; other entries are ignored
	Methods  []MethodSpec
}
