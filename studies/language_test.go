package studies

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"
)

// frame puts rows into the grid of a study that is right without them, and
// blocks at its end.
func frame(rows, blocks string) string {
	return `study {
  name = "x"
}
dataset "d" {
  file = "d.json"
}
model "m" {
  source = "builtin:tiny"
  layers = [1, 2, 3]
}
grid {
  methods = ["pca_kmeans"]
  ` + rows + `
}
` + blocks
}

func parseIn(t testing.TB, source string, opt Options) (*Study, Diagnostics) {
	t.Helper()
	dir := write(t, map[string]string{"s.hcl": source, "d.json": "[]"})
	opt.Methods = testMethods()
	return Load(filepath.Join(dir, "s.hcl"), opt)
}

func TestExpressions(t *testing.T) {
	tests := []struct {
		clusters string
		want     []int // nil: an error
	}{
		{`range(5, 20, 5)`, []int{5, 10, 15}}, // the limit is left out, as in Terraform
		{`range(2, 4)`, []int{2, 3}},
		{`[for k in [2, 3, 4] : k * 10 if k != 3]`, []int{20, 40}},
		{`[for i, m in values(model) : i + 2]`, []int{2}},
		{`concat([2], [3, 4])`, []int{2, 3, 4}},
		{`flatten([[2, 3], [4]])`, []int{2, 3, 4}},
		{`distinct([2, 2, 3])`, []int{2, 3}},
		{`reverse(sort(["3", "2"]))`, []int{3, 2}},
		{`slice([2, 3, 4, 5], 1, 3)`, []int{3, 4}},
		{`[max(2, 3), floor(4.7), ceil(4.2), abs(-6), min(7, 9)]`, []int{3, 4, 5, 6, 7}},
		{`[length("four"), length([1, 2]), length({ a = 1, b = 2, c = 3 })]`, []int{4, 2, 3}},
		{`[for s in split(",", "2,3") : tonumber(s)]`, []int{2, 3}},
		{`[for p in setproduct([1, 2], [10]) : p[0] * p[1]]`, []int{10, 20}},
		{`values({ b = 3, a = 2 })`, []int{2, 3}}, // by key
		{`[for k in keys({ "4" = 0, "3" = 0 }) : tonumber(k)]`, []int{3, 4}},
		{`values(merge({ a = 2 }, { b = 5 }))`, []int{2, 5}},
		{`[lookup({ a = 2 }, "a", 3), lookup({ a = 2 }, "b", 3)]`, []int{2, 3}},
		{`values(zipmap(["a", "b"], [2, 3]))`, []int{2, 3}},
		{`[element([2, 3], 3)]`, []int{3}}, // wraps around
		{`contains([1, 2], 2) ? [8] : [9]`, []int{8}},
		{`jsondecode("[2, 3]")`, []int{2, 3}},
		{`[length(jsonencode([1]))]`, []int{3}},
		{`[coalesce(null, 5)]`, []int{5}},
		{`tolist(toset([3, 2]))`, []int{2, 3}},
		{`[tonumber(tostring(12)), tobool("true") ? 2 : 3]`, []int{12, 2}},
		{`[tonumber(regex("k=(\\d+)", "k=17")[0])]`, []int{17}},
		{`[length(format("%03d-%s", 7, lower("AB"))), length(upper(replace("abc", "b", "")))]`, []int{6, 2}},
		{`[length(join("-", ["a", "b"])), length(basename("a/b/cdefg")), length(dirname("ab/c/d"))]`, []int{3, 5, 4}},
		{`local.sizes[*]`, []int{6, 12}},
		{`["5"]`, []int{5}}, // text that is a number is one, as everywhere in HCL
		{`null`, defaultClusters()},
		{`lenght([1])`, nil},
		{`[pi()]`, nil},
		{`[1 / 0]`, nil},
		{`model.m`, nil},
		{`[model.m]`, nil},
		{`[2.5]`, nil},
		{`{ a = 5 }`, nil},
		{`[null]`, nil},
	}
	for _, test := range tests {
		s, diags := parseIn(t, frame("clusters = "+test.clusters, "locals {\n  sizes = [for n in [1, 2] : n * 6]\n}\n"), Options{})
		if test.want == nil {
			if !diags.HasErrors() {
				t.Errorf("clusters = %s passes as %v", test.clusters, s.Grids[0].Clusters.V)
			}
			continue
		}
		if diags.HasErrors() {
			t.Errorf("clusters = %s:\n%s", test.clusters, rendered(t, s, diags))
		} else if got := s.Grids[0].Clusters.V; !slices.Equal(got, test.want) {
			t.Errorf("clusters = %s is %v, want %v", test.clusters, got, test.want)
		}
	}
}

