package tasks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"clusterflow/internal/batchd"
	"clusterflow/internal/judge"
)

// scripted is a Batch API server whose answers a test writes. It answers one
// request at a time, in the order of the file, so that the n-th request with a
// body is that of repetition n.
func scripted(t testing.TB, answer func(d judge.Data, rep int) (any, error)) (baseURL string) {
	t.Helper()
	var mu sync.Mutex
	seen := map[string]int{}
	s, err := batchd.New(batchd.Options{Dir: t.TempDir(), Concurrency: 1, Judge: func(_ context.Context, body []byte) (string, error) {
		var q struct{ Messages []struct{ Content string } }
		if err := json.Unmarshal(body, &q); err != nil {
			return "", err
		}
		d, err := judge.ReadData(q.Messages[len(q.Messages)-1].Content)
		if err != nil {
			return "", err
		}
		mu.Lock()
		rep := seen[string(body)]
		seen[string(body)]++
		mu.Unlock()
		v, err := answer(d, rep)
		if text, ok := v.(string); ok || err != nil {
			return text, err
		}
		raw, err := json.Marshal(v)
		return string(raw), err
	}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String() + "/v1"
}

type object = map[string]any

// answers is the list form of an answer, one element a sentence; nil leaves a
// sentence out.
func answers(d judge.Data, of func(text string) object) object {
	list := []any{}
	for _, s := range d.Sentences {
		if a := of(s.Text); a != nil {
			a["id"] = s.ID
			list = append(list, a)
		}
	}
	return object{"answers": list}
}

// threeGroups is a folder with the activations of twelve sentences in three
// groups that no clustering can miss: A 1 to A 6, B 1 to B 4, C 1 and C 2.
func threeGroups(t testing.TB) (dir string, texts []string) {
	dir = t.TempDir()
	var sentences strings.Builder
	m := randomMatrix(12, 4, 5)
	for _, g := range []struct {
		name string
		n    int
	}{{"A", 6}, {"B", 4}, {"C", 2}} {
		for i := range g.n {
			row := m.Row(len(texts))
			for c := range row {
				row[c] *= 0.01
			}
			row[strings.Index("ABC", g.name)] += 1
			texts = append(texts, fmt.Sprint(g.name, i+1))
			fmt.Fprintf(&sentences, "{\"text\": %q, \"response\": %d}\n", texts[len(texts)-1], i)
		}
	}
	write(t, dir, "x.jsonl", sentences.String())
	write(t, dir, "x.npy", npy(m))
	return dir, texts
}

func scriptedStudy(baseURL, evaluation string, reps int) string {
	return fmt.Sprintf(`
study { name = "s" }
activations "x" {
  sentences = "x.jsonl"
  files     = { 4 = "x.npy" }
}
grid {
  methods  = ["spherical_kmeans"]
  clusters = [3]
}
evaluator "e" {
  model    = "scripted"
  base_url = %q
}
titles "auto" {
  evaluator   = evaluator.e
  repetitions = %d
}
evaluation "main" {
  titles = [titles.auto]
  judges = [evaluator.e]
  %s
}
report { dir = "out" }
`, baseURL, reps, evaluation)
}

const scoreAddr = "x/4/spherical_kmeans/3/auto/e/score"

func (a *applied) score() (r judge.SizeResult) {
	a.t.Helper()
	unjson(a.t, a.output(scoreAddr, "score"), &r)
	return r
}

// title is the name that the script gives a cluster: its group and repetition.
func title(d judge.Data, rep int) object {
	group := d.Sentences[0].Text[:1]
	for _, s := range d.Sentences {
		if s.Text[:1] != group {
			return nil
		}
	}
	return object{"title": fmt.Sprint(group, "/", rep), "description": "Sentences of group " + group + "."}
}

func cut(title string) (group, rep string) {
	group, rep, _ = strings.Cut(title, "/")
	return group, rep
}

// scriptedJudge gives these answers; all else in these tests follows by hand.
//
// In the second repetition the title of C cannot be read.
func scriptedJudge(d judge.Data, rep int) (any, error) {
	refused := &batchd.Error{Status: 400, Message: "not today"}
	switch d.Task {
	case judge.TaskTitle:
		o := title(d, rep)
		if o["title"] == "C/1" {
			return "I would rather not.", nil
		}
		return o, nil
	case judge.TaskAccuracy:
		group, rep := cut(d.Category.Title)
		switch {
		case group == "C":
			return "no JSON at all", nil
		case group == "B" && rep == "1":
			return nil, refused
		}
		return answers(d, func(text string) object {
			yes := text[:1] == group
			if group == "A" { // A 1 is not recognised, B 1 is taken for A; in the second repetition nothing is A
				yes = (yes && text != "A1" || text == "B1") && rep == "0"
			}
			return object{"answer": map[bool]string{true: "Yes", false: "No"}[yes], "explanation": "so"}
		}), nil
	case judge.TaskCompleteness:
		id := map[string]int{}
		rep := ""
		for _, c := range d.Categories {
			var group string
			group, rep = cut(c.Title)
			id[group] = c.ID
		}
		to := func(group string, confidence int) object {
			return object{"category": fmt.Sprint(id[group]), "confidence": confidence}
		}
		none := object{"category": "None", "confidence": 0}
		return answers(d, func(text string) object {
			if rep == "0" {
				switch text {
				case "A1":
					return to("A", 10)
				case "A2":
					return to("A", 8)
				case "A3":
					return to("A", 6)
				case "A4":
					return to("B", 4)
				case "A5":
					return maps.Clone(none)
				case "A6":
					return object{"category": "77", "confidence": 5} // no such category
				case "C1":
					return to("C", 2)
				case "C2":
					return nil // left out
				}
				return to("B", 10)
			}
			switch {
			case text[:1] == "A":
				return to("A", 5)
			case text == "C1":
				return to("A", 10)
			}
			return maps.Clone(none)
		}), nil
	case judge.TaskFit:
		group, rep := cut(d.Category.Title)
		switch s := d.Sentences[0].Text; {
		case s == "A1":
			return object{"score": 11, "explanation": "too much"}, nil // out of range
		case s == "B1":
			return nil, refused
		case group == "A" && rep == "0":
			return object{"score": 8, "explanation": "fits"}, nil
		case group == "A":
			return object{"score": 3, "explanation": "hardly fits"}, nil
		}
		return object{"score": 5, "explanation": "so so"}, nil
	case judge.TaskSimilarity:
		a, rep := cut(d.Categories[0].Title)
		b, _ := cut(d.Categories[1].Title)
		pair := []string{a, b}
		slices.Sort(pair)
		switch {
		case rep == "1":
			return object{"score": 9, "explanation": "nearly the same"}, nil
		case slices.Equal(pair, []string{"A", "B"}):
			return object{"score": 2, "explanation": "far apart"}, nil
		case slices.Equal(pair, []string{"A", "C"}):
			return object{"score": 7, "explanation": "close"}, nil
		}
		return "```json\n{\"score\": \n```", nil
	}
	return nil, refused
}

// closeTo reports whether two numbers are equal up to rounding.
func closeTo(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func checkValue(t *testing.T, r judge.SizeResult, rep int, metric string, want float64) {
	t.Helper()
	got, ok := r.AllResults[rep].Value(metric)
	if !ok || !closeTo(got, want) {
		t.Errorf("%s of repetition %d is %v (there: %v), want %v", metric, rep, got, ok, want)
	}
}

func TestScoresByHand(t *testing.T) {
	dir, _ := threeGroups(t)
	base := scripted(t, scriptedJudge)
	b := newBench(t)
	a := b.apply(dir, scriptedStudy(base, `completeness { examples = "all" }`, 2))
	r := a.score()

	// Accuracy. All twelve sentences are asked of every category. A/0: tp 5,
	// fn 1, fp 1, tn 5. B/0: all right. C/0 failed. A/1: all No, so tp 0, fn
	// 6, fp 0, tn 6. B/1 failed, C/1 has no title.
	checkValue(t, r, 0, "avg_accuracy", (10.0/12+1)/2)
	checkValue(t, r, 0, "avg_precision", (5.0/6+1)/2)
	checkValue(t, r, 0, "avg_recall", (5.0/6+1)/2)
	checkValue(t, r, 0, "avg_f1", (5.0/6+1)/2)
	checkValue(t, r, 1, "avg_accuracy", 0.5)
	checkValue(t, r, 1, "avg_precision", 0)
	checkValue(t, r, 1, "avg_f1", 0)

	// Completeness. Repetition 0: ten answers of twelve. Assigned A1 A2 A3 A4
	// B1…B4 C1 = 9. Confidences 1 .8 .6 .4 0 1 1 1 1 .2 = 7. Repetition 1:
	// twelve answers, assigned A1…A6 and C1, confidences 6 × .5 + 1 = 4.
	checkValue(t, r, 0, "assigned_fraction", 0.9)
	checkValue(t, r, 0, "avg_confidence", 0.7)
	checkValue(t, r, 1, "assigned_fraction", 7.0/12)
	checkValue(t, r, 1, "avg_confidence", 4.0/12)
	// Right A1 A2 A3 B1…B4 C1 = 8, wrong A4, missed A5.
	m := *r.AllResults[0].CompletenessMetrics
	for what, pair := range map[string][2]float64{
		"correct": {float64(m.CorrectAssignments), 8}, "incorrect": {float64(m.IncorrectAssignments), 1}, "missed": {float64(m.MissedAssignments), 1},
		"accuracy": {m.AssignmentAccuracy, 8.0 / 9}, "precision": {m.AssignmentPrecision, 8.0 / 9}, "recall": {m.AssignmentRecall, 0.8},
		"confidence of the right": {m.AvgCorrectConfidence, 6.6 / 8}, "of the wrong": {m.AvgIncorrectConfidence, 0.4},
	} {
		if !closeTo(pair[0], pair[1]) {
			t.Errorf("completeness, %s: %v, want %v", what, pair[0], pair[1])
		}
	}
	// C1 and C2 have no category of their own in the second repetition.
	if n := len(r.AllResults[1].CompletenessDetailed.Untitled); n != 2 {
		t.Errorf("%d sentences without a title, want 2", n)
	}

	// Similarity of the first repetition's titles, for both: A–B .8, above
	// .5; A–C .3; B–C failed.
	for rep := range 2 {
		checkValue(t, r, rep, "semantic_orthogonality_score", 0.5)
	}
	checkValue(t, r, 0, "final_score", ((5.0/6+1)/2+0.7+0.5)/3)
	checkValue(t, r, 1, "final_score", (0+4.0/12+0.5)/3)

	// Statistics: t(0.975, 1) = 12.7062047362 (tables of Student's t).
	x, y := ((5.0/6+1)/2+0.7+0.5)/3, (4.0/12+0.5)/3
	s := r.Statistics["final_score"]
	sem := math.Abs(x-y) / 2
	if !closeTo(s.Mean, (x+y)/2) || !closeTo(s.StdDev, math.Abs(x-y)/math.Sqrt2) || !closeTo(s.SEM, sem) ||
		math.Abs(s.CI95[0]-((x+y)/2-12.7062047362*sem)) > 1e-6 || !closeTo(r.AvgFinalScore, s.Mean) {
		t.Errorf("final score: %+v", s)
	}

	// What failed is counted.
	for _, c := range []struct {
		rep                     int
		task                    string
		asked, answered, failed int
	}{
		{0, judge.TaskTitle, 3, 3, 0}, {1, judge.TaskTitle, 3, 2, 1},
		{0, judge.TaskAccuracy, 36, 24, 12}, {1, judge.TaskAccuracy, 24, 12, 12},
		{0, judge.TaskCompleteness, 12, 10, 2}, {1, judge.TaskCompleteness, 12, 12, 0},
		{0, judge.TaskSimilarity, 3, 2, 1},
	} {
		if n := r.AllResults[c.rep].Answers[c.task]; n.Asked != c.asked || n.Answered != c.answered || n.Failed != c.failed {
			t.Errorf("repetition %d, %s: %+v, want %d asked, %d answered, %d failed", c.rep, c.task, n, c.asked, c.answered, c.failed)
		}
	}
	// One request of B/1's accuracy has no answer for good; the rest are
	// answers, whatever is in them.
	if n := a.note("x/4/spherical_kmeans/3/auto/e/await-eval", "failed"); n != "1" {
		t.Errorf("%s evaluation requests failed, want 1", n)
	}
	if d := r.AllResults[0].DetailedResults; len(d) != 3 || len(r.AllResults[1].DetailedResults) != 2 {
		t.Errorf("details of %v", sortedKeys(d))
	}
	for _, d := range r.AllResults[0].DetailedResults {
		if want := map[string]int{"A/0": 6, "B/0": 4, "C/0": 2}[d.Title]; d.Size != want || len(d.Examples) != want || d.Examples[0][:1] != d.Title[:1] {
			t.Errorf("%s: size %d, examples %v", d.Title, d.Size, d.Examples)
		}
	}

	// Each repetition's own titles: A/1–B/1 is .1. The answers that are there
	// are not bought again.
	each := b.apply(dir, scriptedStudy(base, "completeness { examples = \"all\" }\n orthogonality {\n repetitions = \"each\"\n threshold = 0.25\n}", 2))
	r = each.score()
	checkValue(t, r, 0, "semantic_orthogonality_score", 1) // .8 and .3 of a threshold of .25
	checkValue(t, r, 1, "semantic_orthogonality_score", 0)
	if n := r.AllResults[1].Answers[judge.TaskSimilarity]; n.Asked != 1 || n.Answered != 1 {
		t.Errorf("second repetition: %+v", n)
	}
	for _, addr := range each.ran {
		if strings.HasSuffix(addr, "-titles") {
			t.Errorf("%s ran again", addr)
		}
	}

	// Fit. Repetition 0: A2…A6 8, B2…B4 5, C1 C2 5; A1 and B1 failed.
	// Repetition 1: A2…A6 3, B2…B4 5; C has no title and is not asked.
	fit := b.apply(dir, scriptedStudy(base, "metrics = [\"completeness\"]\n completeness {\n mode = \"fit\"\n examples = \"all\"\n}", 2))
	r = fit.score()
	checkValue(t, r, 0, "avg_fit_score", 65.0/10)
	checkValue(t, r, 0, "avg_confidence", 0.65)
	checkValue(t, r, 0, "final_score", 0.65)
	checkValue(t, r, 1, "avg_fit_score", 30.0/8)
	if n := r.AllResults[0].Answers[judge.TaskFit]; n.Asked != 12 || n.Answered != 10 || n.Failed != 2 {
		t.Errorf("fit: %+v", n)
	}
	if n := r.AllResults[1].Answers[judge.TaskFit]; n.Asked != 10 || n.Answered != 8 || n.Failed != 2 {
		t.Errorf("fit, second repetition: %+v", n)
	}
	if _, ok := r.AllResults[0].Value("avg_f1"); ok {
		t.Error("accuracy was not asked for and has a value")
	}
}

// Failed answers are no failure of the study: there is a report, and it claims
// nothing.
func TestEverythingFails(t *testing.T) {
	dir, _ := threeGroups(t)
	refused := func(judge.Data, int) (any, error) {
		return nil, &batchd.Error{Status: 400, Message: "not today"}
	}
	for name, answer := range map[string]func(judge.Data, int) (any, error){
		"no answer":       refused,
		"nothing to read": func(judge.Data, int) (any, error) { return "lorem ipsum", nil },
		"only titles": func(d judge.Data, rep int) (any, error) {
			if d.Task == judge.TaskTitle {
				return title(d, rep), nil
			}
			return refused(d, rep)
		},
		"all titles of the first repetition": func(d judge.Data, rep int) (any, error) {
			if d.Task == judge.TaskTitle && rep == 0 {
				return "", nil
			}
			return scriptedJudge(d, rep)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newBench(t).apply(dir, scriptedStudy(scripted(t, answer), "", 2))
			r := a.score()
			if len(r.AllResults) != 2 || r.AvgFinalScore != 0 || len(r.Statistics) == 0 {
				t.Errorf("%+v", r)
			}
			if _, ok := r.Statistics["final_score"]; ok {
				t.Error("there is a final score")
			}
			page := string(a.output("report", "index.html"))
			if !strings.Contains(page, "</html>") {
				t.Errorf("the page is %.300s", page)
			}
			var file judge.MethodResults
			unjson(t, a.output("report", "vars/spherical_kmeans_results_x_layer4.json"), &file)
			if file.BestCluster != nil {
				t.Errorf("the best of nothing is %+v", file.BestCluster)
			}
			page, err := publish(a, filepath.Join(dir, "out-"+name))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(page); err != nil {
				t.Error(err)
			}
		})
	}
}
