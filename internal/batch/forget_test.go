package batch

import (
	"context"
	"strings"
	"testing"
	"time"
)

func (w *world) forget(d *Desk, e Evaluator, reqs []Request) Forgotten {
	w.t.Helper()
	f, err := d.Forget(w.t.Context(), e, keysOf(reqs))
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

func (w *world) row(key string) (r row) {
	w.t.Helper()
	if _, err := w.desk().get(rowPrefix+key, &r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// bare are the requests without their bodies: they are looked after, not sent.
func bare(reqs []Request) []Request {
	out := make([]Request, len(reqs))
	for i, r := range reqs {
		out[i].Key = r.Key
	}
	return out
}

// refetch loses the result file of a request and has its batch collected again.
func (w *world) refetch(d *Desk, e Evaluator, lost Request, all []Request) {
	w.t.Helper()
	w.files.mu.Lock()
	delete(w.files.m, w.row(lost.Key).Blob)
	w.files.mu.Unlock()
	if n, err := d.Reopen(w.t.Context(), e, []string{lost.Key}); n != 1 || err != nil {
		w.t.Fatalf("reopened %d, %v", n, err)
	}
	for range 500 {
		p, err := d.Advance(w.t.Context(), e, bare(all))
		if err != nil {
			w.t.Fatal(err)
		}
		if w.row(lost.Key).State == answered {
			return
		}
		w.sleepUntil(p.Next)
		time.Sleep(300 * time.Microsecond)
	}
	w.t.Fatal("the lost file is not back")
}

func TestForgetBuysAgainWhatWasDropped(t *testing.T) {
	w := newWorld(t, nil)
	e, d := w.evaluator(), w.desk()
	d.chunk = 2
	reqs := append(ask(e, "good", 5), ask(e, "bad", 2)...)
	if p := w.finish(d, e, reqs); p.Answered != 5 || p.Failed != 2 {
		t.Fatalf("progress %+v", p)
	}
	first := w.row(reqs[0].Key).Intent
	unknown := ask(e, "never", 1)
	drop := append(append([]Request{reqs[0], reqs[0], reqs[3], reqs[5]}, unknown...), reqs[0])
	if f := w.forget(d, e, drop); f != (Forgotten{Answers: 2, Failed: 1, Unsent: 1}) {
		t.Errorf("forgot %+v", f)
	}
	if p, err := d.Status(t.Context(), keysOf(reqs)); err != nil || p.Unsent != 3 || p.Answered != 3 || p.Failed != 1 {
		t.Errorf("status %+v, %v", p, err)
	}
	if p := w.finish(d, e, reqs); p.Answered != 5 || p.Failed != 2 {
		t.Errorf("progress %+v", p)
	}
	for i, r := range reqs {
		want := 1
		if i == 0 || i == 3 || i == 5 {
			want = 2
		}
		if got := w.sent()[r.Key]; got != want {
			t.Errorf("request %d is in %d batches, want %d", i, got, want)
		}
	}
	if r := w.row(reqs[0].Key); r.Intent == first || r.Tries != 0 {
		t.Errorf("the answer is of the first batch: %+v", r)
	}
	w.contents(d, e, reqs)
}

// What was dropped stays dropped, however often the batch that it came from is
// fetched again, before and after it was sent anew.
func TestForgottenAnswerDoesNotComeBack(t *testing.T) {
	w := newWorld(t, nil)
	e, d := w.evaluator(), w.desk()
	reqs := ask(e, "good", 3)
	w.finish(d, e, reqs)
	first := w.row(reqs[0].Key).Intent
	w.forget(d, e, reqs[:1])

	w.refetch(d, e, reqs[1], reqs)
	if r := w.row(reqs[0].Key); r.State != unsent {
		t.Fatalf("unsent, it took the old answer: %+v", r)
	}

	w.sleepUntil(w.now().Add(time.Second))
	if p, err := d.Advance(t.Context(), e, reqs); err != nil || p.InBatch != 1 {
		t.Fatalf("progress %+v, %v", p, err)
	}
	second := w.row(reqs[0].Key).Intent
	// The new batch is not asked about while the old one is fetched again.
	d.peers.get(e.Identity()).poll(second).next = w.now().Add(1000 * time.Hour)
	w.refetch(d, e, reqs[1], reqs)
	if r := w.row(reqs[0].Key); r.State != inBatch || r.Intent != second {
		t.Fatalf("in a batch, it took the old answer: %+v", r)
	}

	d = w.desk() // with no memory of when to ask
	w.finish(d, e, reqs)
	if r := w.row(reqs[0].Key); r.State != answered || r.Intent != second {
		t.Errorf("it has another answer than that of the second batch: %+v", r)
	}
	// Lost and fetched again, it is the second batch's.
	w.refetch(d, e, reqs[0], reqs)
	w.refetch(d, e, reqs[1], reqs)
	if r := w.row(reqs[0].Key); r.State != answered || r.Intent != second || first == second {
		t.Errorf("after its own file was fetched again: %+v", r)
	}
	if n := len(w.batches()); n != 2 {
		t.Errorf("%d batches, want 2", n)
	}
}

// A clock that was set back does not lose what is bought after that.
func TestForgetWithTheClockSetBack(t *testing.T) {
	w := newWorld(t, nil)
	e, d := w.evaluator(), w.desk()
	reqs := ask(e, "good", 2)
	w.finish(d, e, reqs)
	w.forget(d, e, reqs)
	w.mu.Lock()
	w.clock = w.clock.Add(-48 * time.Hour)
	w.mu.Unlock()
	if p := w.finish(w.desk(), e, reqs); p.Answered != 2 || len(w.batches()) != 2 {
		t.Errorf("progress %+v, %d batches", p, len(w.batches()))
	}
}

func TestForgetLeavesOpenBatchesAlone(t *testing.T) {
	w := newWorld(t, nil)
	e, d := w.evaluator(), w.desk()
	reqs := ask(e, "good", 2)
	if _, err := d.Advance(t.Context(), e, reqs); err != nil {
		t.Fatal(err)
	}
	if f := w.forget(d, e, reqs); f != (Forgotten{Held: 2}) {
		t.Errorf("in a batch: %+v", f)
	}
	w.finish(d, e, reqs)

	// Half collected: one row is answered, and the batch still open.
	in := new(intent)
	if _, err := d.get(intentPrefix+w.row(reqs[0].Key).Intent, in); err != nil {
		t.Fatal(err)
	}
	in.State = fetched
	if err := d.put(map[string]any{intentPrefix + in.ID: in, openPrefix + in.ID: in.ID}); err != nil {
		t.Fatal(err)
	}
	if f := w.forget(d, e, reqs); f != (Forgotten{Held: 2}) {
		t.Errorf("half collected: %+v", f)
	}
	if p := w.finish(d, e, reqs); p.Answered != 2 || len(w.batches()) != 1 {
		t.Errorf("progress %+v, %d batches", p, len(w.batches()))
	}
	if st, err := d.Standings(t.Context(), keysOf(reqs)); err != nil || st[0].State != Answered || st[0].Open {
		t.Errorf("standings %+v, %v", st, err)
	}
}

// A cancelled batch gives back what it answered; only the rest is sent again,
// without counting as a try, and nothing is asked of anybody twice.
func TestCancel(t *testing.T) {
	w := newWorld(t, nil)
	w.asked.gate = make(chan struct{}, 3)
	for range cap(w.asked.gate) {
		w.asked.gate <- struct{}{}
	}
	e, d := w.evaluator(), w.desk()
	reqs := ask(e, "good", 40)
	p, err := d.Advance(t.Context(), e, reqs)
	if err != nil || p.InBatch != 40 {
		t.Fatalf("progress %+v, %v", p, err)
	}
	id := p.Batches[0].Intent
	if back, err := d.Returning(t.Context(), keysOf(reqs)); err != nil || len(back) != 0 {
		t.Errorf("before it is cancelled, %d are coming back, %v", len(back), err)
	}
	for w.get("/batches/" + p.Batches[0].ID)["request_counts"].(map[string]any)["completed"].(float64) < 3 {
		time.Sleep(time.Millisecond)
	}
	b, err := d.Cancel(t.Context(), e, id)
	if err != nil || b.Status != "cancelling" {
		t.Fatalf("%+v, %v", b, err)
	}
	if back, err := d.Returning(t.Context(), keysOf(reqs)); err != nil || len(back) != 40 {
		t.Errorf("%d are coming back, %v", len(back), err)
	}
	close(w.asked.gate)
	for range 5000 {
		if p, err = d.Advance(t.Context(), e, bare(reqs)); err != nil {
			t.Fatal(err)
		}
		if p.InBatch == 0 {
			break
		}
		w.sleepUntil(p.Next)
		time.Sleep(300 * time.Microsecond)
	}
	if p.Answered < 3 || p.Unsent == 0 || p.Answered+p.Unsent != 40 {
		t.Fatalf("after the cancelled batch: %+v", p)
	}
	early := p.Answered
	for _, r := range reqs {
		if r := w.row(r.Key); r.Tries != 0 {
			t.Fatalf("cancelling counts as a try: %+v", r)
		}
	}
	if p := w.finish(d, e, reqs); p.Answered != 40 {
		t.Errorf("progress %+v", p)
	}
	again := 0
	for _, r := range reqs {
		again += w.sent()[r.Key] - 1
	}
	if again != 40-early {
		t.Errorf("%d requests were sent again, want %d", again, 40-early)
	}
	for q, n := range w.asked.n {
		if n != 1 {
			t.Errorf("%q was asked %d times", q, n)
		}
	}

	_, err = d.Cancel(t.Context(), e, id)
	if err == nil || !strings.Contains(err.Error(), "nothing to cancel") {
		t.Errorf("cancelling it again: %v", err)
	}
	if _, err := d.Cancel(t.Context(), e, "none"); err == nil || !strings.Contains(err.Error(), "no batch file") {
		t.Errorf("cancelling what is not there: %v", err)
	}
}

// The batch ended before the cancel call arrived: nothing is lost.
func TestCancelTooLate(t *testing.T) {
	w := newWorld(t, nil)
	e, d := w.evaluator(), w.desk()
	reqs := ask(e, "good", 2)
	p, err := d.Advance(context.Background(), e, reqs)
	if err != nil {
		t.Fatal(err)
	}
	for w.get("/batches/" + p.Batches[0].ID)["status"] != "completed" {
		time.Sleep(time.Millisecond)
	}
	if _, err := d.Cancel(t.Context(), e, p.Batches[0].Intent); err == nil || !strings.Contains(err.Error(), "it has probably ended") {
		t.Errorf("error %v", err)
	}
	if p := w.finish(d, e, reqs); p.Answered != 2 || len(w.batches()) != 1 {
		t.Errorf("progress %+v", p)
	}
	elsewhere := e
	elsewhere.BaseURL = "http://127.0.0.1:1/v1"
	if _, err := d.Cancel(t.Context(), elsewhere, p.Batches[0].Intent); err == nil || !strings.Contains(err.Error(), "only there") {
		t.Errorf("at another place: %v", err)
	}
}
