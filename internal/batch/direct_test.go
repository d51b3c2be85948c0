package batch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func (w *world) direct() Evaluator {
	e := w.evaluator()
	e.Direct, e.Concurrency = true, 4
	return e
}

// settled fails if the ledger has anything that is under way.
func (w *world) settled() {
	w.t.Helper()
	err := w.kv.Scan("", func(key string, _ []byte) error {
		if strings.HasPrefix(key, openPrefix) || strings.HasPrefix(key, linesPrefix) {
			return fmt.Errorf("%s is left", key)
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
}

// once fails if a question was answered more than once.
func (w *world) once() {
	w.t.Helper()
	for q, n := range w.asked.n {
		if n != 1 {
			w.t.Errorf("%q was answered %d times", q, n)
		}
	}
}

func TestDirect(t *testing.T) {
	var under, most atomic.Int32
	w := newWorld(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			n := under.Add(1)
			defer under.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			h.ServeHTTP(rw, r)
		})
	})
	d, e := w.desk(), w.direct()
	var told []string
	e.Answered = func(key string) { told = append(told, key) }
	reqs := append(ask(e, "good <&> é", 40), ask(e, "bad", 1)...)
	if err := d.Register(t.Context(), e, reqs); err != nil {
		t.Fatal(err)
	}
	p := w.finish(d, e, reqs)
	if p.Answered != 40 || p.Failed != 1 || p.Total != 41 {
		t.Errorf("%+v", p)
	}
	for i, c := range w.contents(d, e, reqs) {
		want := fmt.Sprintf("re: good <&> é %d", i)
		if i == 40 {
			want = "!400 Bad Request: the question is bad"
		}
		if c != want {
			t.Errorf("answer %d is %q, want %q", i, c, want)
		}
	}
	w.once()
	w.settled()
	if n := len(w.batches()); n != 0 {
		t.Errorf("%d batches were made", n)
	}
	if len(w.files.m) != 1 {
		t.Errorf("the answers are in %d files, want 1", len(w.files.m))
	}
	if m := most.Load(); m > 4 {
		t.Errorf("%d requests were under way at once, want at most 4", m)
	}
	slices.Sort(told)
	if want := slices.Sorted(slices.Values(keysOf(reqs))); !slices.Equal(told, want) {
		t.Errorf("%d requests were told of, want each of the %d once", len(told), len(want))
	}
	w.finish(w.desk(), e, reqs)
	w.once()
}

// TestModesShareAnswers switches back and forth over a growing set of requests.
func TestModesShareAnswers(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	reqs := ask(e, "good", 30)
	for i, n := range []int{10, 20, 30} {
		e.Direct = i == 1
		same := ask(e, "good", n)
		if !slices.Equal(keysOf(same), keysOf(reqs[:n])) {
			t.Fatal("the mode is part of request keys")
		}
		if p := w.finish(w.desk(), e, same); p.Answered != n {
			t.Errorf("%d of %d answered", p.Answered, n)
		}
	}
	w.once()
	if len(w.asked.n) != 30 || len(w.sent()) != 20 {
		t.Errorf("%d requests were answered, %d of them in batches, want 30 and 20", len(w.asked.n), len(w.sent()))
	}
	e.Direct = true
	if got := w.contents(w.desk(), e, reqs); got[5] != "re: good 5" || got[15] != "re: good 15" || got[25] != "re: good 25" {
		t.Errorf("answers %q", got)
	}
}

// TestDirectPatience meets every refusal that passes. None of them costs a
// request its answer, or makes it be answered twice.
func TestDirectPatience(t *testing.T) {
	w := newWorld(t, nil)
	var mu sync.Mutex
	n := 0
	d := w.deskVia(func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		n++
		k := n
		mu.Unlock()
		switch k % 7 {
		case 1:
			return respond(req, 429, `{"error":{"message":"slow down"}}`, "Retry-After", "0.01"), nil
		case 3:
			return respond(req, 500, "a proxy fell over"), nil
		case 5:
			return respond(req, 503, `{"error":{"message":"overloaded"}}`), nil
		}
		return pass(req)
	})
	e := w.direct()
	reqs := ask(e, "good", 25)
	if p := w.finish(d, e, reqs); p.Answered != 25 {
		t.Errorf("%+v", p)
	}
	w.once()
	w.settled()
}

