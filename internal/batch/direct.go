package batch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	defaultConcurrency = 8
	// blockRequests is how many requests share a result file.
	blockRequests = 2000
	// fairTurn is how long direct requests keep a provider from others who ask it.
	fairTurn = 10 * time.Second
	// farewell is how long a cancelled turn waits for replies that are paid for.
	farewell = 700 * time.Millisecond
	// shortWait is the longest pause that a turn sits out; for a longer one it
	// ends, and Progress.Next says when the next is worthwhile.
	shortWait = 15 * time.Second
	// maxTrouble is how often a request may meet a server error in one turn,
	// while others are answered, before that is its result.
	maxTrouble = 4
)

func (e Evaluator) concurrency() int {
	if e.Concurrency > 0 {
		return e.Concurrency
	}
	return defaultConcurrency
}

// turn is one run of direct requests. One goroutine, that of sendDirect, has
// all of its state; the others only make calls.
type turn struct {
	*session
	reqs    []Request
	rows    []row
	todo    []int // places in reqs, in the order in which they are sent
	began   time.Time
	calls   context.Context // of the calls: outlives the caller's by the farewell
	replies chan reply
	callers sync.WaitGroup

	flying   map[int]*block // requests that are under way
	block    *block         // takes the next ones; nil before the first
	blocks   map[*block]bool
	finished []reply // have their result, not yet in the ledger
	released []reply // were certainly not answered, not yet in the ledger
	weight   map[int]load

	epoch   int         // grows with every pause: replies from before count once
	trouble map[int]int // server errors by request
	last    *APIError   // the last call that asked for patience
	dear    bool        // the money that is left is not enough for the next
	next    load        // what that one weighs
	answers int
	err     error // ends the turn
}

// block is an intent that is being filled: its requests share a result file.
type block struct {
	in     *intent
	bytes  int // of result lines
	bound  int // requests that were ever bound to it
	flying int
}

// sendDirect sends what is unsent among reqs, and has a body, one by one.
// Every pass of its loop is one write to the ledger: the results that came in,
// and the requests that are sent next. So no more than the evaluator's
// concurrency can be without either at any moment.
func (s *session) sendDirect(ctx context.Context, reqs []Request, rows []row) error {
	calls, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	t := &turn{
		session: s, reqs: reqs, rows: rows, began: time.Now(), calls: calls,
		replies: make(chan reply, s.e.concurrency()),
		flying:  map[int]*block{}, blocks: map[*block]bool{}, trouble: map[int]int{}, weight: map[int]load{},
	}
	defer t.callers.Wait()
	defer hangUp()
	for i := range rows {
		if rows[i].State == unsent && len(reqs[i].Body) > 0 {
			rows[i].Intent = ""
			t.todo = append(t.todo, i)
		}
	}
	gone, late := ctx.Done(), (<-chan time.Time)(nil)
	for {
		if err := t.pass(ctx.Err() == nil); err != nil {
			return err
		}
		if len(t.flying) == 0 {
			if ctx.Err() != nil {
				return ctx.Err() // the next Advance seals
			}
			if more, err := t.rest(ctx); err != nil || !more {
				return err
			}
			continue
		}
		select {
		case r := <-t.replies:
			t.take(r)
			for range len(t.replies) {
				t.take(<-t.replies)
			}
		case <-t.pause(): // over
			t.peer.until = time.Time{}
		case <-gone:
			gone, late = nil, time.After(farewell)
		case <-late:
			hangUp()
		}
	}
}

// open reports whether more may be sent now.
func (t *turn) open() bool {
	return t.err == nil && !t.dear && !t.now().Before(t.peer.until) && (t.peer.waiting.Load() == 0 || time.Since(t.began) < fairTurn)
}

// pause is a timer for the end of a short pause, nil where there is none.
func (t *turn) pause() <-chan time.Time {
	if wait := t.peer.until.Sub(t.now()); wait > 0 && wait <= shortWait && len(t.todo) > 0 {
		return time.After(wait)
	}
	return nil
}

