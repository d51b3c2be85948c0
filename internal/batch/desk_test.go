package batch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestHappyPath(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	d := w.desk()
	reqs := ask(e, "good", 20)
	if err := d.Register(t.Context(), e, reqs); err != nil {
		t.Fatal(err)
	}
	err := d.Answers(t.Context(), e, keysOf(reqs), func(int, Answer) error { return nil })
	if !errors.Is(err, ErrNoAnswer) {
		t.Errorf("answers before anything was sent: %v", err)
	}
	p, err := d.Advance(t.Context(), e, reqs)
	if err != nil || p.InBatch != 20 || len(p.Batches) != 1 || p.Batches[0].ID == "" || p.Next.IsZero() {
		t.Fatalf("first Advance: %+v, %v", p, err)
	}
	if p = w.finish(d, e, reqs); p.Answered != 20 || p.Total != 20 || p.Failed != 0 {
		t.Errorf("progress %+v", p)
	}
	for i, c := range w.contents(d, e, reqs) {
		if want := fmt.Sprintf("re: good %d", i); c != want {
			t.Errorf("answer %d: %q, want %q", i, c, want)
		}
	}

	// Registering again and a larger grid send only what is new.
	more := append(slices.Clone(reqs), ask(e, "more", 5)...)
	if err := d.Register(t.Context(), e, more); err != nil {
		t.Fatal(err)
	}
	w.finish(d, e, more)
	all, err := d.Batches(t.Context())
	if err != nil || len(all) != 2 || all[0].Requests != 20 || all[1].Requests != 5 || all[1].Status != "completed" {
		t.Errorf("batches %+v, %v", all, err)
	}
	if _, err := d.Advance(t.Context(), e, append(more, reqs...)); err != nil { // repeated keys
		t.Error(err)
	}
	stop := errors.New("stop")
	if err := d.Answers(t.Context(), e, keysOf(reqs), func(i int, a Answer) error { return stop }); err != stop {
		t.Errorf("Answers went on after an error: %v", err)
	}
}

func TestFilesKeepTheLimits(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	e.Limits.Lines = 4
	d := w.desk()
	reqs := ask(e, "good", 10)
	p, err := d.Advance(t.Context(), e, reqs)
	if err != nil || len(p.Batches) != 3 {
		t.Fatalf("%d batches of 10 requests, 4 each: %v", len(p.Batches), err)
	}
	w.finish(d, e, reqs)

	one, _, _, err := pack(reqs, []int{0}, Limits{}, maxBytes, new(purse))
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(one))
	for _, tc := range []struct {
		lines int
		limit int64
		want  int
	}{
		{50, 100 * size, 10}, {3, 100 * size, 3}, {50, 3 * size, 3}, {50, 3*size - 1, 2}, {50, 1, 1},
	} {
		file, _, n, err := pack(reqs, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, Limits{Lines: tc.lines}, tc.limit, new(purse))
		if err != nil || n != tc.want || strings.Count(string(file), "\n") != n {
			t.Errorf("lines %d, bytes %d: packed %d, want %d (%v)", tc.lines, tc.limit, n, tc.want, err)
		}
	}
}

// A request that can never be sent must not hold up the others.
func TestOversizedRequest(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	e.Limits.Bytes = 5000
	huge := Request{Key: "huge", Body: []byte(`"` + strings.Repeat("x", 5000) + `"`)}
	reqs := append([]Request{huge}, ask(e, "good", 1)...)
	d := w.desk()
	p := w.finish(d, e, reqs)
	if p.Answered != 1 || p.Failed != 1 || !strings.Contains(p.Reasons[0].Text, "a batch file may have 5000") {
		t.Errorf("progress %+v", p)
	}
}

