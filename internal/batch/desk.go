package batch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Desk sends requests and keeps their ledger. It is safe for concurrent use;
// calls for one provider take turns. Only one process may use a ledger at a
// time; nothing that matters is kept in memory between two calls.
type Desk struct {
	kv    KV
	files Files
	opts  DeskOptions
	chunk int // rows per write
	peers peers

	spending sync.Mutex // from reading what is left to writing what takes of it
}

// NewDesk returns the desk of the ledger in kv, whose result files are kept in
// files.
func NewDesk(kv KV, files Files, opts DeskOptions) *Desk {
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.HTTPClient == nil {
		opts.HTTPClient = newHTTPClient()
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Random == nil {
		opts.Random = rand.Reader
	}
	if opts.Jitter == nil {
		opts.Jitter = mathrand.Float64
	}
	if opts.Timeout <= 0 {
		opts.Timeout = time.Minute
	}
	return &Desk{kv: kv, files: files, opts: opts, chunk: rowsPerWrite}
}

// Register makes sure that the ledger knows reqs. It changes nothing about
// those that it knows, and sends nothing.
func (d *Desk) Register(ctx context.Context, e Evaluator, reqs []Request) error {
	p := d.peers.get(e.Identity())
	if err := p.lock(ctx); err != nil {
		return err
	}
	defer p.unlock()
	for part := range slices.Chunk(reqs, d.chunk) {
		if err := ctx.Err(); err != nil {
			return err
		}
		values := make(map[string]any)
		for _, r := range part {
			var old row
			known, err := d.get(rowPrefix+r.Key, &old)
			if err != nil {
				return err
			}
			if !known {
				values[rowPrefix+r.Key] = row{State: unsent}
			}
		}
		if len(values) == 0 {
			continue
		}
		if err := d.put(values); err != nil {
			return err
		}
	}
	return nil
}

// session is one Advance.
type session struct {
	*Desk
	e         Evaluator
	peer      *peer
	notes     []string
	waits     map[string]time.Time // intent → when to look at it again
	uncertain map[string]string    // intent → why nobody can tell whether it was sent
	hold      time.Time            // no new batch before
}

func newSession(d *Desk, e Evaluator) *session {
	return &session{Desk: d, e: e, peer: d.peers.get(e.Identity()), waits: map[string]time.Time{}, uncertain: map[string]string{}}
}

func (s *session) now() time.Time { return s.opts.Clock() }

func (s *session) note(format string, args ...any) {
	n := fmt.Sprintf(format, args...)
	if !slices.Contains(s.notes, n) {
		s.notes = append(s.notes, n)
		s.opts.Log.Info(n, "evaluator", s.e.Name)
	}
}

func (s *session) grace() time.Duration {
	switch {
	case s.opts.Grace > 0:
		return s.opts.Grace
	case s.e.Loopback():
		return 250 * time.Millisecond
	}
	return time.Minute
}

// UncertainError says that nobody can tell whether requests were sent: the
// reply to the create call was lost, and the server cannot be asked. They are
// never sent again on their own; [Desk.Resend] does it on a person's word.
type UncertainError struct {
	Host     string
	Intent   string // in the batch's metadata as clusterflow_intent
	Requests int
	Reason   string
}

func (e *UncertainError) Error() string {
	return fmt.Sprintf("%d requests may or may not have been sent to %s: the reply to the create call was lost, and %s; look there for a batch with metadata clusterflow_intent = %s: nothing is sent again until you say so with: clusterflow batches retry STUDY %s",
		e.Requests, e.Host, e.Reason, e.Intent, e.Intent)
}

// IntentError is trouble with one batch file. Requests that are not in it are
// not concerned.
type IntentError struct {
	Intent string
	Err    error
}

func (e *IntentError) Error() string { return e.Err.Error() }
func (e *IntentError) Unwrap() error { return e.Err }

// Advance moves reqs on as far as it goes without waiting: it finds out what
// became of batches that an earlier process left, asks about batches that are
// due, stores and reads their results, and sends what is unsent. A request is
// never sent while it is answered or in a batch.
//
// A request without a body is looked after but not sent: bodies are large, and
// only those that [Desk.Unsent] names are needed.
//
// Trouble that passes (rate limits, server errors, timeouts) is no error: it
// is noted, and Progress.Next says when to call again. An error means that a
// person should look; Progress is valid beside it, and a later call goes on.
func (d *Desk) Advance(ctx context.Context, e Evaluator, reqs []Request) (Progress, error) {
	defer collectSooner(len(reqs))()
	if u, err := url.Parse(e.BaseURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return Progress{}, fmt.Errorf("evaluator %q: base_url %q is no http or https address; it should look like https://api.openai.com/v1", e.Name, e.BaseURL)
	}
	s := newSession(d, e)
	if err := s.peer.lock(ctx); err != nil {
		return Progress{}, err
	}
	defer s.peer.unlock()

	reqs = distinct(reqs)
	keys := keysOf(reqs)
	ours := make(map[string]bool)
	err := d.eachRow(ctx, keys, func(_ int, r row) {
		if r.State == inBatch {
			ours[r.Intent] = true
		}
	})
	if err != nil {
		return Progress{}, err
	}
	open, err := d.openIntents()
	if err != nil {
		return Progress{}, err
	}

	var problems []error
	for _, in := range open {
		if in.Place != e.place() {
			continue
		}
		err := s.step(ctx, in, ours[in.ID])
		switch {
		case err == nil:
		case stops(ctx, err):
			return Progress{}, err
		case ours[in.ID]:
			problems = append(problems, &IntentError{in.ID, err})
		default:
			s.note("%v", err)
		}
	}
	if len(problems) == 0 {
		var ready []Request
		for _, r := range reqs {
			if len(r.Body) > 0 {
				ready = append(ready, r)
			}
		}
		rows, err := d.rows(ctx, keysOf(ready))
		if err != nil {
			return Progress{}, err
		}
		send := s.send
		if e.Direct {
			send = s.sendDirect
		}
		if err := send(ctx, ready, rows); err != nil {
			if stops(ctx, err) {
				return Progress{}, err
			}
			problems = append(problems, err)
		}
	}
	p, err := s.progress(ctx, keys)
	if err != nil {
		return Progress{}, err
	}
	if len(problems) == 0 && p.Uncertain > 0 && p.Uncertain == p.InBatch && p.Unsent == 0 {
		for _, b := range p.Batches {
			if why, ok := s.uncertain[b.Intent]; ok {
				problems = append(problems, &IntentError{b.Intent, &UncertainError{Host: b.Host, Intent: b.Intent, Requests: b.Requests, Reason: why}})
			}
		}
	}
	return p, errors.Join(problems...)
}

// stops reports whether err ends an Advance at once: the caller's context, or
// a ledger that cannot be trusted to remember what would be done next.
func stops(ctx context.Context, err error) bool {
	return ctx.Err() != nil || IsStorage(err)
}

func keysOf(reqs []Request) []string {
	keys := make([]string, len(reqs))
	for i, r := range reqs {
		keys[i] = r.Key
	}
	return keys
}

// distinct drops repeated keys.
func distinct(reqs []Request) []Request {
	seen := make(map[string]bool, len(reqs))
	for i, r := range reqs {
		if seen[r.Key] {
			out := slices.Clone(reqs[:i])
			for _, r := range reqs[i:] {
				if !seen[r.Key] {
					seen[r.Key] = true
					out = append(out, r)
				}
			}
			return out
		}
		seen[r.Key] = true
	}
	return reqs
}

// step takes one intent as far as it goes now. Calls that were refused for now
// are noted and end the step without an error.
func (s *session) step(ctx context.Context, in *intent, ours bool) error {
	for in.open() {
		if s.now().Before(s.peer.until) && in.State != packing && in.State != asking && in.State != fetched {
			s.waits[in.ID] = s.peer.until
			return nil
		}
		var wait time.Time
		var err error
		switch in.State {
		case packing:
			err = s.finish(in, dropped, "stopped before anything was sent")
		case uploading:
			err = s.findFile(ctx, in)
		case uploaded:
			err = s.create(ctx, in)
		case creating:
			wait, err = s.findBatch(ctx, in)
		case sent:
			wait, err = s.ask(ctx, in, ours)
		case asking:
			err = s.seal(ctx, in)
		case fetched:
			err = s.collect(ctx, in)
		}
		if e := later(err); e != nil && ctx.Err() == nil {
			s.patience(e)
			continue
		}
		if err != nil {
			return err
		}
		if !wait.IsZero() {
			s.waits[in.ID] = wait
			return nil
		}
	}
	delete(s.peer.polls, in.ID)
	return nil
}
