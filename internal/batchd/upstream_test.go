package batchd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serveWith starts a server and returns a client of it.
func serveWith(t *testing.T, opts Options, wrap func(http.Handler) http.Handler) client {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	h := s.Handler()
	if wrap != nil {
		h = wrap(h)
	}
	front := httptest.NewServer(h)
	t.Cleanup(func() {
		front.Close()
		s.Close()
	})
	return client{t, front.URL, opts.Key}
}

func echoed(_ context.Context, body []byte) (string, error) {
	q := question(body)
	if strings.HasPrefix(q, "bad") {
		return "", errors.New("the question is bad")
	}
	return "re: " + q, nil
}

// TestUpstream answers a batch by another server, which has a key, bounded
// patience and storms of errors.
func TestUpstream(t *testing.T) {
	var under, most, calls atomic.Int32
	var mu sync.Mutex
	answered := map[string]int{}
	up := serveWith(t, Options{Key: "up-key", Concurrency: 100, Judge: func(ctx context.Context, body []byte) (string, error) {
		mu.Lock()
		answered[question(body)]++
		mu.Unlock()
		time.Sleep(time.Millisecond)
		return echoed(ctx, body)
	}}, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := under.Add(1)
			defer under.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			switch calls.Add(1) % 5 {
			case 1:
				w.Header().Set("Retry-After", "0.01")
				http.Error(w, `{"error":{"message":"slow down"}}`, http.StatusTooManyRequests)
				return
			case 3:
				http.Error(w, "a proxy fell over", http.StatusBadGateway)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	c := serveWith(t, Options{Concurrency: 6, Upstream: &Upstream{URL: up.url + "/v1/", Key: "up-key", First: time.Millisecond, Most: 5 * time.Millisecond, Tries: 30}}, nil)
	b := c.wait(c.create(input(40)+line("bad", "m", "bad one")), "completed")
	counts := b["request_counts"].(map[string]any)
	if counts["completed"] != 40.0 || counts["failed"] != 1.0 {
		t.Errorf("counts %v", counts)
	}
	good := c.lines(b["output_file_id"])
	for i := range 40 {
		response := good[fmt.Sprintf("r%d", i)]["response"].(map[string]any)
		body := response["body"].(map[string]any)
		message := body["choices"].([]any)[0].(map[string]any)["message"].(map[string]any)
		if response["status_code"] != 200.0 || message["content"] != fmt.Sprintf("re: question %d", i) || body["usage"] == nil {
			t.Errorf("line %d: %v", i, response)
		}
	}
	refused := c.lines(b["error_file_id"])["bad"]["response"].(map[string]any)
	e := refused["body"].(map[string]any)["error"].(map[string]any)
	if refused["status_code"] != 400.0 || e["message"] != "the question is bad" || e["type"] != "invalid_request_error" {
		t.Errorf("refusal: %v", refused)
	}
	for q, n := range answered {
		if n != 1 {
			t.Errorf("%q was answered %d times", q, n)
		}
	}
	if m := most.Load(); m > 6 || m < 2 {
		t.Errorf("%d calls at once, want some and at most 6", m)
	}
	one := c.call(200, "POST", "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"now"}]}`)
	if one["object"] != "chat.completion" {
		t.Errorf("at once: %v", one)
	}
}

// TestUpstreamTrouble makes every trouble an error in OpenAI's shape, and never
// a good line.
func TestUpstreamTrouble(t *testing.T) {
	const request = `{"model":"m","messages":[{"role":"user","content":"q"}]}`
	for _, tc := range []struct {
		status  int
		body    string
		want    int
		message string
		calls   int32
	}{
		{500, `{"error":{"message":"out of memory","type":"server_error","code":500}}`, 500, "out of memory", 3},
		{401, `{"error":{"message":"wrong key secret-key","code":"invalid_api_key"}}`, 401, "wrong key (key)", 1},
		{404, `{"error":"model 'm' not found"}`, 404, "model 'm' not found", 1},
		{422, `{"detail":[{"msg":"field required"}]}`, 422, "field required", 1},
		{400, `{"object":"error","message":"too long","code":400}`, 400, "too long", 1},
		{503, `<html>nginx</html>`, 503, "The upstream server says 503", 3},
		{200, `<html>welcome</html>`, 502, "no JSON object", 1},
		{0, ``, 502, "No answer from the upstream server", 3},
	} {
		var calls atomic.Int32
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			if tc.status == 0 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(tc.status)
			w.Write([]byte(tc.body))
		}))
		c := serveWith(t, Options{Upstream: &Upstream{URL: up.URL + "/v1", Key: "secret-key", Tries: 3, First: time.Millisecond}}, nil)
		reply := c.call(tc.want, "POST", "/v1/chat/completions", request)
		e := reply["error"].(map[string]any)
		if m := e["message"].(string); !strings.Contains(m, tc.message) || strings.Contains(m, "secret-key") || calls.Load() != tc.calls {
			t.Errorf("%d: %v after %d calls, want %q after %d", tc.status, e, calls.Load(), tc.message, tc.calls)
		}
		b := c.wait(c.create(line("a", "m", "q")), "completed")
		if b["output_file_id"] != nil || c.lines(b["error_file_id"])["a"] == nil {
			t.Errorf("%d: %v", tc.status, b)
		}
		up.Close()
	}
}

