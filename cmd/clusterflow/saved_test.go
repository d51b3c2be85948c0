package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/tasks"
)

// TestCeiling applies saved plans that send requests: never more than they say.
func TestCeiling(t *testing.T) {
	b := newBench(t)
	_, base := b.startBatchd("--listen", "127.0.0.1:0", "--dir", "served")
	b.evaluators(base)
	b.must(0, `^16 nodes: 16 new`, "plan", "--out", "full.plan", "study.hcl")
	full := b.read("full.plan")
	if !strings.Contains(full, `"requests": 28`) || !strings.Contains(full, `"url": "`+base+`"`) {
		t.Fatalf("no ceiling of 28 requests to %s in the plan", base)
	}
	b.must(1, `up to 28 requests to `+base, "apply", "full.plan") // asked all the same

	// Ten titles fit, the questions that follow do not.
	b.write("small.plan", strings.Replace(full, `"requests": 28`, `"requests": 12`, 1))
	b.must(1, `the saved plan allows 12: nothing more is sent`, "apply", "--quiet", "--yes", "small.plan")
	if l := readLedger(t, base); l.tasks["title"] != 10 || l.total() != 10 {
		t.Errorf("a plan of 12 requests sent %d, %d of them for titles", l.total(), l.tasks["title"])
	}

	// A destination that the plan does not know gets nothing.
	b.write("other.plan", strings.Replace(full, `"url": "`+base, `"url": "https://elsewhere.invalid/v1`, 1))
	b.must(1, `the saved plan allows 0`, "apply", "--quiet", "--yes", "other.plan")
	if l := readLedger(t, base); l.total() != 10 {
		t.Errorf("%d requests were sent, want 10", l.total())
	}

	b.must(0, `Report: `, "apply", "--quiet", "--yes", "full.plan")
	l := readLedger(t, base)
	l.once(t)
	if l.total() > 28 || l.tasks["accuracy"] != 10 {
		t.Errorf("%d requests in all, %d for accuracy", l.total(), l.tasks["accuracy"])
	}
}

// runWithSpace runs a command line in this process with so much free disk.
func runWithSpace(t *testing.T, free uint64, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{
		in: strings.NewReader(""), out: &stdout, err: &stderr, getenv: func(string) string { return "" }, now: time.Now,
		free: func(string) (uint64, error) { return free, nil },
	}
	code = a.run(t.Context(), args)
	return code, stdout.String(), stderr.String()
}

func TestDiskSpace(t *testing.T) {
	dir := t.TempDir()
	if err := copyStudy(dir); err != nil {
		t.Fatal(err)
	}
	study := filepath.Join(dir, "study.hcl")
	if _, out, _ := runWithSpace(t, 1<<40, "plan", study); strings.Contains(out, "warning:") {
		t.Errorf("a plan with space enough warns:\n%s", out)
	}
	code, out, _ := runWithSpace(t, 1000, "plan", study)
	if code != exitDone || !strings.Contains(out, "warning: up to ") || !strings.Contains(out, "1000 B are free: too little") {
		t.Errorf("plan ended with %d and does not warn:\n%s", code, out)
	}
	code, _, errs := runWithSpace(t, 1000, "apply", "--quiet", study)
	if code != exitFailed || !strings.Contains(errs, "too little; make space") {
		t.Errorf("apply on a full disk ended with %d: %s", code, errs)
	}
	if code, out, errs := runWithSpace(t, 1000, "apply", "--quiet", "--ignore-disk", "--only", "train", study); code != exitDone {
		t.Errorf("apply --ignore-disk ended with %d: %s%s", code, out, errs)
	}
	if code, _, errs := runWithSpace(t, 0, "apply", "--quiet", "--only", "train", study); code != exitDone {
		t.Errorf("an apply without work needs no space, and ended with %d: %s", code, errs)
	}
}

func TestDiskWarning(t *testing.T) {
	for _, c := range []struct {
		need, free int64
		want       string
		refused    bool
	}{
		{0, 0, "", false},
		{89, 100, "", false},
		{95, 100, "hardly enough", false},
		{101, 100, "too little", true},
	} {
		d := diskSpace{need: c.need, free: c.free, known: true, dir: "cache"}
		if got := d.warning(); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%d of %d: %q, want %q", c.need, c.free, got, c.want)
		}
		if err := d.check(false); (err != nil) != c.refused {
			t.Errorf("%d of %d: %v", c.need, c.free, err)
		}
	}
	if (diskSpace{need: 1 << 60}).warning() != "" {
		t.Error("a disk of unknown size warns")
	}
}

// idleTask is a task that is never run.
type idleTask struct{ kind string }

