package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/judge"
	"clusterflow/internal/price"
	"clusterflow/tasks"
)

// money is what a plan asks of evaluators outside, with what it costs.
type money struct {
	asks           []tasks.Ask
	expected, most float64
	unpriced       []string // evaluators whose price nobody knows
	waiting        int      // nodes whose requests are in batches, and not counted
	bills          []cache.Bill
	rooms          []tasks.Room
}

func newMoney(asks []tasks.Ask, bills []cache.Bill, payer tasks.Payer) *money {
	m := &money{asks: asks, bills: bills, rooms: payer.Rooms(asks, bills)}
	m.expected, m.most, m.unpriced = tasks.Total(asks)
	slices.SortStableFunc(m.asks, func(a, b tasks.Ask) int {
		return slices.Index(judge.Tasks, a.Task) - slices.Index(judge.Tasks, b.Task)
	})
	return m
}

// free reports whether nothing that is asked costs anything.
func (m *money) free() bool { return m.most == 0 && len(m.unpriced) == 0 }

// lines say what each evaluator is asked of each kind, and what all of it costs.
func (m *money) lines() []string {
	var out []string
	for _, a := range m.asks {
		most := " at most"
		if a.Exact {
			most = ""
		}
		line := fmt.Sprintf("%-13s %-28s %9s requests%-8s", a.Task, a.Evaluator.BaseURL.V, thousands(a.Requests), most)
		if !m.free() {
			line += fmt.Sprintf(" %6s + %-6s tokens  %s", tokens(a.Prompt), tokens(a.Expected), costOf(a))
		}
		out = append(out, strings.TrimRight(line, " "))
	}
	if m.waiting > 0 {
		out = append(out, count(m.waiting, "node waits", "nodes wait")+" for batches that are out, not counted here (clusterflow batches list)")
	}
	if m.free() {
		return out
	}
	line := fmt.Sprintf("expected cost %s, at most %s", price.Dollars(m.expected), price.Dollars(m.most))
	switch {
	case m.most == 0:
		return out // the warning about prices says it all
	case len(m.unpriced) > 0:
		line += ", without " + strings.Join(m.unpriced, ", ")
	}
	if m.listed() {
		line += fmt.Sprintf(" (list prices of %s)", price.Listed)
	}
	return append(out, line)
}

// byDestination says how much goes where, and what it costs.
func (m *money) byDestination() []string {
	var out []string
	for to, asks := range tasks.ByDestination(m.asks) {
		n, upTo := 0, ""
		for _, a := range asks {
			if n += a.Requests; !a.Exact {
				upTo = "up to "
			}
		}
		line := fmt.Sprintf("  %s%s requests to %s, paid with the key in $%s", upTo, thousands(n), to.URL, cmp.Or(to.KeyEnv, "?"))
		if expected, most, unpriced := tasks.Total(asks); len(unpriced) == 0 && most > 0 {
			line += fmt.Sprintf(": about %s, at most %s", price.Dollars(expected), price.Dollars(most))
		}
		out = append(out, line)
	}
	return out
}

// writeBills says what a study's requests have come to, against what was counted
// before they were sent.
func writeBills(w io.Writer, bills []cache.Bill) {
	for _, b := range bills {
		if b.SpentUSD == 0 && b.FlightUSD == 0 {
			continue
		}
		line := fmt.Sprintf("%s (%s): %s of %s requests answered · %s + %s tokens, prompts counted as %s · %s",
			b.Evaluator, b.Model, thousands(b.Answered), thousands(b.Requests), tokens(b.Prompt), tokens(b.Completion), tokens(b.Counted), price.Dollars(b.SpentUSD))
		if b.FlightUSD > 0 {
			line += fmt.Sprintf(", at most %s more in batches", price.Dollars(b.FlightUSD))
		}
		fmt.Fprintln(w, line)
	}
	if text := spentText(bills); text != "" {
		fmt.Fprintf(w, "Money: %s\n", text)
	}
}

// listed reports whether list prices were used.
func (m *money) listed() bool {
	return slices.ContainsFunc(m.asks, func(a tasks.Ask) bool {
		_, ok := tasks.PriceOf(a.Evaluator)
		_, most, _ := a.USD()
		return ok && !a.Evaluator.Price.Given() && most > 0
	})
}

func costOf(a tasks.Ask) string {
	expected, _, ok := a.USD()
	if !ok {
		return "price unknown"
	}
	return price.Dollars(expected)
}

// spent says what has been spent so far, "" for nothing.
func spentText(bills []cache.Bill) string {
	spent, flight := 0.0, 0.0
	for _, b := range bills {
		spent, flight = spent+b.SpentUSD, flight+b.FlightUSD
	}
	switch {
	case spent == 0 && flight == 0:
		return ""
	case flight == 0:
		return price.Dollars(spent) + " spent so far"
	}
	return fmt.Sprintf("%s spent so far, at most %s in batches", price.Dollars(spent), price.Dollars(flight))
}

// short are the limits that the expected cost would break.
func (m *money) short() []tasks.Room {
	var out []tasks.Room
	for _, r := range m.rooms {
		if expected, _, _ := tasks.Total(r.For(m.asks)); expected > r.LeftUSD() {
			out = append(out, r)
		}
	}
	return out
}

// refusal is why the asks may not be sent, nil if they may.
func (m *money) refusal() error {
	if len(m.unpriced) > 0 {
		return fmt.Errorf("nobody here knows the price of evaluator %s, so nothing is sent; give it one:\n  price {\n    input  = … # US dollars per million prompt tokens\n    output = … # US dollars per million completion tokens\n  }",
			strings.Join(m.unpriced, ", "))
	}
	for _, r := range m.short() {
		expected, _, _ := tasks.Total(r.For(m.asks))
		return fmt.Errorf("%s leaves %s, and this is expected to cost %s, so nothing is sent: raise it, or ask for less; plan names what would save most",
			r.Name, price.Dollars(max(0, r.LeftUSD())), price.Dollars(expected))
	}
	return nil
}

