package graph

import (
	"container/heap"
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"clusterflow/cache"
)

// lease is what a running task holds of the machine.
type lease struct {
	need  Need
	group *group // nil for a single node
	// last is when the task began, or its last member finished: the time of a
	// shared pass is divided among its members, not counted for each.
	last time.Time
}

// group is the members of a GroupTask's pass that are ready.
type group struct {
	hold    bool
	ready   []*item // never run so far
	due     []*item // have waited, and are to be asked again
	running bool
}

// byIndex orders ready nodes as the plan does.
type byIndex []*item

func (q byIndex) Len() int           { return len(q) }
func (q byIndex) Less(i, j int) bool { return q[i].node.index < q[j].node.index }
func (q byIndex) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *byIndex) Push(x any)        { *q = append(*q, x.(*item)) }
func (q *byIndex) Pop() any {
	last := len(*q) - 1
	it := (*q)[last]
	*q = (*q)[:last]
	return it
}

// byTime orders waiting nodes by when they ask again.
type byTime struct{ byIndex }

func (q byTime) Less(i, j int) bool { return q.byIndex[i].until.Before(q.byIndex[j].until) }

// enqueue puts a node where dispatch finds it.
func (r *run) enqueue(it *item) {
	if it.held != nil && it.node.Dest != (Destination{}) {
		r.fail(it, it.held)
		return
	}
	it.phase = queued
	g, ok := it.node.Task.(GroupTask)
	if !ok {
		heap.Push(&r.queue, it)
		return
	}
	in := r.groups[g.Group()]
	if in == nil {
		in = &group{hold: g.Hold()}
		r.groups[g.Group()] = in
		r.groupOrder = append(r.groupOrder, in)
	}
	if it.until.IsZero() {
		in.ready = append(in.ready, it)
	} else {
		in.due = append(in.due, it)
	}
}

// members takes the nodes of a group that are to run now: those that are due,
// and the new ones unless they are held for more to come.
func (g *group) members(busy bool) []*item {
	out := g.due
	if len(g.ready) > 0 && !(g.hold && busy && time.Since(g.ready[0].since) < holdFor) {
		out = append(out, g.ready...)
	}
	return out
}

// took removes what members gave.
func (g *group) took(n int) {
	if n > len(g.due) {
		g.ready = nil
	}
	g.due = nil
}

// dispatch starts what fits, in topological order. The first node that does
// not fit keeps its place: nothing overtakes it, so it cannot starve.
func (r *run) dispatch(ctx context.Context) {
	if r.halted() {
		return
	}
	for !r.suspended && r.waits.Len() > 0 && !r.waits.byIndex[0].until.After(time.Now()) {
		r.enqueue(heap.Pop(&r.waits).(*item))
	}
	full := false
	for len(r.queue) > 0 && !full {
		it := r.queue[0]
		ok, err := r.fits(it.node.Addr, it.node.Need)
		if err != nil {
			heap.Pop(&r.queue)
			r.fail(it, err)
			continue
		}
		if full = !ok; ok {
			heap.Pop(&r.queue)
			r.start(ctx, []*item{it}, &lease{need: r.capped(it.node.Need)})
		}
	}
	for _, hold := range []bool{false, true} { // what holds waits for what does not
		for _, g := range r.groupOrder {
			if g.hold != hold || g.running || !hold && full {
				continue
			}
			members := g.members(r.settling || r.committing.busy || len(r.queue) > 0 || r.active > r.held)
			if len(members) == 0 {
				continue
			}
			need := groupNeed(members)
			ok, err := r.fits(members[0].node.Addr, need)
			switch {
			case err != nil:
				g.took(len(members))
				for _, it := range members {
					r.fail(it, err)
				}
			case ok:
				g.took(len(members))
				g.running = true
				r.start(ctx, members, &lease{need: r.capped(need), group: g})
			default:
				full = true
			}
		}
	}
}

// groupNeed is the need of the shared pass: the largest of its members'.
func groupNeed(members []*item) Need {
	var need Need
	for _, it := range members {
		need.Threads = max(need.Threads, it.node.Need.Threads)
		need.Memory = max(need.Memory, it.node.Need.Memory)
		need.Least = max(need.Least, it.node.Need.Least)
	}
	return need
}