func TestServerRestartsInTheMiddle(t *testing.T) {
	var down atomic.Bool
	w := newWorld(t, nil)
	d := w.deskVia(func(req *http.Request) (*http.Response, error) {
		if down.Load() {
			return nil, errors.New("connection reset by peer")
		}
		return pass(req)
	})
	e := w.evaluator()
	reqs := ask(e, "good", 5)
	p, err := d.Advance(t.Context(), e, reqs)
	if err != nil {
		t.Fatal(err)
	}
	down.Store(true)
	for range 4 {
		w.sleepUntil(p.Next)
		if p, err = d.Advance(t.Context(), e, reqs); err != nil || p.InBatch != 5 || !p.Next.After(w.now()) || len(p.Notes) != 1 {
			t.Fatalf("while the server is away: %+v, %v", p, err)
		}
	}
	down.Store(false)
	if p = w.finish(d, e, reqs); p.Answered != 5 {
		t.Errorf("progress %+v", p)
	}
}

// The create call takes effect, its reply is lost. The list shows the batch at
// once, after a lag within the grace period, or not at all.
func TestReplyLostAfterCreate(t *testing.T) {
	for name, tc := range map[string]struct {
		lost   string        // how
		lag    time.Duration // of the list
		status int           // of the list, 200 to pass
		want   int           // batches at the server in the end
	}{
		"listed":          {"network", 0, 200, 1},
		"500":             {"500", 0, 200, 1},
		"cut off":         {"cut", 0, 200, 1},
		"not JSON":        {"html", 0, 200, 1},
		"listed late":     {"network", 30 * time.Second, 200, 1},
		"no list":         {"network", 0, 404, 1},
		"never delivered": {"before", 0, 200, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			e := w.evaluator()
			lost, since := 0, time.Time{}
			o := w.options()
			o.Grace = time.Minute
			o.HTTPClient = &http.Client{Transport: transport(func(req *http.Request) (*http.Response, error) {
				switch {
				case is(req, "POST /batches") && lost == 0:
					lost++
					since = w.now()
					if tc.lost == "before" {
						return nil, errors.New("connection reset by peer")
					}
					resp, err := pass(req)
					if err != nil {
						return nil, err
					}
					resp.Body.Close()
					switch tc.lost {
					case "500":
						return respond(req, 502, "bad gateway"), nil
					case "cut":
						return respond(req, 200, `{"id":"batch_`), nil
					case "html":
						return respond(req, 200, "<html>"), nil
					}
					return nil, errors.New("connection reset by peer")
				case is(req, "GET /batches") && tc.status != 200:
					return respond(req, tc.status, `{"error":{"message":"no such route"}}`), nil
				case is(req, "GET /batches") && w.now().Before(since.Add(tc.lag)):
					return respond(req, 200, `{"object":"list","data":[],"has_more":false}`), nil
				}
				return pass(req)
			})}
			d := NewDesk(w.kv, w.files, o)
			reqs := ask(e, "good", 6)
			p, err := w.drive(t.Context(), d, e, reqs)
			if tc.lost == "html" { // a person should look, and the next call goes on
				if err == nil || !strings.Contains(err.Error(), "base_url") {
					t.Fatalf("error %v", err)
				}
				p, err = w.drive(t.Context(), d, e, reqs)
			}
			if tc.status == 404 {
				var u *UncertainError
				if !errors.As(err, &u) || u.Requests != 6 || p.Uncertain != 6 || p.InBatch != 6 {
					t.Fatalf("progress %+v, error %v", p, err)
				}
				for range 3 { // it stays so, also for another process
					w.sleepUntil(w.now().Add(time.Hour))
					if _, err = w.desk2(o).Advance(t.Context(), e, reqs); !errors.As(err, &u) {
						t.Fatalf("error %v", err)
					}
				}
				if n := len(w.batches()); n != 1 {
					t.Fatalf("%d batches", n)
				}
				if err := d.Resend(t.Context(), u.Intent); err != nil {
					t.Fatal(err)
				}
				w.finish(d, e, reqs)
				if n := len(w.batches()); n != 2 {
					t.Errorf("%d batches after Resend, want 2", n)
				}
				return
			}
			if err != nil || p.Answered != 6 {
				t.Fatalf("progress %+v, error %v", p, err)
			}
			if n := len(w.batches()); n != tc.want {
				t.Errorf("%d batches, want %d", n, tc.want)
			}
		})
	}
}