// Each source has exactly the errors listed, by the start of their summaries.
func TestMistakes(t *testing.T) {
	judged := `
evaluator "e" {
  provider = "lexical"
}
titles "t" {
  evaluator = evaluator.e
}
`
	tests := []struct {
		name, source string
		want         []string
	}{
		{"nothing", "", []string{"The study block is missing"}},
		{"right", frame("", ""), nil},
		{"titles without evaluation", frame("", judged), nil},
		{"CRLF", strings.ReplaceAll(frame("", judged), "\n", "\r\n"), nil},
		{"name missing", "study {}", []string{"The study has no grid", "The study has no model", "name is missing"}},
		{"name of a parent folder", strings.Replace(frame("", ""), `"x"`, `".."`, 1), []string{"Wrong value for name"}},
		{"null is missing", strings.Replace(frame("", ""), `"x"`, "null", 1), []string{"name is missing"}},
		{"later attributes of study", strings.Replace(frame("", ""), `"x"`, "\"x\"\nseeds = [1]\non_complete = \"u\"", 1), []string{"seeds is not in", "Wrong value for on_complete"}},
		{"label with a dot", frame("", "dataset \"a.b\" {\nfile = \"d.json\"\n}"), []string{`Label "a.b" cannot`}},
		{"label beyond ASCII", frame("", "dataset \"ä\" {\nfile = \"d.json\"\n}"), []string{`Label "ä" cannot`}},
		{"no label", frame("", "method {}"), []string{"method needs a label"}},
		{"two labels", frame("", `method "gmm" "x" {}`), []string{"method takes one label"}},
		{"reserved", frame("", "model \"report\" {\nsource = \"builtin:tiny\"\nlayers = [1]\n}"), []string{`Label "report" is taken`}},
		{"two reports", frame("", "report {}\nreport {}"), []string{"A second report block"}},
		{"twice", frame("", "method \"pca_kmeans\" {}\nmethod \"pca_kmeans\" {}"), []string{`Label "pca_kmeans" comes twice`}},
		{"model as text", frame(`models = ["m"]`, ""), []string{"Wrong value in models"}},
		{"layer of nobody", frame("layers = [1, 9]", ""), []string{"No model of this grid has layer 9"}},
		{"all models by for", frame("models = [for m in values(model) : m]", ""), nil},
		{"model[index]", frame(`models = [model["m"]]`, ""), nil},
		{"attribute of a reference", frame("layers = model.m.layers", ""), []string{"A reference has no attributes"}},
		{"namespace alone", frame("clusters = var", ""), []string{`"var" alone`}},
		{"method without quotes", frame("", "locals {\na = method.gmm\n}"), []string{`Unknown name "method"`}},
		{"label alone", frame("models = [m]", ""), []string{`Unknown name "m"`}},
		{"hub id with three parts", strings.Replace(frame("", ""), "builtin:tiny", "a/b/c", 1), []string{"Not the name of a model"}},
		{"directory named like a hub id", strings.Replace(frame("", ""), "builtin:tiny", "..", 1), nil},
		{"file as model", strings.Replace(frame("", ""), "builtin:tiny", "./d.json", 1), []string{"The model is no directory"}},
		{"folder as dataset", strings.Replace(frame("", ""), "d.json", ".", 1), []string{"A folder where a file belongs"}},
		{"nearly the file", strings.Replace(frame("", ""), "d.json", "e.json", 1), []string{"The file is missing"}},
		{"no dataset", strings.Replace(frame("", ""), "dataset \"d\" {\n  file = \"d.json\"\n}", "", 1), []string{"The model has no dataset"}},
		{"brace missing", strings.Replace(frame("", ""), "}\nmodel", "model", 1), []string{"Unclosed configuration block"}},
		{"locals with a block", frame("", "locals {\na {}\n}"), []string{`Unknown block "a"`}},
		{"local twice", frame("", "locals {\na = 1\n}\nlocals {\na = 2\n}"), []string{`A second local value "a"`}},
		{"local of itself", frame("", "locals {\na = local.a\n}"), []string{"Local values in a circle"}},
		{"error once", frame("clusters = [local.a]\nlayers = [local.a]", "locals {\na = lenght([])\n}"), []string{`Unknown function "lenght"`}},
		{"accuracy half", frame("", judged+"evaluation \"v\" {\ntitles = [titles.t]\njudges = [evaluator.e]\naccuracy {\ninside = 5\n}\n}"), []string{"inside and outside go together"}},
		{"accuracy twice", frame("", judged+"evaluation \"v\" {\ntitles = [titles.t]\njudges = [evaluator.e]\naccuracy {}\naccuracy \"x\" {}\n}"), []string{"A second accuracy block", "accuracy takes no label"}},
		{"chunks too large", frame("", judged+"evaluation \"v\" {\ntitles = [titles.t]\njudges = [evaluator.e]\nchunk_size = 51\n}"), []string{"Wrong value for chunk_size"}},
		{"attribute as a block", frame("", judged+"evaluation \"v\" {\ntitles {}\njudges = [evaluator.e]\n}"), []string{"titles is an attribute", "titles is missing"}},
		{"key in the address", frame("", "evaluator \"e\" {\nmodel = \"m\"\nbase_url = \"https://k:s@h/v1\"\n}"), []string{"Wrong value for base_url"}},
		{"seed beyond int64", strings.Replace(frame("", ""), `"x"`, "\"x\"\nseed = 9223372036854775808", 1), []string{"Wrong value for seed"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, diags := parseIn(t, test.source, Options{})
			var got []string
			for _, d := range diags {
				got = append(got, d.Summary)
			}
			slices.Sort(got)
			want := slices.Sorted(slices.Values(test.want))
			ok := slices.EqualFunc(got, want, strings.HasPrefix)
			if !ok {
				t.Errorf("got %q, want %q\n%s", got, want, rendered(t, s, diags))
			}
		})
	}
}

