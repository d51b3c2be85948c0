package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/internal/price"
)

func (a *app) statusCommand() *cobra.Command {
	var f studyFlags
	var asJSON, watch bool
	c := &cobra.Command{
		Use:   "status STUDY",
		Short: "Show what is done, running, waiting on a batch or failed; also while apply runs",
		Args:  oneStudy,
		RunE: func(c *cobra.Command, args []string) error {
			return a.status(c.Context(), args[0], &f, asJSON, watch)
		},
	}
	f.addCache(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the state as JSON")
	c.Flags().BoolVar(&watch, "watch", false, "show again every second until the run ends")
	return c
}

func (a *app) status(ctx context.Context, study string, f *studyFlags, asJSON, watch bool) error {
	dir := a.cachePath(study, f)
	for {
		r, err := cache.OpenReader(dir)
		if err != nil {
			return err
		}
		run, err := r.Run(studyID(study, dir))
		if err != nil {
			return err
		}
		if run == nil {
			return a.neverRun(study, dir, r)
		}
		state := currentState(run)
		if asJSON {
			err = writeStatusJSON(a.out, run, state)
		} else {
			var b strings.Builder
			tty, _ := terminal(a.out)
			if watch && tty {
				b.WriteString("\x1b[H\x1b[2J")
			}
			writeStatus(&b, run, state, painter(a.colors(a.out)), a.now())
			_, err = io.WriteString(a.out, b.String())
		}
		if err != nil || !watch || state != "running" && state != "waiting" {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// neverRun explains that a study has no state, with what there is instead.
func (a *app) neverRun(study, dir string, r *cache.Reader) error {
	runs, err := r.Runs()
	if err != nil {
		return err
	}
	if !fileExists(study) {
		return fmt.Errorf("there is no study %s%s", study, suggestStudy(study))
	}
	fmt.Fprintf(a.out, "%s has not been applied with the cache %s\n", study, dir)
	for _, other := range runs {
		fmt.Fprintf(a.out, "  it knows %s (%s), %s\n", other.Study, other.File, currentState(other))
	}
	return nil
}

// currentState is a run's state as of now: what a killed process left behind
// is no longer running, and what ended with batches out is detached.
func currentState(run *cache.Run) string {
	switch {
	case run.State == "waiting" && !run.Finished.IsZero():
		return "detached"
	case (run.State == "running" || run.State == "waiting") && !run.Alive():
		return "killed"
	}
	return run.State
}

// order of node states in a status.
var nodeStates = []string{"running", "waiting", "failed", "blocked", "pending", "done"}

// settled is a node's state for people: cached is done, and nothing runs once
// the process is gone.
func settled(st *cache.NodeState, runState string) string {
	switch {
	case st.State == "cached":
		return "done"
	case st.State == "running" && runState != "running":
		return "pending"
	}
	return st.State
}

func writeStatus(w io.Writer, run *cache.Run, state string, paint painter, now time.Time) {
	color := map[string]string{"done": "32", "failed": "31", "blocked": "31", "running": "33", "waiting": "36", "detached": "36", "killed": "31", "interrupted": "33"}
	fmt.Fprintf(w, "%s  %s  %s", paint.paint("1", run.Study), run.File, paint.paint(color[state], state))
	switch state {
	case "running", "waiting":
		fmt.Fprintf(w, "  since %s (process %d on %s, seen %s ago)", run.Started.Local().Format("2006-01-02 15:04:05"), run.Owner.PID, run.Owner.Host, elapsed(now.Sub(run.Heartbeat)))
		if left := time.Duration(run.SecondsLeft*float64(time.Second)) - now.Sub(run.Heartbeat); state == "running" && left >= time.Second {
			fmt.Fprintf(w, ", about %s left", roughly(left))
		}
	case "killed":
		fmt.Fprintf(w, ": process %d on %s ended without a word, last seen %s; apply goes on from there", run.Owner.PID, run.Owner.Host, run.Heartbeat.Local().Format("2006-01-02 15:04:05"))
	case "detached":
		fmt.Fprintf(w, " since %s: nobody asks for the batches; apply again to collect them", run.Finished.Local().Format("2006-01-02 15:04:05"))
	case "interrupted":
		fmt.Fprintf(w, "  %s (%s); apply goes on from there", run.Finished.Local().Format("2006-01-02 15:04:05"), run.Message)
	default:
		fmt.Fprintf(w, "  %s", run.Finished.Local().Format("2006-01-02 15:04:05"))
	}
	fmt.Fprintln(w)
	byState := map[string]int{}
	byKind := map[string]map[string]int{}
	for _, st := range run.Nodes {
		s := settled(st, state)
		byState[s]++
		if byKind[st.Kind] == nil {
			byKind[st.Kind] = map[string]int{}
		}
		byKind[st.Kind][s]++
	}
	var parts []string
	for _, s := range nodeStates {
		if n := byState[s]; n > 0 {
			parts = append(parts, paint.paint(color[s], thousands(n)+" "+s))
		}
	}
	fmt.Fprintf(w, "%s: %s\n", count(len(run.Nodes), "node", "nodes"), strings.Join(parts, " · "))
	writeNodes(w, run, state, paint, now)
	writeBatches(w, run, now)
}

// writeNodes lists the nodes that are not simply done or to do.
func writeNodes(w io.Writer, run *cache.Run, state string, paint painter, now time.Time) {
	const most = 20
	for _, want := range []string{"running", "waiting", "failed"} {
		var addrs []string
		for _, addr := range slices.Sorted(maps.Keys(run.Nodes)) {
			if settled(run.Nodes[addr], state) == want {
				addrs = append(addrs, addr)
			}
		}
		for i, addr := range addrs {
			if i == most {
				fmt.Fprintf(w, "  … and %d more %s\n", len(addrs)-most, want)
				break
			}
			st := run.Nodes[addr]
			detail := st.Note
			switch want {
			case "running":
				if st.Total > 0 {
					detail = fmt.Sprintf("%d%% of %s %s", 100*st.Done/st.Total, thousands(int(st.Total)), st.Note)
				}
				detail += "  " + elapsed(now.Sub(st.Started))
			case "failed":
				detail = firstLine(st.Error)
			}
			fmt.Fprintf(w, "  %-8s %-48s %s\n", want, addr, detail)
		}
	}
}

// writeBatches lists the batches that the run has seen.
func writeBatches(w io.Writer, run *cache.Run, now time.Time) {
	for _, b := range run.Batches {
		line := fmt.Sprintf("  batch    %-40s %-12s %s of %s answered", b.ID, b.Status, thousands(b.Completed), thousands(b.Requests))
		if b.Failed > 0 {
			line += fmt.Sprintf(", %s failed", thousands(b.Failed))
		}
		if !b.Created.IsZero() {
			line += ", " + elapsed(now.Sub(b.Created)) + " old"
		}
		if !b.Expires.IsZero() && b.Status != "completed" {
			line += ", expires " + b.Expires.Local().Format("2006-01-02 15:04")
		}
		switch {
		case b.UsedUSD > 0:
			line += ", " + price.Dollars(b.UsedUSD)
		case b.MostUSD > 0:
			line += ", at most " + price.Dollars(b.MostUSD)
		}
		fmt.Fprintf(w, "%s  (%s)\n", line, cmp.Or(b.Evaluator, "?"))
	}
	writeBills(w, run.Bills)
}

// writeStatusJSON writes the run file's content with the state as of now.
func writeStatusJSON(w io.Writer, run *cache.Run, state string) error {
	out := *run
	out.State = state
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(&out)
}
