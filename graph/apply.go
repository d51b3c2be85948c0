package graph

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"clusterflow/cache"
)

// Times of the scheduler.
const (
	saveEvery    = time.Second      // the run file at most so often
	suspendAfter = 5 * time.Second  // a pause this long gives the cache away
	holdFor      = 5 * time.Minute  // a held group starts at the latest after this
	heartbeat    = 10 * time.Second // the run file at least so often
)

// Executor runs plans. Its fields are set before Apply and not changed after.
type Executor struct {
	Store   *cache.Store
	Run     cache.Run // study, file and owner of the run file that Apply keeps
	Threads int       // threads that tasks may keep busy together
	Memory  int64     // bytes that tasks may take together; 0 is no limit
	Detach  bool      // return as soon as only nodes are left that wait for a server elsewhere
	Notify  func(Event)
	Batches func() []cache.BatchState // shown in the run file; may be nil
	Bills   func() []cache.Bill       // likewise; nil as long as nobody knows
	Idle    func() error              // called before the cache is given away while everything waits; may be nil
	Left    func() time.Duration      // estimates the time to the end, for the run file; may be nil

	// Permit, if not nil, is asked before a node runs: an error is the node's.
	Permit func(*Node, []cache.Line) error
	// FailFast starts nothing more once a node has failed.
	FailFast bool
}

// EventType names an event of a run.
type EventType string

// The events of a run.
const (
	EventStart    EventType = "start"    // a node begins
	EventProgress EventType = "progress" // a node has come further
	EventDone     EventType = "done"     // a node is done
	EventCached   EventType = "cached"   // a node need not run
	EventSpared   EventType = "spared"   // a node need not run after all: what it reads came out as before
	EventWaiting  EventType = "waiting"  // a node waits for something outside
	EventFailed   EventType = "failed"   // a node has failed
	EventBlocked  EventType = "blocked"  // a node that it reads has failed
	EventWarning  EventType = "warning"  // something the user should know
)

// Event is one thing that happened in a run.
type Event struct {
	Time     time.Time
	Type     EventType
	Node     *Node
	Elapsed  time.Duration
	Progress Progress
	Record   *cache.Record
	Err      error
	Until    time.Time
}

// Summary is what a run came to.
type Summary struct {
	Ran, Cached, Spared, Failed, Blocked, Waiting, Pending int
	Time                                                   map[string]time.Duration // by kind, summed over its nodes
	Runs                                                   map[string]int           // nodes run, by kind
	Failures                                               []Failure
	Records                                                map[string]*cache.Record // of the last nodes of the graph that are done, by address
	Elapsed                                                time.Duration
	Stopped                                                bool // interrupted before everything was tried
}

// Failure is one cause and the nodes that it stopped at.
type Failure struct {
	Err   error
	Addrs []string
}

// phase is where a node stands in a run.
type phase int

const (
	idle    phase = iota // an input is not done
	queued               // ready to run
	running              //
	waiting              // handed back until some time
	done                 //
	failed               //
	blocked              // an input failed
)

// item is a node in a run.
type item struct {
	node    *Node
	step    *Step
	phase   phase
	missing int
	key     cache.Digest
	lines   []cache.Line
	record  *cache.Record
	full    *cache.Record // of record, where that is brief and its content was asked for
	was     *cache.Record
	until   time.Time // when to ask again; zero if it never waited
	note    string    // what it waits for
	since   time.Time // when it became ready
	held    error     // why it must not spend
	counted *int      // where the summary has it, once done
	again   bool      // it is made again because its output was found damaged
	waiters []*item   // readers of that output
}

// run is the state of one Apply. Everything but the board is touched by one
// goroutine only.
type run struct {
	x          *Executor
	items      []*item // by node index; nil when not selected
	order      []*item
	threads    int
	memory     int64
	active     int     // tasks running
	held       int     // of those, members of groups that hold
	queue      byIndex // ready single nodes
	waits      byTime  // waiting nodes
	groups     map[string]*group
	groupOrder []*group // as they were first met
	events     chan settlement
	sum        Summary
	failures   map[string]int
	host       string
	suspended  bool
	settling   bool // results are being taken in
	committing committing

	mu    sync.Mutex // guards board, dirty and Notify
	board cache.Run
	dirty bool

	saved time.Time     // last write of the run file
	gap   time.Duration // to the next one, at least
}

// settlement is a job that settled, or the end of a task (job nil).
type settlement struct {
	job *Job
	err error
	end *lease
}

