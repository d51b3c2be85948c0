package batch

import (
	"context"
	"fmt"
	"net/http"

	openai "github.com/sashabaranov/go-openai"
)

// Cancel asks the server to stop a batch, and returns it as the server then
// describes it. What was answered by then is paid for and comes in with a later
// Advance, as at every other end of a batch; the rest is unsent from then on.
func (d *Desk) Cancel(ctx context.Context, e Evaluator, intentID string) (BatchState, error) {
	s := newSession(d, e)
	if err := s.peer.lock(ctx); err != nil {
		return BatchState{}, err
	}
	defer s.peer.unlock()
	in, err := d.intent(intentID)
	if err != nil {
		return BatchState{}, err
	}
	switch {
	case in.Place != e.place():
		return BatchState{}, fmt.Errorf("batch %s was sent to %s and can be cancelled only there; the study now names %s", in.BatchID, in.Place, e.place())
	case !in.open() || in.State == fetched:
		return BatchState{}, fmt.Errorf("batch %s has ended (%s): there is nothing to cancel", in.name(), in.batchState().Status)
	case in.State != sent:
		return BatchState{}, fmt.Errorf("batch file %s is %s: whether the server has a batch of it is found out by the next apply; cancel it after that", in.ID, in.State)
	}
	in.Cancelled = true // before the call: its reply may be lost
	if err := s.save(in); err != nil {
		return BatchState{}, err
	}
	var b openai.BatchResponse
	err = s.call(ctx, "cancelling batch "+in.BatchID, s.opts.Timeout, func(ctx context.Context) error {
		var err error
		b, err = s.client(s.e).CancelBatch(ctx, in.BatchID)
		return soft(err, b.ID != "")
	})
	if err != nil && status(err) == http.StatusConflict {
		return BatchState{}, fmt.Errorf("%w; it has probably ended: apply fetches what was answered", err)
	}
	if err != nil {
		return BatchState{}, err
	}
	if b.ID == in.BatchID {
		in.observe(b.Batch)
	}
	return in.batchState(), s.save(in)
}

// Returning returns those of the requests whose batch a person has cancelled and
// that are not back yet: the next Advance may find them unsent, and send them.
func (d *Desk) Returning(ctx context.Context, keys []string) (map[string]bool, error) {
	rows, err := d.rows(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make(map[string]bool)
	cancelled := make(map[string]bool)
	for i, r := range rows {
		if r.State != inBatch {
			continue
		}
		back, known := cancelled[r.Intent]
		if !known {
			in := new(intent)
			if _, err := d.get(intentPrefix+r.Intent, in); err != nil {
				return nil, err
			}
			back = in.Cancelled
			cancelled[r.Intent] = back
		}
		if back {
			out[keys[i]] = true
		}
	}
	return out, nil
}
