package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/tasks"
)

const failedUsage = "only answers that cannot be used at all: none came, refused, cut off, unreadable"

func (a *app) answersCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "answers",
		Short: "Look at the answers that titles and scores were made from; drop some, hand them on",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(
		a.answersList(),
		a.askedCommand("show", "Show requests with what was answered",
			"The requests of ADDRESS, such as r1/12/gmm/20, with their answers, failed ones included.", true),
		a.answersDrop("drop", "Forget answers, so that the next apply buys them again",
			"The answers to the requests of ADDRESS that the flags choose are thrown away, though they were paid\n"+
				"for: the next apply asks again, and pays again. What is in a batch stays.", false),
		a.answersDrop("retry", "Drop the answers that cannot be used, so that the next apply asks again",
			"Of the requests of ADDRESS that the flags choose, those are asked again by the next apply whose answer\n"+
				"cannot be used at all: none came, it was refused or cut off, or cannot be read.", true),
		a.answersExport(),
		a.answersImport(),
	)
	return c
}

func (a *app) answersList() *cobra.Command {
	var f studyFlags
	var q askedFilter
	c := &cobra.Command{
		Use: "list STUDY ADDRESS", Short: "List requests, how each answer reads, and how many of each sort there are",
		Args: studyAndAddress,
		RunE: func(c *cobra.Command, args []string) error {
			p, known, err := a.look(c.Context(), args[0], &f)
			if err != nil {
				return err
			}
			all, err := gatherAsked(p, known.Blobs(), args[0], args[1], true)
			if err == nil {
				all, err = q.choose(all)
			}
			if err != nil {
				return err
			}
			return a.listAnswers(all, q)
		},
	}
	f.add(c)
	q.add(c)
	c.Flags().BoolVar(&q.failed, "failed", false, failedUsage)
	c.Flags().BoolVar(&q.asJSON, "json", false, "print one JSON object a line")
	return c
}

// listedAnswer is a line of answers list --json.
type listedAnswer struct {
	Node    string        `json:"node"`
	Key     string        `json:"key"`
	Task    string        `json:"task"`
	Rep     int           `json:"rep"`
	Cluster int           `json:"cluster"`
	Other   int           `json:"other,omitempty"`
	State   tasks.Verdict `json:"state"`
	Detail  string        `json:"detail,omitempty"`
	Model   string        `json:"model,omitempty"`
	Usage   batch.Usage   `json:"usage,omitzero"`
}

func (a *app) listAnswers(all []askedOf, q askedFilter) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	counts, total := map[tasks.Verdict]int{}, 0
	node := 0
	for _, n := range all {
		node = max(node, len(n.addr))
	}
	for _, n := range all {
		for i := range n.asked {
			r := &n.asked[i]
			l := listedAnswer{Node: n.addr, Key: r.Key, Task: r.Task, Rep: r.Rep, Cluster: r.Cluster, Other: r.Other}
			var err error
			if l.State, l.Detail, err = r.Verdict(); err != nil {
				return err
			}
			if r.Answer != nil {
				l.Model, l.Usage = r.Answer.Model, r.Answer.Usage
			}
			counts[l.State]++
			total++
			if q.asJSON {
				if err := enc.Encode(l); err != nil {
					return err
				}
				continue
			}
			line := fmt.Sprintf("%-*s  %-12s  %-16s  rep %-2d  %-10s", node, n.addr, l.Task, r.Subject(), l.Rep, l.State)
			if l.Model != "" {
				line += fmt.Sprintf("  %s  %s + %s tokens", l.Model, thousands(l.Usage.Prompt), thousands(l.Usage.Completion))
			}
			if l.Detail != "" {
				line += "  " + brief(l.Detail)
			}
			fmt.Fprintln(a.out, strings.TrimRight(line, " "))
		}
	}
	if total == 0 {
		return q.none()
	}
	if q.asJSON {
		return nil
	}
	var parts []string
	for _, v := range tasks.Verdicts {
		if counts[v] > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", thousands(counts[v]), v))
		}
	}
	fmt.Fprintf(a.out, "%s: %s\n", count(total, "request", "requests"), strings.Join(parts, " · "))
	if counts[tasks.VerdictNone] > 0 {
		fmt.Fprintln(a.out, "none: apply has not collected the answers of that node, or some of them were dropped")
	}
	return nil
}

// desk is a study with the ledger of its cache, held against others.
type desk struct {
	*planned
	store  *cache.Store
	office *tasks.Office
}

// atDesk takes the cache and hands it, with the plan of a study, to fn.
func (a *app) atDesk(ctx context.Context, command, study string, f *studyFlags, fn func(*desk) error) (err error) {
	office, _, err := a.office()
	if err != nil {
		return err
	}
	compiled, err := a.compile(ctx, study, f, office)
	if err != nil {
		return err
	}
	dir := a.cachePath(study, f)
	store, err := cache.Open(ctx, cache.Options{Dir: dir, StateDir: f.stateDir, Command: "clusterflow " + command + " " + study})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	office.Open(store, batch.DeskOptions{})
	defer func() { err = errors.Join(err, office.Close()) }()
	known, err := store.Reader()
	if err != nil {
		return err
	}
	p, err := a.planWith(ctx, compiled, known, studyID(study, dir), dir, &selection{})
	if err != nil {
		return err
	}
	return fn(&desk{p, store, office})
}

// idle fails while an apply of the cache only waits for batches: it has lent the
// cache, and would send again at once what is given back to it now.
func (d *desk) idle() error {
	runs, err := d.known.Runs()
	if err != nil {
		return err
	}
	for _, run := range runs {
		if currentState(run) == "waiting" {
			return fmt.Errorf("%s is being applied by process %d on %s, which waits for batches and would send again at once what is given back now; interrupt that one first",
				cmp.Or(run.File, run.Study), run.Owner.PID, run.Owner.Host)
		}
	}
	return nil
}