// Apply runs every step of the plan that is not cached, each as soon as what it
// reads is done, within Threads and Memory. A node whose inputs turn out the
// same as before is spared. A failure stops only what depends on it. When ctx
// ends, running tasks are told to stop and Apply returns the context's error;
// whatever has finished is kept.
func (x *Executor) Apply(ctx context.Context, p *Plan) (*Summary, error) {
	begin := time.Now()
	r := &run{
		x: x, items: make([]*item, len(p.Graph.Nodes)), groups: map[string]*group{},
		events: make(chan settlement, 64), failures: map[string]int{}, board: x.Run,
	}
	r.host, _ = os.Hostname()
	r.sum.Time, r.sum.Runs, r.sum.Records = map[string]time.Duration{}, map[string]int{}, map[string]*cache.Record{}
	if ok, err := r.nothing(p, begin); ok {
		return &r.sum, err
	}
	r.committing.done = make(chan committed, 1)
	r.begin(p)
	err := r.loop(ctx)
	r.sum.Elapsed = time.Since(begin)
	r.close(err)
	r.settle(p)
	if saveErr := x.Store.SaveRun(&r.board); err == nil {
		err = saveErr
	}
	return &r.sum, err
}

// begin lists the nodes and fills the board.
func (r *run) begin(p *Plan) {
	r.board.State, r.board.Started = "running", time.Now()
	r.board.Nodes = make(map[string]*cache.NodeState, len(p.Graph.Nodes))
	for _, n := range p.Graph.Nodes {
		st := &cache.NodeState{Kind: n.Kind(), State: "pending"}
		if was := lastState(p.Last, n.Addr); was != nil {
			*st = *was
			if st.State == "running" || st.State == "blocked" {
				st.State = "pending" // what a killed run left behind
			}
		}
		r.board.Nodes[n.Addr] = st
	}
	for _, s := range p.Steps {
		it := &item{node: s.Node, step: s, missing: s.Node.reads}
		r.items[s.Node.index] = it
		r.order = append(r.order, it)
		if st := r.board.Nodes[s.Node.Addr]; st.State != "failed" && st.State != "waiting" {
			st.State = "pending"
		}
	}
	for _, it := range r.order {
		if it.missing == 0 && it.phase == idle {
			r.ready(it)
		}
	}
}

// loop schedules until nothing is left to do.
func (r *run) loop(ctx context.Context) error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	stop := ctx.Done()
	for {
		if ctx.Err() == nil {
			if err := r.resumeIfDue(ctx); err != nil {
				return err
			}
			r.dispatch(ctx)
		}
		if r.active == 0 && !r.committing.busy {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case r.waits.Len() == 0, r.x.Detach && r.elsewhere(), r.halted():
				return nil
			}
			if err := r.pause(r.waits.byIndex[0].until); err != nil {
				return err
			}
		}
		wake := time.NewTimer(time.Hour)
		if r.waits.Len() > 0 {
			wake.Reset(time.Until(r.waits.byIndex[0].until))
		}
		select {
		case s := <-r.events:
			r.take(ctx, s)
		case c := <-r.committing.done:
			r.committed(c)
		case <-wake.C: // the top of the loop looks after it
		case <-tick.C:
			r.save(false)
		case <-stop:
			stop = nil
			r.sum.Stopped = true
		}
		wake.Stop()
	}
}

// take handles a settlement and whatever else has settled by now: finished
// nodes are committed together.
func (r *run) take(ctx context.Context, first settlement) {
	batch := []settlement{first}
	for more := true; more; {
		select {
		case s := <-r.events:
			batch = append(batch, s)
		default:
			more = false
		}
	}
	for _, s := range batch { // others can run while the results are synced
		if s.end != nil {
			r.release(s.end)
		}
	}
	if ctx.Err() == nil && !r.x.FailFast { // which has to see failures first
		r.settling = true // what has finished may ready more
		r.dispatch(ctx)
		r.settling = false
	}
	var finished []*item
	for _, s := range batch {
		if s.job == nil {
			continue
		}
		it := r.items[s.job.Node.index]
		if s.err == nil {
			s.err = r.unchanged(it)
		}
		var wait *WaitError
		switch {
		case s.err == nil:
			it.record = s.job.record(s.job.lease.last, r.host)
			s.job.lease.last = it.record.Finished
			finished = append(finished, it)
		case errors.As(s.err, &wait):
			it.phase, it.until, it.note = waiting, wait.Until, wait.Note
			heap.Push(&r.waits, it)
			r.publish(it, "waiting", Event{Type: EventWaiting, Until: wait.Until, Progress: Progress{Note: wait.Note}})
		case ctx.Err() != nil && errors.Is(s.err, ctx.Err()):
			it.phase = idle
			if it.until.IsZero() {
				r.publish(it, "pending", Event{})
			} else { // it still waits
				it.phase = waiting
				r.publish(it, "waiting", Event{Until: it.until, Progress: Progress{Note: it.note}})
			}
		case errors.Is(s.err, ErrLeft):
			it.phase = idle
			r.publish(it, "pending", Event{})
		case r.remake(it, s.err):
		default:
			r.fail(it, s.err)
		}
	}
	r.commit(finished)
}

