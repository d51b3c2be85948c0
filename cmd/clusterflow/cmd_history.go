package main

import (
	"cmp"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"clusterflow/cache"
	"clusterflow/graph"
)

func (a *app) historyCommand() *cobra.Command {
	var f studyFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "history STUDY",
		Short: "Show who applied a study, when, with which flags and what result",
		Args:  oneStudy,
		RunE: func(c *cobra.Command, args []string) error {
			return a.history(args[0], &f, asJSON)
		},
	}
	f.addCache(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

func (a *app) history(study string, f *studyFlags, asJSON bool) error {
	dir := a.cachePath(study, f)
	r, err := cache.OpenReader(dir)
	if err != nil {
		return err
	}
	id := studyID(study, dir)
	past, bad, err := r.History(id)
	if err != nil {
		return err
	}
	run, err := r.Run(id)
	if err != nil {
		return err
	}
	if bad > 0 {
		fmt.Fprintf(a.err, "note: %s of the history could not be read and %s left out\n", count(bad, "line", "lines"), map[bool]string{true: "is", false: "are"}[bad == 1])
	}
	if asJSON {
		return writeJSON(a.out, nonNil(past))
	}
	open := run != nil && !told(past, run)
	if len(past) == 0 && !open {
		return a.neverRun(study, dir, r)
	}
	return writeHistory(a.out, past, run, open, painter(a.colors(a.out)))
}

// told reports whether the history knows a run: one that is at work or was
// killed has no line yet.
func told(past []cache.Past, run *cache.Run) bool {
	return slices.ContainsFunc(past, func(p cache.Past) bool {
		return !run.Started.Before(p.Started) && !run.Started.After(p.Finished)
	})
}

// outcomes in the order in which the history shows them.
var outcomes = []string{"ran", "cached", "spared", "failed", "blocked", "waiting", "pending"}

func writeHistory(w io.Writer, past []cache.Past, run *cache.Run, open bool, paint painter) error {
	var b strings.Builder
	for _, p := range past {
		var parts []string
		for _, o := range outcomes {
			if n := p.Counts[o]; n > 0 || o == "ran" && p.Counts != nil {
				parts = append(parts, thousands(n)+" "+o)
			}
		}
		fmt.Fprintf(&b, "%s  %-20s %8s  %s  %s\n", moment(p.Started), cmp.Or(p.User, "?")+"@"+p.Host, elapsed(time.Duration(p.Seconds*float64(time.Second))),
			paint.paint(exitColor(p.Exit), fmt.Sprintf("%-13s", exitWord(p.Exit))), strings.Join(parts, " · "))
		if len(p.Flags) > 0 {
			fmt.Fprintf(&b, "    %s\n", paint.paint("2", strings.Join(p.Flags, " ")))
		}
		if p.Error != "" {
			line, _, _ := strings.Cut(p.Error, "\n")
			fmt.Fprintf(&b, "    %s\n", oneLine(line))
		}
	}
	if open {
		fmt.Fprintf(&b, "%s  %-20s %8s  %s  process %d\n", moment(run.Started), "?@"+run.Owner.Host, "", paint.paint("33", fmt.Sprintf("%-13s", currentState(run))), run.Owner.PID)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func exitWord(code int) string {
	switch code {
	case exitDone:
		return "done"
	case exitFailed:
		return "failed"
	case exitWaiting:
		return "batches out"
	case exitInterrupted:
		return "interrupted"
	case exitKilled:
		return "killed"
	}
	return "exit " + strconv.Itoa(code)
}

func exitColor(code int) string {
	switch code {
	case exitDone:
		return "32"
	case exitWaiting, exitInterrupted:
		return "33"
	}
	return "31"
}

// keepPast writes the line of an apply into the history, at its end. sum is nil
// if nothing was run, and err how the command ends.
func (a *app) keepPast(dir string, p cache.Past, sum *graph.Summary, err error) {
	p.User, p.Host, p.Version = userName(a.getenv), cache.Self("", p.Started).Host, version()
	p.Finished = a.now()
	p.Seconds = p.Finished.Sub(p.Started).Seconds()
	p.Exit = exitCodeOf(err)
	if err != nil {
		p.Error = err.Error()
	}
	if sum != nil {
		p.Counts = map[string]int{
			"ran": sum.Ran, "cached": sum.Cached, "spared": sum.Spared, "failed": sum.Failed,
			"blocked": sum.Blocked, "waiting": sum.Waiting, "pending": sum.Pending,
		}
		if p.Error == "" && len(sum.Failures) > 0 {
			p.Error = sum.Failures[0].Err.Error()
		}
	}
	if werr := cache.AppendHistory(dir, p); werr != nil { // the results are kept all the same
		fmt.Fprintln(a.err, "note: this run is missing from the history:", werr)
	}
}

// exitKilled stands in the history for a process that could not say how it ended.
const exitKilled = -1

// keepKilled writes down a run that ended without a word, when the next apply
// finds it.
func (a *app) keepKilled(dir string, known *cache.Reader, run *cache.Run) {
	if run == nil || currentState(run) != "killed" {
		return
	}
	if past, _, err := known.History(run.StudyID); err != nil || told(past, run) {
		return
	}
	err := cache.AppendHistory(dir, cache.Past{
		StudyID: run.StudyID, Study: run.Study, File: run.File, Host: run.Owner.Host,
		Started: run.Started, Finished: run.Heartbeat, Seconds: run.Heartbeat.Sub(run.Started).Seconds(),
		Exit: exitKilled, Error: fmt.Sprintf("process %d ended without a word", run.Owner.PID),
	})
	if err != nil {
		fmt.Fprintln(a.err, "note: the run that was killed is missing from the history:", err)
	}
}

// userName is the name of the user of this process, as the system knows it.
func userName(getenv func(string) string) string {
	if u, err := user.Current(); err == nil {
		return cmp.Or(u.Username, u.Uid)
	}
	return cmp.Or(getenv("USER"), "?")
}

// givenFlags are the flags that the user gave, as "--name=value".
func givenFlags(c *cobra.Command) []string {
	var out []string
	c.Flags().Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			if f.Value.Type() == "bool" && v == "true" {
				out = append(out, "--"+f.Name)
			} else {
				out = append(out, "--"+f.Name+"="+v)
			}
		}
	})
	return out
}
