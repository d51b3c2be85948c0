package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/tasks"
)

// applyFlags are the flags of apply.
type applyFlags struct {
	studyFlags
	selection
	view   planView
	jobs   int
	memory string
	yes    bool
	detach bool
	json   bool
	quiet  bool
}

func (a *app) applyCommand() *cobra.Command {
	var f applyFlags
	c := &cobra.Command{
		Use:   "apply STUDY",
		Short: "Run what is stale, submit batches, wait for them, publish the report",
		Args:  oneStudy,
		RunE:  func(c *cobra.Command, args []string) error { return a.apply(c.Context(), args[0], &f) },
	}
	f.studyFlags.add(c)
	f.selection.add(c)
	f.view.add(c)
	c.Flags().IntVar(&f.jobs, "jobs", runtime.NumCPU(), "threads that tasks may keep busy together")
	c.Flags().StringVar(&f.memory, "memory", "", "memory that tasks may take together, such as 16GB (default: four fifths of the machine's)")
	c.Flags().BoolVar(&f.yes, "yes", false, "send requests to the hosts that the plan names without asking")
	c.Flags().BoolVar(&f.detach, "detach", false, "return as soon as only batches are being waited for (exit code 3)")
	c.Flags().BoolVar(&f.json, "json", false, "print events as JSON lines")
	c.Flags().BoolVar(&f.quiet, "quiet", false, "print the summary only")
	return c
}

func (a *app) apply(ctx context.Context, study string, f *applyFlags) error {
	if f.jobs < 1 {
		return fmt.Errorf("--jobs %d: at least 1", f.jobs)
	}
	memory, err := memoryLimit(f.memory)
	if err != nil {
		return err
	}
	office := tasks.NewOffice(a.getenv)
	compiled, err := a.compile(study, &f.studyFlags, office) // before anything is made on disk
	if err != nil {
		return err
	}
	dir := a.cachePath(study, &f.studyFlags)
	store, err := cache.Open(ctx, cache.Options{Dir: dir, StateDir: f.stateDir, Command: "clusterflow apply " + study})
	if err != nil {
		return err
	}
	defer store.Close()
	for _, n := range store.Notices() { // before anything is spent
		fmt.Fprintln(a.err, "note:", n)
	}
	office.Open(store, batch.DeskOptions{})
	defer office.Close()
	known, err := store.Reader()
	if err != nil {
		return err
	}
	p, err := a.planWith(ctx, compiled, known, studyID(study, dir), dir, &f.selection)
	if err != nil {
		return err
	}
	if !f.json && !f.quiet {
		if err := f.view.write(a.out, p, a.colors(a.out), ""); err != nil {
			return err
		}
	}
	if err := a.confirm(ctx, p, f); err != nil {
		return err
	}
	sum, err := a.execute(ctx, p, store, office, study, f, memory)
	if err != nil {
		return err
	}
	return a.finish(p, store, sum, f)
}

// execute runs the plan with its progress shown.
func (a *app) execute(ctx context.Context, p *planned, store *cache.Store, office *tasks.Office, study string, f *applyFlags, memory int64) (*graph.Summary, error) {
	show := a.newDisplay(f, p)
	x := graph.Executor{
		Store: store, Threads: f.jobs, Memory: memory, Detach: f.detach, Notify: show.event, Batches: office.Batches, Idle: office.Close,
		Run: cache.Run{StudyID: studyID(study, p.cacheDir), Study: p.compiled.Study.Name.V, File: study, Owner: store.Owner()},
	}
	sum, err := x.Apply(ctx, p.Plan)
	show.close(sum)
	return sum, err
}

// finish publishes the report, prints the summary and chooses the exit code.
func (a *app) finish(p *planned, store *cache.Store, sum *graph.Summary, f *applyFlags) error {
	page, err := a.publish(p, store)
	if err != nil {
		return err
	}
	if f.json {
		if err := writeSummaryJSON(a.out, sum, page); err != nil {
			return err
		}
	} else {
		writeSummary(a.out, sum, a.colors(a.out))
		if page != "" {
			fmt.Fprintf(a.out, "Report: %s\n", page)
		}
	}
	switch {
	case sum.Failed > 0:
		return &exitError{code: exitFailed}
	case sum.Waiting > 0:
		if !f.json {
			fmt.Fprintln(a.out, "Batches are out; apply again, or look with: clusterflow status", p.compiled.Study.File)
		}
		return &exitError{code: exitWaiting}
	}
	return nil
}

// publish brings the report's directory in line with the cache, if the study's
// report is done.
func (a *app) publish(p *planned, store *cache.Store) (string, error) {
	dir := p.compiled.Study.Report.Dir.V
	n := p.Graph.Node("report")
	if n == nil {
		return "", nil
	}
	known, err := store.Reader()
	if err != nil {
		return "", err
	}
	run, err := known.Run(studyID(p.compiled.Study.File, p.cacheDir))
	if err != nil || run == nil {
		return "", err
	}
	st := run.Nodes[n.Addr]
	if st == nil || st.State != "done" && st.State != "cached" {
		return "", nil
	}
	record, err := store.Record(st.Key)
	if err != nil || record == nil {
		return "", err
	}
	page, err := tasks.Publish(store.Blobs(), record, dir)
	var damaged *cache.DamagedError
	if errors.As(err, &damaged) {
		err = errors.Join(fmt.Errorf("%w; apply again to make the report anew", err), store.Blobs().Quarantine(damaged.Digest))
	}
	return page, err
}

// confirm asks before text leaves the machine.
func (a *app) confirm(ctx context.Context, p *planned, f *applyFlags) error {
	requests := map[string]int{}
	for _, s := range p.Steps {
		if s.Node.Host != "" && s.State != graph.Cached {
			for _, n := range s.Node.Demand {
				requests[s.Node.Host] += n
			}
		}
	}
	if len(requests) == 0 || f.yes {
		return nil
	}
	var lines []string
	for _, h := range p.compiled.Hosts {
		if n := requests[h.Name]; n > 0 {
			lines = append(lines, fmt.Sprintf("up to %s requests to %s, paid with the key in $%s", thousands(n), h.Name, h.APIKeyEnv))
		}
	}
	text := strings.Join(lines, "\n")
	if in, ok := a.in.(*os.File); !ok || f.json || !isTerminal(in) {
		return fmt.Errorf("this would send\n%s\nand nobody is here to agree to it: give --yes, or run what costs nothing with --only train", text)
	}
	fmt.Fprintf(a.out, "\nThis sends the study's sentences:\n%s\nGo on? [y/N] ", text)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case s := <-answer:
		if s != "y" && s != "yes" {
			return errors.New("nothing was sent; --only train runs what costs nothing")
		}
		return nil
	}
}

func isTerminal(f *os.File) bool {
	tty, _ := terminal(f)
	return tty
}

// memoryLimit reads --memory; by default four fifths of the machine's.
func memoryLimit(text string) (int64, error) {
	if text == "" {
		return machineMemory() / 5 * 4, nil
	}
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("--memory %s: give a size such as 8GB or 500MiB", text)
	}
	return int64(n), nil
}

// machineMemory is the machine's memory in bytes; 0, which sets no limit, where
// it is not known.
func machineMemory() int64 {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	var kib int64
	if _, err := fmt.Sscanf(string(raw), "MemTotal: %d kB", &kib); err != nil {
		return 0
	}
	return kib << 10
}

// relative shortens a path for people: relative to the working folder if that
// is shorter.
func relative(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	if r, err := filepath.Rel(wd, path); err == nil && len(r) < len(path) {
		return r
	}
	return path
}

// elapsed writes a measured duration.
func elapsed(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
}