func (t idleTask) Kind() string                          { return t.kind }
func (t idleTask) Version() string                       { return "1" }
func (t idleTask) Params() []cache.Line                  { return nil }
func (t idleTask) Run(context.Context, *graph.Job) error { return nil }

// TestTimeLeft follows a run of four nodes on two threads: 10 s, 10 s and 30 s
// the last time, and one new node.
func TestTimeLeft(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := start
	step := func(addr string, seconds int, threads int) *graph.Step {
		s := &graph.Step{Node: &graph.Node{Addr: addr, Task: idleTask{"fit"}, Need: graph.Need{Threads: threads}}, State: graph.Stale}
		if seconds > 0 {
			s.Last = &cache.Record{Started: start, Finished: start.Add(time.Duration(seconds) * time.Second)}
		}
		return s
	}
	a, b, c, d := step("a", 10, 1), step("b", 10, 1), step("c", 30, 1<<16), step("d", 0, 1)
	cached := step("e", 500, 1)
	cached.State = graph.Cached
	sent := step("f", 500, 1)
	sent.Node.Dest = graph.Destination{URL: "https://evaluator.invalid/v1"}
	p := &planned{Plan: &graph.Plan{Steps: []*graph.Step{a, b, c, d, cached, sent}}, durations: &durations{past: func() *past { return &past{} }}, compiled: &tasks.Compiled{}}
	left := newTimeLeft(p, 2, func() time.Time { return now })
	check := func(what string, want time.Duration, text string) {
		t.Helper()
		if got := left.left(); (got-want).Abs() > time.Millisecond || left.text() != text {
			t.Errorf("%s: %v, %q; want %v, %q", what, got, left.text(), want, text)
		}
	}
	check("at first", 40*time.Second, "  more than 40 s left") // (10 + 10)/2 + 30

	for _, s := range []*graph.Step{a, b} {
		left.event(graph.Event{Type: graph.EventStart, Node: s.Node, Time: now})
	}
	now = now.Add(4 * time.Second)
	check("after 4 s", 36*time.Second, "  more than 36 s left")

	left.event(graph.Event{Type: graph.EventProgress, Node: b.Node, Progress: graph.Progress{Done: 1, Total: 2}})
	check("half of b", 35500*time.Millisecond, "  more than 36 s left") // (6 + 5)/2 + 30

	// a took twice the time: everything else will, and d as long as a.
	left.event(graph.Event{Type: graph.EventDone, Node: a.Node, Elapsed: 20 * time.Second})
	check("a done", 75*time.Second, "  about 75 s left") // 2·5/2 + 2·30 + 20/2

	left.event(graph.Event{Type: graph.EventFailed, Node: b.Node})
	left.event(graph.Event{Type: graph.EventBlocked, Node: c.Node})
	check("only d", 20*time.Second, "  about 20 s left") // it alone, on one thread
	left.event(graph.Event{Type: graph.EventCached, Node: d.Node})
	check("nothing", 0, "")
}

// TestStatusTimeLeft: the estimate is as old as the heartbeat.
func TestStatusTimeLeft(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	run := &cache.Run{Study: "s", Heartbeat: now.Add(-10 * time.Second), SecondsLeft: 100}
	for state, want := range map[string]bool{"running": true, "waiting": false, "killed": false} {
		var b strings.Builder
		writeStatus(&b, run, state, false, now)
		if strings.Contains(b.String(), "about 90 s left") != want {
			t.Errorf("%s: %s", state, b.String())
		}
	}
}

// FuzzSavedPlan: a saved plan is a file from elsewhere; what cannot be read is
// an error.
func FuzzSavedPlan(f *testing.F) {
	f.Add([]byte(`{"clusterflow_plan":1,"file":"/s.hcl","nodes":[{"address":"a","state":"new","lines":{"kind":"train"}}]}`))
	f.Add([]byte(`{"clusterflow_plan":1,"nodes":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "x.plan")
		writeFile(t, path, raw)
		if _, err := graph.IsSaved(path); err != nil {
			t.Fatal(err)
		}
		s, err := graph.ReadSaved(path)
		if err != nil {
			return
		}
		g, err := graph.Build([]*graph.Node{{Addr: "a", Task: idleTask{"train"}}})
		if err != nil {
			t.Fatal(err)
		}
		s.Select(g)
		s.Limits()
		known := slices.ContainsFunc(s.Nodes, func(n graph.SavedNode) bool { return n.Lines["kind"] == "never" })
		if err := s.Permit()(g.Nodes[0], []cache.Line{{Label: "kind", Value: "never"}}); err == nil && !known {
			t.Error("a node runs with lines that the plan does not have")
		}
	})
}

func writeFile(t *testing.T, path string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
