package batch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"clusterflow/internal/batchd"
)

// memory is a ledger store that outlives the desks that use it.
type memory struct {
	mu sync.Mutex
	m  map[string][]byte
}

func newMemory() *memory { return &memory{m: make(map[string][]byte)} }

func (k *memory) Get(key string) ([]byte, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok := k.m[key]
	return bytes.Clone(v), ok, nil
}

func (k *memory) Put(values map[string][]byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, v := range values {
		k.m[key] = bytes.Clone(v)
	}
	return nil
}

func (k *memory) Delete(keys ...string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range keys {
		delete(k.m, key)
	}
	return nil
}

func (k *memory) Scan(prefix string, fn func(string, []byte) error) error {
	k.mu.Lock()
	m := maps.Clone(k.m)
	k.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if strings.HasPrefix(key, prefix) {
			if err := fn(key, m[key]); err != nil {
				return err
			}
		}
	}
	return nil
}

// blobs keeps files by content, in memory.
type blobs struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (f *blobs) Import(path string) (string, int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", 0, err
	}
	sum := sha256.Sum256(b)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.m[hex.EncodeToString(sum[:])] = b
	return hex.EncodeToString(sum[:]), int64(len(b)), nil
}

func (f *blobs) Open(digest string) (io.ReadSeekCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, ok := f.m[digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", digest, os.ErrNotExist)
	}
	return struct {
		io.ReadSeeker
		io.Closer
	}{bytes.NewReader(b), io.NopCloser(nil)}, nil
}

// world is a batch server, a ledger and a clock that stands still until a test
// moves it. The server has its own, real one.
type world struct {
	t     *testing.T
	url   string
	kv    *memory
	files *blobs
	asked *tally

	mu    sync.Mutex
	clock time.Time
}

// tally is a judge that counts how often it was asked each question.
type tally struct {
	mu   sync.Mutex
	n    map[string]int
	gate chan struct{} // where there is one, each question needs something from it
}

func (c *tally) judge(_ context.Context, body []byte) (string, error) {
	var b struct{ Messages []struct{ Content string } }
	if err := json.Unmarshal(body, &b); err != nil {
		return "", err
	}
	q := b.Messages[len(b.Messages)-1].Content
	if c.gate != nil {
		<-c.gate
	}
	c.mu.Lock()
	c.n[q]++
	c.mu.Unlock()
	if strings.HasPrefix(q, "bad") {
		return "", errors.New("the question is bad")
	}
	return "re: " + q, nil
}

// newWorld serves batchd behind wrap, which may be nil.
func newWorld(t *testing.T, wrap func(http.Handler) http.Handler) *world {
	t.Helper()
	w := &world{t: t, kv: newMemory(), files: &blobs{m: map[string][]byte{}}, asked: &tally{n: map[string]int{}}, clock: time.Now()}
	s, err := batchd.New(batchd.Options{Dir: t.TempDir(), Judge: w.asked.judge})
	if err != nil {
		t.Fatal(err)
	}
	h := s.Handler()
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.Close()
		s.Close()
	})
	w.url = srv.URL + "/v1"
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) sleepUntil(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.After(w.clock) {
		w.clock = t
	}
}

func (w *world) options() DeskOptions {
	return DeskOptions{Clock: w.now, TempDir: w.t.TempDir(), Jitter: func() float64 { return 1 }}
}

func (w *world) desk() *Desk { return NewDesk(w.kv, w.files, w.options()) }

func (w *world) evaluator() Evaluator {
	return Evaluator{Name: "judge", Provider: "openai", Model: "m", BaseURL: w.url, APIKey: "sk-secret", APIKeyEnv: "TEST_KEY"}
}

// ask makes n requests whose questions begin with prefix.
func ask(e Evaluator, prefix string, n int) []Request {
	reqs := make([]Request, n)
	for i := range reqs {
		reqs[i] = NewRequest(e, PromptParts{User: fmt.Sprintf("%s %d", prefix, i)})
	}
	return reqs
}

