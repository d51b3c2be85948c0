package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/graph"
)

// ledgerBuckets hold what was paid for.
var ledgerBuckets = []string{"ledger", "state"}

func (a *app) cacheCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "cache",
		Short: "Look after the cache: stats, verify, gc",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(a.cacheStatsCommand(), a.cacheVerifyCommand(), a.cacheGCCommand())
	return c
}

// openCache opens an existing cache for writing.
func (a *app) openCache(ctx context.Context, f *studyFlags, command string) (*cache.Store, error) {
	dir, err := a.existingCache(f)
	if err != nil {
		return nil, err
	}
	s, err := cache.Open(ctx, cache.Options{Dir: dir, StateDir: f.stateDir, Command: "clusterflow " + command, Now: a.now})
	if err != nil {
		return nil, err
	}
	for _, n := range s.Notices() {
		fmt.Fprintln(a.err, "note:", n)
	}
	return s, nil
}

// existingCache is the cache of a command that names no study; unless a flag or
// the environment says otherwise, that of the studies in this folder or in
// studies/.
func (a *app) existingCache(f *studyFlags) (string, error) {
	dir := a.cachePath("study.hcl", f)
	if f.cacheDir == "" && a.getenv("CLUSTERFLOW_CACHE") == "" {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			if in := a.cachePath(filepath.Join("studies", "study.hcl"), f); isFolder(in) {
				dir = in
			}
		}
	}
	if !isFolder(dir) {
		return "", fmt.Errorf("there is no cache in %s; name one with --cache-dir", dir)
	}
	return dir, nil
}