// remake puts a node back whose input turned out damaged or missing when it was
// read, and the input's maker before it: once for each maker. It is false for
// every other failure.
func (r *run) remake(it *item, err error) bool {
	var digest cache.Digest
	var damaged *cache.DamagedError
	var missing *cache.MissingError
	switch {
	case errors.As(err, &damaged):
		digest = damaged.Digest
	case errors.As(err, &missing):
		digest = missing.Digest
	default:
		return false
	}
	for _, in := range it.node.Inputs {
		from := r.items[in.From.index]
		if out, ok := from.record.Output(in.Output); !ok || out.Digest != digest {
			continue
		}
		if from.phase == done {
			if from.again {
				return false // made again already, and damaged again
			}
			from.again, from.was = true, from.record
			*from.counted--
			r.publish(from, "pending", Event{Type: EventWarning, Err: fmt.Errorf("%w; %s makes it again", err, from.node.Addr)})
			r.enqueue(from)
		}
		from.waiters = append(from.waiters, it)
		it.phase = idle
		r.publish(it, "pending", Event{})
		return true
	}
	return false
}

// unchanged fails if a source was edited while the node read it: its result
// would lie under the key of the old content.
func (r *run) unchanged(it *item) error {
	for i, src := range it.node.Sources {
		d, _, err := r.x.Store.FileDigest(src.Path)
		if !src.Digest.IsZero() && errors.Is(err, fs.ErrNotExist) {
			continue // the task could do without
		}
		if err != nil {
			return &SourceError{it.node.Addr, src.Path, err}
		}
		if d != it.step.sources[i] {
			return fmt.Errorf("%s changed while %s was reading it; apply again to use the new content", src.Path, it.node.Addr)
		}
	}
	return nil
}

// ready finds out whether a node whose inputs are done must run.
func (r *run) ready(it *item) {
	n := it.node
	if r.asPlanned(it) {
		it.key, it.lines, it.record = it.step.Key, it.step.Lines, it.step.Record
		r.complete(it, true)
		return
	}
	inputs := make([]cache.Digest, len(n.Inputs))
	for i, in := range n.Inputs {
		out, ok := r.items[in.From.index].record.Output(in.Output)
		if !ok {
			r.fail(it, fmt.Errorf("%s reads %q of %s, which it does not make", n.Addr, in.Output, in.From.Addr))
			return
		}
		inputs[i] = out.Digest
	}
	it.lines = lines(n, inputs, it.step.sources)
	it.key = KeyOf(it.lines)
	record, err := r.x.Store.Record(it.key)
	if err != nil {
		r.fail(it, fmt.Errorf("looking up %s in the cache: %w", n.Addr, err))
		return
	}
	if record != nil && record.Withdrawn == "" { // another result is wanted than a withdrawn one
		why, dropped := brokenOutput(r.x.Store.Blobs(), record)
		if !it.step.Forced && (why == "" || dropped && !it.again && len(n.users) > 0) {
			it.record = record
			r.complete(it, true)
			return
		}
		it.was = record
	}
	if r.x.Permit != nil {
		if err := r.x.Permit(n, it.lines); err != nil {
			r.fail(it, err)
			return
		}
	}
	if r.restore(it) {
		return // its inputs ready it again
	}
	it.since = time.Now()
	r.enqueue(it)
}

// asPlanned reports whether the plan found the node cached, and what it reads
// is what the plan saw: then nothing needs to be looked up again.
func (r *run) asPlanned(it *item) bool {
	if it.step.State != Cached || it.again {
		return false
	}
	for _, in := range it.node.Inputs {
		if from := r.items[in.From.index]; from.record != from.step.Record {
			return false
		}
	}
	return true
}

