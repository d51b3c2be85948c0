package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/price"
	"clusterflow/tasks"
)

// checkPilot refuses a --pilot that cannot be.
func (f *applyFlags) checkPilot() error {
	switch {
	case f.pilot < 0:
		return fmt.Errorf("--pilot %d: at least 1", f.pilot)
	case f.pilot > 0 && (len(f.targets)+len(f.only)+len(f.exclude)+len(f.force) > 0 || f.saved != nil):
		return errors.New("--pilot chooses the nodes itself: leave out --target, --only, --exclude, --force and a saved plan")
	case f.pilot > 0 && (f.detach || f.json):
		return errors.New("--pilot waits for its answers to show them: leave out --detach and --json")
	}
	return nil
}

// planPilot plans what a pilot of a plan needs; nil where nobody outside is to be
// asked.
func (a *app) planPilot(ctx context.Context, whole *planned, store *cache.Store, f *applyFlags) (*planned, error) {
	sel := f.selection
	if sel.targets = tasks.PilotTargets(whole.Plan); len(sel.targets) == 0 {
		fmt.Fprintln(a.out, "Nobody outside is left to be asked: there is nothing to try. apply runs the rest.")
		return nil, nil
	}
	p, err := a.planApply(ctx, whole.compiled, store, whole.id, whole.cacheDir, &sel)
	if err != nil {
		return nil, err
	}
	p.pilot = f.pilot
	return p, nil
}

// afterPilot shows the answers of a pilot, how many can be used, and what the
// rest of the study will cost if the others are like them.
func (a *app) afterPilot(ctx context.Context, p *planned, sum *graph.Summary, store *cache.Store, office *tasks.Office, f *applyFlags) error {
	writeSummary(a.out, sum, a.colors(a.out))
	if sum.Failed > 0 {
		return &exitError{code: exitFailed}
	}
	results, lengths, err := office.PilotResults(ctx)
	if err != nil {
		return fmt.Errorf("the pilot's answers: %w; apply --pilot again goes on from there", err)
	}
	fmt.Fprintf(a.out, "\nPilot of %s\n", strings.Join(pilotNames(results), ", "))
	for _, r := range results {
		writePilot(a.out, r)
	}
	whole := f.selection
	rest, err := a.planApply(ctx, p.compiled, store, p.id, p.cacheDir, &whole)
	if err != nil {
		return err
	}
	asks, err := office.Bill(ctx, rest.compiled, rest.Plan, rest.known.Record, rest.pastAnswers().Known(lengths))
	if err != nil {
		return err
	}
	bills, err := office.ReadBills(ctx)
	if err != nil {
		return err
	}
	m := newMoney(asks, bills, rest.payer())
	fmt.Fprintln(a.out, "\nThe rest, if its answers are like these:")
	for _, line := range m.lines() {
		fmt.Fprintln(a.out, "  "+line)
	}
	for _, text := range m.warnings(rest) {
		fmt.Fprintln(a.out, text)
	}
	fmt.Fprintln(a.out, "Go on with: clusterflow apply", p.compiled.Study.File)
	return nil
}

// pilotNames are the addresses that a pilot asked about, once each.
func pilotNames(results []tasks.PilotResult) []string {
	seen := map[string]bool{}
	var out []string
	for _, r := range results {
		if !seen[r.Addr] {
			seen[r.Addr] = true
			out = append(out, r.Addr)
		}
	}
	return out
}

// writePilot says what became of one kind of request, with an answer.
func writePilot(w io.Writer, r tasks.PilotResult) {
	line := fmt.Sprintf("%-13s %s (%s): %s of %s usable", r.Task, r.Evaluator.Name, r.Evaluator.Model.V, thousands(r.Usable), count(r.Requests, "answer", "answers"))
	for _, reason := range slices.Sorted(maps.Keys(r.Failed)) {
		line += fmt.Sprintf(" · %d %s", r.Failed[reason], reason)
	}
	if r.Answered > 0 {
		line += fmt.Sprintf(" · %s + %s tokens each", tokens(int64(r.Used.Prompt/r.Answered)), tokens(int64(r.Used.Completion/r.Answered)))
		if p, ok := tasks.PriceOf(r.Evaluator); ok {
			if usd := p.Of(int64(r.Used.Prompt), int64(r.Used.Completion), tasks.InBatches(r.Evaluator)); usd > 0 {
				line += " · " + price.Dollars(usd)
			}
		}
	}
	fmt.Fprintln(w, line)
	fmt.Fprintf(w, "    %s\n", brief(r.Answer))
}

// brief is the beginning of a text on one line.
func brief(text string) string {
	const most = 240
	runes := []rune(strings.Join(strings.Fields(text), " "))
	if len(runes) > most {
		return string(runes[:most]) + " …"
	}
	return string(runes)
}