// drive calls Advance until nothing is outstanding or it fails.
func (w *world) drive(ctx context.Context, d *Desk, e Evaluator, reqs []Request) (Progress, error) {
	for range 5000 {
		p, err := d.Advance(ctx, e, reqs)
		if err != nil || p.Next.IsZero() {
			return p, err
		}
		w.sleepUntil(p.Next)
		if p.InBatch > 0 {
			time.Sleep(300 * time.Microsecond) // the server's work takes real time
		}
	}
	return Progress{}, errors.New("still not done after 5000 calls")
}

func (w *world) finish(d *Desk, e Evaluator, reqs []Request) Progress {
	w.t.Helper()
	p, err := w.drive(w.t.Context(), d, e, reqs)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// contents reads all answers, "!" and the reason for a failed one.
func (w *world) contents(d *Desk, e Evaluator, reqs []Request) []string {
	w.t.Helper()
	var out []string
	err := d.Answers(w.t.Context(), e, keysOf(reqs), func(i int, a Answer) error {
		if i != len(out) || a.Key != reqs[i].Key {
			w.t.Errorf("answer %d came with i = %d and key %s", len(out), i, a.Key)
		}
		if a.Status == StatusOK {
			out = append(out, a.Content)
		} else {
			out = append(out, "!"+a.Error)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// get fetches one JSON object from the server.
func (w *world) get(path string) map[string]any {
	w.t.Helper()
	resp, err := http.Get(w.url + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var v map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || resp.StatusCode != 200 {
		w.t.Fatalf("GET %s: %s %v", path, resp.Status, err)
	}
	return v
}

// batches lists every batch at the server.
func (w *world) batches() (all []map[string]any) {
	after := ""
	for {
		p := w.get("/batches?limit=100" + after)
		for _, b := range p["data"].([]any) {
			all = append(all, b.(map[string]any))
		}
		if p["has_more"] != true {
			return all
		}
		after = "&after=" + p["last_id"].(string)
	}
}

// sent counts in how many batches at the server each custom_id is.
func (w *world) sent() map[string]int {
	w.t.Helper()
	n := make(map[string]int)
	for _, b := range w.batches() {
		resp, err := http.Get(w.url + "/files/" + b["input_file_id"].(string) + "/content")
		if err != nil {
			w.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 {
			w.t.Fatalf("input file of %v: %s %v", b["id"], resp.Status, err)
		}
		for line := range bytes.Lines(body) {
			var l inputLine
			if err := json.Unmarshal(line, &l); err != nil {
				w.t.Fatal(err)
			}
			n[l.CustomID]++
		}
	}
	return n
}

// transport lets a test stand in the way of calls.
type transport func(req *http.Request) (*http.Response, error)

func (f transport) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// pass performs the call.
func pass(req *http.Request) (*http.Response, error) { return http.DefaultTransport.RoundTrip(req) }

// respond makes a reply up.
func respond(req *http.Request, status int, body string, header ...string) *http.Response {
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}

// rewrite performs the call and changes the reply's body.
func rewrite(req *http.Request, change func(string) string) (*http.Response, error) {
	resp, err := pass(req)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	s := change(string(b))
	resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(s)), int64(len(s))
	resp.Header.Del("Content-Length")
	return resp, nil
}

// deskVia is a desk whose calls go through f.
func (w *world) deskVia(f transport) *Desk {
	o := w.options()
	o.HTTPClient = &http.Client{Transport: f}
	return NewDesk(w.kv, w.files, o)
}

// is tells calls apart: "POST /batches", with * for an id.
func is(req *http.Request, call string) bool {
	method, pattern, _ := strings.Cut(call, " ")
	path := strings.Split(strings.TrimPrefix(req.URL.Path, "/v1"), "/")
	want := strings.Split(pattern, "/")
	if req.Method != method || len(path) != len(want) {
		return false
	}
	for i := range want {
		if want[i] != "*" && want[i] != path[i] {
			return false
		}
	}
	return true
}
