package tasks_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/tasks"
)

// again writes the specification of every node of an applied study that can be
// run by itself, runs it, and compares what comes out with what apply made. It
// returns how many nodes of each kind it ran.
func (a *applied) again(copies bool) map[string]int {
	a.t.Helper()
	known, err := a.store.Reader()
	if err != nil {
		a.t.Fatal(err)
	}
	plan, err := graph.NewPlan(a.t.Context(), a.graph, nil, known, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	ran := map[string]int{}
	for _, n := range a.graph.Nodes {
		dir := filepath.Join(a.t.TempDir(), "spec")
		path, err := tasks.NewSpec(plan, n.Addr, dir, known, copies)
		if kind := n.Kind(); kind == "await-titles" || kind == "await-eval" || kind == "report" {
			if err == nil || !strings.Contains(err.Error(), "only apply") {
				a.t.Errorf("%s: specified, or refused without a reason: %v", n.Addr, err)
			}
			continue
		}
		if err != nil {
			a.t.Fatal(err)
		}
		done := runSpec(a.t, path)
		want := a.records[n.Addr].Outputs
		if len(done.Outputs) != len(want) {
			a.t.Errorf("%s: %d outputs, apply made %d", n.Addr, len(done.Outputs), len(want))
		}
		for _, o := range done.Outputs {
			i := slices.IndexFunc(want, func(w cache.Output) bool { return w.Name == o.Name })
			if i < 0 || want[i].Digest != o.SHA256 || want[i].Size != o.Size {
				a.t.Errorf("%s: output %s is not what apply made", n.Addr, o.Name)
			}
			raw, err := os.ReadFile(o.Path)
			if err != nil || cache.Sum(raw) != o.SHA256 {
				a.t.Errorf("%s: the file of output %s is not what was reported (%v)", n.Addr, o.Name, err)
			}
		}
		ran[n.Kind()]++
	}
	return ran
}

// runSpec runs a specification that has to succeed and returns its last event.
func runSpec(t testing.TB, path string) tasks.SpecEvent {
	t.Helper()
	s, err := tasks.ReadSpec(path)
	if err != nil {
		t.Fatal(err)
	}
	var events []tasks.SpecEvent
	if err := s.Run(t.Context(), 2, func(e tasks.SpecEvent) { events = append(events, e) }); err != nil {
		t.Fatal(err)
	}
	last := events[len(events)-1]
	if events[0].Event != "started" || last.Event != "done" {
		t.Errorf("%s: began with %s, ended with %s", path, events[0].Event, last.Event)
	}
	return last
}

// A task that is made from its key lines alone makes what apply made, for
// every kind that can be run by itself.
func TestSpecsMakeTheSameBytes(t *testing.T) {
	dir := t.TempDir()
	evaluation := smallEvaluation + "\n metrics = [\"accuracy\", \"completeness\", \"orthogonality\"]"
	a := newBench(t).apply(dir, graded(t, "[0, 1]", `["spherical_kmeans", "pca_kmeans"]`, "[3]", "repetitions = 2\n example_categories = 2", evaluation))
	ran := a.again(false)
	for _, kind := range []string{"sentences", "extract", "rows", "pca", "train", "submit-titles", "submit-eval", "score"} {
		if ran[kind] == 0 {
			t.Errorf("no %s was run", kind)
		}
	}
}

// The same for a checkpoint of files, with every option of every method set,
// for matrices of another program and for an evaluator with settings.
func TestSpecsOfFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "responses.json", workedResponses())
	text := extraction(makeCheckpoint(t, filepath.Join(dir, "qwen"), "qwen2", 1), "[0, 2]", "add_bos = \"false\"\n max_tokens = 900", "")
	text = strings.Replace(text, "grid {", "method \"spherical_kmeans\" {\n  n_init = 2\n  tol = 0.001\n}\ngrid {", 1)
	if ran := newBench(t).apply(dir, text).again(true); ran["extract"] != 2 || ran["train"] != 2 {
		t.Errorf("ran %v", ran)
	}

	xdir, _ := threeGroups(t)
	write(t, xdir, "x.npy", npy(randomMatrix(12, 4, 3)))
	write(t, xdir, "mean.npy", npy(randomMatrix(1, 4, 4)))
	study := scriptedStudy(scripted(t, scriptedJudge), "labels = \"trained\"", 2)
	study = strings.Replace(study, "model    = \"scripted\"", "model = \"scripted\"\n temperature = 0.25\n reasoning_effort = \"low\"\n max_completion_tokens = 700", 1)
	study = strings.Replace(study, "{ 4 = \"x.npy\" }", "{ 4 = \"x.npy\" }\n mean = { 4 = \"mean.npy\" }", 1)
	if ran := newBench(t).apply(xdir, study).again(false); ran["import"] != 2 || ran["submit-eval"] != 1 || ran["score"] != 1 {
		t.Errorf("ran %v", ran)
	}
}

