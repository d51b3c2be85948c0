package graph_test

import (
	"strings"
	"testing"

	"clusterflow/graph"
)

// A withdrawn result counts no more: its node runs again, and what it gives then
// takes the place of the old, without a warning that it is another.
func TestWithdrawnResultIsMadeAgain(t *testing.T) {
	b, l := newBench(t), &log{}
	b.x.Notify = func(e graph.Event) {
		if e.Type == graph.EventWarning {
			t.Errorf("warning: %v", e.Err)
		}
	}
	nodes := chain(l, "a", "b")
	made := &restless{step: step{log: l, kind: "restless"}}
	nodes[1].Task = made
	b.apply(nodes...)
	l.take()
	for _, s := range b.full(nodes...).Steps {
		if s.Node.Addr == "b" {
			if err := b.store.Withdraw("its answers were dropped", s.Key, s.Record.Outputs[0].Digest); err != nil {
				t.Fatal(err)
			}
		}
	}
	const want = "a cached\nb stale its answers were dropped\nc unknown unknown until b has run\nd cached"
	if got := states(b.plan(nodes...)); got != want {
		t.Errorf("plan\n%s\nwant\n%s", got, want)
	}
	b.apply(nodes...)
	if got := strings.Join(l.take(), " "); made.runs != 2 || got != "c" {
		t.Errorf("b ran %d times, and then %q", made.runs, got)
	}
	if p := b.plan(nodes...); p.Work() {
		t.Errorf("plan afterwards\n%s", states(p))
	}
}
