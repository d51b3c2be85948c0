package studies

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the shipped studies name and do not bring.
var lacking = map[string]map[string]string{
	"demo":        nil,
	"r1-llama-8b": {"data/responses_deepseek-r1-distill-llama-8b.json": "[]"},
	"r1-1.5b":     {"data/responses_deepseek-r1-distill-qwen-1.5b.json": "[]"},
	"models": {
		"data/responses_deepseek-r1-distill-llama-8b.json":   "[]",
		"data/responses_deepseek-r1-distill-qwen-1.5b.json":  "[]",
		"checkpoints/DeepSeek-R1-Distill-Qwen-1.5B/":         "",
		"checkpoints/Qwen2.5-Math-1.5B/":                     "",
		"checkpoints/DeepSeek-R1-Distill-Llama-8B/weights.x": "",
	},
}

func TestTemplatesAreRight(t *testing.T) {
	onDisk, err := filepath.Glob("*.hcl")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, tmpl := range Templates() {
		listed = append(listed, tmpl.File)
		t.Run(tmpl.Name, func(t *testing.T) {
			files := map[string]string{}
			for path, content := range lacking[tmpl.Name] {
				files[path] = content
			}
			for path, content := range Template(tmpl.Name) {
				files[path] = string(content)
			}
			dir := write(t, files)
			path := filepath.Join(dir, tmpl.File)
			s := load(t, path, Options{Methods: everyMethod()})
			if s.Name.V != tmpl.Name {
				t.Errorf("the study's name is %q", s.Name.V)
			}
			if len(s.Evaluations) == 0 || len(s.Titles) == 0 {
				t.Error("nothing is evaluated")
			}
			src := []byte(files[tmpl.File])
			if formatted, diags := Format(src); diags.HasErrors() || !bytes.Equal(formatted, src) {
				t.Errorf("the file is not as `clusterflow fmt` leaves it: %v\n%s", diags, formatted)
			}
			if strings.Contains(files[tmpl.File], "\t") {
				t.Error("the file has tabs")
			}
		})
	}
	if slices.Sort(listed); !slices.Equal(listed, onDisk) {
		t.Errorf("templates are %v, files are %v", listed, onDisk)
	}
	if Template("nothing") != nil {
		t.Error("an unknown template has files")
	}
}

// everyMethod are the methods that shipped studies may name, with the options
// that they set.
func everyMethod() []MethodSpec {
	var all []MethodSpec
	for _, name := range []string{
		"spherical_kmeans", "pca_kmeans", "gmm", "pca_gmm", "agglomerative", "pca_agglomerative", "sae_topk",
		"random", "tfidf_kmeans", "category",
	} {
		all = append(all, MethodSpec{Name: name, Available: true, Options: []OptionSpec{{Name: "n_init", Kind: "int", Default: int64(1), Min: 1, Max: 1000}}})
	}
	return all
}

func TestLlamaOffline(t *testing.T) {
	files := lacking["r1-llama-8b"]
	dir := write(t, files)
	path := filepath.Join(dir, "r1-llama-8b.hcl")
	if err := os.WriteFile(path, Template("r1-llama-8b")["r1-llama-8b.hcl"], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "weights"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := load(t, path, Options{Vars: []string{"offline=true", "checkpoint=./weights"}})
	if s.Evaluators[1].Provider.V != "lexical" || s.Models[0].Source.V != filepath.Join(dir, "weights") {
		t.Errorf("provider %s, source %s", s.Evaluators[1].Provider.V, s.Models[0].Source.V)
	}
}

func TestModelsShareDepths(t *testing.T) {
	dir := write(t, lacking["models"])
	path := filepath.Join(dir, "models.hcl")
	if err := os.WriteFile(path, Template("models")["models.hcl"], 0o644); err != nil {
		t.Fatal(err)
	}
	s := load(t, path, Options{})
	// A quarter, half and three quarters of 28, 28 and 32 blocks.
	for i, want := range []string{"[7, 14, 21]", "[7, 14, 21]", "[8, 16, 24]"} {
		if got := show(s.Models[i].Layers.V); got != want {
			t.Errorf("%s has layers %s, want %s", s.Models[i].Name, got, want)
		}
	}
	if got := show(s.Grids[1].Layers.V); got != "[14, 16]" {
		t.Errorf("the middle layers are %s", got)
	}
	s = load(t, path, Options{Vars: []string{"depths=[0.5]", "clusters=[10, 20]"}})
	if got := show(s.Grids[1].Clusters.V); got != "[10, 20, 15, 25]" {
		t.Errorf("clusters are %s", got)
	}
}

func TestDemoBringsItsCorpus(t *testing.T) {
	files := Template("demo")
	var traces []struct {
		Full string `json:"full_response"`
	}
	if err := json.Unmarshal(files["demo/traces.json"], &traces); err != nil || len(traces) == 0 || traces[0].Full == "" {
		t.Errorf("%d traces: %v", len(traces), err)
	}
	if len(files["demo/kinds.jsonl"]) == 0 {
		t.Error("no kinds")
	}
}

func TestFormat(t *testing.T) {
	tests := []struct{ in, want string }{
		{"study {\nname=\"x\"\n  protocol   = \"paper\" # why\n}\n", "study {\n  name     = \"x\"\n  protocol = \"paper\" # why\n}\n"},
		{"", ""},
		{"# only a comment", "# only a comment"},
	}
	for _, test := range tests {
		got, diags := Format([]byte(test.in))
		if diags.HasErrors() || string(got) != test.want {
			t.Errorf("Format(%q) = %q, %v", test.in, got, diags)
		}
		if again, _ := Format(got); !bytes.Equal(again, got) {
			t.Errorf("formatting %q again changes it", got)
		}
	}
	broken := []byte("study {\n")
	if got, diags := Format(broken); !diags.HasErrors() || !bytes.Equal(got, broken) {
		t.Errorf("a broken file becomes %q, %v", got, diags)
	}
}
