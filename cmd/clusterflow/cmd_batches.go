package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/internal/price"
	"clusterflow/tasks"
)

func (a *app) batchesCommand() *cobra.Command {
	var f studyFlags
	c := &cobra.Command{
		Use:   "batches",
		Short: "List the batches of a study; cancel one, send one again on your word",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	list := &cobra.Command{
		Use:   "list STUDY",
		Short: "List the batches that the study's last run has seen",
		Args:  oneStudy,
		RunE:  func(c *cobra.Command, args []string) error { return a.listBatches(args[0], &f) },
	}
	resend := &cobra.Command{
		Use:     "retry STUDY BATCH",
		Aliases: []string{"resend"},
		Short:   "Give a batch up: what it holds unanswered is sent, and paid, again by the next apply",
		Args:    cobra.ExactArgs(2),
		RunE:    func(c *cobra.Command, args []string) error { return a.resend(c, args[0], args[1], &f) },
	}
	show := &cobra.Command{
		Use:   "show STUDY BATCH",
		Short: "Show what the ledger knows of a batch",
		Args:  cobra.ExactArgs(2),
	}
	cancel := &cobra.Command{
		Use:   "cancel STUDY BATCH",
		Short: "Ask the server to stop a batch; what it has answered is kept",
		Long: "What the server has answered by then is paid for, and the next apply fetches it. The rest is\n" +
			"sent again by that apply, which asks first.",
		Args: cobra.ExactArgs(2),
	}
	var asJSON bool
	show.RunE = func(c *cobra.Command, args []string) error {
		return a.atDesk(c.Context(), "batches show", args[0], &f, func(d *desk) error {
			return a.showBatch(c.Context(), d, args[1], asJSON)
		})
	}
	show.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	cancel.RunE = func(c *cobra.Command, args []string) error {
		return a.atDesk(c.Context(), "batches cancel", args[0], &f, func(d *desk) error {
			return a.cancelBatch(c.Context(), d, args[1])
		})
	}
	f.addCache(list)
	f.addCache(resend)
	f.add(show)
	f.add(cancel)
	c.AddCommand(list, show, cancel, resend, a.batchesExport(), a.batchesImport())
	return c
}

func (a *app) listBatches(study string, f *studyFlags) error {
	dir := a.cachePath(study, f)
	r, err := cache.OpenReader(dir)
	if err != nil {
		return err
	}
	run, err := r.Run(studyID(study, dir))
	switch {
	case err != nil:
		return err
	case run == nil:
		return a.neverRun(study, dir, r)
	case len(run.Batches) == 0:
		fmt.Fprintf(a.out, "the last run of %s has seen no batches\n", study)
	}
	writeBatches(a.out, run, a.now())
	return nil
}

// resend takes the ledger and gives one batch file up.
func (a *app) resend(c *cobra.Command, study, intent string, f *studyFlags) (err error) {
	store, err := cache.Open(c.Context(), cache.Options{Dir: a.cachePath(study, f), StateDir: f.stateDir, Command: "clusterflow batches retry"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	office, _, err := a.office()
	if err != nil {
		return err
	}
	office.Open(store, batch.DeskOptions{})
	if err := office.Resend(c.Context(), intent); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "given up: the next apply sends again what %s holds unanswered\n", intent)
	return nil
}

// shownBatch is batches show --json.
type shownBatch struct {
	*batch.BatchFile
	Tasks map[string]int `json:"tasks"`           // requests of the study by kind
	Other int            `json:"other,omitempty"` // requests that are not of the study as it stands
}

func (a *app) showBatch(ctx context.Context, d *desk, id string, asJSON bool) error {
	b, err := d.office.Batch(ctx, id)
	if err != nil {
		return err
	}
	kinds, err := d.kinds()
	if err != nil {
		return err
	}
	shown := shownBatch{BatchFile: b, Tasks: map[string]int{}}
	for _, k := range b.Keys {
		if task, ok := kinds[k]; ok {
			shown.Tasks[task]++
		} else {
			shown.Other++
		}
	}
	if asJSON {
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(shown)
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-10s "+format+"\n", append([]any{name}, args...)...)
	}
	when := func(name string, t time.Time) {
		if !t.IsZero() {
			line(name, "%s", t.Local().Format("2006-01-02 15:04:05"))
		}
	}
	text := func(name, s string) {
		if s != "" {
			line(name, "%s", s)
		}
	}
	line("batch", "%s", cmp.Or(b.ID, "(the server's id is not known)"))
	line("intent", "%s", b.Intent)
	status := b.Status
	if b.Cancelled {
		status += ", cancelled by you"
	}
	line("status", "%s (ledger: %s)", status, b.Ledger)
	line("evaluator", "%s, model %s at %s", b.Evaluator, b.Model, b.Host)
	line("requests", "%s: %s answered, %s failed", thousands(b.Requests), thousands(b.Completed), thousands(b.Failed))
	for _, task := range slices.Sorted(maps.Keys(shown.Tasks)) {
		line("", "%s %s", thousands(shown.Tasks[task]), task)
	}
	if shown.Other > 0 {
		line("", "%s not of the study as it stands", thousands(shown.Other))
	}
	when("made", b.Created)
	when("asked", b.Asked)
	when("expires", b.Expires)
	text("reason", b.Reason)
	text("results", b.Output)
	text("errors", b.Errors)
	switch {
	case b.Settled && b.UsedUSD > 0:
		line("cost", "%s", price.Dollars(b.UsedUSD))
	case b.MostUSD > 0:
		line("cost", "at most %s", price.Dollars(b.MostUSD))
	}
	return nil
}

// kinds are the kinds of all requests of the study that are written, by key.
func (d *desk) kinds() (map[string]string, error) {
	out := map[string]string{}
	for _, s := range d.Steps {
		if k := s.Node.Kind(); k != "submit-titles" && k != "submit-eval" || s.State != graph.Cached {
			continue
		}
		asked, err := tasks.ReadAsked(d.known.Blobs(), s.Record, nil)
		if err != nil {
			return nil, fmt.Errorf("the requests of %s: %w; apply the study to make them again", s.Node.Addr, err)
		}
		for _, r := range asked {
			out[r.Key] = r.Task
		}
	}
	return out, nil
}

func (a *app) cancelBatch(ctx context.Context, d *desk, id string) error {
	if err := d.idle(); err != nil {
		return err
	}
	b, err := d.office.Batch(ctx, id)
	if err != nil {
		return err
	}
	now, err := d.office.Cancel(ctx, d.compiled.Study, b)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "batch %s is %s, with %s of %s answered; the next apply fetches these and sends the rest again\n",
		now.ID, now.Status, thousands(now.Completed), thousands(now.Requests))
	return nil
}
