package graph

import (
	"slices"
	"strings"
	"time"

	"clusterflow/cache"
)

// setState sets the state of the whole run and reports whether it is another.
func (r *run) setState(s string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := r.board.State != s
	r.board.State = s
	r.dirty = r.dirty || changed
	return changed
}

// publish puts a node's state on the board and tells the listener.
func (r *run) publish(it *item, state string, e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Time, e.Node = time.Now(), it.node
	st := r.board.Nodes[it.node.Addr]
	st.State, st.Until, st.Note = state, e.Until, e.Progress.Note
	switch e.Type {
	case EventStart:
		st.Started, st.Done, st.Total, st.Error = e.Time, 0, 0, ""
	case EventDone, EventCached, EventSpared:
		st.Key, st.Started, st.Finished = it.key, it.record.Started, it.record.Finished
		st.Error, st.FailedKey, st.WaitKey = "", cache.Digest{}, cache.Digest{}
	case EventWaiting:
		st.WaitKey = it.key
	case EventFailed:
		st.Error, st.FailedKey, st.Finished, st.WaitKey = e.Err.Error(), it.key, e.Time, cache.Digest{}
	}
	r.dirty = true
	if e.Type != "" && r.x.Notify != nil {
		r.x.Notify(e)
	}
}

// progress is called by jobs, from any goroutine.
func (r *run) progress(j *Job) {
	p, started := j.snapshot()
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.board.Nodes[j.Node.Addr]
	st.Done, st.Total, st.Note = p.Done, p.Total, strings.TrimSpace(p.Unit+" "+p.Note)
	r.dirty = true
	if r.x.Notify != nil {
		r.x.Notify(Event{Time: time.Now(), Type: EventProgress, Node: j.Node, Progress: p, Elapsed: time.Since(started)})
	}
}

// save writes the run file if something changed, or if it is time for a sign
// of life; large files less often. A failure to write it does not stop the run:
// it is tried again.
func (r *run) save(now bool) {
	if !now && time.Since(r.saved) < r.gap {
		return
	}
	r.mu.Lock()
	if !now && !r.dirty && time.Since(r.board.Heartbeat) < heartbeat {
		r.mu.Unlock()
		return
	}
	r.look()
	if r.x.Left != nil {
		r.board.SecondsLeft = r.x.Left().Seconds()
	}
	r.board.Heartbeat = time.Now()
	board := r.board
	states := make([]cache.NodeState, 0, len(r.board.Nodes))
	board.Nodes = make(map[string]*cache.NodeState, len(r.board.Nodes))
	for addr, st := range r.board.Nodes {
		states = append(states, *st)
		board.Nodes[addr] = &states[len(states)-1]
	}
	r.dirty = false
	r.mu.Unlock()
	begin := time.Now()
	if err := r.x.Store.SaveRun(&board); err != nil {
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
	}
	r.saved = time.Now()
	r.gap = max(saveEvery, 20*r.saved.Sub(begin))
}

// look notes what the run has seen outside.
func (r *run) look() {
	if r.x.Batches != nil {
		r.board.Batches = r.x.Batches()
	}
	if r.x.Bills != nil {
		if bills := r.x.Bills(); bills != nil { // else those of the run before
			r.board.Bills = bills
		}
	}
}

// close fills in the end of the run.
func (r *run) close(err error) {
	for _, it := range r.order {
		switch it.phase {
		case waiting:
			r.sum.Waiting++
		case idle, queued, running:
			r.sum.Pending++
		}
	}
	slices.SortStableFunc(r.sum.Failures, func(a, b Failure) int { return len(b.Addrs) - len(a.Addrs) })
	r.board.Finished = time.Now()
	r.board.Heartbeat = r.board.Finished
	r.board.SecondsLeft = 0
	switch {
	case err != nil:
		r.board.State, r.board.Message = "interrupted", err.Error()
	case r.sum.Failed > 0:
		r.board.State = "failed"
	case r.sum.Waiting > 0:
		r.board.State = "waiting"
	default:
		r.board.State = "done"
	}
	r.look()
}