// complete marks a node done and readies its users.
func (r *run) complete(it *item, cached bool) {
	it.phase = done
	e := Event{Type: EventDone, Record: it.record, Elapsed: it.record.Finished.Sub(it.record.Started)}
	switch {
	case !cached:
		it.counted = &r.sum.Ran
		r.sum.Runs[it.node.Kind()]++
		r.sum.Time[it.node.Kind()] += e.Elapsed
		r.compareDigests(it)
	case it.step.State == Cached:
		e.Type, it.counted = EventCached, &r.sum.Cached
	default:
		e.Type, it.counted = EventSpared, &r.sum.Spared
	}
	*it.counted++
	if len(it.node.users) == 0 {
		r.sum.Records[it.node.Addr] = it.record
	}
	state := "done"
	if cached {
		state = "cached"
	}
	r.publish(it, state, e)
	if it.again { // its other readers have had it before
		waiters := it.waiters
		it.waiters = nil
		for _, w := range waiters {
			if w.phase == idle { // not yet readied by another input
				r.ready(w)
			}
		}
		return
	}
	for _, u := range it.node.users {
		ui := r.items[u.index]
		if ui == nil {
			continue
		}
		if ui.missing--; ui.missing == 0 && ui.phase == idle {
			r.ready(ui)
		}
	}
}

// compareDigests warns when a rerun under the same key gave other bytes, and
// keeps what hangs on it from buying answers anew in this run.
func (r *run) compareDigests(it *item) {
	if it.was == nil {
		return
	}
	for _, o := range it.was.Outputs {
		now, ok := it.record.Output(o.Name)
		if !ok || now.Digest == o.Digest {
			continue
		}
		err := fmt.Errorf("%s was run again under the same key and its output %s is not what it was (%s, now %s)",
			it.node.Addr, o.Name, o.Digest.Short(), now.Digest.Short())
		requests := r.paidBelow(it, map[*item]bool{})
		if requests > 0 {
			err = fmt.Errorf("%w: up to %d answers that were paid for may be of no use any more; nothing is bought in this run, apply again to accept the new result", err, requests)
			r.holdBelow(it, err)
		}
		r.publish(it, "done", Event{Type: EventWarning, Err: err})
		return
	}
}

// paidBelow counts the requests that nodes below it have had answered elsewhere.
func (r *run) paidBelow(it *item, seen map[*item]bool) int {
	n := 0
	for _, u := range it.node.users {
		ui := r.items[u.index]
		if ui == nil || seen[ui] {
			continue
		}
		seen[ui] = true
		if u.Dest != (Destination{}) && ui.step.Last != nil {
			for _, k := range u.Demand {
				n += k
			}
		}
		n += r.paidBelow(ui, seen)
	}
	return n
}

// holdBelow keeps the nodes below it from sending anything.
func (r *run) holdBelow(it *item, err error) {
	for _, u := range it.node.users {
		if ui := r.items[u.index]; ui != nil && ui.held == nil {
			ui.held = err
			r.holdBelow(ui, err)
		}
	}
}

// fail marks a node failed and everything that depends on it blocked.
func (r *run) fail(it *item, err error) {
	it.phase = failed
	r.sum.Failed++
	text := err.Error()
	if i, ok := r.failures[text]; ok {
		r.sum.Failures[i].Addrs = append(r.sum.Failures[i].Addrs, it.node.Addr)
	} else {
		r.failures[text] = len(r.sum.Failures)
		r.sum.Failures = append(r.sum.Failures, Failure{err, []string{it.node.Addr}})
	}
	r.publish(it, "failed", Event{Type: EventFailed, Err: err})
	r.block(it)
}

func (r *run) block(it *item) {
	for _, u := range it.node.users {
		ui := r.items[u.index]
		if ui == nil || ui.phase != idle {
			continue
		}
		ui.phase = blocked
		r.sum.Blocked++
		r.publish(ui, "blocked", Event{Type: EventBlocked})
		r.block(ui)
	}
}

// halted reports whether a failure keeps everything else from starting.
func (r *run) halted() bool { return r.x.FailFast && r.sum.Failed > 0 }

// elsewhere reports whether every waiting node waits for a server outside this
// process, which goes on without it.
func (r *run) elsewhere() bool {
	for _, it := range r.waits.byIndex {
		if it.node.Dest == (Destination{}) {
			return false
		}
	}
	return true
}

// pause gives the cache away when nothing happens for a while, so that another
// apply can use it.
func (r *run) pause(until time.Time) error {
	if r.setState("waiting") {
		r.save(true)
	}
	if r.suspended || time.Until(until) < suspendAfter {
		return nil
	}
	if r.x.Idle != nil {
		if err := r.x.Idle(); err != nil {
			return err
		}
	}
	r.suspended = true
	return r.x.Store.Suspend()
}

// resumeIfDue takes the cache back when a waiting node is to be asked again.
func (r *run) resumeIfDue(ctx context.Context) error {
	if r.waits.Len() == 0 || r.waits.byIndex[0].until.After(time.Now()) {
		return nil
	}
	r.setState("running")
	if !r.suspended {
		return nil
	}
	if err := r.x.Store.Resume(ctx); err != nil {
		return err
	}
	r.suspended = false
	return nil
}