// TestDirectLongPause ends the turn when the server wants minutes of rest.
func TestDirectLongPause(t *testing.T) {
	w := newWorld(t, nil)
	refuse := true
	d := w.deskVia(func(req *http.Request) (*http.Response, error) {
		if refuse {
			return respond(req, 429, `{"error":{"message":"come back later"}}`, "Retry-After", "300"), nil
		}
		return pass(req)
	})
	e := w.direct()
	reqs := ask(e, "good", 3)
	p, err := d.Advance(t.Context(), e, reqs)
	if err != nil || p.Unsent != 3 || p.Next.Sub(w.now()).Round(1e9).Seconds() != 300 || !strings.Contains(strings.Join(p.Notes, " "), "come back later") {
		t.Errorf("%+v, %v", p, err)
	}
	w.settled()
	refuse = false
	w.finish(d, e, reqs)
	w.once()
}

// TestDirectStops ends at the first refusal that holds for all requests, and
// fails none of them for good.
func TestDirectStops(t *testing.T) {
	for _, tc := range []struct {
		status int
		body   string
		want   string
	}{
		{401, `{"error":{"message":"Incorrect API key sk-secret"}}`, "set TEST_KEY"},
		{403, `{"error":{"message":"no"}}`, "check its project"},
		{404, `{"error":{"message":"no such model"}}`, "model name"},
		{429, `{"error":{"message":"paid up","code":"insufficient_quota"}}`, "no credit left"},
		{402, `{"error":{"message":"Insufficient Balance"}}`, "Insufficient Balance"},
		{200, `<html>welcome</html>`, "base_url"},
	} {
		w := newWorld(t, nil)
		d := w.deskVia(func(req *http.Request) (*http.Response, error) { return respond(req, tc.status, tc.body), nil })
		e := w.direct()
		reqs := ask(e, "good", 20)
		p, err := d.Advance(t.Context(), e, reqs)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "sk-secret") || p.Unsent != 20 {
			t.Errorf("%d: %+v, %v", tc.status, p, err)
		}
		w.finish(w.desk(), e, reqs)
		w.once()
		w.settled()
	}
}

// TestDirectLostReply counts what may have been paid for, and gives up in the end.
func TestDirectLostReply(t *testing.T) {
	w := newWorld(t, nil)
	d := w.deskVia(func(req *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		req.Body = io.NopCloser(strings.NewReader(string(body)))
		resp, err := pass(req)
		if err == nil && strings.Contains(string(body), "good 2") {
			resp.Body.Close()
			return nil, errors.New("connection reset by peer")
		}
		return resp, err
	})
	e := w.priced("judge")
	e.Direct, e.Concurrency = true, 4
	reqs := ask(e, "good", 4)
	p, err := d.Advance(t.Context(), e, reqs)
	if err != nil || p.Answered != 3 || p.Unsent != 1 || !strings.Contains(strings.Join(p.Notes, " "), "may have been paid for") {
		t.Errorf("%+v, %v", p, err)
	}
	bills, err := d.Bills(t.Context(), "study")
	most := mostOf(t, e, reqs[2])
	if err != nil || bills[0].Answered != 3 || bills[0].SpentUSD < most || bills[0].FlightUSD != 0 {
		t.Errorf("a lost reply can cost %v, billed are %+v, %v", most, bills, err)
	}
	p = w.finish(d, e, reqs)
	if w.asked.n["good 2"] != maxTries || p.Failed != 1 || !strings.Contains(p.Reasons[0].Text, "given up after 3 attempts: no reply came") {
		t.Errorf("asked %d times: %+v", w.asked.n["good 2"], p)
	}
}

// TestDirectPoison gives up a request that breaks the server, and no other.
func TestDirectPoison(t *testing.T) {
	w := newWorld(t, nil)
	d := w.deskVia(func(req *http.Request) (*http.Response, error) {
		body, _ := io.ReadAll(req.Body)
		if strings.Contains(string(body), "good 0") {
			return respond(req, 500, `{"error":{"message":"out of memory"}}`), nil
		}
		req.Body = io.NopCloser(strings.NewReader(string(body)))
		return pass(req)
	})
	e := w.direct()
	var p Progress
	var reqs []Request
	for round := range maxTries {
		reqs = append(reqs, ask(e, fmt.Sprintf("good%.*s", round, "!!!"), 20)...)
		var err error
		if p, err = d.Advance(t.Context(), e, reqs); err != nil {
			t.Fatal(err)
		}
	}
	if p.Answered != 59 || p.Failed != 1 || !strings.Contains(p.Reasons[0].Text, "out of memory") {
		t.Errorf("%+v", p)
	}
	w.once()
}

