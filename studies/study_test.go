package studies

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// write puts files into a fresh folder and returns it. A path that ends in /
// makes a folder.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, content := range files {
		full := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasSuffix(path, "/") {
			err = os.MkdirAll(full, 0o755)
		} else {
			err = os.WriteFile(full, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// load reads a study that has to be right.
func load(t testing.TB, path string, opt Options) *Study {
	t.Helper()
	if opt.Methods == nil {
		opt.Methods = testMethods()
	}
	s, diags := Load(path, opt)
	if len(diags) > 0 {
		t.Fatalf("%s:\n%s", path, rendered(t, s, diags))
	}
	return s
}

const wholeStudy = `
study {
  name     = "r1-1.5b"
  protocol = "2025-07"
  seed     = 9007199254740993
  prompts  = "v1"
}

variable "judge" {
  default = "gpt-4o"
}

dataset "responses" {
  file       = "data/responses.json"
  n_examples = "all"
  min_words  = 4
  truncated  = "drop"
}

model "r1-qwen" {
  source     = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
  layers     = [4, 8, 12]
  precision  = "bf16"
  span       = "exact"
  add_bos    = true
  max_tokens = 2048
  center     = false
  normalize  = false
}

model "local" {
  source  = "./checkpoint"
  dataset = dataset.responses
  layers  = range(0, 4, 2)
}

activations "mine" {
  model      = "org/other"
  sentences  = "s.jsonl"
  files      = { 16 = "l16.safetensors", 8 = "l8.npy" }
  mean       = { 8 = "m8.npy" }
  centered   = true
  normalized = true
  center     = false
  normalize  = false
}

method "spherical_kmeans" {
  n_init = 10
  tol    = 0.5
  init   = "random"
  greedy = false
  offset = -3
}

grid {
  methods  = ["spherical_kmeans", "pca_kmeans"]
  clusters = range(5, 20, 5)
}

grid {
  models  = [activations.mine, model.local]
  layers  = [8, 2]
  methods = ["pca_kmeans"]
}

evaluator "titler" {
  provider = "lexical"
}

evaluator "judge" {
  model                 = var.judge
  base_url              = "http://localhost:8080/v1/"
  api_key_env           = "MY_KEY"
  temperature           = 0
  reasoning_effort      = "low"
  max_completion_tokens = 900
  mode                  = "batch"
}

titles "auto" {
  evaluator            = evaluator.titler
  description_examples = 20
  repetitions          = 2
  n_trace_examples     = 0
  example_categories   = 5
}

evaluation "main" {
  titles       = [titles.auto]
  judges       = [evaluator.judge, evaluator.titler]
  metrics      = ["accuracy", "orthogonality"]
  chunk_size   = 25
  labels       = "trained"
  explanations = "all"
  held_out     = false

  accuracy {
    inside  = 30
    outside = 70
  }
  orthogonality {
    threshold   = 0.25
    repetitions = "each"
  }
}

evaluation "other" {
  titles = [titles.auto]
  judges = [evaluator.third]

  completeness {
    examples = "all"
    mode     = "fit"
  }
}

evaluator "third" {
  model = "llama"
}

report {
  dir     = "out"
  figures = []
}
`

func wholeStudyDir(t testing.TB) string {
	return write(t, map[string]string{
		"study.hcl": wholeStudy, "data/responses.json": "[]", "s.jsonl": "", "checkpoint/": "",
		"l16.safetensors": "", "l8.npy": "", "m8.npy": "",
	})
}

func TestEveryBlockDecodes(t *testing.T) {
	dir := wholeStudyDir(t)
	s := load(t, filepath.Join(dir, "study.hcl"), Options{})

	check := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %#v, want %#v", what, got, want)
		}
	}
	check("name", s.Name.V, "r1-1.5b")
	check("protocol", s.Protocol.V, "2025-07")
	check("seed, beyond what float64 can tell apart", s.Seed.V, int64(9007199254740993))
	check("variables", s.Vars, map[string]string{"judge": "gpt-4o"})

	ds := s.Datasets[0]
	check("file", ds.File.V, filepath.Join(dir, "data", "responses.json"))
	check("n_examples", ds.NExamples.V, 0)
	check("min_words", ds.MinWords.V, 4)
	check("truncated", ds.Truncated.V, "drop")

	m := s.Models[0]
	check("source", m.Source.V, "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B")
	check("the only dataset goes without saying", m.Dataset, ds)
	check("layers", m.Layers.V, []int{4, 8, 12})
	check("precision", m.Precision.V, "bf16")
	check("span", m.Span.V, "exact")
	check("add_bos", m.AddBOS.V, "true")
	check("max_tokens", m.MaxTokens.V, 2048)
	check("center, normalize", []bool{m.Center.V, m.Normalize.V}, []bool{false, false})
	check("local source", s.Models[1].Source.V, filepath.Join(dir, "checkpoint"))
	check("dataset", s.Models[1].Dataset, ds)
	check("layers by range", s.Models[1].Layers.V, []int{0, 2})

	a := s.Activations[0]
	check("activations model", a.Model.V, "org/other")
	check("sentences", a.Sentences.V, filepath.Join(dir, "s.jsonl"))
	check("layer files", []any{len(a.Files), a.Files[0].Layer, a.Files[1].Layer}, []any{2, 8, 16})
	check("layer file", a.Files[1].File.V, filepath.Join(dir, "l16.safetensors"))
	check("mean", a.Files[0].Mean.V, filepath.Join(dir, "m8.npy"))
	check("no mean", a.Files[1].Mean.Set, false)
	check("centered …", []bool{a.Centered.V, a.Normalized.V, a.Center.V, a.Normalize.V}, []bool{true, true, false, false})

	options := map[string]any{}
	for name, v := range s.Methods[0].Options {
		options[name] = v.V
	}
	check("options", options, map[string]any{"n_init": int64(10), "tol": 0.5, "init": "random", "greedy": false, "offset": int64(-3)})

	check("all models", s.Grids[0].Models, []string{"r1-qwen", "local", "mine"})
	check("all layers", s.Grids[0].Layers.V, []int(nil))
	check("methods", s.Grids[0].Methods.V, []string{"spherical_kmeans", "pca_kmeans"})
	check("clusters", s.Grids[0].Clusters.V, []int{5, 10, 15})
	check("models", s.Grids[1].Models, []string{"mine", "local"})
	check("grid layers", s.Grids[1].Layers.V, []int{8, 2})
	check("default clusters", s.Grids[1].Clusters.V, []int{5, 10, 15, 20, 25, 30, 35, 40, 45, 50})

	e := s.Evaluators[0]
	check("lexical", []any{e.Provider.V, e.Model.V, e.BaseURL.V, e.APIKeyEnv.V, e.HasTemperature}, []any{"lexical", "lexical", "", "", false})
	e = s.Evaluators[1]
	check("evaluator", []any{e.Provider.V, e.Model.V, e.BaseURL.V, e.APIKeyEnv.V}, []any{"openai", "gpt-4o", "http://localhost:8080/v1", "MY_KEY"})
	check("settings", []any{e.HasTemperature, e.Temperature.V, e.ReasoningEffort.V, e.MaxCompletionTokens.V}, []any{true, 0.0, "low", 900})

	ti := s.Titles[0]
	check("titles", []any{ti.Evaluator, ti.DescriptionExamples.V, ti.Repetitions.V, ti.TraceExamples.V, ti.ExampleCategories.V}, []any{s.Evaluators[0], 20, 2, 0, 5})

	ev := s.Evaluations[0]
	check("titles and judges", []any{ev.Titles, ev.Judges}, []any{[]*Titles{ti}, []*Evaluator{s.Evaluators[1], s.Evaluators[0]}})
	check("metrics", ev.Metrics.V, []string{"accuracy", "orthogonality"})
	check("accuracy", []int{ev.Accuracy.Inside.V, ev.Accuracy.Outside.V}, []int{30, 70})
	check("orthogonality", []any{ev.Orthogonality.Threshold.V, ev.Orthogonality.Repetitions.V}, []any{0.25, "each"})
	check("chunk_size, labels", []any{ev.ChunkSize.V, ev.Labels.V}, []any{25, "trained"})
	check("a block further down", s.Evaluations[1].Judges, []*Evaluator{s.Evaluators[2]})
	check("completeness", []any{s.Evaluations[1].Completeness.Examples.V, s.Evaluations[1].Completeness.Mode.V}, []any{-1, "fit"})

	check("report", []any{s.Report.Dir.V, s.Report.Figures.V}, []any{filepath.Join(dir, "out"), []string{}})
	before, _, _ := strings.Cut(wholeStudy, "range(5, 20, 5)")
	origin := fmt.Sprintf("%s:%d", filepath.Join(dir, "study.hcl"), strings.Count(before, "\n")+1)
	check("origin of clusters", s.Grids[0].Clusters.Origin(), origin)
}

