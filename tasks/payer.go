package tasks

import (
	"context"
	"fmt"
	"time"

	"clusterflow/cache"
	"clusterflow/internal/batch"
	"clusterflow/studies"
)

// Payer says whose money an office spends, and how much of it.
type Payer struct {
	StudyID string
	Study   *studies.Study
	// MaxCost is the most that may be spent from Since on, in US dollars; nil
	// for no limit.
	MaxCost *float64
	Since   time.Time
}

// SetPayer makes somebody pay; before, nothing is limited.
func (o *Office) SetPayer(p Payer) { o.payer = p }

// account is what an evaluator's requests cost and may cost.
func (o *Office) account(e *studies.Evaluator) batch.Account {
	a := batch.Account{Study: o.payer.StudyID}
	p, ok := PriceOf(e)
	if !ok || p.Input == 0 && p.Output == 0 {
		return a
	}
	a.Cost = func(prompt, completion int64) float64 { return p.Of(prompt, completion, InBatches(e)) }
	a.Limits = o.payer.limits(e)
	return a
}

// limits are those that hold for an evaluator.
func (p Payer) limits(e *studies.Evaluator) []batch.Limit {
	var out []batch.Limit
	if p.Study != nil && p.Study.BudgetUSD.Set {
		out = append(out, batch.Limit{Name: named("budget_usd", p.Study.BudgetUSD), USD: p.Study.BudgetUSD.V})
	}
	if e.MaxCostUSD.Set {
		out = append(out, batch.Limit{Name: named("max_cost_usd", e.MaxCostUSD), USD: e.MaxCostUSD.V, Evaluator: e.Name})
	}
	if p.MaxCost != nil {
		out = append(out, batch.Limit{Name: fmt.Sprintf("--max-cost %g", *p.MaxCost), USD: *p.MaxCost, Since: p.Since})
	}
	return out
}

func named(name string, v studies.Value[float64]) string {
	return fmt.Sprintf("%s = %g (%s)", name, v.V, v.Origin())
}

// Room is what a limit leaves for more requests.
type Room struct {
	batch.Limit
	SpentUSD, FlightUSD float64 // of it: for good, and at most
}

// LeftUSD is what may still be spent, if what is out comes to all it can.
func (r Room) LeftUSD() float64 { return r.USD - r.SpentUSD - r.FlightUSD }

// Rooms are the limits that hold for some asks, with what bills have taken of
// them: the study's, those of the evaluators, and --max-cost.
func (p Payer) Rooms(asks []Ask, bills []cache.Bill) []Room {
	var out []Room
	seen := map[batch.Limit]bool{}
	for _, a := range asks {
		for _, l := range p.limits(a.Evaluator) {
			if seen[l] {
				continue
			}
			seen[l] = true
			r := Room{Limit: l}
			for _, b := range bills {
				if l.Since.IsZero() && (l.Evaluator == "" || l.Evaluator == b.Evaluator) {
					r.SpentUSD += b.SpentUSD
					r.FlightUSD += b.FlightUSD
				}
			}
			out = append(out, r)
		}
	}
	return out
}

// For are those of some asks that a limit counts.
func (r Room) For(asks []Ask) []Ask {
	var out []Ask
	for _, a := range asks {
		if r.Evaluator == "" || r.Evaluator == a.Evaluator.Name {
			out = append(out, a)
		}
	}
	return out
}

// Bills is what the study's requests have come to, as last seen; nil while
// nobody has looked.
func (o *Office) Bills() []cache.Bill {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bills
}

// ReadBills reads them from the ledger.
func (o *Office) ReadBills(ctx context.Context) ([]cache.Bill, error) {
	all, err := o.desk.Bills(ctx, o.payer.StudyID)
	out := make([]cache.Bill, len(all))
	for i, b := range all {
		out[i] = cache.Bill{
			Evaluator: b.Evaluator, Model: b.Model, Requests: b.Requests, Answered: b.Answered, Counted: b.Counted,
			Prompt: int64(b.Used.Prompt), Completion: int64(b.Used.Completion), SpentUSD: b.SpentUSD, FlightUSD: b.FlightUSD,
		}
	}
	return out, err
}

// readBills is ReadBills for the run file, which can do without.
func (o *Office) readBills(ctx context.Context) []cache.Bill {
	bills, err := o.ReadBills(ctx)
	if err != nil {
		return nil
	}
	return bills
}