// TestUpstreamRestart goes on with a batch after the server was stopped while
// the upstream did not answer.
func TestUpstreamRestart(t *testing.T) {
	gate := make(chan struct{})
	var answered atomic.Int32
	up := serveWith(t, Options{Concurrency: 100, Judge: func(ctx context.Context, body []byte) (string, error) {
		if n := answered.Add(1); n > 5 {
			select {
			case <-gate:
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		return echoed(ctx, body)
	}}, nil)
	dir := t.TempDir()
	opts := Options{Dir: dir, Concurrency: 3, Upstream: &Upstream{URL: up.url + "/v1"}}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(s.Handler())
	c := client{t, front.URL, ""}
	id := c.create(input(20))
	for answered.Load() < 8 { // five answers, three calls that hang
		time.Sleep(time.Millisecond)
	}
	front.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	close(gate)
	c = serveWith(t, opts, nil)
	b := c.wait(id, "completed")
	if got := len(c.lines(b["output_file_id"])); got != 20 {
		t.Errorf("%d answers, want 20", got)
	}
	if n := answered.Load(); n > 20+3 {
		t.Errorf("%d calls for 20 requests, of which 3 were cut off", n)
	}
}

// TestChatMistakes has the checks of a batch file's lines.
func TestChatMistakes(t *testing.T) {
	c := serveWith(t, Options{Judge: echoed, Key: "k"}, nil)
	for body, want := range map[string]string{
		`{`:                 "not a chat completion",
		`{"messages":[{}]}`: "'model'",
		`{"model":"m"}`:     "'messages'",
		`{"model":"m","messages":[{"role":"user","content":"q"}],"stream":true}`: "does not stream",
		`{"model":"m","messages":[{"role":"user","content":"bad"}]}`:             "the question is bad",
	} {
		e := c.call(400, "POST", "/v1/chat/completions", body)["error"].(map[string]any)
		if !strings.Contains(e["message"].(string), want) {
			t.Errorf("%s: %v", body, e)
		}
	}
	c.key = ""
	c.call(401, "POST", "/v1/chat/completions", `{}`)
}

// TestUnusedConnections does not let those hold up the end of a server.
func TestUnusedConnections(t *testing.T) {
	base, stop, err := Start(t.Context(), t.TempDir(), echoed)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(base, "http://"), "/v1"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if resp, err := http.Get(base + "/models"); err != nil || resp.Body.Close() != nil { // by now the other is accepted
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}