// What does not fit the key is refused before anything is computed.
func TestSpecsAreChecked(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "responses.json", workedResponses())
	a := newBench(t).apply(dir, extraction("builtin:tiny", "[1]", "", ""))
	known, err := a.store.Reader()
	if err != nil {
		t.Fatal(err)
	}
	plan, err := graph.NewPlan(t.Context(), a.graph, nil, known, nil)
	if err != nil {
		t.Fatal(err)
	}
	param := func(s *tasks.Spec, name, value string) {
		i := slices.IndexFunc(s.Params, func(p tasks.SpecParam) bool { return p.Name == name })
		s.Params[i].Value = value
	}
	const train = "m/1/spherical_kmeans/2/train"
	for name, c := range map[string]struct {
		addr   string
		change func(*tasks.Spec)
		want   string
	}{
		"a parameter":         {train, func(s *tasks.Spec) { param(s, "seed", "7") }, "make the key"},
		"no number":           {train, func(s *tasks.Spec) { param(s, "clusters", "many") }, "parameter clusters"},
		"another spelling":    {train, func(s *tasks.Spec) { param(s, "tol", "1e-4") }, "tol"},
		"a missing parameter": {train, func(s *tasks.Spec) { s.Params = s.Params[1:] }, "no method"},
		"an unknown one":      {train, func(s *tasks.Spec) { s.Params = append(s.Params, tasks.SpecParam{Name: "x", Value: "1"}) }, "with x"},
		"another release":     {train, func(s *tasks.Spec) { s.Code = "0" }, "code version"},
		"another kind":        {train, func(s *tasks.Spec) { s.Kind = "nothing" }, "cannot be run by itself"},
		"an await":            {train, func(s *tasks.Spec) { s.Kind = "await-eval" }, "only apply may do"},
		"another input":       {"m/1/rows", func(s *tasks.Spec) { s.Inputs[0].Path = s.Inputs[1].Path }, "is not what the task was given"},
		"a missing input":     {"m/1/rows", func(s *tasks.Spec) { s.Inputs[0].Path = "gone" }, "gone"},
		"another model":       {"m/1/extract/0", func(s *tasks.Spec) { param(s, "model", "builtin:tiny 0") }, "model"},
		"another source":      {"m/sentences", func(s *tasks.Spec) { s.Sources[0].Path = write(t, t.TempDir(), "r.json", shortResponses(3)) }, "its content is not"},
	} {
		t.Run(name, func(t *testing.T) {
			path, err := tasks.NewSpec(plan, c.addr, t.TempDir(), known, false)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var s tasks.Spec
			unjson(t, raw, &s)
			c.change(&s)
			if raw, err = json.Marshal(s); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, raw, 0o644); err != nil {
				t.Fatal(err)
			}
			changed, err := tasks.ReadSpec(path)
			if err != nil {
				t.Fatal(err)
			}
			var last tasks.SpecEvent
			err = changed.Run(t.Context(), 1, func(e tasks.SpecEvent) { last = e })
			if err == nil || !strings.Contains(err.Error(), c.want) || last.Event != "failed" || last.Error != err.Error() {
				t.Errorf("error %v, last event %s %q; want %q", err, last.Event, last.Error, c.want)
			}
		})
	}
}

// FuzzReadSpec: a specification comes from elsewhere; whatever it says, reading
// and starting it ends in an event.
func FuzzReadSpec(f *testing.F) {
	for _, s := range []string{
		`{"clusterflow_task":1,"address":"a","kind":"train","code":"1","outputs":"out","params":[{"name":"method","value":"pca_kmeans"}]}`,
		`{"clusterflow_task":1,"address":"a","kind":"rows","outputs":"../x","inputs":[{"name":"shard/0","path":"x"}]}`,
		`{"clusterflow_task":2}`, `[]`, `{}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "spec.json")
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := tasks.ReadSpec(path)
		if err != nil {
			return
		}
		last := ""
		if err := s.Run(t.Context(), 1, func(e tasks.SpecEvent) { last = e.Event }); err == nil || last != "failed" {
			t.Errorf("ended with %q and the error %v", last, err)
		}
	})
}
