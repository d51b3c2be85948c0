package batch

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// linesPerRecord is how many bytes of result lines one ledger entry holds at
// most, below what a small store takes.
const linesPerRecord = 800 << 10

func linesKey(id string, n int) string { return fmt.Sprintf("%s%s/%08d", linesPrefix, id, n) }

// newBlock is an intent that takes direct requests. It is in the ledger from
// the first one on.
func (t *turn) newBlock() (*block, error) {
	id, err := t.newID()
	if err != nil {
		return nil, err
	}
	b := &block{in: &intent{
		ID: id, State: asking, Direct: true, Status: "direct", Provider: t.e.Identity(), Place: t.e.place(), Host: t.e.Host(),
		Evaluator: t.e.Name, Model: t.e.Model, Created: t.made(), Study: t.e.Account.Study,
	}}
	t.blocks[b] = true
	return b, nil
}

// sealAll seals every block; it reports whether there was one.
func (t *turn) sealAll(ctx context.Context) (bool, error) {
	n := len(t.blocks)
	for b := range t.blocks {
		if err := t.sealBlock(ctx, b); err != nil {
			return false, err
		}
	}
	t.block = nil
	return n > 0, nil
}

func (t *turn) sealBlock(ctx context.Context, b *block) error {
	delete(t.blocks, b)
	return t.session.step(ctx, b.in, true)
}

// seal makes a result file of the lines that an intent of direct requests has
// in the ledger. Requests without a line, whether the process, the connection
// or the server ended, are given back by collect.
func (s *session) seal(ctx context.Context, in *intent) error {
	if in.Lines > 0 {
		f, err := os.CreateTemp(s.opts.TempDir, "clusterflow-direct-*.jsonl")
		if err != nil {
			return &ledgerError{fmt.Errorf("storing direct answers: %w", err)}
		}
		defer os.Remove(f.Name())
		defer f.Close()
		for n := range in.Lines {
			text, ok, err := s.kv.Get(linesKey(in.ID, n))
			if err != nil || !ok {
				return &ledgerError{fmt.Errorf("reading the batch ledger: part %d of the answers of %s: found %v: %w", n, in.ID, ok, err)}
			}
			if _, err := f.Write(text); err != nil {
				return &ledgerError{fmt.Errorf("storing direct answers: %w; free some space and apply again", err)}
			}
		}
		if err := f.Close(); err != nil {
			return &ledgerError{fmt.Errorf("storing direct answers: %w; free some space and apply again", err)}
		}
		if in.Output, _, err = s.files.Import(f.Name()); err != nil {
			return &ledgerError{fmt.Errorf("storing direct answers: %w", err)}
		}
	}
	in.State = fetched
	return s.save(in)
}

// dropLines removes from the ledger what is in the result file by now.
func (s *session) dropLines(in *intent) error {
	if in.Lines == 0 {
		return nil
	}
	keys := make([]string, in.Lines)
	for n := range keys {
		keys[n] = linesKey(in.ID, n)
	}
	if err := s.kv.Delete(keys...); err != nil {
		return &ledgerError{fmt.Errorf("writing the batch ledger: %w", err)}
	}
	return nil
}

// missing accounts for the direct requests of an intent that have no result.
// Each may have been answered and paid for, so it counts as if it came to all
// that it could.
func (s *session) missing(in *intent, results int) {
	in.Lost = max(in.Requests-results, 0)
	if in.Lost == 0 {
		return
	}
	if in.MostUSD > 0 {
		in.UsedUSD += in.MostUSD * float64(in.Lost) / float64(in.Requests)
	}
	s.note("%d requests to %s got no reply before the run or the connection ended; each may have been paid for, and is asked again, at most %d times in all", in.Lost, in.Host, maxTries)
}

// newID draws the id of an intent.
func (d *Desk) newID() (string, error) {
	var id [12]byte
	if _, err := io.ReadFull(d.opts.Random, id[:]); err != nil {
		return "", &ledgerError{fmt.Errorf("drawing an id for a batch file: %w", err)}
	}
	return hex.EncodeToString(id[:]), nil
}

// gone is the trouble with direct answers whose stored file cannot be read: no
// server has another copy. Where they cost nothing they are asked for again.
func (s *session) gone(in *intent, err error) error {
	if s.e.free() {
		return s.finish(in, dropped, "its stored results are lost")
	}
	return fmt.Errorf("the stored answers to %d requests that were sent directly to %s cannot be read, and no server keeps a copy: restore the file from a backup, or have them bought again with: clusterflow batches retry STUDY %s: %w", in.Requests, in.Host, in.ID, err)
}