func isFolder(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

func (a *app) cacheStatsCommand() *cobra.Command {
	var f studyFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "stats",
		Short: "Show what lies in the cache and which studies use it; also while apply runs",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := a.existingCache(&f)
			if err != nil {
				return err
			}
			s, err := cache.ReadStats(dir)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.out, s)
			}
			return writeStats(a.out, s)
		},
	}
	f.addCache(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

func writeStats(w io.Writer, s *cache.Stats) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", s.Dir)
	row := func(name string, a cache.Amount, remark string) {
		fmt.Fprintf(&b, "  %-10s %10s  %9s   %s\n", name, thousands(a.Files), bytesText(a.Bytes), remark)
	}
	row("blobs", s.Blobs, fmt.Sprintf("%s needed by the last runs of %s", bytesText(s.Needed.Bytes), count(len(s.Studies), "study", "studies")))
	row("records", s.Records, "")
	row("database", s.Database, "")
	row("scratch", s.Scratch, "unfinished work")
	if s.Damaged.Files > 0 {
		row("damaged", s.Damaged, "set aside in blobs/damaged")
	}
	if s.Dropped > 0 {
		fmt.Fprintf(&b, "  %s taken away by gc: made again only when something reads them\n", count(s.Dropped, "blob was", "blobs were"))
	}
	if len(s.Kinds) > 0 {
		fmt.Fprintf(&b, "\n  %-20s %8s  %9s\n", "kind", "records", "outputs")
	}
	for _, k := range slices.Sorted(maps.Keys(s.Kinds)) {
		fmt.Fprintf(&b, "  %-20s %8s  %9s\n", k, thousands(s.Kinds[k].Files), bytesText(s.Kinds[k].Bytes))
	}
	if len(s.Studies) > 0 {
		fmt.Fprintln(&b)
	}
	for _, r := range s.Studies {
		state := currentState(r)
		fmt.Fprintf(&b, "  %s (%s), %s, last run %s\n", cmp.Or(r.Study, r.StudyID), r.File, state, r.Started.Local().Format("2006-01-02 15:04"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *app) cacheVerifyCommand() *cobra.Command {
	var f studyFlags
	var asJSON, repair bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Read every blob, record and entry and compare it with its sum",
		Long: "verify reads every blob, record and ledger entry and compares it with its sum. With\n" +
			"--repair it sets damaged blobs aside in blobs/damaged and removes damaged records: what\n" +
			"made them runs again. Exit code 1 when something is damaged that was not repaired.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			s, err := a.openCache(c.Context(), &f, "cache verify")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.Close()) }()
			r, err := s.Check(c.Context(), cache.CheckOptions{Repair: repair, Key: graph.KeyOf, Ledger: ledgerBuckets})
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(a.out, r)
			} else {
				err = writeCheck(a.out, r, repair)
			}
			if err == nil && r.Open() > 0 {
				err = &exitError{code: exitFailed}
			}
			return err
		},
	}
	f.addCache(c)
	c.Flags().BoolVar(&repair, "repair", false, "take what is damaged out of use")
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

func writeCheck(w io.Writer, r *cache.CheckReport, repair bool) error {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "  %-8s %s: %s", p.Part, p.Name, p.Text)
		switch {
		case p.Address != "" && p.Part == "blob":
			fmt.Fprintf(&b, "; %s runs again when it is needed", p.Address)
		case p.Address != "":
			fmt.Fprintf(&b, " (%s)", p.Address)
		}
		fmt.Fprintln(&b)
	}
	fmt.Fprintf(&b, "%s (%s), %s, %s, %s: ", count(r.Blobs.Files, "blob", "blobs"), bytesText(r.Blobs.Bytes),
		count(r.Records, "record", "records"), count(r.Entries, "ledger entry", "ledger entries"), count(r.Stamps, "stamp", "stamps"))
	switch open := r.Open(); {
	case len(r.Problems) == 0:
		fmt.Fprintln(&b, "all whole")
	case open == 0 && repair:
		fmt.Fprintln(&b, "repaired; apply makes again what is needed")
	case open == 0:
		fmt.Fprintln(&b, "all whole that is used")
	case repair:
		fmt.Fprintf(&b, "%s left that cannot be repaired\n", count(open, "problem", "problems"))
	default:
		fmt.Fprintf(&b, "%s; nothing damaged is ever used; --repair takes it out of the way\n", count(open, "problem", "problems"))
	}
	if r.Dropped > 0 {
		fmt.Fprintf(&b, "%s taken away by gc\n", count(r.Dropped, "output was", "outputs were"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *app) cacheGCCommand() *cobra.Command {
	var f studyFlags
	var days float64
	var size string
	var dry, asJSON bool
	c := &cobra.Command{
		Use:   "gc",
		Short: "Drop what no study's last run needs; never a paid answer",
		Long: "gc drops blobs that the last run of no study needs. Their records stay, so that nothing\n" +
			"runs again for it unless something reads them. Open batches, paid answers and what\n" +
			"the last run of every study in the cache uses are never dropped.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			o := cache.GCOptions{DryRun: dry, Ledger: ledgerBuckets, Keep: time.Duration(days * 24 * float64(time.Hour))}
			if days < 0 || days > 36500 {
				return fmt.Errorf("--keep-days %v: from 0 to 36500", days)
			}
			if size != "" {
				n, err := humanize.ParseBytes(size)
				if err != nil || n == 0 || n > 1<<62 {
					return fmt.Errorf("--max-size %s: give a size such as 50GB", size)
				}
				o.MaxSize = int64(n)
			}
			s, err := a.openCache(c.Context(), &f, "cache gc")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.Close()) }()
			r, err := s.GC(c.Context(), o)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.out, r)
			}
			return writeGC(a.out, r, dry)
		},
	}
	f.addCache(c)
	c.Flags().Float64Var(&days, "keep-days", 30, "keep what was made in the last so many `days`")
	c.Flags().StringVar(&size, "max-size", "", "drop more, oldest first and whatever its age, until the blobs take at most this `size`")
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what would be dropped")
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

func writeGC(w io.Writer, r *cache.GCReport, dry bool) error {
	var b strings.Builder
	verb := "dropped"
	if dry {
		verb = "would drop"
	}
	fmt.Fprintf(&b, "%s %s, %s of %s\n", verb, count(r.Dropped.Files, "blob", "blobs"), bytesText(r.Dropped.Bytes), bytesText(r.Blobs.Bytes))
	for _, k := range slices.Sorted(maps.Keys(r.Kinds)) {
		fmt.Fprintf(&b, "  %-20s %8s  %9s\n", cmp.Or(k, "of no node"), thousands(r.Kinds[k].Files), bytesText(r.Kinds[k].Bytes))
	}
	for _, part := range []struct {
		name string
		a    cache.Amount
	}{{"unfinished work", r.Scratch}, {"set aside as damaged", r.Damaged}} {
		if part.a.Files > 0 {
			fmt.Fprintf(&b, "%s %s, %s: %s\n", verb, count(part.a.Files, "file", "files"), bytesText(part.a.Bytes), part.name)
		}
	}
	fmt.Fprintf(&b, "kept %s that last runs need, %s of answers, %s that is young\n", bytesText(r.Needed.Bytes), bytesText(r.Paid.Bytes), bytesText(r.Young.Bytes))
	if r.Over > 0 {
		fmt.Fprintf(&b, "still %s above --max-size: everything that is left is needed or too young to tell\n", bytesText(r.Over))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func bytesText(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }
