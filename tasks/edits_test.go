package tasks_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// everything is a study in which every attribute of the language stands with a
// value that can be changed.
const everything = `
study {
  name     = "s"
  protocol = "2025-07"
  seed     = 42
  budget_usd = 10
  on_complete = "https://hooks.example/a"
}
dataset "d" {
  file       = "responses.json"
  n_examples = 9
  min_words  = 3
  truncated  = "keep"
}
dataset "e" {
  file = "others.json"
}
model "m" {
  source     = "./qwen"
  dataset    = dataset.d
  layers     = [0, 1]
  precision  = "f32"
  span       = "with_previous"
  add_bos    = "auto"
  max_tokens = 900
  center     = true
  normalize  = true
}
activations "x" {
  model      = "org/other"
  sentences  = "x.jsonl"
  files      = { 4 = "x4.npy" }
  mean       = { 4 = "mean.npy" }
  centered   = false
  normalized = false
  center     = true # of x
  normalize  = true # of x
}
method "spherical_kmeans" {
}
method "pca_kmeans" {
}
method "tfidf_kmeans" {
}
method "sae_topk" {
}
method "gmm" {
}
method "pca_gmm" {
}
method "pca_agglomerative" {
}
grid {
  models   = [model.m]
  layers   = [0]
  methods  = ["spherical_kmeans"]
  clusters = [2]
}
grid {
  models   = [model.m, activations.x]
  methods  = ["pca_kmeans"]
  clusters = [3]
}
grid {
  models   = [model.m]
  layers   = [1]
  methods  = ["sae_topk", "gmm", "pca_gmm", "agglomerative", "pca_agglomerative", "random", "tfidf_kmeans", "category"]
  clusters = [5]
}
evaluator "titler" {
  provider              = "openai"
  model                 = "titler-1"
  base_url              = "https://titles.example/v1"
  api_key_env           = "TITLER_KEY"
  temperature           = 0.25
  reasoning_effort      = "low"
  max_completion_tokens = 800
  mode                  = "batch"
  max_cost_usd          = 7
  max_enqueued_tokens   = 90000
  retries               = 1
  price {
    input          = 1
    output         = 4
    batch_discount = 0.125
  }
}
evaluator "judge" {
  model       = "judge-1"
  base_url    = "https://grades.example/v1"
  temperature = 0.5
}
evaluator "other" {
  provider = "lexical"
}
titles "auto" {
  evaluator            = evaluator.titler
  description_examples = 8
  repetitions          = 2
  n_trace_examples     = 1
  example_categories   = 1
  prompt               = file("title.tmpl")
}
titles "hand" {
  file = "hand.jsonl"
}
titles "more" {
  evaluator = evaluator.other
}
evaluation "main" {
  titles     = [titles.auto, titles.hand]
  judges     = [evaluator.judge]
  chunk_size = 20
  labels     = "trained"
  held_out   = false
  explanations = "sample"
  accuracy {
    inside       = 5
    outside      = 6
    explanations = "all"
    prompt       = "First\n{{.Data}}"
  }
  completeness {
    examples = 12
    mode     = "assign"
    prompt   = "Second\n{{.Data}}"
  }
  metrics = ["accuracy", "completeness", "orthogonality"]
  orthogonality {
    threshold   = 0.5
    repetitions = "first"
    prompt      = "Third\n{{.Data}}"
  }
}
report {
  dir     = "out"
  figures = ["svg"]
}
`

