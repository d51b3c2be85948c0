package batch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	openai "github.com/sashabaranov/go-openai"
)

// APIError is a call to the batch server that did not do what it should.
type APIError struct {
	Doing  string // "creating a batch"
	Host   string
	Status int    // HTTP status; 0 when there was no reply
	Code   string // the server's error code
	Advice string // what to do
	// Later is true where asking again helps: rate limits, server trouble,
	// timeouts. Advance never returns such an error, it comes back as
	// Progress.Next and a note.
	Later bool
	After time.Duration // as the server asked with Retry-After
	// Refused is true where the server certainly did not do what it was asked.
	Refused bool
	Err     error
}

func (e *APIError) Error() string {
	msg := fmt.Sprintf("%s at %s: %v", e.Doing, e.Host, e.Err)
	if e.Advice != "" {
		msg += ": " + e.Advice
	}
	return msg
}

func (e *APIError) Unwrap() error { return e.Err }

// peer is one provider as this process sees it: whose turn it is, when it may
// be called again, when each batch is worth asking about.
type peer struct {
	turn    chan struct{} // holds one token; an Advance takes it
	waiting atomic.Int32  // how many want it
	reached bool          // it has answered at least once
	misses  int           // calls in a row that asked for patience
	until   time.Time     // no call before
	polls   map[string]*poll
}

// poll is the rhythm of asking about one batch.
type poll struct {
	next time.Time
	wait time.Duration
	odd  time.Time // since when it is completed, but names no files
	lost string    // why it cannot be looked for
}

type peers struct {
	mu     sync.Mutex
	byName map[string]*peer
}

func (p *peers) get(name string) *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byName == nil {
		p.byName = make(map[string]*peer)
	}
	if p.byName[name] == nil {
		p.byName[name] = &peer{turn: make(chan struct{}, 1), polls: make(map[string]*poll)}
	}
	return p.byName[name]
}

func (p *peer) lock(ctx context.Context) error {
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	select {
	case p.turn <- struct{}{}:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *peer) unlock() { <-p.turn }

// pace is how often a server is asked: doubling from first to most.
type pace struct{ first, most time.Duration }

func (e Evaluator) pace() pace {
	if e.Loopback() {
		return pace{50 * time.Millisecond, 2 * time.Second}
	}
	return pace{time.Second, time.Minute}
}

// delay is the n-th wait (from 1) of a backoff, spread over its upper half by
// u in [0, 1).
func (p pace) delay(n int, u float64) time.Duration {
	d := p.first << min(n-1, 20)
	if d > p.most || d <= 0 {
		d = p.most
	}
	return d/2 + time.Duration(u*float64(d/2))
}

// patience notes a refused call and says when the next is welcome.
func (s *session) patience(e *APIError) {
	s.peer.misses++
	wait := max(e.After, s.e.pace().delay(s.peer.misses, s.opts.Jitter()))
	s.peer.until = s.now().Add(wait)
	s.note("%v; asking again in %s", e, wait.Round(10*time.Millisecond))
}

// unreachable is how many calls in a row must fail to connect before a server
// that never answered is taken for a mistake in base_url.
const unreachable = 6

// exchange carries what go-openai does not hand on: it puts itself into a
// call's context, and doer fills it in.
type exchange struct {
	status int
	after  string
}

type exchangeKey struct{}

// doer is the HTTP client that go-openai calls through.
type doer struct{ client *http.Client }

func (d doer) Do(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", "clusterflow")
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	if x, ok := req.Context().Value(exchangeKey{}).(*exchange); ok {
		x.status, x.after = resp.StatusCode, resp.Header.Get("Retry-After")
	}
	resp.Body = mask(req, resp.Body)
	if resp.StatusCode >= 400 { // go-openai reads all of it, and leaves it open after a download
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, 1<<20), resp.Body}
	}
	return resp, nil
}

func (d *Desk) client(e Evaluator) *openai.Client {
	c := openai.DefaultConfig(e.APIKey)
	c.BaseURL = e.BaseURL
	c.HTTPClient = doer{d.opts.HTTPClient}
	return openai.NewClientWithConfig(c)
}

