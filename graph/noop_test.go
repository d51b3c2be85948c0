package graph_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"clusterflow/cache"
	"clusterflow/graph"
)

// What the shortcuts of a plan and of an apply with nothing to do must see all
// the same, each against a cache whose index, stamps and last run are of a
// finished study.
func TestNothingToDoIsNeverSaidWrongly(t *testing.T) {
	long := strings.Repeat("x", 2*cache.InlineLimit)
	for _, c := range []struct {
		name   string
		change func(t *testing.T, blob, source string, s *step)
		want   string // state of the first node
	}{
		{"nothing", func(*testing.T, string, string, *step) {}, "cached"},
		{"blob missing", func(t *testing.T, blob, _ string, _ *step) { must(t, os.Remove(blob)) }, "stale"},
		{"blob cut", func(t *testing.T, blob, _ string, _ *step) {
			must(t, os.Chmod(blob, 0o644))
			must(t, os.Truncate(blob, 5))
		}, "stale"},
		{"blob flipped", func(t *testing.T, blob, _ string, _ *step) {
			must(t, os.Chmod(blob, 0o644))
			must(t, os.WriteFile(blob, []byte(strings.Repeat("y", 2*cache.InlineLimit)), 0o644))
		}, "stale"},
		{"blob a folder", func(t *testing.T, blob, _ string, _ *step) {
			must(t, os.Remove(blob))
			must(t, os.Mkdir(blob, 0o755))
		}, "stale"},
		{"source edited", func(t *testing.T, _, source string, _ *step) {
			must(t, os.WriteFile(source, []byte("two"), 0o644))
		}, "stale"},
		{"parameter", func(_ *testing.T, _, _ string, s *step) { s.text += "y" }, "stale"},
		{"task version", func(_ *testing.T, _, _ string, s *step) { s.version = "9" }, "stale"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, l := newBench(t), &log{}
			source := filepath.Join(t.TempDir(), "source")
			must(t, os.WriteFile(source, []byte("one"), 0o644))
			s := &step{kind: "first", text: long, log: l}
			nodes := func() []*graph.Node {
				a := node("a", s)
				a.Sources = []graph.Source{{Name: "source", Path: source}}
				return []*graph.Node{a, node("c", &step{kind: "first", text: "c", log: l}, a)}
			}
			b.apply(nodes()...)
			must(t, b.store.Close()) // writes the index
			blob := cache.OpenBlobs(b.dir).Path(b.plan(nodes()...).Steps[0].Record.Outputs[0].Digest)
			c.change(t, blob, source, s)
			var err error
			if b.store, err = cache.Open(t.Context(), cache.Options{Dir: b.dir, Command: "test"}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { b.store.Close() })
			b.x.Store = b.store
			if got := string(b.plan(nodes()...).Steps[0].State); got != c.want {
				t.Errorf("the plan says %s, want %s", got, c.want)
			}
			l.take()
			sum := b.apply(nodes()...)
			if ran := len(l.take()) > 0; ran != (c.want == "stale") || sum.Failed > 0 {
				t.Errorf("apply ran something: %v; %+v", ran, sum)
			}
			p := b.plan(nodes()...)
			if p.Work() {
				t.Errorf("work is left:\n%s", states(p))
			}
			before := p.Last.Finished
			if sum := b.apply(nodes()...); sum.Cached != 2 {
				t.Errorf("the second apply: %+v", sum)
			}
			r, err := cache.OpenReader(b.dir)
			must(t, err)
			run, err := r.Run("s")
			must(t, err)
			if run.State != "done" || len(run.Nodes) != 2 || run.Nodes["a"].Key.IsZero() || !run.Finished.After(before.Add(-time.Second)) {
				t.Errorf("the run file says %+v", run)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