// everythingDir is a folder with the files that the study names, and some with
// the same content elsewhere.
func everythingDir(t testing.TB) string {
	dir := t.TempDir()
	rows := shortResponses(12)
	write(t, dir, "responses.json", rows)
	write(t, dir, "elsewhere/same.json", rows)
	rows[0].Full = "<think>This one is new. All else is as before.</think>"
	write(t, dir, "edited.json", rows)
	for name, title := range map[string]string{"hand.jsonl": "First", "elsewhere/hand.jsonl": "First", "hand2.jsonl": "Second"} {
		write(t, dir, name, fmt.Sprintf("{\"cluster\": 0, \"title\": %q, \"description\": \"It is the first.\"}\n", title))
	}
	write(t, dir, "title.tmpl", "Name these.\n{{.Data}}\n{{.Form}}")
	write(t, dir, "other.tmpl", "Name those.\n{{.Data}}\n{{.Form}}")
	write(t, dir, "others.json", shortResponses(7))
	makeCheckpoint(t, dir+"/qwen", "qwen2", 1)
	makeCheckpoint(t, dir+"/elsewhere/qwen", "qwen2", 1)
	makeCheckpoint(t, dir+"/edited/qwen", "qwen2", 2)
	t.Setenv("HF_HUB_CACHE", dir+"/hub")
	t.Setenv("HF_HUB_OFFLINE", "1")
	repo := "hub/models--org--qwen/"
	for i, branch := range []string{"main", "v1", "edited"} {
		write(t, dir, repo+"refs/"+branch, branch+"-commit")
		makeCheckpoint(t, dir+"/"+repo+"snapshots/"+branch+"-commit", "qwen2", 1+int64(i)/2)
	}
	var sentences strings.Builder
	for i := range 6 {
		fmt.Fprintf(&sentences, "{\"text\": \"This is sentence %d.\"}\n", i)
	}
	write(t, dir, "x.jsonl", sentences.String())
	write(t, dir, "elsewhere/x.jsonl", sentences.String())
	write(t, dir, "edited.jsonl", strings.Replace(sentences.String(), "sentence 3", "line 3", 1))
	for name, seed := range map[string]int64{"x4.npy": 1, "elsewhere/x4.npy": 1, "edited.npy": 2} {
		write(t, dir, name, npy(randomMatrix(6, 4, seed)))
	}
	for name, seed := range map[string]int64{"mean.npy": 3, "elsewhere/mean.npy": 3, "edited-mean.npy": 4} {
		write(t, dir, name, npy(randomMatrix(1, 4, seed)))
	}
	return dir
}

// edit is one change of the study "everything". Of the nodes that both studies
// have, exactly those that changes names must get other key lines: by kind, or
// by kind and a part of the address.
type edit struct {
	setting string // the name in Study.Settings
	old     string // text of the study
	new     string
	changes []string
	refused bool     // the language knows no other value in this release
	rename  []string // label, new label: addresses that differ by it are the same node
}