// capped is what a task gets of what it needs.
func (r *run) capped(n Need) Need {
	n.Threads = min(n.Threads, r.x.Threads)
	if r.x.Memory > 0 && n.Least > 0 {
		n.Memory = max(n.Least, min(n.Memory, r.x.Memory))
	}
	return n
}

// allowed is the memory that a task is told of: none where there is no limit.
func (r *run) allowed(n Need) int64 {
	if r.x.Memory == 0 {
		return 0
	}
	return n.Memory
}

// fits reports whether a task can start beside those that run. It is an error
// if it could not even run alone.
func (r *run) fits(addr string, n Need) (bool, error) {
	n = r.capped(n)
	if r.x.Memory > 0 && n.Memory > r.x.Memory {
		return false, fmt.Errorf("%s needs about %.2f GiB of memory, more than the %.2f GiB that apply may use; give --memory to allow more",
			addr, float64(n.Memory)/(1<<30), float64(r.x.Memory)/(1<<30))
	}
	return r.threads+n.Threads <= r.x.Threads && (r.x.Memory == 0 || r.memory+n.Memory <= r.x.Memory), nil
}

func (r *run) release(l *lease) {
	r.active--
	if l.group != nil {
		l.group.running = false
		if l.group.hold {
			r.held--
		}
	}
	r.threads -= l.need.Threads
	r.memory -= l.need.Memory
}

// start runs items as one task: a single node, or the members of a group.
func (r *run) start(ctx context.Context, items []*item, l *lease) {
	r.active++
	if l.group != nil && l.group.hold {
		r.held++
	}
	r.threads += l.need.Threads
	r.memory += l.need.Memory
	jobs := make([]*Job, len(items))
	now := time.Now()
	l.last = now
	for i, it := range items {
		it.phase = running
		j := &Job{
			Node: it.node, Key: it.key, Threads: max(l.need.Threads, 1), Memory: r.allowed(l.need), Store: r.x.Store, files: storeFiles{r.x.Store.Blobs()},
			Lines: it.lines, was: it.was, started: now, lease: l, notify: r.progress,
			settle: func(j *Job, err error) { r.events <- settlement{job: j, err: err} },
		}
		j.inputs = r.inputs(it)
		if j.Lines == nil { // of a brief plan
			j.Lines = r.linesOf(it, j.inputs)
		}
		jobs[i] = j
		r.publish(it, "running", Event{Type: EventStart})
	}
	go func() {
		err := runTask(ctx, jobs, l.group != nil)
		for _, j := range jobs {
			j.finish(err)
		}
		r.events <- settlement{end: l}
	}()
}

// inputs are the outputs that a node reads, with their content where it is in a
// record: that of a brief record is read now. One that cannot be read any more
// stays absent, and the task that asks for it fails.
func (r *run) inputs(it *item) []cache.Output {
	outs := make([]cache.Output, len(it.node.Inputs))
	for i, in := range it.node.Inputs {
		from := r.items[in.From.index]
		outs[i], _ = from.record.Output(in.Output) // ready has looked
		if !outs[i].Absent {
			continue
		}
		if from.full == nil {
			from.full, _ = r.x.Store.Record(from.record.Key)
		}
		if from.full != nil {
			outs[i], _ = from.full.Output(in.Output)
		}
	}
	return outs
}

// linesOf are the key lines of a node with these inputs.
func (r *run) linesOf(it *item, inputs []cache.Output) []cache.Line {
	digests := make([]cache.Digest, len(inputs))
	for i, o := range inputs {
		digests[i] = o.Digest
	}
	return lines(it.node, digests, it.step.sources)
}

// largeTask is from how many bytes on the memory of a task is given back when
// it ends: the garbage of two large ones would hardly fit beside each other.
const largeTask = 1 << 30

// runTask calls the task; a panic is that task's error.
func runTask(ctx context.Context, jobs []*Job, group bool) (err error) {
	if jobs[0].Node.Need.Memory >= largeTask {
		defer debug.FreeOSMemory()
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s panicked: %v\n%s", jobs[0].Node.Addr, p, debug.Stack())
		}
	}()
	if group {
		return jobs[0].Node.Task.(GroupTask).RunGroup(ctx, jobs)
	}
	return jobs[0].Node.Task.Run(ctx, jobs[0])
}