// rest decides what follows when nothing is under way: more, after a pause or
// with the money that turned out not to be needed, or the end of the turn.
func (t *turn) rest(ctx context.Context) (more bool, err error) {
	if t.err == nil && len(t.todo) > 0 {
		if pause := t.pause(); pause != nil {
			select {
			case <-pause:
				t.peer.until = time.Time{}
				return true, nil
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}
	}
	sealed, err := t.sealAll(ctx)
	switch {
	case err != nil:
		return false, err
	case t.err != nil:
		return false, t.err
	case t.dear && sealed: // its requests have come to less than they could
		t.dear = false
		return true, nil
	case t.dear:
		p, err := t.purse(ctx)
		if err != nil {
			return false, err
		}
		return false, t.tooDear(p, t.next, len(t.todo))
	case len(t.todo) > 0 && t.now().Before(t.peer.until) && t.last != nil:
		t.note("%v; asking again at %s", t.last, t.peer.until.Local().Format(time.TimeOnly))
	}
	return false, nil
}

// pass writes what came in and what is sent next, sends it, and seals the
// blocks that are full.
func (t *turn) pass(more bool) error {
	picked, err := t.write(more && t.open())
	if err != nil {
		return err
	}
	if t.e.Answered != nil {
		for _, r := range t.finished {
			t.e.Answered(t.reqs[r.i].Key)
		}
	}
	t.finished, t.released = t.finished[:0], t.released[:0]
	for _, i := range picked {
		t.launch(i)
	}
	for b := range maps.Clone(t.blocks) {
		if b != t.block && b.flying == 0 {
			if err := t.sealBlock(context.WithoutCancel(t.calls), b); err != nil {
				return err
			}
		}
	}
	return nil
}

// write is the pass's one write to the ledger. It returns what may be sent.
func (t *turn) write(more bool) (picked []int, err error) {
	values := make(map[string]any)
	touched := make(map[*block]bool)
	t.record(values, touched)
	if more {
		t.spending.Lock() // evaluators share limits
		defer t.spending.Unlock()
		if picked, err = t.pick(values, touched); err != nil {
			return nil, err
		}
	}
	for b := range touched {
		values[intentPrefix+b.in.ID] = b.in
	}
	if len(values) == 0 {
		return nil, nil
	}
	return picked, t.put(values)
}

// record adds the results that came in, and takes back what was not answered.
func (t *turn) record(values map[string]any, touched map[*block]bool) {
	lines := make(map[*block][]byte)
	for _, r := range t.finished {
		b := r.block
		lines[b] = append(lines[b], r.line...)
		touched[b] = true
		if b.in.Completed++; !r.good {
			b.in.Completed--
			b.in.Failed++
		}
	}
	for b, text := range lines {
		b.bytes += len(text)
		for part := range slices.Chunk(text, linesPerRecord) {
			values[linesKey(b.in.ID, b.in.Lines)] = string(part)
			b.in.Lines++
		}
	}
	for _, r := range t.released {
		values[rowPrefix+t.reqs[r.i].Key] = t.rows[r.i]
		r.block.charge(&purse{cost: t.e.Account.Cost}, t.weight[r.i], -1)
		touched[r.block] = true
	}
}

// pick binds as many of the next requests as may be under way, and as the money
// lets through.
func (t *turn) pick(values map[string]any, touched map[*block]bool) (picked []int, err error) {
	free := min(t.e.concurrency()-len(t.flying), len(t.todo))
	if free <= 0 {
		return nil, nil
	}
	purse, err := t.purse(context.WithoutCancel(t.calls))
	if err != nil {
		return nil, err
	}
	var keys []byte
	for len(picked) < free && !t.dear {
		i := t.todo[0]
		weight, err := purse.weigh(t.reqs[i])
		if err != nil {
			t.rows[i].State, t.rows[i].Reason = failed, fmt.Sprintf("the request is not valid JSON: %v", err)
			values[rowPrefix+t.reqs[i].Key] = t.rows[i]
			t.todo = t.todo[1:]
			free = min(free, len(picked)+len(t.todo))
			continue
		}
		usd := purse.usd(weight)
		if usd > purse.left {
			t.dear, t.next = true, weight
			break
		}
		purse.left -= usd
		if t.block == nil {
			if t.block, err = t.newBlock(); err != nil {
				return nil, err
			}
			values[openPrefix+t.block.in.ID] = t.block.in.ID
		}
		t.todo = t.todo[1:]
		t.weight[i] = weight
		t.block.charge(purse, weight, 1)
		values[rowPrefix+t.reqs[i].Key] = t.rows[i].bound(t.block.in.ID)
		keys = append(append(keys, t.reqs[i].Key...), '\n')
		t.flying[i] = t.block
		t.block.flying++
		picked = append(picked, i)
	}
	b := t.block
	if len(picked) == 0 {
		return nil, nil
	}
	values[keysKey(b.in.ID, b.in.Chunks)] = string(keys[:len(keys)-1])
	b.in.Chunks++
	b.bound += len(picked)
	touched[b] = true
	if b.bound >= blockRequests || b.bytes >= maxBytes/4 {
		t.block = nil
	}
	return picked, nil
}

// charge adds n times a request's weight to what a block's requests can come to.
func (b *block) charge(p *purse, w load, n int) {
	b.in.Requests += n
	b.in.Prompt += int64(n) * w.prompt
	b.in.Most += int64(n) * w.most
	b.in.MostUSD = p.usd(load{b.in.Prompt, b.in.Most})
}
