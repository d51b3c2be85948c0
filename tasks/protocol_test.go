package tasks_test

import (
	"encoding/json"
	"strings"
	"testing"

	"clusterflow/internal/judge"
)

// Sentences that the titler saw are not asked about, and the others in the same
// order as ever.
func TestHeldOut(t *testing.T) {
	dir := t.TempDir()
	text := func(held string) string {
		return graded(t, "[1]", `["spherical_kmeans"]`, "[3]", "repetitions = 2", smallEvaluation+"\n  held_out = "+held)
	}
	const titles, eval = "m/1/spherical_kmeans/3/auto/submit-titles", "m/1/spherical_kmeans/3/auto/lex/submit-eval"
	b := newBench(t)
	open, held := b.apply(dir, text("false")), newBench(t).apply(dir, text("true"))
	sentences := held.sentences("m/sentences")
	shown, traced := map[string]bool{}, map[int]bool{}
	for _, r := range held.requests(titles) {
		if len(r.Traces) != 1 {
			t.Fatalf("a title shows %d traces", len(r.Traces))
		}
		traced[r.Traces[0]] = true
		for _, row := range r.Rows {
			shown[sentences[row].Text] = true
		}
	}
	asked, blank := 0, 0
	for _, r := range held.requests(eval) {
		for _, row := range r.Rows {
			asked++
			if s := sentences[row]; shown[s.Text] || traced[s.Response] {
				t.Errorf("%s asks about sentence %d, which the titler saw", r.Task, row)
			}
		}
	}
	for _, r := range open.requests(eval) {
		for _, row := range r.Rows {
			if s := sentences[row]; shown[s.Text] || traced[s.Response] {
				blank++
			}
		}
	}
	if asked == 0 || blank == 0 {
		t.Errorf("%d sentences are asked about, %d that the titler saw without held_out", asked, blank)
	}
	for name, a := range map[string]*applied{"Titles are graded on sentences of which the titler may": open, "No title is graded on a sentence that its titler saw": held} {
		if page := string(a.output("report", "index.html")); !strings.Contains(page, name) {
			t.Errorf("the report does not say %q", name)
		}
	}
	if ran := b.apply(dir, text("true")).ran; len(ran) == 0 || strings.HasSuffix(ran[0], "titles") {
		t.Errorf("held_out ran %v", ran)
	}
}

// Where the titler saw everything nothing is left to ask, which is no zero, and
// the report says so.
func TestHeldOutOfEverything(t *testing.T) {
	dir := t.TempDir()
	text := graded(t, "[1]", `["spherical_kmeans"]`, "[3]", "repetitions = 1", smallEvaluation+"\n  held_out = true")
	text = strings.Replace(text, "description_examples = 12", "description_examples = 5000", 1)
	a := newBench(t).apply(dir, text)
	for _, r := range a.requests("m/1/spherical_kmeans/3/auto/lex/submit-eval") {
		if r.Task != judge.TaskSimilarity {
			t.Errorf("%s asks about %v", r.Task, r.Rows)
		}
	}
	var scored judge.SizeResult
	unjson(t, a.output("m/1/spherical_kmeans/3/auto/lex/score", "score"), &scored)
	for _, metric := range []string{"avg_f1", "avg_confidence", "final_score"} {
		if v, ok := scored.AllResults[0].Value(metric); ok {
			t.Errorf("%s is %g", metric, v)
		}
	}
	if page := string(a.output("report", "index.html")); !strings.Contains(page, "3 of 3 titled clusters have no sentence that their titler did not see") {
		t.Error("the report does not count them")
	}
}

// Explanations are asked for where the study wants them, and answers without
// them count like the others.
func TestExplanations(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		more      string
		explained map[string]bool // by task and repetition
	}{
		{``, map[string]bool{"accuracy 0": true, "accuracy 1": true, "completeness 0": true, "completeness 1": true}},
		{`explanations = "sample"`, map[string]bool{"accuracy 0": true, "completeness 0": true}},
		{`explanations = "none"`, map[string]bool{}},
	} {
		evaluation := smallEvaluation + "\n  " + c.more
		a := newBench(t).apply(dir, graded(t, "[1]", `["spherical_kmeans"]`, "[3]", "repetitions = 2", evaluation))
		const judged = "m/1/spherical_kmeans/3/auto/lex/"
		for _, r := range a.requests(judged + "submit-eval") {
			var body struct {
				Messages []struct{ Content string }
				Format   json.RawMessage `json:"response_format"`
			}
			unjson(t, r.Body, &body)
			want := c.explained[r.Task+" "+string(rune('0'+r.Rep))] || r.Task == judge.TaskSimilarity
			user := body.Messages[len(body.Messages)-1].Content
			if got := strings.Contains(user, `"explanation"`); got != want || strings.Contains(string(body.Format), `"explanation"`) != want {
				t.Errorf("%s: %s of repetition %d asks for explanations: %v", c.more, r.Task, r.Rep, got)
			}
		}
		var scored judge.SizeResult
		unjson(t, a.output(judged+"score", "score"), &scored)
		for rep, result := range scored.AllResults {
			for task, n := range result.Answers {
				if n.Failed > 0 || n.Answered == 0 {
					t.Errorf("%s: repetition %d, %s: %+v", c.more, rep, task, n)
				}
			}
		}
	}
}
