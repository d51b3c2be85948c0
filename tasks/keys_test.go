package tasks_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/studies"
	"clusterflow/tasks"
)

// TestKeys changes one attribute at a time. It fails for an attribute of the
// language that no edit changes: whoever adds one says here whose results it
// can change, and is told if the keys do not know it.
func TestKeys(t *testing.T) {
	dir := everythingDir(t)
	base := parse(t, dir, everything)
	before := keyLines(t, base)
	settings, leaves := settingValues(base), leavesOf(t, base)
	covered, changed := map[string]bool{}, map[string]bool{}

	all := edits(dir)
	for _, spec := range tasks.MethodSpecs() {
		if !spec.Available {
			continue
		}
		for _, o := range spec.Options {
			block := fmt.Sprintf("method %q {\n", spec.Name)
			all = append(all, edit{
				setting: "method." + spec.Name + "." + o.Name, old: block, new: block + o.Name + " = " + another(t, o) + "\n",
				changes: []string{"train /" + spec.Name + "/", "report"},
			})
		}
	}
	for _, e := range all {
		t.Run(strings.Join(strings.Fields(e.setting+" "+e.old+" to "+e.new), " "), func(t *testing.T) {
			text := everything
			if n := strings.Count(text, e.old); n != 1 {
				t.Fatalf("%q stands %d times in the study", e.old, n)
			}
			text = strings.Replace(text, e.old, e.new, 1)
			switch e.setting {
			case "": // a label: references to it change with it
				kind, label, _ := strings.Cut(e.old, " ")
				_, now, _ := strings.Cut(e.new, " ")
				if label == "" {
					kind, label, now = "evaluator", e.old, e.new
				}
				r := regexp.MustCompile(kind + `\.` + strings.Trim(label, `"`) + `\b`)
				text = r.ReplaceAllString(text, kind+"."+strings.Trim(now, `"`))
			case "evaluator.titler.provider": // the lexical judge takes nothing else
				text = regexp.MustCompile(`(?s)locals \{.*?\n\}`).ReplaceAllString(text, "")
			}
			study, diags := studies.Parse(filepath.Join(dir, "study.hcl"), []byte(text), studies.Options{Methods: tasks.MethodSpecs()})
			if diags.HasErrors() != e.refused {
				t.Fatalf("refused: %v, want %v: %v", diags.HasErrors(), e.refused, diags.Errs())
			}
			covered[e.setting] = true
			if e.refused {
				return
			}
			for path, was := range leaves {
				if leavesOf(t, study)[path] != was {
					changed[withoutIndex(path)] = true
				}
			}
			if now, was := settingValues(study)[e.setting], settings[e.setting]; e.setting != "" && now == was {
				t.Errorf("the setting %s is %q before and after", e.setting, was)
			}
			compareKeys(t, before, keyLines(t, study), e)
		})
	}

	for name := range covered {
		covered[attribute(name)] = true
	}
	for name := range settings {
		if !covered[attribute(name)] {
			t.Errorf("nothing changes the attribute %s: add it to edits, with the kinds of tasks whose results it can change", name)
		}
	}
	for path := range leaves {
		if p := withoutIndex(path); !changed[p] && !slices.Contains(notAttributes, p) {
			t.Errorf("nothing changes the field %s of studies.Study: add its attribute to edits, with the kinds of tasks whose results it can change", p)
		}
	}
}

// notAttributes are fields of a decoded study that are no setting of it, or
// that have one value in this release.
var notAttributes = []string{"File", "Dir", "Methods[].Name", "Models[].Precision", "Evaluations[].Labels"}

// attribute is a setting's name without the label of its block; methods differ
// in their options.
func attribute(setting string) string {
	kind, rest, _ := strings.Cut(withoutIndex(setting), ".")
	if kind == "study" || kind == "report" || kind == "grid[]" || kind == "method" {
		return kind + "." + rest
	}
	_, rest, _ = strings.Cut(rest, ".")
	return kind + "." + rest
}

// another is a value of an option that is not its default, as text.
func another(t *testing.T, o studies.OptionSpec) string {
	t.Helper()
	switch v := o.Default.(type) {
	case bool:
		return fmt.Sprint(!v)
	case string:
		t.Fatalf("option %s takes words: say here which other one", o.Name)
	case int, int64, float64:
		f := reflect.ValueOf(v).Convert(reflect.TypeOf(0.0)).Float()
		up := f + 1
		if o.Kind == "float" {
			up = f * 2
		}
		if o.Max > o.Min && up > o.Max {
			up = (f + o.Min) / 2
		}
		return fmt.Sprint(up)
	}
	t.Fatalf("option %s has a default of type %T", o.Name, o.Default)
	return ""
}

// keyLines are the parts of every node's key that do not come from other
// nodes, as text: kind, code version, parameters, sources by content, and the
// names of inputs.
func keyLines(t testing.TB, study *studies.Study) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, n := range compile(t, study, nil).Graph.Nodes {
		out[n.Addr] = nodeLines(t, n)
	}
	return out
}

