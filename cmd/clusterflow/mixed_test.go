package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// extractedByGonum is a study whose states gonum has computed, where what runs next
// has another library.
func extractedByGonum(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	if r := b.run("doctor"); matches(`^BLAS +gonum`, r.out) {
		t.Skip("there is one library here")
	}
	env := b.env
	b.env = append(env, "CLUSTERFLOW_BLAS=gonum")
	if r := b.must(0, `run`, "apply", "--quiet", "--only", "extract", "study.hcl"); matches(`were computed in`, r.err) {
		t.Errorf("one library: %v", r)
	}
	b.env = env
	return b
}

// TestMixedLibraries computes two layers of a model with two libraries for
// products: apply says so once.
func TestMixedLibraries(t *testing.T) {
	b := extractedByGonum(t)
	b.edit("layers = [1]", "layers = [1, 2]")
	b.must(0, `^note: the states of tiny were computed in 2 ways \(cpu float32, .*gonum.*\): small differences`, "apply", "--quiet", "study.hcl")
	if r := b.must(0, `0 run`, "apply", "--quiet", "study.hcl"); matches(`were computed in`, r.err) {
		t.Errorf("nothing has changed: %v", r)
	}
	b.must(0, `note: the states of tiny`, "apply", "--quiet", "--force", "report", "study.hcl")
}

// TestMixedKeptResponses changes one response after the states of all were computed
// with another library: a single node then holds states of both.
func TestMixedKeptResponses(t *testing.T) {
	b := extractedByGonum(t)
	raw, err := os.ReadFile(filepath.Join(b.dir, "traces.json"))
	if err != nil {
		t.Fatal(err)
	}
	b.write("traces.json", strings.Replace(string(raw), "84 apples", "eighty-four apples", 1))
	b.must(0, `^note: the states of tiny were computed in 2 ways \(cpu float32, .*gonum`, "apply", "--quiet", "study.hcl")
}

func TestMixedModels(t *testing.T) {
	for _, test := range []struct {
		by   map[string]map[string]bool
		want string // "": nothing
	}{
		{map[string]map[string]bool{"a": {"cpu": true}, "b": {"cpu": true}}, ""},
		{map[string]map[string]bool{"a": {"cpu": true}, "b": {"Card X": true}, "c": {"cpu": true}}, `^note: .* in 2 ways \(b by Card X; a, c by cpu\): small differences between the models`},
		{map[string]map[string]bool{"a": {"cpu": true, "Card X": true}, "b": {"cpu": true}}, `^note: the states of a were computed in 2 ways \(Card X; cpu\): small differences between layers`},
	} {
		var b strings.Builder
		writeMixed(&b, test.by)
		if said := b.String(); test.want == "" && said != "" || test.want != "" && (!matches(test.want, said) || strings.Count(said, "note:") != 1) {
			t.Errorf("%v: %q", test.by, said)
		}
	}
}
