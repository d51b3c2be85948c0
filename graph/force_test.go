package graph_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clusterflow/graph"
)

func TestExcludeTakesWhatDepends(t *testing.T) {
	g, err := graph.Build(chain(&log{}, "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	addrs := func(nodes []*graph.Node) string {
		var out []string
		for _, n := range nodes {
			out = append(out, n.Addr)
		}
		return strings.Join(out, " ")
	}
	for pattern, want := range map[string]string{"b": "a d, b c", "a": "d, a b c", "[cd]": "a b, c d", "": "a b c d, "} {
		var patterns []string
		if pattern != "" {
			patterns = []string{pattern}
		}
		kept, left, err := g.Exclude(nil, patterns)
		if got := addrs(kept) + ", " + addrs(left); err != nil || got != want {
			t.Errorf("--exclude %s: %s (%v), want %s", pattern, got, err, want)
		}
	}
	if _, _, err := g.Exclude(nil, []string{"x"}); !errors.Is(err, graph.ErrNoMatch) {
		t.Errorf("a pattern without a match: %v", err)
	}
}

// restless gives another result each time.
type restless struct {
	step
	runs int
}

func (r *restless) Run(ctx context.Context, job *graph.Job) error {
	r.runs++
	return job.Put("out", fmt.Append(nil, r.runs))
}

func TestForceRunsAndCompares(t *testing.T) {
	b, l := newBench(t), &log{}
	warnings := 0
	b.x.Notify = func(e graph.Event) {
		if e.Type == graph.EventWarning {
			warnings++
		}
	}
	force := func(nodes []*graph.Node, want string) {
		t.Helper()
		p := b.full(nodes...)
		if err := p.Force([]string{"b"}); err != nil {
			t.Fatal(err)
		}
		const plan = "a cached\nb stale --force\nc unknown unknown until b has run\nd cached"
		if got := states(p); got != plan {
			t.Errorf("plan\n%s\nwant\n%s", got, plan)
		}
		if _, err := b.x.Apply(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(l.take(), " "); got != want {
			t.Errorf("ran %q, want %q", got, want)
		}
	}
	b.apply(chain(l, "a", "b")...)
	l.take()
	force(chain(l, "a", "b"), "b")
	if warnings != 0 {
		t.Errorf("%d warnings about an equal result", warnings)
	}

	r := &restless{step: step{kind: "restless", version: "1"}}
	other := func() []*graph.Node {
		nodes := chain(l, "a", "b")
		nodes[1].Task = r
		return nodes
	}
	b.apply(other()...)
	l.take()
	force(other(), "c") // b keeps no log
	if warnings != 1 || r.runs != 2 {
		t.Errorf("%d warnings, %d runs of a task with another result each time", warnings, r.runs)
	}
	if err := b.plan(other()...).Force([]string{"x"}); !errors.Is(err, graph.ErrNoMatch) {
		t.Errorf("a pattern without a match: %v", err)
	}
}

func TestFailFastStartsNothingMore(t *testing.T) {
	b, l := newBench(t), &log{}
	b.x.Threads, b.x.FailFast = 1, true
	nodes := chain(l, "a", "b")
	nodes[0].Task.(*step).fail = errors.New("no luck")
	sum := b.apply(nodes...)
	if sum.Ran != 0 || sum.Failed != 1 || sum.Blocked != 2 || sum.Pending != 1 {
		t.Errorf("summary %+v", sum)
	}
	b.x.FailFast = false
	if sum := b.apply(chain(l, "a", "b")...); sum.Ran != 4 {
		t.Errorf("afterwards: %+v", sum)
	}
}

// A saved plan runs as long as everything that it knew is as it was.
func TestSavedPlans(t *testing.T) {
	b, l := newBench(t), &log{}
	src := filepath.Join(t.TempDir(), "data")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(src, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("1")
	nodes := func(a, bt string) []*graph.Node {
		ns := chain(l, a, bt)
		ns[0].Sources = []graph.Source{{Name: "data", Path: src}}
		ns[2].Demand, ns[2].Dest = map[string]int{"ask": 7}, graph.Destination{URL: "u", KeyEnv: "K"}
		return ns
	}
	save := func() *graph.Saved {
		t.Helper()
		s := &graph.Saved{File: "study.hcl"}
		if err := b.full(nodes("a", "b")...).Save(s); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "plan")
		if err := s.Write(path); err != nil {
			t.Fatal(err)
		}
		read, err := graph.ReadSaved(path)
		if err != nil {
			t.Fatal(err)
		}
		return read
	}
	changed := func(s *graph.Saved, want string, ns []*graph.Node) {
		t.Helper()
		if got := strings.Join(s.Changed(b.full(ns...)), "; "); got != want {
			t.Errorf("changed: %q, want %q", got, want)
		}
	}
	s := save()
	if len(s.Ceiling) != 1 || s.Limits()[graph.Destination{URL: "u", KeyEnv: "K"}] != 7 {
		t.Errorf("ceiling %v", s.Ceiling)
	}
	changed(s, "", nodes("a", "b"))
	changed(s, "b: text b → x", nodes("a", "x"))
	newer := nodes("a", "b")
	newer[1].Task.(*step).version = "2"
	changed(s, "code 1 → 2: this is another release", newer)
	put("2")
	changed(s, src+" (data) has other content", nodes("a", "b"))
	put("1")

	// What was not known may run with whatever comes.
	b.x.Permit = s.Permit()
	if sum := b.apply(nodes("a", "b")...); sum.Ran != 4 {
		t.Errorf("summary %+v", sum)
	}
	changed(s, "", nodes("a", "b")) // all known now
	b.x.Permit = nil

	// What was known then may not be another now.
	known := save()
	if len(known.Ceiling) != 0 {
		t.Errorf("nothing is left to ask, and the ceiling is %v", known.Ceiling)
	}
	b.apply(nodes("z", "b")...)
	b.x.Permit = known.Permit()
	sum := b.apply(nodes("y", "b")...)
	if sum.Failed != 1 || !strings.Contains(sum.Failures[0].Err.Error(), "text of a is y, and the saved plan says a") {
		t.Errorf("another parameter: %+v", sum)
	}
	changed(known, "a: text a → z; b: a gave another result; c: b gave another result", nodes("z", "b"))
	if _, missing := known.Select(b.plan(nodes("a", "b")[3]).Graph); len(missing) != 3 {
		t.Errorf("nodes that are gone: %v", missing)
	}
}

func TestOutputPathStaysInside(t *testing.T) {
	for name, ok := range map[string]bool{"labels": true, "shard/0": true, "../x": false, "/x": false, "a/../../x": false, "": false} {
		if _, err := graph.OutputPath("out", name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