func nodeLines(t testing.TB, n *graph.Node) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "kind %s %s\n", n.Kind(), n.Task.Version())
	seen := map[string]bool{}
	for _, l := range n.Task.Params() {
		if seen[l.Label] {
			t.Errorf("%s has the parameter %q twice", n.Addr, l.Label)
		}
		seen[l.Label] = true
		fmt.Fprintf(&b, "%s %q\n", l.Label, l.Value)
	}
	for _, s := range n.Sources {
		raw, err := os.ReadFile(s.Path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "source %s %s\n", s.Name, cache.Sum(raw))
	}
	for _, in := range n.Inputs {
		fmt.Fprintf(&b, "input %s\n", in.Name)
	}
	return b.String()
}

// compareKeys holds the nodes that two studies share to what an edit says.
func compareKeys(t *testing.T, before, after map[string]string, e edit) {
	t.Helper()
	shared := 0
	hit := make([]bool, len(e.changes))
	for addr, was := range before {
		now := addr
		if len(e.rename) == 2 {
			parts := strings.Split(addr, "/")
			for i, p := range parts {
				if p == e.rename[0] {
					parts[i] = e.rename[1]
				}
			}
			now = strings.Join(parts, "/")
		}
		got, ok := after[now]
		if !ok {
			continue
		}
		shared++
		kind := strings.Fields(was)[1]
		want := false
		for i, c := range e.changes {
			name, part, _ := strings.Cut(c, " ")
			if name == kind && strings.Contains(addr, part) {
				want, hit[i] = true, true
			}
		}
		switch {
		case want && got == was:
			t.Errorf("%s keeps its key lines, though its result can change:\n%s", addr, was)
		case !want && got != was:
			t.Errorf("%s gets other key lines, though its result stays:\n%s\nnow\n%s", addr, was, got)
		}
	}
	if shared == 0 {
		t.Error("the two studies share no node")
	}
	for i, ok := range hit {
		if !ok {
			t.Errorf("there is no node of %q in both studies", e.changes[i])
		}
	}
}

func settingValues(s *studies.Study) map[string]string {
	out := map[string]string{}
	for _, v := range s.Settings {
		out[v.Name] = v.Value
	}
	return out
}

// leavesOf lists what a decoded study holds, by path: values without their
// places, and other blocks by their labels.
func leavesOf(t testing.TB, s *studies.Study) map[string]string {
	t.Helper()
	out := map[string]string{}
	var walk func(path string, v reflect.Value, inBlock bool)
	walk = func(path string, v reflect.Value, inBlock bool) {
		switch {
		case v.Type() == reflect.TypeFor[studies.Range]():
		case v.Kind() == reflect.Struct && v.NumField() == 3 && v.Type().Field(2).Name == "Set":
			out[path] = fmt.Sprint(v.Field(0).Interface())
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				f := v.Type().Field(i)
				if !f.IsExported() || path == "" && slices.Contains([]string{"Source", "Vars", "Settings"}, f.Name) {
					continue
				}
				walk(strings.TrimPrefix(path+"."+f.Name, "."), v.Field(i), inBlock)
			}
		case v.Kind() == reflect.Pointer && v.IsNil():
			out[path] = ""
		case v.Kind() == reflect.Pointer && inBlock:
			out[path] = v.Elem().FieldByName("Name").String()
		case v.Kind() == reflect.Pointer:
			walk(path, v.Elem(), true)
		case v.Kind() == reflect.Slice && inBlock && v.Type().Elem().Kind() != reflect.Struct:
			var names []string
			for i := range v.Len() {
				if e := v.Index(i); e.Kind() == reflect.Pointer {
					names = append(names, e.Elem().FieldByName("Name").String())
				} else {
					names = append(names, fmt.Sprint(e.Interface()))
				}
			}
			out[path] = strings.Join(names, " ")
		case v.Kind() == reflect.Slice:
			if v.Len() == 0 {
				t.Errorf("the study has no %s: add a block", path)
			}
			for i := range v.Len() {
				walk(fmt.Sprintf("%s[%d]", path, i), v.Index(i), inBlock)
			}
		case v.Kind() == reflect.Map:
			out[path] = ""
			for _, k := range slices.Sorted(maps.Keys(v.Interface().(map[string]studies.Value[any]))) {
				out[path] += fmt.Sprint(k, " ", v.MapIndex(reflect.ValueOf(k)).Field(0).Interface(), ";")
			}
		default:
			out[path] = fmt.Sprint(v.Interface())
		}
	}
	walk("", reflect.ValueOf(*s), false)
	return out
}

var index = regexp.MustCompile(`\[\d+\]`)

func withoutIndex(path string) string { return index.ReplaceAllString(path, "[]") }

