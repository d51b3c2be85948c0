package main

import (
	"sync"
	"time"

	"clusterflow/graph"
)

// timeLeft estimates how long a run still takes, from the durations of earlier
// runs and from how this one compares with them. It is safe for concurrent use.
type timeLeft struct {
	now func() time.Time

	mu    sync.Mutex
	nodes map[*graph.Node]*nodeTime // not done yet
	known time.Duration             // estimates of the nodes that are done, and
	took  time.Duration             // what they took
	kinds map[string]*meanTime      // of this run, for nodes without an estimate

	// The last estimate, which holds until fresh: with many nodes it takes long
	// enough not to be made for each of them.
	last  time.Duration
	whole bool
	fresh time.Time
}

// nodeTime is what is expected of a node.
type nodeTime struct {
	expect  time.Duration // 0: not known
	share   float64       // of the machine
	started time.Time
	part    float64 // done of it, 0 to 1, by its own count
}

func newTimeLeft(p *planned, threads int, now func() time.Time) *timeLeft {
	t := &timeLeft{now: now, nodes: map[*graph.Node]*nodeTime{}, kinds: map[string]*meanTime{}}
	for _, s := range p.Steps {
		if s.State == graph.Cached || s.Node.Dest != (graph.Destination{}) {
			continue // nobody knows how long a server takes
		}
		n := &nodeTime{share: float64(min(max(s.Node.Need.Threads, 1), threads)) / float64(threads)}
		n.expect, _ = p.durations.of(s)
		t.nodes[s.Node] = n
	}
	return t
}

// event takes note of what happened.
func (t *timeLeft) event(e graph.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[e.Node]
	if n == nil {
		return
	}
	switch e.Type {
	case graph.EventStart:
		n.started, n.part = e.Time, 0
	case graph.EventProgress:
		if e.Progress.Total > 0 {
			n.part = min(float64(e.Progress.Done)/float64(e.Progress.Total), 1)
		}
	case graph.EventDone:
		_, grouped := e.Node.Task.(graph.GroupTask) // each of its nodes ends when all do
		if n.expect > 0 && !grouped {
			t.known += n.expect
			t.took += e.Elapsed
		}
		kind := e.Node.Kind()
		if t.kinds[kind] == nil {
			t.kinds[kind] = &meanTime{}
		}
		t.kinds[kind].sum += e.Elapsed
		t.kinds[kind].n++
		delete(t.nodes, e.Node)
	case graph.EventCached, graph.EventSpared, graph.EventFailed, graph.EventBlocked:
		delete(t.nodes, e.Node)
	}
}

// left is the time to the end; 0 if nothing is known about it. Nodes of which
// nothing is known are not counted.
func (t *timeLeft) left() time.Duration {
	d, _ := t.estimate()
	return d
}

// estimate is left, and whether every node was counted.
func (t *timeLeft) estimate() (left time.Duration, whole bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	begin := t.now()
	if begin.Before(t.fresh) {
		return t.last, t.whole
	}
	t.last, t.whole = t.sum(begin)
	end := t.now()
	t.fresh = end.Add(50 * end.Sub(begin))
	return t.last, t.whole
}

// sum adds up what is left of all nodes.
func (t *timeLeft) sum(now time.Time) (left time.Duration, whole bool) {
	pace := 1.0 // this run compared with earlier ones
	if t.known > time.Second {
		pace = min(max(float64(t.took)/float64(t.known), 0.25), 4)
	}
	whole = true
	var sum, longest float64
	for node, n := range t.nodes {
		expect := float64(n.expect) * pace
		if n.expect == 0 {
			m := t.kinds[node.Kind()]
			if m == nil {
				whole = false
				continue
			}
			expect = float64(m.sum) / float64(m.n)
		}
		rest := expect
		switch {
		case n.part > 0:
			rest = expect * (1 - n.part)
		case !n.started.IsZero():
			rest = max(expect-float64(now.Sub(n.started)), expect/20)
		}
		sum += rest * n.share
		longest = max(longest, rest)
	}
	return time.Duration(max(sum, longest)), whole
}

// worthSaying is the shortest time left that is shown.
const worthSaying = 5 * time.Second

// text is the time left for people, or "".
func (t *timeLeft) text() string {
	d, whole := t.estimate()
	switch {
	case d < worthSaying:
		return ""
	case !whole:
		return "  more than " + roughly(d) + " left"
	}
	return "  about " + roughly(d) + " left"
}
