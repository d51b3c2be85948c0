package studies

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestVariables(t *testing.T) {
	declared := `
variable "text" {
  default = "default"
}
variable "number" {
  type    = number
  default = 1
}
variable "list" {
  type        = list(number)
  default     = [1]
  description = "Numbers"
}
variable "any" {
  default = null
}
variable "needed" {}
variable "loose" {
  default = [1, 2]
}
`
	files := map[string]string{
		"one.hcl":      "text = \"one\"\nnumber = 2\nneeded = \"file\"\n",
		"two.hcl":      "text = \"two\"\n",
		"values.json":  `{"list": [7, "8"], "needed": "${not.a.template}"}`,
		"unknown.hcl":  "nunber = 2\n",
		"broken.hcl":   "text = \n",
		"broken.json":  `{"text": `,
		"variable.hcl": "text = var.number\n",
		"block.hcl":    "variable \"x\" {}\n",
	}
	tests := []struct {
		name                string
		vars, files, enviro []string
		want                map[string]string
		fails               []string
	}{
		{name: "defaults", vars: []string{"needed=x"},
			want: map[string]string{"text": "default", "number": "1", "list": "[1]", "any": "null", "needed": "x", "loose": "[1, 2]"}},
		{name: "missing", fails: []string{`No value for variable "needed"`}},
		{name: "environment", enviro: []string{"CLUSTERFLOW_VAR_needed=a=b", "CLUSTERFLOW_VAR_other=1", "needed=no", "HOME=/"},
			want: map[string]string{"needed": "a=b"}},
		{name: "a file beats the environment", enviro: []string{"CLUSTERFLOW_VAR_text=env"}, files: []string{"one.hcl"},
			want: map[string]string{"text": "one", "number": "2", "needed": "file"}},
		{name: "the later file", files: []string{"one.hcl", "two.hcl"}, want: map[string]string{"text": "two", "number": "2"}},
		{name: "--var beats files", files: []string{"one.hcl"}, vars: []string{"text=a", "text=b", "number=3"},
			want: map[string]string{"text": "b", "number": "3"}},
		{name: "JSON", files: []string{"values.json"}, want: map[string]string{"list": "[7, 8]", "needed": "${not.a.template}"}},
		{name: "a list on the command line", vars: []string{"needed=x", "list=range(1, 4)", "loose=[\"a\"]"},
			want: map[string]string{"list": "[1, 2, 3]", "loose": `["a"]`}},
		{name: "text is not read as an expression", vars: []string{"needed=[1,", "text=var.x", "any=5"},
			want: map[string]string{"needed": "[1,", "text": "var.x", "any": "5"}},
		{name: "wrong types", vars: []string{"needed=", "number=two", "list=[\"a\"]"},
			want:  map[string]string{"needed": ""},
			fails: []string{`Wrong value for variable "list"`, `Wrong value for variable "number"`}},
		{name: "not an expression", vars: []string{"needed=x", "list=[1", "loose=lenght(1)"},
			fails: []string{"Unterminated tuple", `Unknown function "lenght"`}},
		{name: "undeclared", vars: []string{"needed=x", "txt=1"}, files: []string{"unknown.hcl"},
			fails: []string{`Unknown variable "txt"`, `Unknown variable "nunber"`}},
		{name: "no equals sign", vars: []string{"needed=x", "text", "=5"}, fails: []string{"Cannot read --var text", "Cannot read --var =5"}},
		{name: "no such file", vars: []string{"needed=x"}, files: []string{"none.hcl"}, fails: []string{"Cannot read the variable file"}},
		{name: "broken files", vars: []string{"needed=x"}, files: []string{"broken.hcl", "broken.json", "variable.hcl", "block.hcl"},
			fails: []string{"Invalid expression", "Root value must be object", "Unclosed object", "Missing value", "Variables not allowed", `Unexpected "variable" block`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files["s.hcl"] = declared + frame("", "")
			files["d.json"] = "[]"
			dir := write(t, files)
			opt := Options{Vars: test.vars, Environ: test.enviro, Methods: testMethods()}
			for _, f := range test.files {
				opt.VarFiles = append(opt.VarFiles, filepath.Join(dir, f))
			}
			s, diags := Load(filepath.Join(dir, "s.hcl"), opt)
			for name, want := range test.want {
				if got := s.Vars[name]; got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			text := rendered(t, s, diags)
			if len(diags) != len(test.fails) {
				t.Errorf("want %d errors, got\n%s", len(test.fails), text)
			}
			for _, want := range test.fails {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			if strings.Contains(text, "source code not available") {
				t.Errorf("an error without its source:\n%s", text)
			}
		})
	}
}

func TestVariablesReachTheStudy(t *testing.T) {
	source := `
variable "layers" {
  type = list(number)
}
variable "offline" {
  default = false
}
locals {
  clusters = [for n in local.base : n * 2]
  base     = [for l in var.layers : l + 1]
}
evaluator "e" {
  provider = var.offline ? "lexical" : "openai"
  model    = var.offline ? null : "gpt-4o"
}
` + frame("layers = var.layers\nclusters = local.clusters", "")
	s, diags := parseIn(t, source, Options{Vars: []string{"layers=[1, 3]", "offline=true"}})
	if diags.HasErrors() {
		t.Fatal(rendered(t, s, diags))
	}
	g := s.Grids[0]
	if show(g.Layers.V) != "[1, 3]" || show(g.Clusters.V) != "[4, 8]" {
		t.Errorf("layers %v, clusters %v", g.Layers.V, g.Clusters.V)
	}
	if e := s.Evaluators[0]; e.Provider.V != "lexical" || e.Model.V != "lexical" {
		t.Errorf("evaluator %+v", e)
	}
}
