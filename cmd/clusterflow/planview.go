package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"clusterflow/graph"
	"clusterflow/tasks"
)

// fewNodes is the number of nodes up to which a plan lists them unasked.
const fewNodes = 24

// planView says how a plan is shown.
type planView struct {
	nodes bool
	by    string
}

func (v *planView) add(c *cobra.Command) {
	c.Flags().BoolVar(&v.nodes, "nodes", false, "list every node with its state and reason")
	c.Flags().StringVar(&v.by, "by", "", "count nodes by stage, kind, model, layer, method, clusters, titles or judge")
}

// Colours of states.
var stateColor = map[graph.State]string{
	graph.New: "32", graph.Stale: "33", graph.Unknown: "33", graph.Waiting: "36", graph.Failed: "31", graph.Cached: "2",
}

// painter colours text, or leaves it.
type painter bool

func (p painter) paint(code, s string) string {
	if !p || code == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// write shows a plan: counts, reasons, stages, then nodes.
func (v *planView) write(w io.Writer, p *planned, color bool, remark string) error {
	paint := painter(color)
	s := p.compiled.Study
	var b strings.Builder
	head := fmt.Sprintf("%s  %s  protocol %s  seed %d", paint.paint("1", s.Name.V), s.File, s.Protocol.V, s.Seed.V)
	if remark != "" {
		head += "        " + paint.paint("2", remark)
	}
	fmt.Fprintln(&b, head)
	counts := p.Count()
	parts := []string{}
	for _, st := range graph.States {
		if n := counts[st]; n > 0 {
			parts = append(parts, paint.paint(stateColor[st], thousands(n)+" "+stateName(st)))
		}
	}
	fmt.Fprintf(&b, "%s: %s\n", count(len(p.Steps), "node", "nodes"), strings.Join(parts, " · "))
	if len(p.left) > 0 {
		fmt.Fprintf(&b, "left out: %s\n", leftOut(p.left))
	}
	v.reasons(&b, p, paint)
	if v.by != "" {
		if err := v.table(&b, p); err != nil {
			return err
		}
	} else if p.Work() {
		b.WriteByte('\n')
		stages(&b, p)
	}
	v.list(&b, p, paint)
	if p.asksOutside() {
		for i, text := range p.money().warnings(p) {
			if i == 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintln(&b, paint.paint("33", text))
		}
	}
	if text := p.trust.warning(p); text != "" {
		fmt.Fprintf(&b, "\n%s %s\n", paint.paint("33", "warning:"), text)
	}
	if text := p.disk.warning(); text != "" {
		fmt.Fprintf(&b, "\n%s %s\n", paint.paint("33", "warning:"), text)
	}
	if remark != "" && p.Work() && !v.nodes && v.by == "" {
		fmt.Fprintf(&b, "\nNext: plan --nodes · plan --by method · apply%s\n", v.free(p))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// free says how to run what costs nothing, where something costs.
func (v *planView) free(p *planned) string {
	if p.asksOutside() {
		return " · apply --only train ($0)"
	}
	return ""
}

// leftOut says what --exclude took away.
func leftOut(nodes []*graph.Node) string {
	const most = 4
	addrs := []string{}
	for _, n := range nodes[:min(most, len(nodes))] {
		addrs = append(addrs, n.Addr)
	}
	text := count(len(nodes), "node", "nodes") + " by --exclude, with what depends on them: " + strings.Join(addrs, ", ")
	if len(nodes) > most {
		text += ", …"
	}
	return text
}

// stateName is a state as a count reads: "3 failed last time".
func stateName(s graph.State) string {
	switch s {
	case graph.Unknown:
		return "not known yet"
	case graph.Failed:
		return "failed last time"
	}
	return string(s)
}

// reasons lists why nodes run, each reason once with its count.
func (v *planView) reasons(b *strings.Builder, p *planned, paint painter) {
	const most, mostKinds = 12, 6
	because := p.Because()
	if len(because) == 0 {
		return
	}
	b.WriteByte('\n')
	for i, r := range because {
		if i == most {
			fmt.Fprintf(b, "… and %s; --nodes lists every node\n", count(len(because)-most, "more reason", "more reasons"))
			break
		}
		kinds := []string{}
		for _, k := range tasks.Kinds {
			if n := r.Kinds[k.Name]; n > 0 {
				kinds = append(kinds, thousands(n)+" "+k.Name)
			}
		}
		if len(kinds) > mostKinds { // the stages below say it all
			kinds = append(kinds[:mostKinds-1], "…")
		}
		fmt.Fprintf(b, "%-52s %s  %s\n", r.Reason, paint.paint(stateColor[r.State], fmt.Sprintf("%5s %s", thousands(r.Total), stateName(r.State))), paint.paint("2", strings.Join(kinds, " · ")))
	}
}

// stage gathers what will run of one stage.
type stage struct {
	kinds   map[string]int
	methods map[string]int
	layers  map[string]map[string]bool // by model
	offline map[string]int             // requests to the offline judge, by task
	asks    bool                       // it asks somebody
	memory  int64
	disk    int64
	time    time.Duration
	timed   int
	steps   int
	kept    map[string]int    // responses whose rows are kept, by model
	of      map[string]int    // responses of the same shards
	rounded map[string]string // precision of models that do not run in f32
	on      map[string]bool   // what the time of passes was estimated for
}

// stages shows what each stage will do, in the order of the study.
func stages(b *strings.Builder, p *planned) {
	all := map[string]*stage{}
	for _, s := range p.Steps {
		if s.State == graph.Cached {
			continue
		}
		st := all[s.Node.Stage]
		if st == nil {
			st = &stage{
				kinds: map[string]int{}, methods: map[string]int{}, layers: map[string]map[string]bool{}, offline: map[string]int{},
				kept: map[string]int{}, of: map[string]int{}, rounded: map[string]string{}, on: map[string]bool{},
			}
			all[s.Node.Stage] = st
		}
		st.add(s, p.durations)
	}
	for _, f := range p.compiled.Facts(p.dataInfo) {
		fmt.Fprintf(b, "%-8s %s\n", tasks.StageData, f)
	}
	for _, d := range p.compiled.Downloads {
		if st := all[tasks.StageExtract]; st != nil && st.layers[d.Model] != nil {
			fmt.Fprintf(b, "%-8s %s\n", "DOWNLOAD", downloadLine(d))
		}
	}
	for _, name := range tasks.Stages {
		st := all[name]
		if st == nil || name == tasks.StageData {
			continue
		}
		for i, line := range st.lines(name, p) {
			label := name
			if i > 0 {
				label = ""
			}
			fmt.Fprintf(b, "%-8s %s\n", label, line)
		}
	}
}

// downloadLine says what extraction fetches first.
func downloadLine(d tasks.Download) string {
	return fmt.Sprintf("%s: %s of weights in %s from %s, commit %.12s, to %s when extract runs",
		d.Model, humanize.Bytes(uint64(d.Bytes)), count(d.Files, "file", "files"), d.Host+"/"+d.Source, d.Commit, d.Cache)
}

func (st *stage) add(s *graph.Step, d *durations) {
	n := s.Node
	st.steps++
	st.kinds[n.Kind()]++
	if m := n.Attr("method"); m != "" {
		st.methods[m]++
	}
	if n.Kind() == "extract" {
		model := n.Attr("model")
		if st.layers[model] == nil {
			st.layers[model] = map[string]bool{}
			if p := precisionOf(n); p != "f32" {
				st.rounded[model] = p
			}
		}
		if st.layers[model][n.Attr("layer")] = true; len(st.layers[model]) == 1 { // the others have the same responses
			kept, of := d.kept(s)
			st.kept[model] += kept
			st.of[model] += of
		}
	}
	st.memory = max(st.memory, n.Need.Memory)
	st.disk += n.Disk
	st.asks = st.asks || len(n.Demand) > 0
	for task, k := range n.Demand {
		if n.Dest == (graph.Destination{}) {
			st.offline[task] += k
		}
	}
	if t, ok := d.of(s); ok {
		st.time += t
		st.timed++
		if n.Kind() == "extract" {
			if r, on := d.passes(n); r != nil && on != "" {
				st.on[on] = true
			}
		}
	}
}

// lines says in words what a stage will do.
func (st *stage) lines(name string, p *planned) []string {
	var what []string
	switch name {
	case tasks.StageExtract:
		for _, model := range slices.Sorted(maps.Keys(st.layers)) {
			layers := slices.Collect(maps.Keys(st.layers[model]))
			slices.SortFunc(layers, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
			text := fmt.Sprintf("%s: %s in one pass to block %s", model, count(len(layers), "layer", "layers"), layers[len(layers)-1])
			if p := st.rounded[model]; p != "" {
				text += " · " + p
			}
			if kept := st.kept[model]; kept > 0 {
				text += fmt.Sprintf(" · rows of %s of %s kept", thousands(kept), count(st.of[model], "response", "responses"))
			}
			what = append(what, text)
		}
		switch n := st.kinds["extract"]; {
		case n > 0:
			what = append(what, count(n, "shard", "shards"))
		default:
			what = append(what, "rows of "+count(st.kinds["rows"], "layer", "layers")+" to join")
		}
	case tasks.StageTrain:
		methods := []string{}
		for _, m := range slices.Sorted(maps.Keys(st.methods)) {
			methods = append(methods, fmt.Sprintf("%s %s", m, thousands(st.methods[m])))
		}
		what = append(what, count(st.kinds["train"], "fit", "fits")+": "+strings.Join(methods, " · "))
	case tasks.StageJudge:
		return append(st.judgeLines(), p.money().lines()...)
	case tasks.StageReport:
		out := []string{"→ " + p.compiled.Study.Report.Dir.V}
		if u, err := url.Parse(p.compiled.Study.OnComplete.V); err == nil && u.Host != "" {
			line := "tells " + u.Host + " when the study is done or has failed (names, numbers and errors, no text of the data)"
			if to := hookOf(p.compiled.Study.OnComplete.V); !p.trust.has(to) {
				line = "would tell " + u.Host + " when the study is done, once you have approved it: clusterflow trust " + pairOf(to).String()
			}
			out = append(out, line)
		}
		return out
	default:
		for _, k := range slices.Sorted(maps.Keys(st.kinds)) {
			what = append(what, thousands(st.kinds[k])+" "+k)
		}
	}
	line := strings.Join(what, " · ")
	var cost []string
	if st.timed > 0 {
		rest := time.Duration(st.steps-st.timed) * st.time / time.Duration(st.timed)
		if name == tasks.StageExtract || name == tasks.StageShared {
			rest = 0 // joining rows is nothing beside the pass, components nothing beside a tree
		}
		about := "about " + roughly(st.time+rest)
		if on := slices.Sorted(maps.Keys(st.on)); len(on) > 0 {
			about += " (" + strings.Join(on, "; ") + ")"
		}
		cost = append(cost, about)
	}
	if st.memory > 1<<20 {
		cost = append(cost, humanize.IBytes(uint64(st.memory))+" at the peak")
	}
	if st.disk > 1<<20 {
		cost = append(cost, humanize.IBytes(uint64(st.disk))+" on disk")
	}
	if len(cost) > 0 {
		line = fmt.Sprintf("%-56s %s", line, strings.Join(cost, " · "))
	}
	return []string{line}
}

// judgeLines lists the requests to the offline judge by task, or says that
// nobody is asked.
func (st *stage) judgeLines() []string {
	var out []string
	for _, task := range slices.Sorted(maps.Keys(st.offline)) {
		out = append(out, fmt.Sprintf("%-13s %-28s %9s requests at most", task, "offline judge", thousands(st.offline[task])))
	}
	if !st.asks {
		kinds := []string{}
		for _, k := range slices.Sorted(maps.Keys(st.kinds)) {
			kinds = append(kinds, thousands(st.kinds[k])+" "+k)
		}
		out = append(out, strings.Join(kinds, " · ")+", no new requests planned")
	}
	return out
}

// table counts nodes by one coordinate.
func (v *planView) table(b *strings.Builder, p *planned) error {
	allowed := []string{"stage", "kind", "model", "layer", "method", "clusters", "titles", "judge"}
	by := v.by
	if by == "size" {
		by = "clusters"
	}
	if !slices.Contains(allowed, by) {
		return fmt.Errorf("--by %s: choose one of %s", v.by, strings.Join(allowed, ", "))
	}
	rows := map[string]map[graph.State]int{}
	var order []string
	for _, s := range p.Steps {
		value := s.Node.Attr(by)
		switch by {
		case "stage":
			value = s.Node.Stage
		case "kind":
			value = s.Node.Kind()
		}
		value = cmp.Or(value, "–")
		if rows[value] == nil {
			rows[value] = map[graph.State]int{}
			order = append(order, value)
		}
		rows[value][s.State]++
	}
	slices.SortStableFunc(order, func(a, b string) int {
		x, err1 := strconv.Atoi(a)
		y, err2 := strconv.Atoi(b)
		if err1 == nil && err2 == nil {
			return x - y
		}
		return 0
	})
	fmt.Fprintf(b, "\n%-24s", by)
	for _, st := range graph.States {
		fmt.Fprintf(b, " %17s", stateName(st))
	}
	b.WriteByte('\n')
	for _, value := range order {
		fmt.Fprintf(b, "%-24s", value)
		for _, st := range graph.States {
			fmt.Fprintf(b, " %17s", thousands(rows[value][st]))
		}
		b.WriteByte('\n')
	}
	return nil
}

// list shows nodes: all with --nodes, else those that run if they are few.
func (v *planView) list(b *strings.Builder, p *planned, paint painter) {
	stale := len(p.Steps) - p.Count()[graph.Cached]
	if !v.nodes && (stale == 0 || stale > fewNodes) {
		return
	}
	b.WriteByte('\n')
	for _, s := range p.Steps {
		if s.State == graph.Cached && !v.nodes {
			continue
		}
		reasons := make([]string, len(s.Reasons))
		for i, r := range s.Reasons {
			reasons[i] = r.String()
		}
		if s.Dropped {
			reasons = append(reasons, "(dropped: made again when something reads it)")
		}
		fmt.Fprintf(b, "  %s %-44s %s\n", paint.paint(stateColor[s.State], fmt.Sprintf("%-8s", s.State)), s.Node.Addr, strings.Join(reasons, "; "))
	}
}

// roughly writes a duration with the precision of an estimate.
func roughly(d time.Duration) string {
	switch {
	case d < time.Second:
		return "1 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()+0.5))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()+0.5))
	}
	return fmt.Sprintf("%.1f h", d.Hours())
}

func thousands(n int) string { return humanize.Comma(int64(n)) }