func TestNoBottomlessInput(t *testing.T) {
	deep := strings.Repeat("[", 200_000)
	tests := []struct{ name, source, want string }{
		{"brackets", "study {\n name = " + deep, "Expression too deep"},
		{"negations", "study {\n name = " + strings.Repeat("!", 500_000), "Expression too deep"},
		{"sums over lines", "study {\n name = (1" + strings.Repeat("+\n1", 100_000) + ")\n}", "Expression too deep"},
		{"templates", "study {\n name = " + strings.Repeat(`"${`, 100_000), "Expression too deep"},
		{"directives", "study {\n name = \"" + strings.Repeat(`%{if true}`, 50_000), "Expression too deep"},
		{"indices", "study {\n name = a" + strings.Repeat(`[b]`, 100_000), "Expression too deep"},
		{"numbers", "study {\n name = 1e999999999\n}", "Number out of range"},
		{"size", strings.Repeat("#\n", maxSource), "File too large"},
	}
	for _, test := range tests {
		_, diags := Parse("s.hcl", []byte(test.source), Options{})
		if len(diags) != 1 || diags[0].Summary != test.want {
			t.Errorf("%s: %.300v, want %q", test.name, diags, test.want)
		}
	}
	list := "study {\n name = \"x\"\n}\nlocals {\n  a = [\n" + strings.Repeat("    -1, # a comment\n", 20_000) + "  ]\n}\n"
	if _, diags := Parse("s.hcl", []byte(list), Options{}); len(diags) != 2 { // no model, no grid
		t.Errorf("a long list is refused: %.300v", diags)
	}
}

func TestDescribe(t *testing.T) {
	tests := []struct {
		v    cty.Value
		want string
	}{
		{cty.StringVal("a\nb"), `"a\nb"`},
		{cty.NumberFloatVal(0.5), "0.5"},
		{cty.MustParseNumberVal("0.0001"), "0.0001"},
		{cty.NumberIntVal(1000000), "1000000"},
		{cty.True, "true"},
		{cty.NullVal(cty.String), "null"},
		{cty.UnknownVal(cty.String), "not known"},
		{cty.TupleVal([]cty.Value{cty.Zero, cty.StringVal("x")}), `[0, "x"]`},
		{cty.EmptyTupleVal, "[]"},
		{cty.ObjectVal(map[string]cty.Value{"a": cty.Zero}), `{a = 0}`},
		{cty.CapsuleVal(refType, &ref{"model", "m"}), "model.m"},
		{cty.ObjectVal(map[string]cty.Value{"a": cty.CapsuleVal(refType, &ref{"model", "m"})}), "{a = model.m}"},
	}
	for _, test := range tests {
		if got := describe(test.v); got != test.want {
			t.Errorf("describe(%#v) = %s, want %s", test.v, got, test.want)
		}
	}
}
