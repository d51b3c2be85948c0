package batch

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	openai "github.com/sashabaranov/go-openai"
)

func (p *peer) poll(id string) *poll {
	if p.polls[id] == nil {
		p.polls[id] = new(poll)
	}
	return p.polls[id]
}

// backOff sets the next time to ask, twice as far off as the last.
func (pl *poll) backOff(s *session) {
	pace := s.e.pace()
	pl.wait = min(max(2*pl.wait, pace.first), pace.most)
	pl.next = s.now().Add(pl.wait)
}

// observe takes over what the server says about a batch.
func (in *intent) observe(b openai.Batch) {
	in.Status = strings.ToLower(strings.TrimSpace(b.Status))
	in.Total, in.Completed, in.Failed = b.RequestCounts.Total, b.RequestCounts.Completed, b.RequestCounts.Failed
	if b.ExpiresAt != nil && *b.ExpiresAt > 0 {
		in.Expires = time.Unix(int64(*b.ExpiresAt), 0).UTC()
	}
	if b.OutputFileID != nil {
		in.OutputID = *b.OutputFileID
	}
	if b.ErrorFileID != nil {
		in.ErrorID = *b.ErrorFileID
	}
}

// ask asks the server about a batch that is due. A batch that has ended is
// fetched; one that ended without anything is given up.
func (s *session) ask(ctx context.Context, in *intent, ours bool) (wait time.Time, err error) {
	pl := s.peer.poll(in.ID)
	if s.now().Before(pl.next) {
		return pl.next, nil
	}
	var b openai.BatchResponse
	err = s.call(ctx, "asking about batch "+in.BatchID, s.opts.Timeout, func(ctx context.Context) error {
		var err error
		b, err = s.client(s.e).RetrieveBatch(ctx, in.BatchID)
		return soft(err, b.ID != "")
	})
	if later(err) != nil {
		return time.Time{}, err
	}
	if err != nil {
		pl.backOff(s)
		if status(err) != http.StatusNotFound {
			return time.Time{}, err
		}
		if s.now().Before(in.Asked.Add(s.grace())) { // too young to be known everywhere
			return pl.next, nil
		}
		if s.e.free() {
			return time.Time{}, s.finish(in, dropped, "the server has forgotten it")
		}
		return time.Time{}, fmt.Errorf("batch %s with %d requests is unknown at %s, though it was created there; if it was made with another key or project, use that one; nothing is sent again until you say so (clusterflow batches retry STUDY BATCH): %w", in.BatchID, in.Requests, in.Host, err)
	}
	before := *in
	in.observe(b.Batch)
	if *in != before {
		if err := s.save(in); err != nil {
			return time.Time{}, err
		}
	}

	switch in.Status {
	case "completed", "expired", "cancelled", "canceled":
		return s.ended(ctx, in, pl)
	case "failed":
		if in.OutputID != "" || in.ErrorID != "" || in.Completed > 0 { // else nothing was paid
			return s.ended(ctx, in, pl)
		}
		return time.Time{}, s.refused(ctx, in, b.Batch, ours)
	case "validating", "in_progress", "finalizing", "cancelling", "canceling":
	default:
		s.note("batch %s at %s has status %q, which is not known here: waiting", in.BatchID, in.Host, in.Status)
	}
	pl.backOff(s)
	return pl.next, nil
}

// ended stores the result files of a batch before anything reads them.
func (s *session) ended(ctx context.Context, in *intent, pl *poll) (wait time.Time, err error) {
	if in.OutputID == "" && (in.Completed > 0 || in.Status == "completed" && in.ErrorID == "") {
		// Every line may have failed, but then there is an error file and no
		// completed line. Otherwise answers exist that cannot be reached yet.
		if pl.odd.IsZero() {
			pl.odd = s.now()
		}
		pl.backOff(s)
		if s.now().Before(pl.odd.Add(s.grace())) {
			s.note("batch %s at %s is %s, but names no result file yet", in.BatchID, in.Host, in.Status)
			return pl.next, nil
		}
		return time.Time{}, fmt.Errorf("batch %s at %s is %s with %d answers, but names no result file; ask there for its output; nothing is sent again until you say so (clusterflow batches retry STUDY BATCH)", in.BatchID, in.Host, in.Status, in.Completed)
	}
	for _, f := range []struct {
		id     string
		digest *string
	}{{in.OutputID, &in.Output}, {in.ErrorID, &in.Error}} {
		if f.id == "" || *f.digest != "" {
			continue
		}
		if *f.digest, err = s.download(ctx, in, f.id); err != nil {
			if later(err) == nil {
				pl.backOff(s)
			}
			if status(err) != http.StatusNotFound {
				return time.Time{}, err
			}
			if s.e.free() {
				return time.Time{}, s.finish(in, dropped, "the server has lost its results")
			}
			return time.Time{}, fmt.Errorf("result file %s of batch %s is gone at %s (files are kept for 30 days there unless set otherwise), and with it up to %d paid answers; nothing is sent again until you say so (clusterflow batches retry STUDY BATCH): %w", f.id, in.BatchID, in.Host, in.Completed, err)
		}
	}
	in.State = fetched
	return time.Time{}, s.save(in)
}