// call runs one call with a deadline and explains its failure. Errors are of
// type *APIError, or the context's own.
func (s *session) call(ctx context.Context, doing string, limit time.Duration, fn func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	x := new(exchange)
	cctx, cancel := context.WithTimeout(context.WithValue(ctx, exchangeKey{}, x), limit)
	defer cancel()
	err := fn(cctx)
	if x.status != 0 {
		s.peer.reached = true
	}
	if err == nil {
		s.peer.misses = 0
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.explain(doing, x, err)
}

// explain turns what a call returned into advice.
func (s *session) explain(doing string, x *exchange, err error) *APIError {
	e := &APIError{Doing: doing, Host: s.e.Host(), Status: x.status, After: retryAfter(x.after, s.now()), Err: err}
	var api *openai.APIError
	var plain *openai.RequestError
	message := ""
	switch {
	case errors.As(err, &api):
		e.Code, message = fmt.Sprint(api.Code), api.Message
		if api.Code == nil {
			e.Code = ""
		}
	case errors.As(err, &plain):
		message = strings.Join(strings.Fields(string(plain.Body)), " ")
	}
	if x.status >= 400 {
		e.Err = fmt.Errorf("%d %s", x.status, http.StatusText(x.status))
		if message = short(s.hide(message)); message != "" {
			e.Err = fmt.Errorf("%w: %s", e.Err, message)
		}
	} else if x.status == 0 && s.e.APIKey != "" && strings.Contains(err.Error(), s.e.APIKey) {
		e.Err = errors.New(s.hide(err.Error()))
	}
	key := s.e.APIKeyEnv
	if key == "" {
		key = "the API key"
	}
	switch st := x.status; {
	case st == 0 && s.dialing(err):
		e.Later, e.Refused = s.peer.reached || s.peer.misses+1 < unreachable, true
		e.Advice = fmt.Sprintf("no connection; check the network and base_url of evaluator %q", s.e.Name)
	case st == 0:
		e.Later = true
	case e.Code == "insufficient_quota" || e.Code == "billing_hard_limit_reached":
		e.Refused = true
		e.Advice = "the account has no credit left; add some there, then apply again: answered requests are kept"
	case st == http.StatusTooManyRequests:
		e.Later, e.Refused = true, true
	case st == http.StatusRequestTimeout || st == http.StatusTooEarly || st == http.StatusConflict || st >= 500 && st != http.StatusNotImplemented:
		e.Later = true
	case st == http.StatusUnauthorized:
		e.Refused = true
		e.Advice = fmt.Sprintf("the server does not accept the key; set %s to a key for %s", key, e.Host)
	case st == http.StatusForbidden:
		e.Refused = true
		e.Advice = fmt.Sprintf("the key in %s may not do this at %s; check its project and permissions", key, e.Host)
	case st == http.StatusNotFound:
		e.Refused = true
		e.Advice = fmt.Sprintf("check base_url (it usually ends in /v1), the model name %q and that %s belongs to the project at %s", s.e.Model, key, e.Host)
	case st >= 400:
		e.Refused = true
	case !garbled(err): // the reply broke off
		e.Later = true
	default: // a reply that is not the API's
		e.Err = fmt.Errorf("the reply cannot be read: %w", err)
		e.Advice = fmt.Sprintf("check that base_url of evaluator %q names an OpenAI-compatible server", s.e.Name)
	}
	return e
}

// hide takes the API key out of a server's message: some quote it.
func (s *session) hide(text string) string {
	if s.e.APIKey == "" {
		return text
	}
	return strings.ReplaceAll(text, s.e.APIKey, "(key)")
}

// garbled reports whether err is of a reply that arrived, but is not what the
// API sends.
func garbled(err error) bool {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &kind)
}

// dialing reports whether err means that no connection was made, so that
// nothing can have reached the server.
func (s *session) dialing(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &dns)
}

// later returns err as an error that asks for patience, or nil.
func later(err error) *APIError {
	var e *APIError
	if errors.As(err, &e) && e.Later {
		return e
	}
	return nil
}

// status is the HTTP status behind err, 0 without one.
func status(err error) int {
	var e *APIError
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// soft forgives a reply with a field of another type than the API's, as some
// compatible servers send, when the part that matters was read.
func soft(err error, usable bool) error {
	var t *json.UnmarshalTypeError
	if usable && errors.As(err, &t) {
		return nil
	}
	return err
}

// retryAfter reads the header's two forms, seconds and a date; at most an hour.
func retryAfter(v string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
		d = time.Duration(min(max(n, 0), 3600) * float64(time.Second))
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), time.Hour)
}

// short keeps a foreign message readable in one line.
func short(s string) string {
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "�")
	if r := []rune(s); len(r) > 300 {
		return string(r[:300]) + "…"
	}
	return s
}