func edits(dir string) []edit {
	report := "report"
	data := []string{"sentences", report}
	titling := []string{"submit-titles", report}
	grading := []string{"submit-eval", report}
	scoring := []string{"submit-eval", "score", report}
	return []edit{
		{setting: "study.name", old: `"s"`, new: `"other"`, changes: []string{report}},
		{setting: "study.protocol", old: `"2025-07"`, new: `"paper"`, changes: []string{report}}, // all that it sets stands in the study
		{setting: "study.prompts", old: "seed     = 42", new: `prompts = "v0"`, refused: true},
		{setting: "study.seed", old: "seed     = 42", new: "seed = 43", changes: []string{"sentences", "train", "submit-titles", "submit-eval", report}},

		{setting: "dataset.d.file", old: `"responses.json"`, new: `"edited.json"`, changes: []string{"sentences"}},
		{setting: "dataset.d.file", old: `"responses.json"`, new: `"elsewhere/same.json"`},
		{setting: "dataset.d.file", old: `"responses.json"`, new: fmt.Sprintf("%q", filepath.Join(dir, "responses.json"))},
		{setting: "dataset.d.n_examples", old: "n_examples = 9", new: "n_examples = 10", changes: data},
		{setting: "dataset.d.min_words", old: "min_words  = 3", new: "min_words = 2", changes: data},
		{setting: "dataset.d.truncated", old: `"keep"`, new: `"drop"`, changes: data},
		{setting: "", old: `dataset "d"`, new: `dataset "c"`, changes: []string{report}}, // with the reference, below

		{setting: "model.m.source", old: `"./qwen"`, new: `"./elsewhere/qwen"`},
		{setting: "model.m.source", old: `"./qwen"`, new: `"./edited/qwen"`, changes: []string{"extract"}},
		{setting: "model.m.source", old: `"./qwen"`, new: `"builtin:tiny"`, changes: []string{"sentences m/", "extract", report}},
		{setting: "model.m.source", old: `"./qwen"`, new: `"org/qwen"`},
		{setting: "model.m.revision", old: `"./qwen"`, new: "\"org/qwen\"\n revision = \"v1\""},
		{setting: "model.m.revision", old: `"./qwen"`, new: "\"org/qwen\"\n revision = \"edited\"", changes: []string{"extract"}},
		{setting: "model.m.dataset", old: "dataset.d\n", new: "dataset.e\n", changes: data},
		{setting: "model.m.layers", old: "[0, 1]", new: "[0, 1, 2]", changes: []string{report}},
		{setting: "model.m.precision", old: `"f32"`, new: `"bf16"`, changes: []string{"extract m/", report}},
		{setting: "model.m.precision", old: `"f32"`, new: `"int8"`, changes: []string{"extract m/", report}},
		{setting: "model.m.span", old: `"with_previous"`, new: `"exact"`, changes: data},
		{setting: "model.m.add_bos", old: `add_bos    = "auto"`, new: `add_bos = false`, changes: data},
		{setting: "model.m.max_tokens", old: "max_tokens = 900", new: "max_tokens = 800", changes: data},
		{setting: "model.m.center", old: "center     = true\n", new: "center = false\n", changes: []string{"pca m/", "linkage m/1/linkage", "train m/", report}},
		{setting: "model.m.normalize", old: "normalize  = true\n", new: "normalize = false\n", changes: []string{"pca m/", "linkage m/1/linkage", "train m/", report}},
		{setting: "", old: `model "m"`, new: `model "n"`, changes: []string{"titles m/0/", "titles m/1/", report}, rename: []string{"m", "n"}},

		{setting: "activations.x.model", old: `"org/other"`, new: `"org/another"`, changes: []string{report}},
		{setting: "activations.x.sentences", old: `"x.jsonl"`, new: `"edited.jsonl"`, changes: []string{"import x/sentences"}},
		{setting: "activations.x.sentences", old: `"x.jsonl"`, new: `"elsewhere/x.jsonl"`},
		{setting: "activations.x.files", old: `"x4.npy"`, new: `"edited.npy"`, changes: []string{"import x/4/rows"}},
		{setting: "activations.x.files", old: `"x4.npy"`, new: `"elsewhere/x4.npy"`},
		{setting: "activations.x.files", old: "4 = \"x4.npy\" }\n  mean       = { 4 =", new: "5 = \"x4.npy\" }\n  mean = { 5 =", changes: []string{"titles x/4/", report}, rename: []string{"4", "5"}},
		{setting: "activations.x.mean", old: `"mean.npy"`, new: `"edited-mean.npy"`, changes: []string{"import x/4/rows"}},
		{setting: "activations.x.mean", old: `"mean.npy"`, new: `"elsewhere/mean.npy"`},
		{setting: "activations.x.mean", old: `mean       = { 4 = "mean.npy" }`, new: "", changes: []string{"import x/4/rows"}},
		{setting: "activations.x.centered", old: "centered   = false", new: "centered = true", changes: []string{"import x/4/rows", "pca x/", "train x/", report}},
		{setting: "activations.x.normalized", old: "normalized = false", new: "normalized = true", changes: []string{"import x/4/rows", report}},
		{setting: "activations.x.center", old: "center     = true # of x", new: "center = false", changes: []string{"pca x/", "train x/", report}},
		{setting: "activations.x.normalize", old: "normalize  = true # of x", new: "normalize = false", changes: []string{"pca x/", "train x/", report}},
		{setting: "", old: `activations "x"`, new: `activations "y"`, changes: []string{"titles x/4/", report}, rename: []string{"x", "y"}},

		{setting: "grid[1].models", old: "[model.m, activations.x]", new: "[model.m]", changes: []string{report}},
		{setting: "grid[0].layers", old: "layers   = [0]\n", new: "layers = [0, 1]\n", changes: []string{report}},
		{setting: "grid[0].methods", old: `["spherical_kmeans"]`, new: `["spherical_kmeans", "pca_kmeans"]`, changes: []string{report}},
		{setting: "grid[0].clusters", old: "[2]", new: "[2, 4]", changes: []string{report}},
		{setting: "grid[0].seeds", old: "clusters = [2]", new: "clusters = [2]\nseeds = [42, 43, 44]", changes: []string{report}},

		{setting: "evaluator.titler.provider", old: "provider              = \"openai\"", new: "provider = \"lexical\"\n}\nlocals {", changes: []string{"submit-titles", "await-titles", report}},
		{setting: "evaluator.titler.model", old: `"titler-1"`, new: `"titler-2"`, changes: []string{"submit-titles", "await-titles", report}},
		{setting: "evaluator.titler.base_url", old: `"https://titles.example/v1"`, new: `"https://titles2.example/v1"`, changes: titling},
		{setting: "evaluator.titler.api_key_env", old: `"TITLER_KEY"`, new: `"ANOTHER_KEY"`, changes: []string{report}},
		{setting: "evaluator.titler.temperature", old: "0.25", new: "0.75", changes: titling},
		{setting: "evaluator.titler.temperature", old: "temperature           = 0.25", new: "", changes: titling},
		{setting: "evaluator.titler.reasoning_effort", old: `"low"`, new: `"high"`, changes: titling},
		{setting: "evaluator.titler.max_completion_tokens", old: "800", new: "801", changes: titling},
		{setting: "evaluator.titler.mode", old: `"batch"`, new: `"direct"`, changes: []string{report}}, // which says how they were asked
		{setting: "evaluator.judge.concurrency", old: `"judge-1"`, new: "\"judge-1\"\nconcurrency = 3"},
		{setting: "", old: `"titler"`, new: `"namer"`, changes: []string{report}}, // no address has a titler's label
		{setting: "evaluator.judge.model", old: `"judge-1"`, new: `"judge-2"`, changes: []string{"submit-eval", "await-eval", report}},
		{setting: "evaluator.judge.base_url", old: `"https://grades.example/v1"`, new: `"https://grades2.example/v1"`, changes: grading},
		{setting: "evaluator.judge.base_url", old: `"https://grades.example/v1"`, new: `"https://GRADES.example/v1"`, changes: []string{report}}, // which shows it
		{setting: "evaluator.judge.temperature", old: "0.5\n}", new: "0.75\n}", changes: grading},
		{setting: "evaluator.judge.reasoning_effort", old: `"judge-1"`, new: "\"judge-1\"\nreasoning_effort = \"low\"", changes: grading},
		{setting: "evaluator.judge.max_completion_tokens", old: `"judge-1"`, new: "\"judge-1\"\nmax_completion_tokens = 900", changes: grading},
		{setting: "", old: `evaluator "judge"`, new: `evaluator "grader"`, changes: []string{report}, rename: []string{"judge", "grader"}},

		{setting: "titles.auto.evaluator", old: "evaluator.titler", new: "evaluator.other", changes: []string{"submit-titles", "await-titles", report}},
		{setting: "titles.auto.description_examples", old: "description_examples = 8", new: "description_examples = 9", changes: titling},
		{setting: "titles.auto.repetitions", old: "repetitions          = 2", new: "repetitions = 3", changes: []string{"submit-titles", "score /auto/", report}},
		{setting: "titles.hand.file", old: `"hand.jsonl"`, new: `"elsewhere/hand.jsonl"`},
		{setting: "titles.hand.file", old: `"hand.jsonl"`, new: `"hand2.jsonl"`, changes: []string{"titles"}},
		{setting: "titles.auto.prompt", old: `"title.tmpl"`, new: `"other.tmpl"`, changes: titling},
		{setting: "titles.auto.n_trace_examples", old: "n_trace_examples     = 1", new: "n_trace_examples = 2", changes: titling},
		{setting: "titles.auto.example_categories", old: "example_categories   = 1", new: "example_categories = 2", changes: titling},
		{setting: "", old: `titles "auto"`, new: `titles "named"`, changes: []string{report}, rename: []string{"auto", "named"}},

		{setting: "evaluation.main.titles", old: "[titles.auto, titles.hand]", new: "[titles.auto, titles.hand, titles.more]", changes: []string{report}},
		{setting: "evaluation.main.judges", old: "[evaluator.judge]", new: "[evaluator.judge, evaluator.other]", changes: []string{report}},
		{setting: "evaluation.main.metrics", old: `["accuracy", "completeness", "orthogonality"]
  orthogonality {
    threshold   = 0.5
    repetitions = "first"
    prompt      = "Third\n{{.Data}}"
  }
`, new: "[\"accuracy\", \"completeness\"]\n", changes: scoring},
		{setting: "evaluation.main.metrics", old: `"accuracy", "completeness", `, new: `"completeness", "accuracy", `, changes: scoring},
		{setting: "evaluation.main.accuracy.inside", old: "inside       = 5", new: "inside = 4", changes: grading},
		{setting: "evaluation.main.accuracy.outside", old: "outside      = 6", new: "outside = 4", changes: grading},
		{setting: "evaluation.main.accuracy.explanations", old: `"all"`, new: `"none"`, changes: grading},
		{setting: "evaluation.main.accuracy.prompt", old: `First`, new: `Now`, changes: grading},
		{setting: "evaluation.main.completeness.prompt", old: `Second`, new: `Now`, changes: grading},
		{setting: "evaluation.main.orthogonality.prompt", old: `Third`, new: `Now`, changes: grading},
		{setting: "evaluation.main.completeness.examples", old: "examples = 12", new: `examples = "all"`, changes: grading},
		{setting: "evaluation.main.completeness.mode", old: `"assign"`, new: `"fit"`, changes: scoring},
		{setting: "evaluation.main.orthogonality.threshold", old: "threshold   = 0.5", new: "threshold = 0.6", changes: []string{"score", report}},
		{setting: "evaluation.main.orthogonality.repetitions", old: `"first"`, new: `"each"`, changes: scoring},
		{setting: "evaluation.main.chunk_size", old: "chunk_size = 20", new: "chunk_size = 21", changes: grading},
		{setting: "evaluation.main.labels", old: `labels     = "trained"`, new: `labels = "predicted"`, changes: []string{"submit-eval", "report"}},
		{setting: "evaluation.main.held_out", old: "held_out   = false", new: "held_out = true", changes: grading},
		{setting: "evaluation.main.explanations", old: `explanations = "sample"`, new: `explanations = "none"`, changes: grading},
		{setting: "evaluation.main.prompts", old: "held_out   = false", new: `prompts = "v0"`, refused: true},
		{setting: "titles.auto.prompts", old: "example_categories   = 1", new: `prompts = "v0"`, refused: true},
		{setting: "", old: `evaluation "main"`, new: `evaluation "second"`, changes: []string{report}},

		{setting: "study.budget_usd", old: "budget_usd = 10", new: "budget_usd = 11"},
		{setting: "study.on_complete", old: "https://hooks.example/a", new: "https://hooks.example/b"},
		{setting: "evaluator.titler.max_cost_usd", old: "max_cost_usd          = 7", new: "max_cost_usd = 8"},
		{setting: "evaluator.titler.max_enqueued_tokens", old: "max_enqueued_tokens   = 90000", new: "max_enqueued_tokens = 80000"},
		{setting: "evaluator.titler.retries", old: "retries               = 1", new: "retries = 2"},
		{setting: "evaluator.titler.price.input", old: "input          = 1", new: "input = 2"},
		{setting: "evaluator.titler.price.output", old: "output         = 4", new: "output = 5"},
		{setting: "evaluator.titler.price.batch_discount", old: "batch_discount = 0.125", new: "batch_discount = 0.5"},
		{setting: "report.dir", old: `"out"`, new: `"elsewhere/out"`},
		{setting: "report.figures", old: `["svg"]`, new: `["pdf"]`, changes: []string{report}},
	}
}