// The numbers are those of reference.md §0, §1, §4 and §5.
func TestDefaultsOfProtocols(t *testing.T) {
	source := func(protocol, labels, accuracy string) string {
		return `
study {
  name     = "x"
  protocol = "` + protocol + `"
}
dataset "d" { 
  file = "d.json" 
}
model "m" {
  source = "builtin:tiny"
  layers = [1]
}
grid {
  methods = ["pca_kmeans"]
}
evaluator "e" {
  model = "m"
}
titles "t" {
  evaluator = evaluator.e
}
evaluation "main" {
  titles = [titles.t]
  judges = [evaluator.e]
  ` + labels + `
  ` + accuracy + `
}
`
	}
	type numbers struct {
		examples, inside, outside, completeness int
		mode, orthogonality                     string
	}
	tests := []struct {
		name, source string
		want         numbers
	}{
		{"2025-07", source("2025-07", "", ""), numbers{500, 100, 100, 500, "assign", "first"}},
		{"paper", source("paper", `labels = "trained"`, ""), numbers{0, 40, 160, 200, "fit", "each"}},
		{"2025-07, 30 a side", source("2025-07", "", "accuracy {\nexamples = 30\n}"), numbers{500, 30, 30, 500, "assign", "first"}},
		{"paper, 50 in all", source("paper", `labels = "trained"`, "accuracy {\nexamples = 50\n}"), numbers{0, 10, 40, 200, "fit", "each"}},
		{"paper, 7 in all", source("paper", `labels = "trained"`, "accuracy {\nexamples = 7\n}"), numbers{0, 1, 6, 200, "fit", "each"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := write(t, map[string]string{"s.hcl": test.source, "d.json": "[]"})
			s := load(t, filepath.Join(dir, "s.hcl"), Options{})
			ev, ti := s.Evaluations[0], s.Titles[0]
			got := numbers{s.Datasets[0].NExamples.V, ev.Accuracy.Inside.V, ev.Accuracy.Outside.V, ev.Completeness.Examples.V, ev.Completeness.Mode.V, ev.Orthogonality.Repetitions.V}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			shared := []any{s.Seed.V, s.Datasets[0].MinWords.V, s.Datasets[0].Truncated.V, s.Models[0].Span.V, s.Models[0].AddBOS.V, s.Models[0].Center.V, s.Models[0].Normalize.V,
				ti.DescriptionExamples.V, ti.Repetitions.V, ti.TraceExamples.V, ti.ExampleCategories.V, ev.Orthogonality.Threshold.V, ev.ChunkSize.V, ev.Labels.V, len(ev.Metrics.V)}
			want := []any{int64(42), 3, "keep", "with_previous", "auto", true, true, 200, 5, 3, 0, 0.5, 50, "trained", 3}
			if !reflect.DeepEqual(shared, want) {
				t.Errorf("shared defaults are %v, want %v", shared, want)
			}
			if got := s.Report.Dir.V; got != filepath.Join(dir, "results", "x") {
				t.Errorf("the report goes to %s", got)
			}
		})
	}
}

