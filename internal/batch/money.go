package batch

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"clusterflow/internal/price"
)

// Account says whose money an evaluator's requests cost, how much each costs,
// and how much may be spent. The zero Account pays nothing and limits nothing.
type Account struct {
	Study string // whose batches count against the limits
	// Cost is what so many tokens cost in US dollars; nil is nothing.
	Cost   func(prompt, completion int64) float64
	Limits []Limit
}

// Limit is a sum that is not to be exceeded: before a file is sent, what was
// spent, what the files that are out can come to and what this one can come to
// are together at most USD.
type Limit struct {
	Name      string // for people: budget_usd = 400 (r1.hcl:5)
	USD       float64
	Evaluator string    // only what this one was asked; "" for all of the study
	Since     time.Time // only files made since then; zero for all
}

// Bill is what a study's requests to one evaluator have come to.
type Bill struct {
	Evaluator string  `json:"evaluator"`
	Model     string  `json:"model"`
	Requests  int     `json:"requests"`  // sent
	Answered  int     `json:"answered"`  // with a usable result
	Counted   int64   `json:"counted"`   // prompt tokens of the answered files, before they were sent
	Used      Usage   `json:"used"`      // as the server counted them
	SpentUSD  float64 `json:"spent_usd"` // by Used
	FlightUSD float64 `json:"in_flight_usd"`
	MostUSD   float64 `json:"most_usd"` // what the answered files could have come to
}

// BudgetError says that a limit lets no further request through.
type BudgetError struct {
	Limit     Limit
	SpentUSD  float64
	NextUSD   float64 // what the next request can come to
	Requests  int     // unsent
	Evaluator string
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf("%s: %s is spent, and the next request to evaluator %q can cost %s: %d requests are not sent; what is answered is kept; raise the limit to go on",
		e.Limit.Name, price.Dollars(e.SpentUSD), e.Evaluator, price.Dollars(e.NextUSD), e.Requests)
}

// money is what an intent has cost so far, and what it can still come to.
func (in *intent) money() (spent, flight float64) {
	switch {
	case in.Settled:
		return in.UsedUSD, 0
	case in.open() && in.State != packing:
		return 0, in.MostUSD
	}
	return 0, 0
}

// covers reports whether a limit counts what an intent costs: also that of an
// earlier run whose batch was asked for since.
func (l Limit) covers(study string, in *intent) bool {
	return in.Study == study && (l.Evaluator == "" || l.Evaluator == in.Evaluator) && !(in.Created.Before(l.Since) && in.Asked.Before(l.Since))
}

// made is the time of a new intent: now, but not before the run whose limits are to
// count it, should the clock have been set back since.
func (s *session) made() time.Time {
	t := s.now()
	for _, l := range s.e.Account.Limits {
		if t.Before(l.Since) {
			t = l.Since
		}
	}
	return t
}

// Bills says what the requests of a study have come to, by evaluator.
func (d *Desk) Bills(ctx context.Context, study string) ([]Bill, error) {
	by := map[[2]string]*Bill{}
	err := d.eachIntent(ctx, func(in *intent) {
		if in.Study != study || in.State == packing || in.State == dropped && !in.Settled {
			return
		}
		b := by[[2]string{in.Evaluator, in.Model}]
		if b == nil {
			b = &Bill{Evaluator: in.Evaluator, Model: in.Model}
			by[[2]string{in.Evaluator, in.Model}] = b
		}
		spent, flight := in.money()
		b.Requests += in.Requests
		b.SpentUSD += spent
		b.FlightUSD += flight
		if in.Settled {
			b.Answered += in.Answered
			b.Counted += in.Prompt
			b.MostUSD += in.MostUSD
			b.Used.Prompt += in.Used.Prompt
			b.Used.Completion += in.Used.Completion
		}
	})
	out := make([]Bill, 0, len(by))
	for _, b := range by {
		out = append(out, *b)
	}
	slices.SortFunc(out, func(a, b Bill) int {
		return strings.Compare(a.Evaluator+"\x00"+a.Model, b.Evaluator+"\x00"+b.Model)
	})
	return out, err
}

func (d *Desk) eachIntent(ctx context.Context, fn func(*intent)) error {
	err := d.kv.Scan(intentPrefix, func(key string, value []byte) error {
		in := new(intent)
		if err := json.Unmarshal(value, in); err != nil {
			return fmt.Errorf("%s is damaged: %w", key, err)
		}
		fn(in)
		return ctx.Err()
	})
	if err != nil {
		return &ledgerError{fmt.Errorf("reading the batch ledger: %w", err)}
	}
	return nil
}

