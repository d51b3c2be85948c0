package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
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
	device deviceFlags
	yes    bool
	trust  []string // hosts
	most   float64  // US dollars; -1: no limit
	pilot  int      // requests of each kind; 0: all
	detach bool
	json   bool
	quiet  bool

	keepGoing  bool
	dryRun     bool
	ignoreDisk bool

	afterLoss bool
	given     []string // as the user gave them, for the history
}

func (a *app) applyCommand() *cobra.Command {
	var f applyFlags
	c := &cobra.Command{
		Use:   "apply STUDY|PLAN",
		Short: "Run what is stale, submit batches, wait for them, publish the report",
		Args:  oneStudy,
		RunE: func(c *cobra.Command, args []string) error {
			f.given = givenFlags(c)
			study, err := a.openSaved(args[0], &f.studyFlags, &f.selection)
			if err != nil {
				return err
			}
			if f.dryRun {
				_, err := a.showPlan(c.Context(), study, &f.studyFlags, &f.selection, &f.view, f.json)
				return err
			}
			return a.apply(c.Context(), study, &f)
		},
	}
	f.studyFlags.add(c)
	f.selection.add(c)
	f.view.add(c)
	c.Flags().IntVar(&f.jobs, "jobs", runtime.NumCPU(), "threads that tasks may keep busy together")
	c.Flags().StringVar(&f.memory, "memory", "", "memory that tasks may take together, such as 16GB (default: four fifths of the machine's)")
	f.device.add(c)
	c.Flags().BoolVar(&f.yes, "yes", false, "send requests to the hosts that the plan names without asking")
	c.Flags().StringArrayVar(&f.trust, "trust", nil, "approve this `host` for the key that the study names for it, for good; see clusterflow trust")
	c.Flags().Float64Var(&f.most, "max-cost", -1, "send nothing more once this apply could cost so many US `dollars`")
	c.Flags().IntVar(&f.pilot, "pilot", 0, "send only so many `requests` of each kind, of the smallest clustering; show the answers and what the rest costs")
	c.Flags().BoolVar(&f.afterLoss, "accept-lost-ledger", false, "buy answers although the ledger of earlier ones was lost")
	c.Flags().BoolVar(&f.detach, "detach", false, "return as soon as only batches are being waited for (exit code 3)")
	c.Flags().BoolVar(&f.keepGoing, "keep-going", true, "after a failure go on with what does not depend on it; =false starts nothing more")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would run and stop, as plan does")
	c.Flags().BoolVar(&f.ignoreDisk, "ignore-disk", false, "begin although the disk seems too small")
	c.Flags().BoolVar(&f.json, "json", false, "print events as JSON lines")
	c.Flags().BoolVar(&f.quiet, "quiet", false, "print the summary only")
	return c
}