func (w *world) desk2(o DeskOptions) *Desk { return NewDesk(w.kv, w.files, o) }

// The batch to adopt stands behind many newer ones, on a later page.
func TestLookReadsAllPages(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	ctx, cancel := context.WithCancel(t.Context())
	d := w.deskVia(func(req *http.Request) (*http.Response, error) {
		resp, err := pass(req.WithContext(context.WithoutCancel(req.Context())))
		if is(req, "POST /batches") {
			cancel() // killed before the reply was read
			return nil, errKilled
		}
		return resp, err
	})
	reqs := ask(e, "good", 2)
	if _, err := d.Advance(ctx, e, reqs); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	other := w.evaluator()
	other.Limits.Lines = 1
	ks := newMemory()
	o := w.options()
	w.kv, ks = ks, w.kv
	others := ask(other, "other", 12)
	if _, err := NewDesk(w.kv, w.files, o).Advance(t.Context(), other, others); err != nil {
		t.Fatal(err)
	}
	w.kv = ks
	if n := len(w.batches()); n != 13 {
		t.Fatalf("%d batches, want 13", n)
	}
	pages := 0
	w.finish(w.deskVia(func(req *http.Request) (*http.Response, error) {
		if is(req, "GET /batches") { // a server with small pages
			pages++
			req.URL.RawQuery = strings.Replace(req.URL.RawQuery, "limit=100", "limit=5", 1)
		}
		return pass(req)
	}), e, reqs)
	if n := len(w.batches()); n != 13 || pages != 3 {
		t.Errorf("%d batches at the end, want 13; %d pages read, want 3", n, pages)
	}
}

// Another API key need not see the batch: nobody knows then.
func TestKeyChangedBeforeTheLook(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	reqs := ask(e, "good", 2)
	hide := false
	d := w.deskVia(func(req *http.Request) (*http.Response, error) {
		switch {
		case is(req, "POST /batches") && !hide:
			pass(req)
			hide = true
			return nil, errors.New("connection reset by peer")
		case is(req, "GET /batches") && hide && req.Header.Get("Authorization") == "Bearer other":
			return respond(req, 200, `{"data":[]}`), nil
		}
		return pass(req)
	})
	if _, err := d.Advance(t.Context(), e, reqs); err != nil {
		t.Fatal(err)
	}
	old := e.APIKey
	e.APIKey = "other"
	_, err := w.drive(t.Context(), d, e, reqs)
	var u *UncertainError
	if !errors.As(err, &u) || !strings.Contains(err.Error(), "another one now") {
		t.Fatalf("error %v", err)
	}
	e.APIKey = old
	w.sleepUntil(w.now().Add(time.Hour))
	w.finish(d, e, reqs)
	if n := len(w.batches()); n != 1 {
		t.Errorf("%d batches, want 1", n)
	}
}

