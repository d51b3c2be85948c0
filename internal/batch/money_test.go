package batch

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"clusterflow/internal/price"
)

// priced is the world's evaluator at one dollar per prompt token and ten per
// completion token, with questions that may be answered in 10 tokens.
func (w *world) priced(name string, limits ...Limit) Evaluator {
	e := w.evaluator()
	e.Name, e.MaxCompletionTokens = name, 10
	e.Account = Account{
		Study: "study", Limits: limits,
		Cost: func(prompt, completion int64) float64 { return float64(prompt) + 10*float64(completion) },
	}
	return e
}

// mostOf is what a request can come to.
func mostOf(t *testing.T, e Evaluator, r Request) float64 {
	t.Helper()
	n, err := price.Prompt(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return e.Account.Cost(int64(n), int64(e.MaxCompletionTokens))
}

func TestBillCountsWhatTheServerCounted(t *testing.T) {
	w := newWorld(t, nil)
	d, e := w.desk(), w.priced("judge")
	reqs := ask(e, "good", 3)
	reqs = append(reqs, ask(e, "bad", 1)...)
	want := 0.0
	for _, r := range reqs {
		want += mostOf(t, e, r)
	}
	if _, err := d.Advance(t.Context(), e, reqs); err != nil {
		t.Fatal(err)
	}
	bills, err := d.Bills(t.Context(), "study")
	if err != nil || len(bills) != 1 {
		t.Fatalf("%v, %v", bills, err)
	}
	if b := bills[0]; b.Requests != 4 || b.Answered != 0 || b.SpentUSD != 0 || b.FlightUSD != want {
		t.Errorf("while it is out the bill is %+v; want %g in flight", b, want)
	}
	w.finish(d, e, reqs)
	var used Usage
	err = d.Answers(t.Context(), e, keysOf(reqs), func(_ int, a Answer) error {
		used.Prompt += a.Usage.Prompt
		used.Completion += a.Usage.Completion
		return nil
	})
	if err != nil || used.Completion == 0 {
		t.Fatalf("%+v, %v", used, err)
	}
	bills, err = d.Bills(t.Context(), "study")
	if err != nil {
		t.Fatal(err)
	}
	b := bills[0]
	if b.Answered != 3 || b.Used != used || b.FlightUSD != 0 || b.SpentUSD != e.Account.Cost(int64(used.Prompt), int64(used.Completion)) || b.MostUSD != want {
		t.Errorf("afterwards the bill is %+v; the answers used %+v", b, used)
	}
	if other, err := d.Bills(t.Context(), "other"); err != nil || len(other) != 0 {
		t.Errorf("another study is billed %v, %v", other, err)
	}
}

func TestNothingIsSentBeyondALimit(t *testing.T) {
	for _, tc := range []struct {
		name  string
		limit func(usd float64) []Limit
	}{
		{"of the study", func(usd float64) []Limit { return []Limit{{Name: "budget_usd", USD: usd}} }},
		{"of the evaluator", func(usd float64) []Limit {
			return []Limit{{Name: "other", USD: math.Inf(1)}, {Name: "max_cost_usd", USD: usd, Evaluator: "judge"}}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			d := w.desk()
			e := w.priced("judge")
			reqs := ask(e, "good", 20)
			one := mostOf(t, e, reqs[0])
			const fit = 5.5 // requests at their dearest
			e.Account.Limits = tc.limit(fit * one)
			p, err := d.Advance(t.Context(), e, reqs)
			if err != nil || p.InBatch != 5 || p.Unsent != 15 || len(p.Notes) == 0 {
				t.Fatalf("%+v, %v", p, err)
			}
			// Answers are cheaper than they could be, so more go out, and always
			// less than the limit in all.
			p, err = w.drive(t.Context(), d, e, reqs)
			var budget *BudgetError
			if !errors.As(err, &budget) {
				t.Fatalf("ended with %+v, %v", p, err)
			}
			bills, err := d.Bills(t.Context(), "study")
			if err != nil {
				t.Fatal(err)
			}
			b := bills[0]
			if b.FlightUSD != 0 || b.SpentUSD > fit*one || b.SpentUSD+one <= fit*one {
				t.Errorf("%g of %g is spent, a request is at most %g", b.SpentUSD, fit*one, one)
			}
			if p.Answered != b.Answered || p.Answered <= 5 || p.Answered == 20 || budget.Requests != p.Unsent {
				t.Errorf("%d answered, billed %d, %d said to be unsent of %d", p.Answered, b.Answered, budget.Requests, p.Unsent)
			}
			if !strings.Contains(budget.Error(), budget.Limit.Name+": $") {
				t.Errorf("%v", budget)
			}
			// With more money the rest goes out, and nothing twice.
			e.Account.Limits = tc.limit(100 * one)
			w.finish(d, e, reqs)
			for key, n := range w.sent() {
				if n != 1 {
					t.Errorf("request %.8s was sent %d times", key, n)
				}
			}
		})
	}
}

// TestEvaluatorsShareABudget lets two evaluators on two servers spend at the
// same time.
func TestEvaluatorsShareABudget(t *testing.T) {
	a, b := newWorld(t, nil), newWorld(t, nil)
	b.kv, b.files = a.kv, a.files
	d := a.desk()
	one := mostOf(t, a.priced("a"), ask(a.priced("a"), "good", 1)[0])
	limit := Limit{Name: "budget_usd", USD: 10 * one}
	var wg sync.WaitGroup
	for i, w := range []*world{a, b} {
		e := w.priced(fmt.Sprint("judge ", i), limit)
		e.Limits.Lines = 1
		reqs := ask(e, "good", 9)
		wg.Go(func() {
			if _, err := d.Advance(t.Context(), e, reqs); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	bills, err := d.Bills(t.Context(), "study")
	if err != nil || len(bills) != 2 {
		t.Fatalf("%v, %v", bills, err)
	}
	if sum := bills[0].FlightUSD + bills[1].FlightUSD; sum > limit.USD || bills[0].Requests+bills[1].Requests != 10 {
		t.Errorf("%d and %d requests are out for at most %g of %g", bills[0].Requests, bills[1].Requests, sum, limit.USD)
	}
}

// A limit of this run holds though the clock is set back while it goes on.
func TestALimitHoldsWhenTheClockIsSetBack(t *testing.T) {
	w := newWorld(t, nil)
	d, e := w.desk(), w.priced("judge")
	reqs := ask(e, "good", 5)
	most := 0.0
	for _, r := range reqs {
		most = max(most, mostOf(t, e, r))
	}
	e.Account.Limits = []Limit{{Name: "--max-cost 2.5", USD: 2.5 * most, Since: w.now().Add(time.Hour)}}
	p, err := d.Advance(t.Context(), e, reqs)
	if err != nil && !errors.As(err, new(*BudgetError)) {
		t.Fatal(err)
	}
	if p.InBatch > 2 {
		t.Errorf("%d requests are in batches, and the limit is good for 2", p.InBatch)
	}
	bills, err := d.Bills(t.Context(), "study")
	if err != nil || len(bills) != 1 || bills[0].FlightUSD > 2.5*most || bills[0].Requests != 2 {
		t.Errorf("%+v, %v", bills, err)
	}
}

// An answer that the server counts and does not deliver was paid for.
func TestBillCountsWhatWasNotDelivered(t *testing.T) {
	w := newWorld(t, nil)
	e, o := w.priced("judge"), w.options()
	o.HTTPClient = &http.Client{Transport: transport(func(req *http.Request) (*http.Response, error) {
		if is(req, "GET /files/*/content") {
			return rewrite(req, func(s string) string { return s[:len(s)-20] })
		}
		return pass(req)
	})}
	d := NewDesk(w.kv, w.files, o)
	reqs := ask(e, "good", 3)
	w.finish(d, e, reqs)
	bills, err := d.Bills(t.Context(), "study")
	if err != nil || len(bills) != 1 {
		t.Fatalf("%v, %v", bills, err)
	}
	b, most := bills[0], 0.0
	for _, r := range reqs {
		most += mostOf(t, e, r)
	}
	want := e.Account.Cost(int64(b.Used.Prompt), int64(b.Used.Completion)) + most/3
	if b.Answered != 2 || math.Abs(b.SpentUSD-want) > 1e-12 {
		t.Errorf("%+v, want %g spent", b, want)
	}
}

func TestGivingABatchUpCountsItAsSpent(t *testing.T) {
	w := newWorld(t, nil)
	d, e := w.desk(), w.priced("judge")
	reqs := ask(e, "good", 2)
	p, err := d.Advance(t.Context(), e, reqs)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := d.Bills(t.Context(), "study")
	if err := d.Resend(t.Context(), p.Batches[0].Intent); err != nil {
		t.Fatal(err)
	}
	after, err := d.Bills(t.Context(), "study")
	if err != nil || after[0].FlightUSD != 0 || after[0].SpentUSD != before[0].FlightUSD {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
}

func TestEnqueuedTokensAreKeptBelowASetCap(t *testing.T) {
	w := newWorld(t, nil)
	d, e := w.desk(), w.evaluator()
	reqs := ask(e, "good", 20)
	one, err := price.Prompt(reqs[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	e.Limits.Enqueued = int64(6*one + one/2)
	p, err := d.Advance(t.Context(), e, reqs)
	if err != nil || p.InBatch < 5 || p.InBatch > 6 || len(p.Batches) != 1 || !strings.Contains(strings.Join(p.Notes, " "), "max_enqueued_tokens") {
		t.Fatalf("%+v, %v", p, err)
	}
	w.finish(d, e, reqs)
	if n := len(w.batches()); n < 4 {
		t.Errorf("%d batches of 20 requests, at most 6 at a time", n)
	}
	for key, n := range w.sent() {
		if n != 1 {
			t.Errorf("request %.8s was sent %d times", key, n)
		}
	}
	e.Limits.Enqueued = 1 // less than any request: the server has to say
	w.finish(d, e, ask(e, "other", 2))
}

func TestBatchesInAnHour(t *testing.T) {
	w := newWorld(t, nil)
	d, e := w.desk(), w.evaluator()
	e.Limits.Lines, e.Limits.Hourly = 1, 3
	reqs := ask(e, "good", 5)
	began := w.now()
	p, err := d.Advance(t.Context(), e, reqs)
	if err != nil || len(p.Batches) != 3 || p.Unsent != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	w.finish(d, e, reqs)
	if waited := w.now().Sub(began); waited < time.Hour || waited > 3*time.Hour {
		t.Errorf("the fourth batch went out after %s", waited)
	}
}
