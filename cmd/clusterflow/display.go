package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"clusterflow/graph"
	"clusterflow/tasks"
)

// display shows a run while it goes on: bars on a terminal, lines elsewhere,
// JSON lines with --json.
type display interface {
	event(graph.Event)
	close(*graph.Summary)
}

func (a *app) newDisplay(f *applyFlags, p *planned, left *timeLeft) display {
	tty, _ := terminal(a.err)
	total := 0
	for _, s := range p.Steps {
		if s.State != graph.Cached {
			total++
		}
	}
	switch {
	case f.json:
		return &jsonDisplay{enc: json.NewEncoder(a.out)}
	case f.quiet:
		return &lineDisplay{w: io.Discard, total: total, left: left}
	case tty && a.getenv("TERM") != "dumb":
		return newBars(a.err, painter(a.colors(a.err)), total, left)
	}
	return &lineDisplay{w: a.err, total: total, left: left}
}

// jsonDisplay writes every event as one JSON object a line.
type jsonDisplay struct{ enc *json.Encoder }

// eventJSON is the form of an event.
type eventJSON struct {
	Time    time.Time         `json:"time"`
	Event   graph.EventType   `json:"event"`
	Address string            `json:"address"`
	Kind    string            `json:"kind"`
	Seconds float64           `json:"seconds,omitempty"`
	Done    int64             `json:"done,omitempty"`
	Total   int64             `json:"total,omitempty"`
	Unit    string            `json:"unit,omitempty"`
	Note    string            `json:"note,omitempty"`
	Error   string            `json:"error,omitempty"`
	Until   time.Time         `json:"until,omitzero"`
	Key     string            `json:"key,omitempty"`
	Outputs map[string]string `json:"outputs,omitempty"`
	Info    map[string]string `json:"info,omitempty"`
}

func (d *jsonDisplay) event(e graph.Event) {
	j := eventJSON{
		Time: e.Time, Event: e.Type, Address: e.Node.Addr, Kind: e.Node.Kind(), Seconds: e.Elapsed.Seconds(),
		Done: e.Progress.Done, Total: e.Progress.Total, Unit: e.Progress.Unit, Note: e.Progress.Note, Until: e.Until,
	}
	if e.Err != nil {
		j.Error = e.Err.Error()
	}
	if e.Record != nil {
		j.Key, j.Info, j.Outputs = e.Record.Key.String(), e.Record.Info, map[string]string{}
		for _, o := range e.Record.Outputs {
			j.Outputs[o.Name] = o.Digest.String()
		}
	}
	d.enc.Encode(j) //nolint:errcheck // a closed pipe ends the process by its signal
}

func (d *jsonDisplay) close(*graph.Summary) {}

// quickly is how soon a waiting node may be asked again without being worth a
// line: the offline judge answers within that.
const quickly = 2 * time.Second

// lineDisplay writes one line per finished node, and one for all that wait
// together.
type lineDisplay struct {
	w     io.Writer
	total int
	left  *timeLeft

	mu    sync.Mutex
	done  int
	waits map[string]graph.Event // not said yet, by address
	said  string
	timer *time.Timer
	quiet time.Time // when something was last written
}

// sign is how often a node that works for long gives a sign of life.
const sign = 20 * time.Second

func (d *lineDisplay) event(e graph.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch e.Type {
	case graph.EventDone:
		d.done++
		fmt.Fprintf(d.w, "[%*d/%d] done     %-48s %8s%s%s\n", len(fmt.Sprint(d.total)), d.done, d.total, e.Node.Addr, elapsed(e.Elapsed), facts(e), d.left.text())
		d.quiet = e.Time
	case graph.EventProgress:
		if d.quiet.IsZero() {
			d.quiet = e.Time.Add(-e.Elapsed)
		}
		if e.Progress.Total > 0 && e.Time.Sub(d.quiet) >= sign {
			d.quiet = e.Time
			fmt.Fprintf(d.w, "[%*d/%d] running  %-48s %3d%% %s%s\n", len(fmt.Sprint(d.total)), d.done, d.total, e.Node.Addr,
				100*e.Progress.Done/e.Progress.Total, progressText(e.Progress), d.left.text())
		}
	case graph.EventSpared, graph.EventBlocked:
		d.done++ // without a line: the summary counts them
	case graph.EventFailed:
		d.done++
		fmt.Fprintf(d.w, "[%*d/%d] FAILED   %-48s %s\n", len(fmt.Sprint(d.total)), d.done, d.total, e.Node.Addr, firstLine(e.Err.Error()))
	case graph.EventWaiting:
		if time.Until(e.Until) < quickly {
			return
		}
		if d.waits == nil {
			d.waits = map[string]graph.Event{}
		}
		d.waits[e.Node.Addr] = e
		if d.timer == nil { // the others of its group come at once
			d.timer = time.AfterFunc(200*time.Millisecond, d.sayWaits)
		}
	case graph.EventWarning:
		fmt.Fprintf(d.w, "warning: %s\n", e.Err)
	}
}

