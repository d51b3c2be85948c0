package graph_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"clusterflow/cache"
	"clusterflow/graph"
)

// fickle is a task whose second run is another than the first.
type fickle struct {
	step
	runs *int
	mode string
}

func (f *fickle) Run(ctx context.Context, job *graph.Job) error {
	if err := f.step.Run(ctx, job); err != nil {
		return err
	}
	*f.runs++
	if *f.runs == 1 {
		return errors.Join(job.Put("large", []byte(strings.Repeat("x", 100_000))), job.Put("only", nil))
	}
	switch f.mode {
	case "bits":
		return errors.Join(job.Put("large", []byte(strings.Repeat("x", 70_000)+"y"+strings.Repeat("x", 29_999))), job.Put("only", nil))
	case "length":
		return errors.Join(job.Put("large", []byte(strings.Repeat("x", 90_000))), job.Put("only", nil))
	case "names":
		return errors.Join(job.Put("large", []byte(strings.Repeat("x", 100_000))), job.Put("other", nil))
	}
	return errors.New("no second time")
}

func TestVerifyFindsWhatIsNotDeterministic(t *testing.T) {
	tests := []struct{ mode, want string }{
		{"bits", "b large 70000"},
		{"length", "b large 90000"},
		{"names", "b only -1, b other -1"},
		{"error", "b failed: no second time"},
	}
	for _, tt := range tests {
		t.Run(tt.mode, func(t *testing.T) {
			b, l := newBench(t), &log{}
			na := node("a", &step{kind: "first", text: strings.Repeat("A", 10_000), log: l})
			nb := node("b", &fickle{step{kind: "second", text: "b", log: l}, new(int), tt.mode}, na)
			gs := []*graph.Node{node("g1", &shared{step{kind: "g", text: "1", group: "g", log: l}}, na), node("g2", &shared{step{kind: "g", text: "2", group: "g", log: l}}, na)}
			nodes := append([]*graph.Node{na, nb}, gs...)
			b.apply(nodes...)
			l.take()
			p := b.full(nodes...)
			before, err := b.store.Check(t.Context(), cache.CheckOptions{})
			if err != nil {
				t.Fatal(err)
			}
			v := graph.Verifier{From: b.store.Blobs(), Scratch: cache.OpenBlobs(t.TempDir()), Threads: 2}
			var got []string
			same := 0
			err = v.Verify(t.Context(), p, p.Steps, func(v graph.Verdict) {
				if v.Err != nil {
					got = append(got, fmt.Sprintf("%s failed: %v", v.Step.Node.Addr, v.Err))
				} else if len(v.Differ) == 0 {
					same++
				}
				for _, d := range v.Differ {
					got = append(got, fmt.Sprintf("%s %s %d", v.Step.Node.Addr, d.Output, d.At))
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if s := strings.Join(got, ", "); s != tt.want || same != 3 {
				t.Errorf("verify: %d the same, %s; want 3, %s", same, s, tt.want)
			}
			if len(l.passes) != 1 {
				t.Errorf("passes of the group: %v", l.passes)
			}
			if after, err := b.store.Check(t.Context(), cache.CheckOptions{}); err != nil || after.Blobs != before.Blobs || after.Records != before.Records {
				t.Errorf("verify changed the cache: %+v, was %+v (%v)", after, before, err)
			}
		})
	}
}

// A dropped result is made again for who reads it, and for nobody else.
func TestDroppedResults(t *testing.T) {
	b, l := newBench(t), &log{}
	large := strings.Repeat("l", 2*cache.InlineLimit)
	graphOf := func(text, last string) []*graph.Node {
		a := node("a", &step{kind: "first", text: text, log: l})
		mid := node("b", &step{kind: "second", text: large, log: l}, a)
		other := node("c", &step{kind: "third", text: "c", log: l}, mid)
		end := node("d", &step{kind: "third", text: last, log: l}, mid)
		return []*graph.Node{a, mid, other, end}
	}
	drop := func() {
		t.Helper()
		known, err := b.store.Reader()
		if err != nil {
			t.Fatal(err)
		}
		last, err := known.Run("s")
		if err != nil {
			t.Fatal(err)
		}
		// The last run needs nothing any more, as far as gc can see.
		err = b.store.SaveRun(&cache.Run{StudyID: "s", Finished: time.Now()})
		r, gcErr := b.store.GC(t.Context(), cache.GCOptions{})
		if err := errors.Join(err, gcErr, b.store.SaveRun(last)); err != nil || r.Dropped.Files == 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	small := func(nodes []*graph.Node) []*graph.Node { // c and d read only that b is there
		for _, n := range nodes[2:] {
			n.Task = &blind{step{kind: "third", text: n.Task.(*step).text, log: l}}
		}
		return nodes
	}
	b.apply(small(graphOf("a", "d"))...)
	l.take()
	drop()
	nodes := small(graphOf("a", "d"))
	if got := states(b.plan(nodes...)); got != "a cached\nb cached\nc cached\nd cached" {
		t.Errorf("plan\n%s", got)
	}
	if !b.plan(nodes...).Steps[1].Dropped {
		t.Error("b is not said to be dropped")
	}
	b.apply(nodes...)
	if ran := l.take(); len(ran) > 0 {
		t.Errorf("ran %v, and nobody reads it", ran)
	}
	nodes = small(graphOf("a", "e"))
	if got := states(b.plan(nodes...)); !strings.Contains(got, "b stale dropped from the cache, and d reads it") || !strings.Contains(got, "c cached") {
		t.Errorf("plan\n%s", got)
	}
	b.apply(nodes...)
	if ran := strings.Join(l.take(), " "); ran != "b d" {
		t.Errorf("ran %q, want b and d", ran)
	}
	if p := b.plan(nodes...); p.Work() {
		t.Errorf("after apply there is work:\n%s", states(p))
	}
	// Early cutoff spares it: a runs and makes the same.
	drop()
	nodes = small(graphOf("A", "e"))
	if got := states(b.plan(nodes...)); !strings.Contains(got, "b unknown") {
		t.Errorf("plan\n%s", got)
	}
	b.apply(nodes...)
	if ran := strings.Join(l.take(), " "); ran != "a" {
		t.Errorf("ran %q, want a", ran)
	}
}

// blind is a step whose output does not hold its inputs.
type blind struct{ step }

func (s *blind) Run(ctx context.Context, job *graph.Job) error {
	s.log.mu.Lock()
	s.log.ran = append(s.log.ran, job.Node.Addr)
	s.log.mu.Unlock()
	if _, err := job.Bytes("in0"); err != nil {
		return err
	}
	return job.Put("out", []byte(s.text))
}
