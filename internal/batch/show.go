package batch

import (
	"context"
	"fmt"
	"time"
)

// BatchFile is all that the ledger knows of one batch.
type BatchFile struct {
	BatchState
	Ledger    string    `json:"ledger"`           // where it stands here; see the package comment
	Asked     time.Time `json:"asked,omitzero"`   // when the server was last asked to create it
	Cancelled bool      `json:"cancelled"`        // by a person
	Output    string    `json:"output,omitempty"` // digests of the stored result files
	Errors    string    `json:"errors,omitempty"`
	Keys      []string  `json:"-"` // of its requests, in the order of its file

	place string
}

// Of reports whether a batch was sent where e's are, to its model.
func (b *BatchFile) Of(e Evaluator) bool { return b.place == e.place() && b.Model == e.Model }

// Find returns the intent of a batch, which may be named by the server's id or
// by the intent's own.
func (d *Desk) Find(ctx context.Context, id string) (intentID string, err error) {
	all, err := d.Batches(ctx)
	if err != nil {
		return "", err
	}
	for _, b := range all {
		if b.ID == id || b.Intent == id {
			return b.Intent, nil
		}
	}
	return "", fmt.Errorf("the ledger knows no batch %q; clusterflow batches list shows those of a study", id)
}

// Show reads what the ledger knows of a batch, without asking a server.
func (d *Desk) Show(ctx context.Context, intentID string) (*BatchFile, error) {
	in, err := d.intent(intentID)
	if err != nil {
		return nil, err
	}
	b := &BatchFile{
		BatchState: in.batchState(), Ledger: in.State, Asked: in.Asked, Cancelled: in.Cancelled,
		Output: in.Output, Errors: in.Error, place: in.Place,
	}
	for n := range in.Chunks {
		keys, err := d.intentKeys(in, n)
		if err != nil {
			return nil, err
		}
		b.Keys = append(b.Keys, keys...)
	}
	return b, ctx.Err()
}