func TestOddServers(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(req *http.Request, n int) func(string) string // of the n-th reply to that call
		want   string
		note   string
	}{
		"upper-case statuses": {func(req *http.Request, n int) func(string) string {
			return func(s string) string {
				for _, st := range []string{"validating", "in_progress", "finalizing", "completed"} {
					s = strings.ReplaceAll(s, `"status":"`+st, `"status":"`+strings.ToUpper(st))
				}
				return s
			}
		}, "4 answered", ""},
		"unknown status first": {func(req *http.Request, n int) func(string) string {
			if !is(req, "GET /batches/*") || n > 3 {
				return nil
			}
			return func(s string) string {
				return strings.NewReplacer("validating", "pre_queued", "in_progress", "pre_queued", "finalizing", "pre_queued", `status":"completed"`, `status":"pre_queued"`).Replace(s)
			}
		}, "4 answered", `status "pre_queued"`},
		"output lines twice": {func(req *http.Request, n int) func(string) string {
			if !is(req, "GET /files/*/content") {
				return nil
			}
			return func(s string) string { return s + strings.Replace(s, "re: good", "again", 4) + "{\n" }
		}, "4 answered", "1 result lines cannot be read"},
		"no counts": {func(req *http.Request, n int) func(string) string {
			return func(s string) string { return strings.ReplaceAll(s, "request_counts", "other_counts") }
		}, "4 answered", ""},
		"times as text": {func(req *http.Request, n int) func(string) string {
			if !is(req, "GET /batches/*") && !is(req, "POST /batches") {
				return nil
			}
			return func(s string) string { return strings.ReplaceAll(s, `"created_at":`, `"created_at":"now","was":`) }
		}, "4 answered", ""},
		"output named late": {func(req *http.Request, n int) func(string) string {
			if !is(req, "GET /batches/*") || n > 3 {
				return nil
			}
			return func(s string) string { return strings.ReplaceAll(s, `output_file_id`, "later") }
		}, "4 answered", ""},
		"the same of a batch that was cancelled": {func(req *http.Request, n int) func(string) string {
			if !is(req, "GET /batches/*") {
				return nil
			}
			return func(s string) string {
				if s = strings.Replace(s, `"status":"completed"`, `"status":"cancelled"`, 1); n <= 3 {
					s = strings.ReplaceAll(s, `output_file_id`, "later")
				}
				return s
			}
		}, "4 answered", ""},
		"the same of a batch that failed": {func(req *http.Request, n int) func(string) string {
			if !is(req, "GET /batches/*") {
				return nil
			}
			return func(s string) string {
				if s = strings.Replace(s, `"status":"completed"`, `"status":"failed"`, 1); n <= 3 {
					s = strings.ReplaceAll(s, `output_file_id`, "later")
				}
				return s
			}
		}, "4 answered", ""},
		"an answer that cannot be read": {func(req *http.Request, n int) func(string) string {
			if !is(req, "GET /files/*/content") {
				return nil
			}
			return func(s string) string { return s[:len(s)-20] }
		}, "3 answered, 1 failed: an answer came, but its result line cannot be read", "cannot be read"},
		"the same without counts": {func(req *http.Request, n int) func(string) string {
			if is(req, "GET /files/*/content") {
				return func(s string) string { return s[:len(s)-20] }
			}
			return func(s string) string { return strings.ReplaceAll(s, "request_counts", "other_counts") }
		}, "3 answered, 1 failed: an answer came, but its result line cannot be read", "cannot be read"},
		"the same in a batch that was cancelled": {func(req *http.Request, n int) func(string) string {
			if is(req, "GET /batches/*") {
				return func(s string) string { return strings.Replace(s, `"status":"completed"`, `"status":"cancelled"`, 1) }
			}
			if !is(req, "GET /files/*/content") {
				return nil
			}
			return func(s string) string { return s[:len(s)-20] }
		}, "3 answered, 1 failed: an answer came, but its result line cannot be read", "cannot be read"},
		"download cut off once": {func(req *http.Request, n int) func(string) string {
			return nil
		}, "4 answered", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			e := w.evaluator()
			calls := make(map[string]int)
			o := w.options()
			o.Grace = time.Second // three polls take less, also of a server that was done before the first
			o.HTTPClient = &http.Client{Transport: transport(func(req *http.Request) (*http.Response, error) {
				kind := req.Method + fmt.Sprint(is(req, "GET /batches/*"))
				calls[kind]++
				if name == "download cut off once" && is(req, "GET /files/*/content") {
					if calls["cut"]++; calls["cut"] == 1 {
						resp, err := pass(req)
						if err == nil {
							resp.Body = cutOff{resp.Body}
						}
						return resp, err
					}
				}
				if f := tc.change(req, calls[kind]); f != nil {
					return rewrite(req, f)
				}
				return pass(req)
			})}
			d := NewDesk(w.kv, w.files, o)
			reqs := ask(e, "good", 4)
			var notes []string
			var p Progress
			for range 5000 {
				var err error
				if p, err = d.Advance(t.Context(), e, reqs); err != nil {
					t.Fatal(err)
				}
				notes = append(notes, p.Notes...)
				if p.Next.IsZero() {
					break
				}
				w.sleepUntil(w.now().Add(50 * time.Millisecond))
				time.Sleep(300 * time.Microsecond)
			}
			got := fmt.Sprintf("%d answered", p.Answered)
			for _, r := range p.Reasons {
				got += fmt.Sprintf(", %d failed: %s", r.Count, r.Text)
			}
			if got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
			if all := strings.Join(notes, "\n"); !strings.Contains(all, tc.note) {
				t.Errorf("no note with %q in:\n%s", tc.note, all)
			}
			if n := len(w.batches()); n != 1 {
				t.Errorf("%d batches, want 1", n)
			}
			for i, c := range w.contents(d, e, reqs) {
				if !strings.HasPrefix(c, "!") && c != fmt.Sprintf("re: good %d", i) {
					t.Errorf("answer %d: %q", i, c)
				}
			}
		})
	}
}