// TestDirectCancelled leaves a server that does not answer; what came in before
// is kept, what was under way is asked again.
func TestDirectCancelled(t *testing.T) {
	block := make(chan struct{})
	var blocked atomic.Int32
	w := newWorld(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			if strings.Contains(string(body), "slow") {
				blocked.Add(1)
				defer blocked.Add(-1)
				select {
				case <-block:
				case <-r.Context().Done():
					return
				}
			}
			h.ServeHTTP(rw, r)
		})
	})
	e := w.direct()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	e.Answered = func(string) {
		if n++; n == 10 {
			cancel()
		}
	}
	reqs := append(ask(e, "good", 10), ask(e, "slow good", 10)...)
	if _, err := w.desk().Advance(ctx, e, reqs); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for blocked.Load() > 0 { // until the server sees that nobody is there
		time.Sleep(time.Millisecond)
	}
	close(block)
	e.Answered = nil
	p, err := w.desk().Advance(t.Context(), e, reqs)
	if err != nil || p.Answered != 20 {
		t.Errorf("%+v, %v", p, err)
	}
	w.once()
	w.settled()
}

// TestDirectHoldsToLimits sends what the money lets through, counts what answers
// really cost, and goes on with what they leave.
func TestDirectHoldsToLimits(t *testing.T) {
	w := newWorld(t, nil)
	e := w.priced("judge")
	e.Direct, e.Concurrency = true, 3
	reqs := ask(e, "good", 20)
	most := mostOf(t, e, reqs[0])
	limit := Limit{Name: "budget_usd = 1", USD: 5 * most}
	e.Account.Limits = []Limit{limit}
	var budget *BudgetError
	p, err := w.drive(t.Context(), w.desk(), e, reqs)
	if !errors.As(err, &budget) {
		t.Fatalf("%+v, %v", p, err)
	}
	bills, err := w.desk().Bills(t.Context(), "study")
	if err != nil || bills[0].SpentUSD > limit.USD || bills[0].Answered != p.Answered || p.Answered < 3 || p.Answered+p.Unsent != 20 {
		t.Errorf("%+v, %+v, %v", bills, p, err)
	}
	if left := limit.USD - bills[0].SpentUSD; left >= mostOf(t, e, reqs[19]) {
		t.Errorf("%v is left, and the next costs %v at most", left, most)
	}
	e.Account.Limits[0].USD = 1000 * most
	w.finish(w.desk(), e, reqs)
	w.once()
	w.settled()
}

// TestDirectDamaged does not buy again what was paid for and is lost here.
func TestDirectDamaged(t *testing.T) {
	w := newWorld(t, nil)
	d, e := w.desk(), w.direct()
	reqs := ask(e, "good", 5)
	w.finish(d, e, reqs)
	saved := maps.Clone(w.files.m)
	clear(w.files.m)
	if n, err := d.Reopen(t.Context(), e, keysOf(reqs)); err != nil || n != 5 {
		t.Fatalf("%d taken back, %v", n, err)
	}
	p, err := d.Advance(t.Context(), e, reqs)
	if err == nil || !strings.Contains(err.Error(), "no server keeps a copy") || p.InBatch != 5 {
		t.Errorf("%+v, %v", p, err)
	}
	w.files.m = saved // from a backup
	w.finish(d, e, reqs)
	w.once()
	clear(w.files.m)
	if _, err := d.Reopen(t.Context(), e, keysOf(reqs)); err != nil {
		t.Fatal(err)
	}
	if err := d.Resend(t.Context(), p.Batches[0].Intent); err != nil {
		t.Fatal(err)
	}
	w.finish(d, e, reqs)
	if w.asked.n["good 0"] != 2 {
		t.Errorf("bought %d times, want once more on a person's word", w.asked.n["good 0"])
	}
}

// TestResultOf makes lines that answers are read from.
func TestResultOf(t *testing.T) {
	for _, body := range []string{"", " ", "[]", "null", "<html>", `{"a":`} {
		if l := resultOf("k", 200, []byte(body)); l != nil {
			t.Errorf("%q became %s", body, l)
		}
	}
	line := resultOf("k", 200, []byte("{\n \"choices\": [{\"message\": {\"content\": \"a\\n<b>\"}}]}"))
	if strings.Count(string(line), "\n") != 1 {
		t.Errorf("%q is not one line", line)
	}
	if a := decodeAnswer("k", line); a.Content != "a\n<b>" || a.Status != StatusOK {
		t.Errorf("%+v", a)
	}

}