// Two nodes of a study that read the same have different lines: nothing that
// tells them apart stands in their addresses only.
func TestKeysTellNodesApart(t *testing.T) {
	text := strings.NewReplacer(`["spherical_kmeans"]`, `["spherical_kmeans", "pca_kmeans"]`, "[2]", "[2, 4]", "layers   = [0]\n", "layers   = [0, 1]\n",
		"[titles.auto]", "[titles.auto, titles.more]", "[evaluator.judge]", "[evaluator.judge, evaluator.other]").Replace(everything)
	seen := map[string]string{}
	dir := everythingDir(t)
	for _, n := range compile(t, parse(t, dir, text), nil).Graph.Nodes {
		id := nodeLines(t, n)
		for _, in := range n.Inputs {
			id += in.From.Addr + " " + in.Output + "\n"
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have the same key:\n%s", other, n.Addr, id)
		}
		seen[id] = n.Addr
	}
	if len(seen) < 80 {
		t.Errorf("%d nodes", len(seen))
	}
}

// What a study says without meaning it enters no key: comments, white space,
// the order of blocks and of attributes, variables, the study's place, and
// defaults that it writes out.
func TestKeysOfEqualStudies(t *testing.T) {
	dir := everythingDir(t)
	before := keyLines(t, parse(t, dir, everything))
	same := func(what string, study *studies.Study) {
		t.Helper()
		after := keyLines(t, study)
		if len(after) != len(before) {
			t.Errorf("%s: %d nodes, before %d", what, len(after), len(before))
		}
		for addr, was := range before {
			if after[addr] != was {
				t.Errorf("%s: %s was\n%s\nis\n%s", what, addr, was, after[addr])
			}
		}
	}
	same("comments", parse(t, dir, "# A study.\n\n\n"+strings.ReplaceAll(everything, "{\n", "{\n  // a block\n\n")))

	var order []string // blocks from the last type to the first
	for _, b := range regexp.MustCompile(`(?ms)^\w.*?^\}\n`).FindAllString(everything, -1) {
		kind := strings.Fields(b)[0]
		i := slices.IndexFunc(order, func(o string) bool { return strings.Fields(o)[0] == kind })
		for i >= 0 && i < len(order) && strings.Fields(order[i])[0] == kind {
			i++ // behind the others of its type
		}
		order = slices.Insert(order, max(i, 0), b)
	}
	same("blocks", parse(t, dir, strings.Join(order, "")))

	slices.Reverse(order) // now those of one type are in another order too: only the report shows it
	for addr, now := range keyLines(t, parse(t, dir, strings.Join(order, ""))) {
		if was := before[addr]; addr != "report" && now != was {
			t.Errorf("reversed blocks: %s was\n%s\nis\n%s", addr, was, now)
		}
	}

	swapped := strings.Replace(everything, "  name     = \"s\"\n  protocol = \"2025-07\"\n", "  protocol = \"2025-07\"\n  name     = \"s\"\n", 1)
	swapped = strings.Replace(swapped, "  titles     = [titles.auto]\n  judges     = [evaluator.judge]\n", "  judges     = [evaluator.judge]\n  titles     = [titles.auto]\n", 1)
	same("attributes", parse(t, dir, swapped))

	variable := "variable \"k\" {\n default = 2\n}\n" + strings.Replace(everything, "[2]", "[var.k]", 1)
	same("a variable", parse(t, dir, variable))

	moved := t.TempDir()
	if err := os.CopyFS(moved, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	same("another folder", parse(t, moved, everything))
}

// A default that a study writes out is the same as one that it leaves out.
func TestKeysOfDefaults(t *testing.T) {
	dir := everythingDir(t)
	const short = `
study {
  name = "s"
}
dataset "d" {
  file = "responses.json"
}
model "m" {
  source = "./qwen"
  layers = [0]
}
grid {
  methods  = ["pca_kmeans"]
  clusters = [2]
}
evaluator "e" {
  model = "gpt-x"
}
titles "auto" {
  evaluator = evaluator.e
}
evaluation "main" {
  titles = [titles.auto]
  judges = [evaluator.e]
}
`
	study := parse(t, dir, short)
	before := keyLines(t, study)
	last := map[string]string{ // line of each block
		"study": `name = "s"`, "dataset.d": `file = "responses.json"`, "model.m": "layers = [0]", "grid[0]": "clusters = [2]",
		"evaluator.e": `model = "gpt-x"`, "titles.auto": "evaluator = evaluator.e", "evaluation.main": "judges = [evaluator.e]",
	}
	written := 0
	for _, s := range study.Settings {
		cut := strings.LastIndexByte(s.Name, '.')
		at, ok := last[s.Name[:cut]]
		name := s.Name[cut+1:]
		if !ok || s.Default == "" || s.Origin != "" || s.Default == `""` ||
			name == "temperature" || name == "max_completion_tokens" { // their defaults are what the model and the prompt say
			continue
		}
		written++
		text := strings.Replace(short, at+"\n", at+"\n  "+name+" = "+s.Default+"\n", 1)
		for addr, now := range keyLines(t, parse(t, dir, text)) {
			if now != before[addr] {
				t.Errorf("%s = %s written out: %s was\n%s\nis\n%s", s.Name, s.Default, addr, before[addr], now)
			}
		}
	}
	if written < 15 {
		t.Errorf("%d defaults were written out", written)
	}
}