// cutOff ends a body early, as a broken connection does.
type cutOff struct{ io.Closer }

func (cutOff) Read(b []byte) (int, error) { return 0, errors.New("connection reset by peer") }

// Completed, with answers counted, but no output file ever: paid, so never
// sent again on its own.
func TestCompletedButNoOutputFile(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	d := w.deskVia(func(req *http.Request) (*http.Response, error) {
		if is(req, "GET /batches/*") {
			return rewrite(req, func(s string) string { return strings.ReplaceAll(s, "output_file_id", "elsewhere") })
		}
		return pass(req)
	})
	reqs := ask(e, "good", 3)
	_, err := w.drive(t.Context(), d, e, reqs)
	if err == nil || !strings.Contains(err.Error(), "names no result file") {
		t.Fatalf("error %v", err)
	}
	if n := len(w.batches()); n != 1 {
		t.Errorf("%d batches, want 1", n)
	}
	p := w.finish(w.desk(), e, reqs) // the server gets well
	if p.Answered != 3 {
		t.Errorf("progress %+v", p)
	}
}

// Every line failed: completed without an output file is an end like any other.
func TestEveryLineFailed(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	d := w.desk()
	reqs := ask(e, "bad", 3)
	p := w.finish(d, e, reqs)
	if p.Failed != 3 || len(p.Reasons) != 1 || p.Reasons[0] != (Reason{"400 Bad Request: the question is bad", 3}) {
		t.Errorf("progress %+v", p)
	}
}

// Refusals that pass: 429 with Retry-After, then 503, on every kind of call.
func TestStorm(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	refusals := make(map[string]int)
	var closed time.Time // no call is welcome before
	d := w.deskVia(func(req *http.Request) (*http.Response, error) {
		if w.now().Before(closed) {
			t.Errorf("%s %s %v before Retry-After", req.Method, req.URL.Path, closed.Sub(w.now()))
		}
		for _, kind := range []string{"POST /files", "POST /batches", "GET /batches", "GET /batches/*", "GET /files/*/content"} {
			if !is(req, kind) || refusals[kind] == 3 {
				continue
			}
			refusals[kind]++
			if refusals[kind] == 2 {
				return respond(req, 503, "overloaded"), nil
			}
			closed = w.now().Add(7 * time.Second)
			return respond(req, 429, `{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}`, "Retry-After", "7"), nil
		}
		return pass(req)
	})
	reqs := ask(e, "good", 3)
	if p := w.finish(d, e, reqs); p.Answered != 3 {
		t.Errorf("progress %+v", p)
	}
	if n := len(w.batches()); n != 1 {
		t.Errorf("%d batches, want 1", n)
	}
	for _, kind := range []string{"POST /files", "POST /batches", "GET /batches/*", "GET /files/*/content"} {
		if refusals[kind] != 3 {
			t.Errorf("%s was refused %d times, want 3", kind, refusals[kind])
		}
	}
}