// download stores a file of the server's and returns its digest.
func (s *session) download(ctx context.Context, in *intent, id string) (digest string, err error) {
	f, err := os.CreateTemp(s.opts.TempDir, "clusterflow-result-*.jsonl")
	if err != nil {
		return "", &ledgerError{fmt.Errorf("storing the results of batch %s: %w", in.BatchID, err)}
	}
	defer os.Remove(f.Name())
	defer f.Close()
	disk := &diskWriter{f: f}
	err = s.call(ctx, "downloading results of batch "+in.BatchID, 15*s.opts.Timeout, func(ctx context.Context) error {
		body, err := s.client(s.e).GetFileContent(ctx, id)
		if err != nil {
			return err
		}
		defer body.Close()
		_, err = io.Copy(disk, body)
		return err
	})
	if disk.err == nil && err == nil {
		disk.err = f.Close()
	}
	if disk.err != nil {
		return "", &ledgerError{fmt.Errorf("storing the results of batch %s: %w; free some space and apply again", in.BatchID, disk.err)}
	}
	if err != nil {
		return "", err
	}
	digest, _, err = s.files.Import(f.Name())
	if err != nil {
		return "", &ledgerError{fmt.Errorf("storing the results of batch %s: %w", in.BatchID, err)}
	}
	return digest, nil
}

// diskWriter remembers that the disk, not the network, was the trouble.
type diskWriter struct {
	f   *os.File
	err error
}

func (w *diskWriter) Write(b []byte) (int, error) {
	n, err := w.f.Write(b)
	if err != nil {
		w.err = err
	}
	return n, err
}

// refused deals with a batch that failed as a whole: nothing was answered or
// paid. The enqueued-token cap teaches a smaller size and ends well later.
// Anything else is for a person, so it waits for the owner of the requests.
func (s *session) refused(ctx context.Context, in *intent, b openai.Batch, ours bool) error {
	code, reason := "", "no reason given"
	if b.Errors != nil && len(b.Errors.Data) > 0 {
		code, reason = b.Errors.Data[0].Code, ""
		for i, e := range b.Errors.Data {
			if i == 3 {
				reason += fmt.Sprintf("; and %d more", len(b.Errors.Data)-i)
				break
			}
			if i > 0 {
				reason += "; "
			}
			if e.Code == "token_limit_exceeded" {
				code = e.Code
			}
			reason += e.Code + ": " + s.hide(short(e.Message))
			if e.Line != nil {
				reason += fmt.Sprintf(" (line %d)", *e.Line)
			}
		}
	}
	in.Reason = reason
	if code == "token_limit_exceeded" {
		if err := s.shrink(in); err != nil {
			return err
		}
		s.note("batch %s at %s is over the enqueued-token limit of %s: its requests go out again in smaller files, one at a time", in.BatchID, in.Host, in.Model)
	} else if !ours {
		s.waits[in.ID] = s.now().Add(s.e.pace().most)
		s.peer.poll(in.ID).backOff(s)
		return fmt.Errorf("batch %s at %s failed: %s", in.BatchID, in.Host, reason)
	}
	if err := s.finish(in, dropped, reason); err != nil {
		return err
	}
	s.deleteFile(ctx, in.FileID)
	if code == "token_limit_exceeded" {
		return nil
	}
	return fmt.Errorf("batch %s at %s failed before any of its %d requests was answered, and nothing was paid: %s; put that right and apply again (model %q, evaluator %q)", in.BatchID, in.Host, in.Requests, reason, in.Model, in.Evaluator)
}

// shrink learns from a batch that was over the enqueued-token cap: half its
// size if it was out alone, its size one at a time if not. A single request
// cannot be halved: others use the account, so wait.
func (s *session) shrink(in *intent) error {
	key := capKey(in.Place, in.Model)
	var l learned
	if _, err := s.get(key, &l); err != nil {
		return err
	}
	open, err := s.openIntents()
	if err != nil {
		return err
	}
	alone := true
	for _, o := range open {
		if o.ID != in.ID && o.Place == in.Place && o.Model == in.Model && o.bought() {
			alone = false
		}
	}
	size := in.Bytes
	if alone {
		size = max(in.Bytes/2, 1)
	}
	if l.Bytes == 0 || size < l.Bytes {
		l.Bytes = size
	}
	l.Refusals++
	if alone && in.Requests == 1 {
		l.Until = s.now().Add(s.e.pace().delay(l.Refusals+5, s.opts.Jitter()))
	}
	return s.put(map[string]any{key: l})
}

// grow doubles the learned size after a batch near it went through, until it
// is no cap any more.
func (s *session) grow(in *intent) error {
	key := capKey(in.Place, in.Model)
	var l learned
	known, err := s.get(key, &l)
	if err != nil || !known {
		return err
	}
	if in.Bytes >= l.Bytes/2 {
		l.Bytes *= 2
	}
	if l.Bytes >= maxBytes { // as good as no cap
		if err := s.kv.Delete(key); err != nil {
			return &ledgerError{fmt.Errorf("writing the batch ledger: %w", err)}
		}
		return nil
	}
	l.Refusals, l.Until = 0, time.Time{}
	return s.put(map[string]any{key: l})
}