// warnings are what a plan says about limits.
func (m *money) warnings(p *planned) []string {
	var out []string
	if len(m.unpriced) > 0 {
		out = append(out, fmt.Sprintf("✗ nobody here knows the price of evaluator %s: give it a price block; apply will send nothing", strings.Join(m.unpriced, ", ")))
	}
	short := m.short()
	for _, r := range short {
		out = append(out, fmt.Sprintf("✗ %s leaves %s, less than the expected cost: apply will send nothing", r.Name, price.Dollars(max(0, r.LeftUSD()))))
	}
	for _, r := range m.rooms {
		if _, most, _ := tasks.Total(r.For(m.asks)); most > r.LeftUSD() && !slices.Contains(short, r) {
			out = append(out, fmt.Sprintf("%s leaves %s: enough for the expected cost, not for the most; apply stops before it is exceeded", r.Name, price.Dollars(r.LeftUSD())))
		}
	}
	if len(short) > 0 {
		for i, s := range p.compiled.Savings(p.Plan, m.asks, p.known.Record, p.pastAnswers()) {
			if i == 3 {
				break
			}
			out = append(out, fmt.Sprintf("    %-52s saves about %s", s.Change, price.Dollars(s.USD)))
		}
	}
	for _, ev := range p.compiled.Study.Evaluations {
		if ev.Completeness.Examples.V >= 0 {
			continue
		}
		for _, a := range m.asks {
			if (a.Task == judge.TaskCompleteness || a.Task == judge.TaskFit) && slices.Contains(ev.Judges, a.Evaluator) {
				expected, _, _ := a.USD()
				out = append(out, fmt.Sprintf("completeness asks about every sentence (%s): %s requests, %s", cmp.Or(ev.Completeness.Examples.Origin(), ev.Name), thousands(a.Requests), price.Dollars(expected)))
			}
		}
	}
	return out
}

// costJSON is the money of plan --json.
type costJSON struct {
	ExpectedUSD float64      `json:"expected_usd"`
	MostUSD     float64      `json:"most_usd"`
	Asks        []askJSON    `json:"asks"`
	Bills       []cache.Bill `json:"bills,omitempty"`
	Warnings    []string     `json:"warnings,omitempty"`
}

type askJSON struct {
	Evaluator      string   `json:"evaluator"`
	Model          string   `json:"model"`
	URL            string   `json:"url"`
	Task           string   `json:"task"`
	Requests       int      `json:"requests"`
	PromptTokens   int64    `json:"prompt_tokens"`
	ExpectedTokens int64    `json:"expected_completion_tokens"`
	MostTokens     int64    `json:"most_completion_tokens"`
	Exact          bool     `json:"exact"`
	ExpectedUSD    *float64 `json:"expected_usd"` // null where nobody knows the price
}

func (m *money) json(p *planned) *costJSON {
	out := &costJSON{ExpectedUSD: m.expected, MostUSD: m.most, Asks: make([]askJSON, len(m.asks)), Bills: m.bills, Warnings: m.warnings(p)}
	for i, a := range m.asks {
		out.Asks[i] = askJSON{
			a.Evaluator.Name, a.Evaluator.Model.V, a.Evaluator.BaseURL.V, a.Task, a.Requests, a.Prompt, a.Expected, a.Most, a.Exact, nil,
		}
		if usd, _, ok := a.USD(); ok {
			out.Asks[i].ExpectedUSD = &usd
		}
	}
	return out
}

// tokens writes a number of tokens briefly: 950, 12k, 450M.
func tokens(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprint(n)
	case n < 10_000:
		return fmt.Sprintf("%.1fk", float64(n)/1e3)
	case n < 1_000_000:
		return fmt.Sprintf("%.0fk", float64(n)/1e3)
	case n < 10_000_000:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	}
	return fmt.Sprintf("%.0fM", float64(n)/1e6)
}

// asksOutside reports whether a node that will run asks somebody outside of this
// process. Where none does, no money is counted: that reads all records.
func (p *planned) asksOutside() bool {
	return slices.ContainsFunc(p.Steps, func(s *graph.Step) bool {
		return s.State != graph.Cached && s.Node.Dest != (graph.Destination{})
	})
}

// money is what the plan's nodes will ask, by what a reader can know.
func (p *planned) money() *money {
	if p.cost == nil && !p.asksOutside() {
		p.cost = newMoney(nil, p.bills(), p.payer())
	}
	if p.cost == nil {
		asks, waiting := p.compiled.Asks(p.Plan, p.known.Record, p.pastAnswers())
		if p.pilot > 0 {
			asks = tasks.Limited(asks, p.pilot)
		}
		p.cost = newMoney(asks, p.bills(), p.payer())
		p.cost.waiting = waiting
	}
	return p.cost
}

// bills are what the study has come to, as its last run saw it.
func (p *planned) bills() []cache.Bill {
	if p.Last == nil {
		return nil
	}
	return p.Last.Bills
}

func (p *planned) payer() tasks.Payer {
	return tasks.Payer{StudyID: p.id, Study: p.compiled.Study, MaxCost: p.maxCost}
}

// pastAnswers are the lengths of earlier answers, read when first asked for.
func (p *planned) pastAnswers() tasks.Answered {
	if p.answers == nil {
		p.answers = tasks.PastAnswers(p.known.Records())
	}
	return p.answers
}