func (a *app) answersDrop(name, short, long string, failed bool) *cobra.Command {
	var f studyFlags
	var q askedFilter
	var yes bool
	c := &cobra.Command{
		Use: name + " STUDY ADDRESS", Short: short, Long: long, Args: studyAndAddress,
		RunE: func(c *cobra.Command, args []string) error {
			q.failed = q.failed || failed
			return a.atDesk(c.Context(), "answers "+name, args[0], &f, func(d *desk) error {
				return a.dropAnswers(c.Context(), d, args[0], args[1], q, yes)
			})
		},
	}
	f.add(c)
	q.add(c)
	if !failed {
		c.Flags().BoolVar(&q.failed, "failed", false, failedUsage)
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// dropAnswers has the ledger forget the answers that a filter chooses.
func (a *app) dropAnswers(ctx context.Context, d *desk, study, addr string, q askedFilter, yes bool) error {
	if err := d.idle(); err != nil {
		return err
	}
	all, err := gatherAsked(d.planned, d.known.Blobs(), study, addr, false)
	if err != nil {
		return err
	}
	chosen, err := d.chosen(ctx, all, q)
	if err != nil {
		return err
	}
	sum, err := d.tally(ctx, chosen)
	if err != nil {
		return err
	}
	total := sum.answers + sum.failed + sum.unsent + sum.held
	switch {
	case total == 0 && q.failed:
		fmt.Fprintln(a.out, "no answer like that has failed; there is nothing to ask again")
		return nil
	case total == 0:
		return q.none()
	}
	if sum.held > 0 {
		fmt.Fprintf(a.out, "%s in a batch, and left alone until it has ended: apply collects it, batches cancel stops it\n", count(sum.held, "request is", "requests are"))
	}
	if sum.unsent > 0 {
		fmt.Fprintf(a.out, "%s no answer yet\n", count(sum.unsent, "request has", "requests have"))
	}
	if sum.answers+sum.failed == 0 {
		fmt.Fprintln(a.out, "nothing was dropped")
		return nil
	}
	if sum.answers > 0 && !yes {
		text := fmt.Sprintf("This throws away %s, %s of them paid for; the next apply asks again, and pays again.", count(sum.answers, "answer", "answers"), thousands(sum.paid))
		if in, ok := a.in.(*os.File); !ok || !isTerminal(in) {
			return fmt.Errorf("this would throw away %s, %s of them paid for, and nobody is here to agree to it: give --yes", count(sum.answers, "answer", "answers"), thousands(sum.paid))
		}
		if ok, err := a.agrees(ctx, text); err != nil || !ok {
			return cmp.Or(err, errors.New("nothing was dropped"))
		}
	}
	got, err := d.office.Drop(ctx, chosen)
	what := []string{}
	if got.Answers > 0 {
		what = append(what, count(got.Answers, "answer", "answers"))
	}
	if got.Failed > 0 {
		what = append(what, count(got.Failed, "failed request", "failed requests"))
	}
	fmt.Fprintf(a.out, "dropped %s; the next apply asks again\n", strings.Join(what, " and "))
	if titles(chosen) {
		fmt.Fprintln(a.out, "titles are among them: where a new title is another, what was graded by it is asked again as well")
	}
	return err
}

// chosen are the requests that a filter leaves, by the nodes that see to them.
func (d *desk) chosen(ctx context.Context, all []askedOf, q askedFilter) ([]tasks.AskedBy, error) {
	failed := q.failed
	q.failed = false
	all, err := q.choose(all)
	if err != nil {
		return nil, err
	}
	var out []tasks.AskedBy
	for _, n := range all {
		if n.await == nil || len(n.asked) == 0 {
			continue
		}
		by := tasks.AskedBy{Await: n.await.Node, Asked: n.asked}
		if n.await.State == graph.Cached {
			by.Result = n.await.Key
		}
		if failed { // as the ledger has them: what lies in the cache may be older
			if err := d.office.ReadAnswers(ctx, &by); err != nil {
				return nil, err
			}
			bad := askedFilter{cluster: -1, rep: -1, failed: true}
			left, err := bad.choose([]askedOf{{clusters: n.clusters, asked: by.Asked}})
			if err != nil {
				return nil, err
			}
			by.Asked = left[0].asked
		}
		out = append(out, by)
	}
	return out, nil
}

// dropTally is where chosen requests are.
type dropTally struct{ answers, paid, failed, unsent, held int }

func (d *desk) tally(ctx context.Context, chosen []tasks.AskedBy) (t dropTally, err error) {
	seen := map[string]bool{}
	for i := range chosen {
		by := &chosen[i]
		st, err := d.office.Standings(ctx, by)
		if err != nil {
			return t, err
		}
		for j, s := range st {
			switch key := by.Asked[j].Key; {
			case seen[key]:
				continue
			case s.State == batch.Unsent:
				t.unsent++
			case s.State == batch.InBatch || s.Open:
				t.held++
			case s.State == batch.Answered:
				t.answers++
				if by.Paid() {
					t.paid++
				}
			default:
				t.failed++
			}
			seen[by.Asked[j].Key] = true
		}
	}
	return t, nil
}

// titles reports whether titles are among requests.
func titles(chosen []tasks.AskedBy) bool {
	for _, by := range chosen {
		if len(by.Asked) > 0 && by.Await.Kind() == "await-titles" {
			return true
		}
	}
	return false
}