// sayWaits prints what is waited for, if that is news.
func (d *lineDisplay) sayWaits() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer = nil
	if len(d.waits) == 0 {
		return
	}
	first := slices.Sorted(maps.Keys(d.waits))[0]
	text := fmt.Sprintf("%s waiting; %s: %s", count(len(d.waits), "node", "nodes"), first, d.waits[first].Progress.Note)
	until := d.waits[first].Until
	d.waits = nil
	if text != d.said {
		d.said = text
		fmt.Fprintf(d.w, "%s; asked again at %s\n", text, until.Local().Format("15:04:05"))
	}
}

func (d *lineDisplay) close(*graph.Summary) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
}

// facts are the numbers of a finished node that people want to see.
func facts(e graph.Event) string {
	if e.Record == nil {
		return ""
	}
	var out []string
	for _, name := range []string{"sentences", "tokens", "responses computed", "iterations", "requests", "failed", "final_score"} {
		if v, ok := e.Record.Info[name]; ok && v != "" && !(name == "failed" && v == "0") {
			out = append(out, v+" "+strings.ReplaceAll(name, "_", " "))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "  " + strings.Join(out, ", ")
}

// slow is how long a node runs before it gets a bar of its own.
const slow = 300 * time.Millisecond

// bars shows a bar for the whole run and one for every node that takes a
// while.
type bars struct {
	p     *mpb.Progress
	whole *mpb.Bar
	paint painter

	// wait is the text about waiting nodes. The bars are drawn by a goroutine
	// of their own, which must not need mu: it is held while lines are printed.
	wait atomic.Pointer[string]

	mu      sync.Mutex
	running map[string]*runningNode
	waiting map[string]bool // by address
	last    string          // what the latest of them waits for
}

type runningNode struct {
	since time.Time
	bar   *mpb.Bar
	last  atomic.Pointer[graph.Progress] // read by the goroutine that draws
}

// text is how far the node has come, in its own unit, and what it says of it.
func (r *runningNode) text(decor.Statistics) string {
	if p := r.last.Load(); p != nil {
		return "  " + progressText(*p)
	}
	return ""
}

// progressText says how far a node has come, in its own unit.
func progressText(p graph.Progress) string {
	done, total := thousands(int(p.Done)), thousands(int(p.Total))
	if p.Unit == "bytes" {
		done, total, p.Unit = humanize.Bytes(uint64(p.Done)), humanize.Bytes(uint64(p.Total)), ""
	}
	return strings.Join(strings.Fields(fmt.Sprintf("%s of %s %s %s", done, total, p.Unit, p.Note)), " ")
}

func newBars(w io.Writer, paint painter, total int, left *timeLeft) *bars {
	b := &bars{
		p:     mpb.New(mpb.WithOutput(w), mpb.WithWidth(32), mpb.WithRefreshRate(120*time.Millisecond)),
		paint: paint, running: map[string]*runningNode{}, waiting: map[string]bool{},
	}
	b.whole = b.p.AddBar(int64(max(total, 1)), mpb.BarPriority(1<<20), mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name("nodes ", decor.WC{W: 7}), decor.CountersNoUnit("%d / %d", decor.WCSyncWidth)),
		mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_GO), decor.Any(func(decor.Statistics) string { return left.text() + b.waitText() })))
	return b
}

// waitText says what the run waits for.
func (b *bars) waitText() string {
	if s := b.wait.Load(); s != nil {
		return *s
	}
	return ""
}

// setWaiting notes that a node waits, or, for an empty note, no longer does.
func (b *bars) setWaiting(addr, note string) {
	if note == "" {
		delete(b.waiting, addr)
	} else {
		b.waiting[addr] = true
		b.last = addr + ": " + note
	}
	text := ""
	if len(b.waiting) > 0 {
		text = fmt.Sprintf("  %s waiting · %s", thousands(len(b.waiting)), b.last)
	}
	b.wait.Store(&text)
}

func (b *bars) event(e graph.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	addr := e.Node.Addr
	switch e.Type {
	case graph.EventStart:
		b.setWaiting(addr, "")
		b.running[addr] = &runningNode{since: e.Time}
	case graph.EventProgress:
		b.progress(addr, e)
	case graph.EventDone, graph.EventFailed, graph.EventWaiting:
		if r := b.running[addr]; r != nil && r.bar != nil {
			r.bar.Abort(true)
		}
		delete(b.running, addr)
		b.line(e)
	case graph.EventSpared, graph.EventBlocked:
		b.whole.Increment()
	case graph.EventWarning:
		fmt.Fprintf(b.p, "%s %s\n", b.paint.paint("33", "warning"), e.Err)
	}
}