// Errors for a person: they name host and key variable, never the key, and
// leave the requests to be sent later.
func TestAdvice(t *testing.T) {
	for name, tc := range map[string]struct {
		call   string
		status int
		body   string
		want   []string
	}{
		"key":     {"POST /files", 401, `{"error":{"message":"Incorrect API key provided: sk-secret.","code":"invalid_api_key"}}`, []string{"uploading", "127.0.0.1", "TEST_KEY", "(key)"}},
		"project": {"POST /batches", 403, `{"error":{"message":"no access"}}`, []string{"creating", "TEST_KEY", "no access"}},
		"path":    {"POST /files", 404, `not found`, []string{"base_url", `"m"`, "not found"}},
		"refused": {"POST /batches", 400, `{"error":{"message":"Invalid endpoint","param":null}}`, []string{"Invalid endpoint"}},
		"quota":   {"POST /batches", 429, `{"error":{"message":"exceeded","code":"insufficient_quota"}}`, []string{"credit"}},
		"html":    {"POST /files", 200, `<html>`, []string{"base_url"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			e := w.evaluator()
			refuse := true
			d := w.deskVia(func(req *http.Request) (*http.Response, error) {
				if refuse && is(req, tc.call) {
					return respond(req, tc.status, tc.body), nil
				}
				return pass(req)
			})
			reqs := ask(e, "good", 2)
			p, err := d.Advance(t.Context(), e, reqs)
			if err == nil {
				t.Fatalf("no error, progress %+v", p)
			}
			for _, s := range tc.want {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("no %q in %v", s, err)
				}
			}
			if strings.Contains(err.Error(), "sk-secret") {
				t.Errorf("the key shows in %v", err)
			}
			if p.Total != 2 || p.Answered != 0 {
				t.Errorf("progress beside the error: %+v", p)
			}
			refuse = false
			w.sleepUntil(w.now().Add(time.Hour))
			if p := w.finish(d, e, reqs); p.Answered != 2 {
				t.Errorf("progress %+v", p)
			}
			if n := len(w.batches()); n != 1 {
				t.Errorf("%d batches, want 1", n)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	e.BaseURL = "http://127.0.0.1:1/v1"
	_, err := w.drive(t.Context(), w.desk(), e, ask(e, "good", 1))
	if err == nil || !strings.Contains(err.Error(), "no connection") {
		t.Errorf("error %v", err)
	}
	e.BaseURL = "api.openai.com/v1"
	if _, err := w.desk().Advance(t.Context(), e, nil); err == nil || !strings.Contains(err.Error(), "https://") {
		t.Errorf("error %v", err)
	}
}

// Half of a batch expires, or it is cancelled: what was answered is kept, and
// only the rest goes out again.
func TestOnlyTheRestIsSentAgain(t *testing.T) {
	for _, end := range []string{"expired", "cancelled"} {
		t.Run(end, func(t *testing.T) {
			w := newWorld(t, nil)
			e := w.evaluator()
			first := ""
			d := w.deskVia(func(req *http.Request) (*http.Response, error) {
				if is(req, "GET /batches/*") {
					id := req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]
					if first == "" {
						first = id
					}
					if id == first {
						return rewrite(req, func(s string) string {
							return strings.NewReplacer(`"status":"completed"`, `"status":"`+end+`"`, `"completed":4`, `"completed":1`).Replace(s)
						})
					}
				}
				if is(req, "GET /files/*/content") {
					return rewrite(req, func(s string) string {
						if !strings.Contains(s, "good 0") {
							return s // of the second batch
						}
						var out strings.Builder
						for line := range strings.Lines(s) {
							switch {
							case strings.Contains(line, "good 1") || strings.Contains(line, "good 3"):
								id := line[strings.Index(line, `"custom_id":"`)+13:][:64]
								fmt.Fprintf(&out, `{"custom_id":%q,"response":null,"error":{"code":"batch_%s","message":"not run"}}`+"\n", id, end)
							case strings.Contains(line, "good 2"): // no line at all
							default:
								out.WriteString(line)
							}
						}
						return out.String()
					})
				}
				return pass(req)
			})
			reqs := ask(e, "good", 4)
			if p := w.finish(d, e, reqs); p.Answered != 4 {
				t.Errorf("progress %+v", p)
			}
			for i, r := range reqs {
				want := 2
				if i == 0 {
					want = 1
				}
				if got := w.sent()[r.Key]; got != want {
					t.Errorf("request %d is in %d batches, want %d", i, got, want)
				}
			}
		})
	}
}

// A batch that expires every time: the requests are given up after three.
func TestGivenUpAfterThreeBatches(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	d := w.deskVia(func(req *http.Request) (*http.Response, error) {
		if is(req, "GET /batches/*") {
			id := req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]
			return respond(req, 200, `{"id":"`+id+`","status":"expired"}`), nil
		}
		return pass(req)
	})
	reqs := ask(e, "good", 2)
	p := w.finish(d, e, reqs)
	if p.Failed != 2 || p.Reasons[0].Text != "given up after 3 batches: no result in batch expired" {
		t.Errorf("progress %+v", p)
	}
	if n := len(w.batches()); n != 3 {
		t.Errorf("%d batches, want 3", n)
	}
}

// A batch that fails as a whole is a person's affair; its requests are sent
// again by the next call, not by this one.
func TestBatchFails(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	fail := true
	d := w.deskVia(func(req *http.Request) (*http.Response, error) {
		if fail && is(req, "GET /batches/*") {
			return rewrite(req, func(string) string {
				return `{"id":"x","status":"failed","errors":{"object":"list","data":[{"code":"model_not_found","message":"The provided model 'm' is not supported by the Batch API.","line":1}]}}`
			})
		}
		return pass(req)
	})
	reqs := ask(e, "good", 2)
	p, err := w.drive(t.Context(), d, e, reqs)
	if err == nil || !strings.Contains(err.Error(), "model_not_found: The provided model 'm' is not supported by the Batch API. (line 1)") || p.Unsent != 2 {
		t.Fatalf("progress %+v, error %v", p, err)
	}
	if n := len(w.batches()); n != 1 {
		t.Errorf("%d batches, want 1", n)
	}
	fail = false
	if p := w.finish(d, e, reqs); p.Answered != 2 {
		t.Errorf("progress %+v", p)
	}
}

// The server lets files of at most two lines through, one at a time.
func TestEnqueuedTokenCap(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	var mu sync.Mutex
	lines := make(map[string]int) // batch → requests
	out := make(map[string]bool)
	most := 0
	d := w.deskVia(func(req *http.Request) (*http.Response, error) {
		if !is(req, "GET /batches/*") {
			return pass(req)
		}
		id := req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]
		return rewrite(req, func(s string) string {
			mu.Lock()
			defer mu.Unlock()
			if !strings.Contains(s, `"completed"`) || strings.Contains(s, `"total":0`) {
				return s
			}
			if _, ok := lines[id]; !ok {
				n := 0
				fmt.Sscanf(s[strings.Index(s, `"total":`)+8:], "%d", &n)
				lines[id] = n
			}
			if lines[id] > 2 {
				return `{"id":"` + id + `","status":"failed","errors":{"object":"list","data":[{"code":"token_limit_exceeded","message":"Enqueued token limit reached"}]}}`
			}
			out[id] = !strings.Contains(s, `"status":"completed"`)
			n := 0
			for _, o := range out {
				if o {
					n++
				}
			}
			most = max(most, n)
			return s
		})
	})
	reqs := ask(e, "good", 11)
	if p := w.finish(d, e, reqs); p.Answered != 11 {
		t.Errorf("progress %+v", p)
	}
	if most > 1 {
		t.Errorf("%d batches out at once under the cap", most)
	}
	var l learned
	if ok, err := d.get(capKey(e.place(), e.Model), &l); !ok || err != nil {
		t.Errorf("nothing was learned: %v", err)
	}
}