// purse is what the next file may cost and hold.
type purse struct {
	cost  func(prompt, completion int64) float64
	left  float64 // US dollars, the least that a limit leaves; may be infinite
	tight Limit   // that one
	spent float64 // of it, for good

	capped   bool      // prompt tokens in batches are limited, to …
	tokens   int64     // … so many more
	enqueued bool      // some are in batches now
	until    time.Time // too many batches were created: no other before
}

// purse reads how much the limits leave.
func (s *session) purse(ctx context.Context) (*purse, error) {
	a, l := s.e.Account, s.e.Limits
	p := &purse{cost: a.Cost, left: math.Inf(1), capped: l.Enqueued > 0 && !s.e.Direct, tokens: l.Enqueued}
	if s.e.Direct && (a.Cost == nil || len(a.Limits) == 0) {
		return p, nil // nothing of the ledger bears on it
	}
	spent, flight := make([]float64, len(a.Limits)), make([]float64, len(a.Limits))
	hour := s.now().Add(-time.Hour)
	var created []time.Time // batches within the last hour
	err := s.eachIntent(ctx, func(in *intent) {
		paid, may := in.money()
		for i, limit := range a.Limits {
			if limit.covers(a.Study, in) {
				spent[i] += paid
				flight[i] += may
			}
		}
		if in.Direct || in.Place != s.e.place() {
			return
		}
		if in.open() && in.State != packing && in.Model == s.e.Model && in.Prompt > 0 {
			p.tokens -= in.Prompt
			p.enqueued = true
		}
		if in.Asked.After(hour) {
			created = append(created, in.Asked)
		}
	})
	if a.Cost != nil {
		for i, limit := range a.Limits {
			if left := limit.USD - spent[i] - flight[i]; left < p.left {
				p.left, p.tight, p.spent = left, limit, spent[i]
			}
		}
	}
	if n := l.hourly(); len(created) >= n && !s.e.Direct {
		slices.SortFunc(created, time.Time.Compare)
		p.until = created[len(created)-n].Add(time.Hour)
	}
	return p, err
}

// load is the tokens of some requests: of their prompts, and those that their
// answers may have at most.
type load struct{ prompt, most int64 }

// noLimit stands for the completion limit of a request that sets none.
const noLimit = 16_384

// weigh counts the tokens of a request that is about to be sent.
func (p *purse) weigh(r Request) (load, error) {
	if p.cost == nil && !p.capped {
		return load{}, nil
	}
	n := r.Tokens
	var err error
	if n == 0 {
		if n, err = price.Prompt(r.Body); err != nil {
			return load{}, err
		}
	}
	most, err := price.Limit(r.Body)
	if most == 0 {
		most = noLimit
	}
	return load{int64(n), int64(most)}, err
}

func (p *purse) usd(l load) float64 {
	if p.cost == nil {
		return 0
	}
	return p.cost(l.prompt, l.most)
}

// tooDear says what to do when the next request costs more than the limits leave:
// wait, where batches that are out will probably come to less than they could,
// or give up.
func (s *session) tooDear(p *purse, next load, unsent int) error {
	usd := p.usd(next)
	if p.spent+usd > p.tight.USD {
		return &BudgetError{Limit: p.tight, SpentUSD: p.spent, NextUSD: usd, Requests: unsent, Evaluator: s.e.Name}
	}
	s.hold = s.now().Add(s.e.pace().most)
	s.note("%s: what is in batches could come to all that is left of it; more is sent when they are done", p.tight.Name)
	return nil
}

// settleMoney notes what a batch has cost, from its results.
func (s *session) settleMoney(in *intent, results map[string]result) {
	in.Settled, in.Answered, in.Used, in.UsedUSD = true, 0, Usage{}, 0
	uncounted, lost := 0, 0
	for _, r := range results {
		if r.lost {
			lost++
		}
		if !r.good {
			continue
		}
		in.Answered++
		in.Used.Prompt += r.usage.Prompt
		in.Used.Completion += r.usage.Completion
		if r.usage == (Usage{}) {
			uncounted++
		}
	}
	if in.MostUSD == 0 {
		return // it costs nothing
	}
	if !in.Direct { // what the server counts and has not delivered
		lost = max(lost, in.Completed-in.Answered)
	}
	uncounted += min(lost, max(in.Requests-in.Answered, 0))
	if cost := s.e.Account.Cost; cost != nil {
		in.UsedUSD = cost(int64(in.Used.Prompt), int64(in.Used.Completion))
	}
	// What the server did not count or deliver is taken at its dearest.
	in.UsedUSD += in.MostUSD * float64(uncounted) / float64(in.Requests)
}