func TestSettingsNameWhatDeparts(t *testing.T) {
	dir := wholeStudyDir(t)
	s := load(t, filepath.Join(dir, "study.hcl"), Options{})
	byName := map[string]Setting{}
	for _, set := range s.Settings {
		if _, twice := byName[set.Name]; twice {
			t.Errorf("%s is listed twice", set.Name)
		}
		byName[set.Name] = set
	}
	tests := []struct {
		name, value, def string
		overridden       bool
	}{
		{"study.protocol", `"2025-07"`, `"2025-07"`, false}, // written, but no departure
		{"dataset.responses.n_examples", `"all"`, "500", true},
		{"model.local.span", `"with_previous"`, `"with_previous"`, false},
		{"model.r1-qwen.layers", "[4, 8, 12]", "", false},
		{"grid[0].clusters", "[5, 10, 15]", "[5, 10, 15, 20, 25, 30, 35, 40, 45, 50]", true},
		{"method.spherical_kmeans.n_init", "10", "1", true},
		{"method.spherical_kmeans.max_iter", "300", "300", false},
		{"titles.auto.evaluator", "evaluator.titler", "", false},
		{"evaluation.main.accuracy.inside", "30", "100", true},
		{"evaluation.main.orthogonality.threshold", "0.25", "0.5", true},
		{"evaluation.main.completeness.examples", "500", "500", false},
	}
	for _, test := range tests {
		got := byName[test.name]
		if got.Value != test.value || got.Default != test.def || got.Overridden() != test.overridden {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test)
		}
	}
}