// Callers of one evaluator in one process take turns.
func TestCallersTakeTurns(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	d := w.desk()
	reqs := ask(e, "good", 30)
	var all sync.WaitGroup
	for i := range 6 {
		part := reqs[i*3 : i*3+15] // overlapping
		all.Go(func() {
			if err := d.Register(t.Context(), e, part); err != nil {
				t.Error(err)
			}
			if p, err := w.drive(t.Context(), d, e, part); err != nil || p.Answered != 15 {
				t.Errorf("progress %+v, %v", p, err)
			}
		})
	}
	all.Wait()
	for key, n := range w.sent() {
		if n != 1 {
			t.Errorf("request %s is in %d batches", key, n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Advance(ctx, e, reqs); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled caller got %v", err)
	}
}

// The embedded server of a provider gets another port at every start; its
// batches are still found.
func TestProviderMoves(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	e.Provider = "lexical"
	reqs := ask(e, "good", 3)
	if _, err := w.desk().Advance(t.Context(), e, reqs); err != nil {
		t.Fatal(err)
	}
	e.BaseURL = strings.Replace(w.url, "127.0.0.1", "localhost", 1)
	if p := w.finish(w.desk(), e, reqs); p.Answered != 3 {
		t.Errorf("progress %+v", p)
	}
	if n := len(w.batches()); n != 1 {
		t.Errorf("%d batches, want 1", n)
	}
	// Its state was thrown away: answers cost nothing, so they are made again.
	other := newWorld(t, nil)
	more := ask(e, "more", 3)
	if _, err := w.desk().Advance(t.Context(), e, more); err != nil {
		t.Fatal(err)
	}
	e.BaseURL = other.url
	w.sleepUntil(w.now().Add(time.Second))
	if p := w.finish(w.desk(), e, more); p.Answered != 3 {
		t.Errorf("progress %+v", p)
	}
}

// A paid batch that its server does not know any more is no reason to pay again.
func TestForgottenBatch(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	reqs := ask(e, "good", 3)
	d := w.deskVia(func(req *http.Request) (*http.Response, error) {
		if is(req, "GET /batches/*") {
			return respond(req, 404, `{"error":{"message":"No such batch"}}`), nil
		}
		return pass(req)
	})
	_, err := w.drive(t.Context(), d, e, reqs)
	if err == nil || !strings.Contains(err.Error(), "another key or project") {
		t.Fatalf("error %v", err)
	}
	if p := w.finish(w.desk(), e, reqs); p.Answered != 3 || len(w.batches()) != 1 {
		t.Errorf("progress %+v, %d batches", p, len(w.batches()))
	}
}

// A damaged store of results is filled again from the server.
func TestLostBlobIsFetchedAgain(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	reqs := ask(e, "good", 3)
	o := w.options()
	d := NewDesk(w.kv, losing{w.files, new(int)}, o)
	_, err := w.drive(t.Context(), d, e, reqs)
	if err == nil || !strings.Contains(err.Error(), "downloaded again") {
		t.Fatalf("error %v", err)
	}
	if p := w.finish(d, e, reqs); p.Answered != 3 || len(w.batches()) != 1 {
		t.Errorf("progress %+v, %d batches", p, len(w.batches()))
	}
}

// losing forgets the first file that it is given.
type losing struct {
	*blobs
	n *int
}

func (l losing) Import(path string) (string, int64, error) {
	digest, size, err := l.blobs.Import(path)
	if *l.n++; *l.n == 1 {
		delete(l.m, digest)
	}
	return digest, size, err
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2025, 7, 1, 12, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "0.5": 500 * time.Millisecond, "-3": 0, "soon": 0, "1e9": time.Hour,
		"Tue, 01 Jul 2025 12:00:30 GMT": 30 * time.Second, "Tue, 01 Jul 2025 11:00:00 GMT": 0, "NaN": 0,
	} {
		if got := retryAfter(v, now); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", v, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	p := pace{time.Second, time.Minute}
	for _, tc := range []struct {
		n    int
		u    float64
		want time.Duration
	}{{1, 0, 500 * time.Millisecond}, {1, 1, time.Second}, {2, 1, 2 * time.Second}, {6, 1, 32 * time.Second}, {7, 1, time.Minute}, {900, 1, time.Minute}, {900, 0, 30 * time.Second}} {
		if got := p.delay(tc.n, tc.u); got != tc.want {
			t.Errorf("delay(%d, %v) = %v, want %v", tc.n, tc.u, got, tc.want)
		}
	}
}
