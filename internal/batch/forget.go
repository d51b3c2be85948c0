package batch

import (
	"context"
	"slices"
)

// Standing is where one request is in the ledger.
type Standing struct {
	State  string // "unsent", "batch", "answered" or "failed"
	Intent string // the batch file that it is bound to, or was answered in; "" if none
	// Open is true while that batch file may still bring results: the request
	// cannot be forgotten.
	Open bool
}

// Values of Standing.State.
const (
	Unsent   = unsent
	InBatch  = inBatch
	Answered = answered
	Failed   = failed
)

// Standings reads where requests are, in the order of keys.
func (d *Desk) Standings(ctx context.Context, keys []string) ([]Standing, error) {
	rows, err := d.rows(ctx, keys)
	if err != nil {
		return nil, err
	}
	open, err := d.openIntents()
	if err != nil {
		return nil, err
	}
	return standings(rows, open), nil
}

func standings(rows []row, open []*intent) []Standing {
	isOpen := make(map[string]bool, len(open))
	for _, in := range open {
		isOpen[in.ID] = true
	}
	out := make([]Standing, len(rows))
	for i, r := range rows {
		out[i] = Standing{State: r.State, Intent: r.Intent}
		if r.State == unsent {
			out[i].Intent = ""
			continue
		}
		out[i].Open = isOpen[r.Intent]
	}
	return out
}

// Forgotten is what Forget did.
type Forgotten struct {
	Answers int // forgotten, each of them paid for
	Failed  int // forgotten requests that had failed for good
	Unsent  int // had nothing to forget
	Held    int // left alone: in a batch, or in one whose results are not all in
}

// Forget makes requests unsent that are answered or have failed for good, so
// that the next Advance buys their answers again. One whose batch file is still
// open is left alone: its results would come back, or be paid for twice.
//
// The result files stay. A row remembers when it was forgotten, and takes no
// result of a batch file from before, however often that is fetched again (see
// settle): only one that it is sent in later.
func (d *Desk) Forget(ctx context.Context, e Evaluator, keys []string) (Forgotten, error) {
	return d.forget(ctx, e, keys, -1)
}

// AskAgain forgets the answers of those of the requests that it has not been
// called for so many times, because they cannot be used, and returns how many that
// are. A person who forgets one begins the count anew.
func (d *Desk) AskAgain(ctx context.Context, e Evaluator, keys []string, most int) (int, error) {
	f, err := d.forget(ctx, e, keys, most)
	return f.Answers + f.Failed, err
}

// forget is Forget, or, where most is not negative, AskAgain.
func (d *Desk) forget(ctx context.Context, e Evaluator, keys []string, most int) (Forgotten, error) {
	var f Forgotten
	p := d.peers.get(e.Identity())
	if err := p.lock(ctx); err != nil {
		return f, err
	}
	defer p.unlock()
	open, err := d.openIntents()
	if err != nil {
		return f, err
	}
	now := d.opts.Clock().UTC()
	seen := make(map[string]bool, len(keys))
	for part := range slices.Chunk(keys, d.chunk) {
		rows, err := d.rows(ctx, part)
		if err != nil {
			return f, err
		}
		values := make(map[string]any)
		var done Forgotten // counts once it is written
		for i, st := range standings(rows, open) {
			past := history{Forgot: now}
			if most >= 0 {
				past.Again = rows[i].Again + 1
			}
			switch {
			case seen[part[i]] || past.Again > max(most, 0):
				continue
			case st.State == unsent:
				done.Unsent++
			case st.State == inBatch || st.Open:
				done.Held++
			case st.State == answered:
				done.Answers++
				values[rowPrefix+part[i]] = row{State: unsent, history: past}
			default:
				done.Failed++
				values[rowPrefix+part[i]] = row{State: unsent, history: past}
			}
			seen[part[i]] = true
		}
		if len(values) > 0 {
			if err := d.put(values); err != nil {
				return f, err
			}
		}
		f.Answers += done.Answers
		f.Failed += done.Failed
		f.Unsent += done.Unsent
		f.Held += done.Held
	}
	return f, nil
}

// takes reports whether a result of an intent may become the answer of a row:
// not if the row was forgotten after the intent was made. One that is bound to
// the intent was bound after that, whatever a clock says that was set back.
func (r row) takes(in *intent) bool {
	return r.Forgot.IsZero() || r.State == inBatch && r.Intent == in.ID || in.Created.After(r.Forgot)
}

// bound is a row that is handed to an intent; it keeps what must outlive that.
func (r row) bound(intent string) row {
	return row{State: inBatch, Intent: intent, Tries: r.Tries, Reason: r.Reason, history: r.history}
}