func (b *bars) line(e graph.Event) {
	switch e.Type {
	case graph.EventDone:
		b.whole.Increment()
		if e.Elapsed >= slow {
			fmt.Fprintf(b.p, "%s %-48s %8s%s\n", b.paint.paint("32", "✓"), e.Node.Addr, elapsed(e.Elapsed), facts(e))
		}
	case graph.EventFailed:
		b.whole.Increment()
		fmt.Fprintf(b.p, "%s %-48s %s\n", b.paint.paint("31", "✗"), e.Node.Addr, firstLine(e.Err.Error()))
	case graph.EventWaiting:
		b.setWaiting(e.Node.Addr, e.Progress.Note)
	}
}

func (b *bars) progress(addr string, e graph.Event) {
	r := b.running[addr]
	if r == nil {
		return
	}
	r.last.Store(&e.Progress)
	if r.bar == nil && time.Since(r.since) > slow && len(b.running) <= 16 {
		r.bar = b.p.AddBar(e.Progress.Total, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(addr+" ", decor.WCSyncWidthR)),
			mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.Name(" "), decor.AverageETA(decor.ET_STYLE_GO), decor.Any(r.text)))
	}
	if r.bar != nil {
		r.bar.SetTotal(e.Progress.Total, false)
		r.bar.SetCurrent(e.Progress.Done)
	}
}

func (b *bars) close(*graph.Summary) {
	b.mu.Lock()
	for _, r := range b.running {
		if r.bar != nil {
			r.bar.Abort(true)
		}
	}
	b.mu.Unlock()
	b.whole.Abort(true)
	b.p.Wait()
}

// writeSummary says what a run came to, each cause of failure once.
func writeSummary(w io.Writer, s *graph.Summary, color bool) {
	paint := painter(color)
	parts := []string{fmt.Sprintf("%s run", thousands(s.Ran)), fmt.Sprintf("%s cached", thousands(s.Cached))}
	for _, c := range []struct {
		n    int
		text string
		code string
	}{
		{s.Spared, "spared (same inputs as before)", ""}, {s.Failed, "failed", "31"},
		{s.Blocked, "blocked by them", "31"}, {s.Waiting, "waiting", "36"}, {s.Pending, "not reached", "33"},
	} {
		if c.n > 0 {
			parts = append(parts, paint.paint(c.code, thousands(c.n)+" "+c.text))
		}
	}
	fmt.Fprintf(w, "\n%s in %s\n", strings.Join(parts, " · "), elapsed(s.Elapsed))
	times := []string{}
	for _, k := range tasks.Kinds {
		if n := s.Runs[k.Name]; n > 0 {
			times = append(times, fmt.Sprintf("%s %s in %s", thousands(n), k.Name, elapsed(s.Time[k.Name])))
		}
	}
	if len(times) > 0 {
		fmt.Fprintln(w, strings.Join(times, " · "))
	}
	for _, f := range s.Failures {
		more := ""
		if n := len(f.Addrs) - 1; n > 0 {
			more = fmt.Sprintf(" and %s", count(n, "other", "others"))
		}
		fmt.Fprintf(w, "%s %s%s: %v\n", paint.paint("31", "✗"), f.Addrs[0], more, f.Err)
	}
}

// summaryJSON is the last line of apply --json.
type summaryJSON struct {
	Event    string             `json:"event"`
	Ran      int                `json:"ran"`
	Cached   int                `json:"cached"`
	Spared   int                `json:"spared"`
	Failed   int                `json:"failed"`
	Blocked  int                `json:"blocked"`
	Waiting  int                `json:"waiting"`
	Pending  int                `json:"pending"`
	Seconds  float64            `json:"seconds"`
	Runs     map[string]int     `json:"runs"`
	Times    map[string]float64 `json:"seconds_by_kind"`
	Failures []failureJSON      `json:"failures,omitempty"`
	Report   string             `json:"report,omitempty"`
}

type failureJSON struct {
	Error     string   `json:"error"`
	Addresses []string `json:"addresses"`
}

func writeSummaryJSON(w io.Writer, s *graph.Summary, report string) error {
	out := summaryJSON{
		Event: "summary", Ran: s.Ran, Cached: s.Cached, Spared: s.Spared, Failed: s.Failed, Blocked: s.Blocked,
		Waiting: s.Waiting, Pending: s.Pending, Seconds: s.Elapsed.Seconds(), Runs: s.Runs, Times: map[string]float64{}, Report: report,
	}
	for k, d := range s.Time {
		out.Times[k] = d.Seconds()
	}
	for _, f := range s.Failures {
		out.Failures = append(out.Failures, failureJSON{f.Err.Error(), f.Addrs})
	}
	return json.NewEncoder(w).Encode(out)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