func (a *app) apply(ctx context.Context, study string, f *applyFlags) (err error) {
	if f.jobs < 1 {
		return fmt.Errorf("--jobs %d: at least 1", f.jobs)
	}
	memory, err := memoryLimit(f.memory)
	if err != nil {
		return err
	}
	most, err := f.maxCost()
	if err != nil {
		return err
	}
	if err := f.device.check(); err != nil {
		return err
	}
	if err := f.checkPilot(); err != nil {
		return err
	}
	office, known, err := a.office()
	if err != nil {
		return err
	}
	compiled, err := a.compile(ctx, study, &f.studyFlags, office) // before anything is made on disk
	if err != nil {
		return err
	}
	dir := a.cachePath(study, &f.studyFlags)
	id := studyID(study, dir)
	store, err := cache.Open(ctx, cache.Options{Dir: dir, StateDir: f.stateDir, Command: "clusterflow apply " + study, Later: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var sum *graph.Summary
	past := cache.Past{StudyID: id, Study: compiled.Study.Name.V, File: study, Flags: f.given, Started: a.now()}
	defer func() { a.keepPast(dir, past, sum, err) }()
	office.Open(store, batch.DeskOptions{})
	office.SetPayer(tasks.Payer{StudyID: id, Study: compiled.Study, MaxCost: most, Since: a.now()})
	if f.saved != nil {
		office.SetCeiling(f.saved.Limits())
	}
	defer func() { err = errors.Join(err, office.Close()) }()
	f.brief = !f.json && len(f.force) == 0 && f.saved == nil
	f.selection.cpu = f.device.device == "cpu"
	p, err := a.planApply(ctx, compiled, store, id, dir, &f.selection)
	for _, n := range store.Notices() { // before anything is spent
		fmt.Fprintln(a.err, "note:", n)
	}
	if err != nil {
		return err
	}
	if f.pilot > 0 {
		if p, err = a.planPilot(ctx, p, store, f); p == nil || err != nil {
			return err
		}
		office.SetPilot(f.pilot)
	}
	p.maxCost = most
	a.keepKilled(dir, p.known, p.Last)
	if run := p.Last; run != nil && currentState(run) == "waiting" { // it has lent us the cache between two polls
		return fmt.Errorf("%s is being applied by process %d on %s since %s, which waits for batches; interrupt that one first, or follow it with: clusterflow status --watch %s",
			study, run.Owner.PID, run.Owner.Host, run.Started.Local().Format("2006-01-02 15:04:05"), study)
	}
	if !f.json && !f.quiet {
		if err := f.view.write(a.out, p, a.colors(a.out), ""); err != nil {
			return err
		}
	}
	if err := p.disk.check(f.ignoreDisk); err != nil {
		return err
	}
	if err := a.approve(ctx, p, known, f); err != nil {
		return err
	}
	if err := a.confirm(ctx, p, office, store, f); err != nil {
		return err
	}
	if err := compiled.Lock.Save(); err != nil { // a convenience: the folder may not be writable
		fmt.Fprintln(a.err, "note:", err)
	}
	a.working.Store(true)
	sum, err = a.execute(ctx, p, store, office, study, f, memory)
	if sum == nil {
		return err
	}
	page := ""
	if err == nil {
		page, err = a.publish(p, store, sum)
		noteMixed(a.err, p, sum, store)
	}
	bills := office.Bills()
	if bills == nil {
		bills = p.bills() // nobody was asked
	} else if !f.json {
		defer writeBills(a.out, bills)
	}
	if f.pilot > 0 && err == nil {
		return a.afterPilot(ctx, p, sum, store, office, f)
	}
	defer a.tell(ctx, p, sum, page, bills)
	return a.finish(p, sum, page, err, f)
}

// planApply plans from what the journal says. If there is work, the database is
// opened, and if that finds records which the journal lacked, or the other way
// round, the plan is made again.
func (a *app) planApply(ctx context.Context, c *tasks.Compiled, store *cache.Store, id, dir string, sel *selection) (*planned, error) {
	for {
		known, err := store.Reader()
		if err != nil {
			return nil, err
		}
		p, err := a.planWith(ctx, c, known, id, dir, sel)
		if err != nil || !p.Work() {
			return p, err
		}
		if mended, err := store.Ready(); err != nil || !mended {
			return p, err
		}
	}
}

// execute runs the plan with its progress shown.
func (a *app) execute(ctx context.Context, p *planned, store *cache.Store, office *tasks.Office, study string, f *applyFlags, memory int64) (*graph.Summary, error) {
	ctx, err := f.device.forPlan(ctx, a, p)
	if err != nil {
		return nil, err
	}
	left := newTimeLeft(p, f.jobs, a.now)
	show := a.newDisplay(f, p, left)
	x := graph.Executor{
		Store: store, Threads: f.jobs, Memory: memory, Detach: f.detach, Batches: office.Batches, Bills: office.Bills, Idle: office.Close,
		FailFast: !f.keepGoing, Left: left.left,
		Notify: func(e graph.Event) { left.event(e); show.event(e) },
		Run:    cache.Run{StudyID: studyID(study, p.cacheDir), Study: p.compiled.Study.Name.V, File: study, Owner: store.Owner(), Bills: p.bills()},
	}
	if f.saved != nil {
		x.Permit = f.saved.Permit()
	}
	sum, err := x.Apply(ctx, p.Plan)
	show.close(sum)
	return sum, err
}

// finish prints the summary and chooses the exit code; err is what else went
// wrong.
func (a *app) finish(p *planned, sum *graph.Summary, page string, err error, f *applyFlags) error {
	if f.json {
		if werr := writeSummaryJSON(a.out, sum, page); werr != nil {
			return errors.Join(err, werr)
		}
	} else {
		writeSummary(a.out, sum, a.colors(a.out))
		if page != "" {
			fmt.Fprintf(a.out, "Report: %s\n", page)
		} else if n := len(p.Graph.Nodes) - len(p.Steps); n > 0 && err == nil {
			fmt.Fprintf(a.out, "Part of the study: %s not asked for\n", count(n, "node was", "nodes were"))
		}
	}
	switch {
	case err != nil:
		return err
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

// publish brings the report's directory in line with the cache, if this run
// made the report or found it cached.
func (a *app) publish(p *planned, store *cache.Store, sum *graph.Summary) (string, error) {
	record := sum.Records["report"]
	if record == nil {
		return "", nil
	}
	if slices.ContainsFunc(record.Outputs, func(o cache.Output) bool { return o.Absent }) { // of a brief record
		known := p.known // has it if nothing ran
		if sum.Ran > 0 {
			var err error
			if known, err = store.Reader(); err != nil {
				return "", err
			}
		}
		var ok bool
		if record, ok = known.Record(record.Key); !ok {
			return "", nil
		}
	}
	page, err := tasks.Publish(store.Blobs(), record, p.compiled.Study.Name.V, p.compiled.Study.Report.Dir.V)
	var damaged *cache.DamagedError
	if errors.As(err, &damaged) {
		err = errors.Join(fmt.Errorf("%w; apply again to make the report anew", err), store.Blobs().Quarantine(damaged.Digest))
	}
	return page, err
}

// confirm asks before text leaves the machine. What is already answered, or in
// a batch, is not sent again and not counted.
func (a *app) confirm(ctx context.Context, p *planned, office *tasks.Office, store *cache.Store, f *applyFlags) error {
	if !p.asksOutside() {
		return nil
	}
	asks, err := office.Bill(ctx, p.compiled, p.Plan, p.known.Record, p.pastAnswers())
	if err != nil || len(asks) == 0 {
		return err
	}
	if f.pilot > 0 {
		asks = tasks.Limited(asks, f.pilot)
	}
	bills, err := office.ReadBills(ctx)
	if err != nil {
		return err
	}
	m := newMoney(asks, bills, p.payer())
	if err := m.refusal(); err != nil {
		return err
	}
	lines := m.byDestination()
	slices.Sort(lines)
	text := strings.Join(lines, "\n")
	lost, err := store.LedgerLost()
	if err != nil {
		return err
	}
	if lost && f.afterLoss {
		if err := store.AcceptLoss(); err != nil {
			return err
		}
	} else if lost {
		return fmt.Errorf("the ledger of batches and paid answers was lost, and this would send\n%s\nperhaps not for the first time; restore the database, or give --accept-lost-ledger to buy them anyway", text)
	}
	if f.yes {
		return nil
	}
	if in, ok := a.in.(*os.File); !ok || f.json || !isTerminal(in) {
		return fmt.Errorf("this would send\n%s\nand nobody is here to agree to it: give --yes, or run what costs nothing with --only train", text)
	}
	ok, err := a.agrees(ctx, "This sends the study's sentences:\n"+text)
	if err == nil && !ok {
		err = errors.New("nothing was sent; --only train runs what costs nothing")
	}
	return err
}

// agrees asks the person at the terminal whether to go on.
func (a *app) agrees(ctx context.Context, text string) (bool, error) {
	fmt.Fprintf(a.out, "\n%s\nGo on? [y/N] ", text)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case s := <-answer:
		return s == "y" || s == "yes", nil
	}
}

func isTerminal(f *os.File) bool {
	tty, _ := terminal(f)
	return tty
}

// maxCost reads --max-cost; nil is no limit.
func (f *applyFlags) maxCost() (*float64, error) {
	switch {
	case f.most == -1:
		return nil, nil
	case f.most >= 0 && !math.IsInf(f.most, 0):
		return &f.most, nil
	}
	return nil, fmt.Errorf("--max-cost %g: give a sum in US dollars of at least 0", f.most)
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
