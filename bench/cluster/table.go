package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"clusterflow/internal/cluster"
)

// row is the seeds of one method, size and number of starts.
type row struct {
	method string
	k      int
	starts int
	paired bool
	cells  []cell
}

// rowsOf gathers cells, in the order of methods, starts (the most first) and sizes.
func rowsOf(cells []cell) []row {
	var rows []row
	for _, m := range cluster.Methods {
		var own []row
		for _, c := range cells {
			if c.Method != m.Name {
				continue
			}
			at := slices.IndexFunc(own, func(r row) bool { return r.k == c.K && r.starts == c.Starts && r.paired == c.Paired })
			if at < 0 {
				at, own = len(own), append(own, row{method: c.Method, k: c.K, starts: c.Starts, paired: c.Paired})
			}
			own[at].cells = append(own[at].cells, c)
		}
		slices.SortFunc(own, func(a, b row) int { return (b.starts-a.starts)*1_000_000 + a.k - b.k })
		rows = append(rows, own...)
	}
	return rows
}

// mean over the seeds.
func (r row) mean(f func(cell) float64) float64 {
	sum := 0.0
	for _, c := range r.cells {
		sum += f(c)
	}
	return sum / float64(len(r.cells))
}

// pairs are the cells whose gains can be compared.
func (r row) pairs() row {
	out := r
	out.cells = nil
	for _, c := range r.cells {
		if c.comparable() {
			out.cells = append(out.cells, c)
		}
	}
	return out
}

// stopped says whether the peer was, in any of the cells.
func (r row) stopped() bool {
	return slices.ContainsFunc(r.cells, func(c cell) bool { return c.Peer.Stopped })
}

func (r row) multiplied() bool {
	return slices.ContainsFunc(r.cells, func(c cell) bool { return c.Peer.Starts != c.Ours.Starts })
}

func (r row) ours() span {
	return r.meanSpan(func(c cell) span { return c.Ours.alone(c.Starts) })
}

func (r row) peer() span {
	return r.meanSpan(func(c cell) span { return c.Peer.alone(c.Starts) })
}

func (r row) meanSpan(f func(cell) span) span {
	return span{r.mean(func(c cell) float64 { return f(c).Seconds }), r.mean(func(c cell) float64 { return f(c).CPU })}
}

// difference is the mean of ours − peer over the seeds in percent of the
// peer's mean gain, and half of its 95 % interval (Student's t).
func (r row) difference() (mean, half float64) {
	n := float64(len(r.cells))
	scale := 100 / math.Abs(r.mean(func(c cell) float64 { return c.Peer.Gain }))
	apart := func(c cell) float64 { return scale * (c.Ours.Gain - c.Peer.Gain) }
	mean = r.mean(apart)
	if n < 2 {
		return mean, math.NaN()
	}
	squares := r.mean(func(c cell) float64 { return (apart(c) - mean) * (apart(c) - mean) })
	return mean, distuv.StudentsT{Sigma: 1, Nu: n - 1}.Quantile(0.975) * math.Sqrt(squares/(n-1))
}

// failed says whether ours took fewer iterations for a worse gain.
func (r row) failed() bool {
	p := r.pairs()
	if len(p.cells) == 0 {
		return false
	}
	fewer := p.mean(func(c cell) float64 { return c.Ours.Iterations }) < p.mean(func(c cell) float64 { return c.Peer.Iterations })
	mean, _ := p.difference()
	return fewer && mean < 0
}

// printTables writes what was measured as Markdown.
func printTables(w io.Writer, cells []cell) {
	rows := rowsOf(cells)
	fmt.Fprintln(w, "| method | clusters | starts | seeds | ours, s | peer, s | ratio | of processor time | iterations, ours / peer | gain, ours | gain, peer | difference, % | |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, r := range rows {
		fmt.Fprintln(w, r.line())
	}
	fmt.Fprint(w, "\nSeconds are of one size alone, nothing shared, as means over the seeds. The difference is ours less the peer's, in percent of the peer's gain, with its 95 % interval.\n\n")
	printGrid(w, rows)
}

func (r row) line() string {
	var notes []string
	a, b := r.ours(), r.peer()
	peer, ratio, cpu := fmt.Sprintf("%.2f", b.Seconds), fmt.Sprintf("%.1f", b.Seconds/a.Seconds), fmt.Sprintf("%.1f", b.CPU/a.CPU)
	if r.stopped() {
		peer, ratio, cpu = "> "+peer, "> "+ratio, ""
		notes = append(notes, "peer stopped")
	}
	if r.multiplied() {
		notes = append(notes, fmt.Sprintf("peer: seconds of %d start × %d", r.cells[0].Peer.Starts, r.starts/r.cells[0].Peer.Starts))
	}
	iterations, ours, theirs, difference := "", "", "", ""
	iterations = fmt.Sprintf("%.1f / %.1f", r.mean(func(c cell) float64 { return c.Ours.Iterations }), r.mean(func(c cell) float64 { return c.Peer.Iterations }))
	ours = fmt.Sprintf("%.6g", r.mean(func(c cell) float64 { return c.Ours.Gain }))
	if p := r.pairs(); len(p.cells) > 0 {
		theirs = fmt.Sprintf("%.6g", p.mean(func(c cell) float64 { return c.Peer.Gain }))
		mean, half := p.difference()
		difference = fmt.Sprintf("%+.3f", mean)
		if !math.IsNaN(half) {
			difference += fmt.Sprintf(" ± %.3f", half)
		}
		if strings.HasSuffix(r.method, "agglomerative") {
			c := p.cells[0]
			iterations = ""
			notes = append(notes, fmt.Sprintf("heights within %.1e, %d rows in another cluster", c.Heights, c.Moved))
		}
	}
	if r.paired {
		notes = append(notes, "the same first centres")
	}
	if r.failed() {
		notes = append(notes, "FAILED: fewer iterations and a worse gain")
	}
	return fmt.Sprintf("| %s | %d | %d | %d | %.2f | %s | %s | %s | %s | %s | %s | %s | %s |",
		r.method, r.k, r.starts, len(r.cells), a.Seconds, peer, ratio, cpu, iterations, ours, theirs, difference, strings.Join(notes, "; "))
}
