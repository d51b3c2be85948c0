package tasks_test

import (
	"slices"
	"strings"
	"testing"

	"clusterflow/graph"
)

// several is a study of one clustering with the given blocks of titles and
// judges.
func several(t testing.TB, titles, judges string) string {
	text := graded(t, "[1]", `["spherical_kmeans"]`, "[3]", "repetitions = 1", smallEvaluation)
	for _, change := range [][2]string{
		{"titles = [titles.auto]", "titles = [" + titles + "]"},
		{"judges = [evaluator.lex]", "judges = [" + judges + "]"},
		{"evaluation \"main\" {", `
titles "short" {
  evaluator            = evaluator.lex
  description_examples = 6
  n_trace_examples     = 0
  repetitions          = 2
}
titles "hand" {
  file        = "hand.jsonl"
  repetitions = 1
}
evaluator "same" { provider = "lexical" }
evaluator "other" { model = "judge-2" }
evaluation "main" {`},
	} {
		if strings.Count(text, change[0]) != 1 {
			t.Fatalf("%q does not stand once in\n%s", change[0], text)
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return text
}

// Every set of titles and every judge has its place in the address, and one more
// makes no other node stale but the report.
func TestSeveralTitlesAndJudges(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "hand.jsonl", `{"cluster": 0, "title": "First", "description": "The first."}
{"cluster": 2, "title": "Third", "description": "The third."}
`)
	const cell = "m/1/spherical_kmeans/3/"
	chain := func(titles, judge string) []string {
		base := cell + titles + "/" + judge + "/"
		return []string{base + "submit-eval", base + "await-eval", base + "score"}
	}
	asked := func(titles string) []string {
		return []string{cell + titles + "/submit-titles", cell + titles + "/await-titles"}
	}
	b := newBench(t)
	b.apply(dir, several(t, "titles.auto", "evaluator.lex"))
	for _, step := range []struct {
		titles, judges string
		stale          []string // beside the report
		send           bool     // the offline judge can answer it
	}{
		{"titles.auto, titles.short", "evaluator.lex", slices.Concat(asked("short"), chain("short", "lex")), true},
		{"titles.short, titles.auto", "evaluator.lex", nil, true}, // the order says nothing
		{"titles.auto, titles.short, titles.hand", "evaluator.lex", slices.Concat([]string{cell + "hand/titles"}, chain("hand", "lex")), true},
		{"titles.hand, titles.short", "evaluator.same, evaluator.lex", nil, true}, // the same settings, so the same answers
		{"titles.auto, titles.short, titles.hand", "evaluator.other, evaluator.lex", slices.Concat(chain("auto", "other"), chain("short", "other"), chain("hand", "other")), false},
	} {
		text := several(t, step.titles, step.judges)
		stale := slices.DeleteFunc(b.stale(dir, text), func(addr string) bool { return addr == "report" })
		slices.Sort(step.stale)
		if !slices.Equal(stale, step.stale) {
			t.Errorf("titles [%s] and judges [%s] have to run\n%v, want\n%v", step.titles, step.judges, stale, step.stale)
		}
		if step.send {
			b.apply(dir, text)
		}
		g := compile(t, parse(t, dir, text), b.office).Graph
		for _, titles := range strings.Split(step.titles, ", ") {
			for _, judge := range strings.Split(step.judges, ", ") {
				addr := cell + strings.TrimPrefix(titles, "titles.") + "/" + strings.TrimPrefix(judge, "evaluator.") + "/score"
				if g.Node(addr) == nil {
					t.Errorf("titles [%s] and judges [%s]: there is no %s", step.titles, step.judges, addr)
				}
			}
		}
	}
}

// stale are the nodes of a study that are not cached, sorted.
func (b *bench) stale(dir, text string) []string {
	b.t.Helper()
	known, err := b.store.Reader()
	if err != nil {
		b.t.Fatal(err)
	}
	plan, err := graph.NewPlan(b.t.Context(), compile(b.t, parse(b.t, dir, text), b.office).Graph, nil, known, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, s := range plan.Steps {
		if s.State != graph.Cached {
			out = append(out, s.Node.Addr)
		}
	}
	slices.Sort(out)
	return out
}
