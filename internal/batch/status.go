package batch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Status counts where requests stand in the ledger, without asking a server.
// Only the counts, Reasons and Intents of Progress are set.
func (d *Desk) Status(ctx context.Context, keys []string) (Progress, error) {
	p, held, err := d.status(ctx, keys)
	p.Intents = slices.Sorted(maps.Keys(held))
	return p, err
}

// Unsent returns those of the requests that have no answer and are in no batch:
// the ones that the next Advance would send, and pay for.
func (d *Desk) Unsent(ctx context.Context, keys []string) (map[string]bool, error) {
	out := make(map[string]bool)
	err := d.eachRow(ctx, keys, func(i int, r row) {
		if r.State == unsent {
			out[keys[i]] = true
		}
	})
	return out, err
}

// status is Status, and how many of the requests each intent holds.
func (d *Desk) status(ctx context.Context, keys []string) (p Progress, held map[string]int, err error) {
	p.Total = len(keys)
	held = make(map[string]int)
	reasons := make(map[string]int)
	err = d.eachRow(ctx, keys, func(_ int, r row) {
		switch r.State {
		case answered:
			p.Answered++
		case failed:
			p.Failed++
			reasons[r.Reason]++
		case inBatch:
			p.InBatch++
			held[r.Intent]++
		default:
			p.Unsent++
		}
	})
	if err != nil {
		return Progress{}, nil, err
	}
	for text, n := range reasons {
		p.Reasons = append(p.Reasons, Reason{Text: text, Count: n})
	}
	slices.SortFunc(p.Reasons, func(a, b Reason) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return strings.Compare(a.Text, b.Text)
	})
	return p, held, nil
}

// progress is where the requests stand after everything was done, and when to
// go on.
func (s *session) progress(ctx context.Context, keys []string) (Progress, error) {
	p, held, err := s.status(ctx, keys)
	if err != nil {
		return Progress{}, err
	}
	p.Notes = s.notes
	now := s.now()
	soonest := func(t time.Time) {
		if t.Before(now) {
			t = now
		}
		if p.Next.IsZero() || t.Before(p.Next) {
			p.Next = t
		}
	}
	var ours []*intent
	for id := range held {
		in := new(intent)
		if _, err := s.get(intentPrefix+id, in); err != nil {
			return Progress{}, err
		}
		ours = append(ours, in)
	}
	slices.SortFunc(ours, byAge)
	for _, in := range ours {
		p.Batches = append(p.Batches, in.batchState())
		if _, ok := s.uncertain[in.ID]; ok {
			p.Uncertain += held[in.ID]
		}
		wait, ok := s.waits[in.ID]
		if !ok {
			wait = now.Add(s.e.pace().most)
		}
		if in.Place != s.e.place() {
			p.Notes = append(p.Notes, fmt.Sprintf("batch %s was sent to %s and is asked for only there; the study now names %s", in.BatchID, in.Place, s.e.place()))
		}
		soonest(wait)
	}
	if p.Unsent > 0 {
		t := now
		for _, u := range []time.Time{s.peer.until, s.hold} {
			if u.After(t) {
				t = u
			}
		}
		soonest(t)
	}
	return p, nil
}

// Batches lists every batch that the ledger remembers, oldest first, finished
// ones included.
func (d *Desk) Batches(ctx context.Context) ([]BatchState, error) {
	var all []*intent
	err := d.eachIntent(ctx, func(in *intent) {
		if in.BatchID != "" || in.open() {
			all = append(all, in)
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, byAge)
	states := make([]BatchState, len(all))
	for i, in := range all {
		states[i] = in.batchState()
	}
	return states, nil
}

// Resend gives the requests of an intent back, whatever became of them, so
// that the next Advance sends those again that have no answer. They may be paid
// for twice, which only this and [Desk.Forget] allow: a person's decision.
func (d *Desk) Resend(ctx context.Context, intentID string) error {
	in, err := d.intent(intentID)
	if err != nil {
		return err
	}
	p := d.peers.get(in.Provider)
	if err := p.lock(ctx); err != nil {
		return err
	}
	defer p.unlock()
	if in, err = d.intent(intentID); err != nil {
		return err
	}
	if !in.open() {
		return fmt.Errorf("batch file %s is %s: it holds no request back", intentID, in.State)
	}
	if in.State == asking { // answers of its may be in the ledger already
		return fmt.Errorf("the requests of %s were sent directly: the next apply sorts out by itself which of them have an answer", intentID)
	}
	if in.bought() && !in.Settled { // nobody knows: it counts as spent
		in.Settled, in.UsedUSD = true, in.MostUSD
	}
	return d.finish(in, dropped, "given up to be sent again")
}
