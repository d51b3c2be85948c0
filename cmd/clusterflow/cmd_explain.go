package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/studies"
	"clusterflow/tasks"
)

func (a *app) explainCommand() *cobra.Command {
	var f studyFlags
	var downstream, asJSON bool
	c := &cobra.Command{
		Use:   "explain STUDY ADDRESS",
		Short: "Show what a node's key is made of, what changed since the last run, and where that began",
		Args:  studyAndAddress,
		RunE: func(c *cobra.Command, args []string) error {
			p, known, err := a.look(c.Context(), args[0], &f)
			if err != nil {
				return err
			}
			s, err := findStep(p, args[0], args[1])
			if err != nil {
				return err
			}
			switch {
			case downstream && asJSON:
				return writeDownstreamJSON(a.out, p, s)
			case downstream:
				return writeDownstream(a.out, p, s, painter(a.colors(a.out)))
			}
			e := p.Explain(s, known)
			for i, l := range e.Lines {
				if l.Kind == "param" && l.Origin == "" { // its coordinate says where it stands
					e.Lines[i].Origin = attrOrigin(s.Node, l.Name)
				}
			}
			if asJSON {
				return writeExplanationJSON(a.out, p, e)
			}
			return writeExplanation(a.out, p, e, painter(a.colors(a.out)))
		},
	}
	f.add(c)
	c.Flags().BoolVar(&downstream, "downstream", false, "show what a change of this node touches instead")
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

// studyAndAddress is the arguments of a command about one node.
func studyAndAddress(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return oneStudy(c, args)
	}
	if len(args) != 2 {
		return fmt.Errorf("%s takes a study and the address of one node; plan --nodes lists the addresses", c.Name())
	}
	return nil
}

// look makes a plan of a whole study without a lock, and gives what it was read
// from.
func (a *app) look(ctx context.Context, study string, f *studyFlags) (*planned, *cache.Reader, error) {
	c, err := a.compile(ctx, study, f, nil)
	if err != nil {
		return nil, nil, err
	}
	dir := a.cachePath(study, f)
	known, err := cache.OpenReader(dir)
	if err != nil {
		return nil, nil, err
	}
	p, err := a.planWith(ctx, c, known, studyID(study, dir), dir, &selection{})
	return p, known, err
}

// findStep returns the node of an address; an unknown one comes with what may
// have been meant.
func findStep(p *planned, study, addr string) (*graph.Step, error) {
	s, err := p.Step(addr)
	if err == nil || !errors.Is(err, graph.ErrNoMatch) {
		return s, err
	}
	addr = strings.Trim(addr, "/")
	addrs := make([]string, len(p.Steps))
	var branch []string
	for i, st := range p.Steps {
		addrs[i] = st.Node.Addr
		if strings.HasPrefix(st.Node.Addr, addr+"/") {
			branch = append(branch, st.Node.Addr)
		}
	}
	switch near := studies.Suggest(addr, addrs); {
	case len(branch) > 0:
		return nil, fmt.Errorf("%s is a branch of %s, such as %s; give the whole address of one", addr, count(len(branch), "node", "nodes"), branch[0])
	case near != "":
		return nil, fmt.Errorf("there is no node %s in %s; did you mean %s?", addr, study, near)
	}
	return nil, fmt.Errorf("there is no node %s in %s; an address reads like %s, and plan --nodes lists them all", addr, study, addrs[len(addrs)/2])
}

func attrOrigin(n *graph.Node, name string) string {
	for _, a := range n.Attrs {
		if a.Name == name {
			return a.Origin
		}
	}
	return ""
}

// writeHead names a node and says in a sentence what becomes of it.
func writeHead(b *strings.Builder, s *graph.Step, paint painter) {
	fmt.Fprintf(b, "%s  %s: %s\n", paint.paint("1", s.Node.Addr), s.Node.Kind(), tasks.KindDoc(s.Node))
	text := reasonText(s.Reasons)
	switch s.State {
	case graph.Cached:
		text = "it will not run; the result is of " + moment(s.Record.Finished)
		if s.Dropped {
			text += ", and gc dropped its bytes until a node needs them"
		}
	case graph.Unknown:
		text += "; it is spared if what it reads comes out as before"
	case graph.New:
		if text == "new" {
			text = "this study has not run it before"
		}
	}
	fmt.Fprintf(b, "%s: %s\n", paint.paint(stateColor[s.State], stateName(s.State)), text)
}

// moment is a time as commands show it.
func moment(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func writeExplanation(w io.Writer, p *planned, e *graph.Explanation, paint painter) error {
	var b strings.Builder
	writeHead(&b, e.Step, paint)
	b.WriteString("\nHashed lines")
	if e.Compared {
		fmt.Fprintf(&b, ", against the result of %s", moment(e.Step.Last.Finished))
	}
	b.WriteByte('\n')
	changes := 0
	for _, l := range e.Lines {
		mark, color, value := lineText(l)
		if mark != " " && mark != "?" {
			changes++
		}
		label := l.Name
		if l.Kind == "input" || l.Kind == "source" {
			label = l.Label
		}
		origin := l.Origin
		if origin == "" && l.Kind == "param" {
			origin = "default"
		}
		line := fmt.Sprintf("  %s %-28s %-32s %s", mark, label, value, paint.paint("2", origin))
		fmt.Fprintln(&b, paint.paint(color, strings.TrimRight(line, " ")))
	}
	if !e.Step.Key.IsZero() {
		fmt.Fprintf(&b, "  = %-28s %s\n", "key", e.Step.Key.Short())
	}
	switch {
	case !e.Compared:
		b.WriteString("There is no earlier result of this address to compare with.\n")
	case changes == 0:
		b.WriteString("No line that is known differs from the last run.\n")
	}
	writeCascades(&b, e, paint)
	if p.Last == nil {
		fmt.Fprintf(&b, "The study has not been applied with the cache %s.\n", p.cacheDir)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// lineText is the mark, the colour and the value of a compared line.
func lineText(l graph.ComparedLine) (mark, color, value string) {
	show := func(v string) string {
		if (l.Kind == "input" || l.Kind == "source") && len(v) > 12 {
			return v[:12] // of a digest
		}
		if v == "" {
			return `""`
		}
		return v
	}
	switch l.Change {
	case graph.LineChanged:
		return "~", "33", show(l.Before) + " → " + show(l.Now)
	case graph.LineAdded:
		return "+", "32", show(l.Now)
	case graph.LineRemoved:
		return "-", "31", show(l.Before) + ", no longer hashed"
	case graph.LineUnknown:
		if l.Before != "" {
			return "?", "33", show(l.Before) + " → not known yet"
		}
		return "?", "33", "not known yet"
	}
	return " ", "", show(l.Now)
}

// writeCascades says where changes began, each change once.
func writeCascades(b *strings.Builder, e *graph.Explanation, paint painter) {
	const most = 10
	if len(e.Cascades) == 0 {
		return
	}
	b.WriteString("\nWhere it begins\n")
	var order []string
	groups := map[string][]graph.Cascade{}
	for _, c := range e.Cascades {
		text := reasonText(c.Root.Reasons)
		if groups[text] == nil {
			order = append(order, text)
		}
		groups[text] = append(groups[text], c)
	}
	for i, text := range order {
		if i == most {
			fmt.Fprintf(b, "  … and %s; --json lists all\n", count(len(order)-most, "other change", "other changes"))
			break
		}
		fmt.Fprintf(b, "  %s\n", paint.paint("1", text))
		for j, c := range groups[text] {
			if j == most {
				fmt.Fprintf(b, "    … and %s\n", count(len(groups[text])-most, "other node", "other nodes"))
				break
			}
			path := append([]string{c.Root.Addr}, c.Path...)
			if n := len(path); n > 5 {
				path = append(append(path[:3:3], "…"), path[n-1])
			}
			fmt.Fprintf(b, "    %s\n", strings.Join(append(path, "here"), " → "))
		}
	}
}

// reasonText is reasons in a line, each once.
func reasonText(reasons []graph.Reason) string {
	var texts []string
	for _, r := range reasons {
		if !slices.Contains(texts, r.String()) {
			texts = append(texts, r.String())
		}
	}
	return strings.Join(texts, "; ")
}

func writeExplanationJSON(w io.Writer, p *planned, e *graph.Explanation) error {
	out := struct {
		Address  string               `json:"address"`
		Kind     string               `json:"kind"`
		State    graph.State          `json:"state"`
		Reasons  []graph.Reason       `json:"reasons"`
		Key      string               `json:"key,omitempty"`
		LastKey  string               `json:"last_key,omitempty"`
		Lines    []graph.ComparedLine `json:"lines"`
		Cascades []graph.Cascade      `json:"cascades"`
	}{e.Step.Node.Addr, e.Step.Node.Kind(), e.Step.State, nonNil(e.Step.Reasons), "", "", nonNil(e.Lines), nonNil(e.Cascades)}
	if !e.Step.Key.IsZero() {
		out.Key = e.Step.Key.String()
	}
	if e.Step.Last != nil {
		out.LastKey = e.Step.Last.Key.String()
	}
	return writeJSON(w, out)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// nonNil makes an absent list an empty one, for JSON.
func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// cost is what a set of steps takes at most, in words.
func cost(p *planned, steps []*graph.Step) string {
	var total time.Duration
	timed, demand := 0, map[string]int{}
	for _, s := range steps {
		if t, ok := p.durations.of(s); ok {
			total += t
			timed++
		}
		for _, n := range s.Node.Demand {
			demand[cmp.Or(s.Node.Dest.URL, "the offline judge")] += n
		}
	}
	var parts []string
	if timed > 0 {
		parts = append(parts, "about "+roughly(total*time.Duration(len(steps))/time.Duration(timed)))
	}
	for _, to := range slices.Sorted(maps.Keys(demand)) {
		parts = append(parts, thousands(demand[to])+" requests to "+to)
	}
	return strings.Join(parts, " · ")
}

// writeDownstream lists what depends on a node. Many nodes are counted by kind.
func writeDownstream(w io.Writer, p *planned, s *graph.Step, paint painter) error {
	const most = 40
	var b strings.Builder
	writeHead(&b, s, paint)
	touched, spares := p.Downstream(s)
	if len(touched) == 0 {
		b.WriteString("\nNothing reads it.\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	byFate := map[graph.Fate][]*graph.Touched{}
	steps := make([]*graph.Step, len(touched))
	for i, t := range touched {
		byFate[t.Fate] = append(byFate[t.Fate], t)
		steps[i] = t.Step
	}
	fmt.Fprintf(&b, "\nA change of its result can touch %s", count(len(touched), "node", "nodes"))
	if c := cost(p, steps); c != "" {
		fmt.Fprintf(&b, ": %s at most", c)
	}
	fmt.Fprintf(&b, "\nIf it gives the same bytes as before, %s.\n\n", spared(spares))
	listed := touched
	if len(touched) > most {
		writeTouchedKinds(&b, byFate)
		if listed = cutoffs(touched); len(listed) > 0 {
			b.WriteString("\nWhere an early cutoff spares most (--json lists every node)\n")
		}
	}
	for _, t := range listed {
		note := ""
		if len(t.Reads) > 0 {
			note = "reads " + strings.Join(t.Reads, ", ")
		}
		if t.Spares > 0 {
			note = strings.TrimPrefix(note+"; spares "+count(t.Spares, "node", "nodes")+" if it comes out the same", "; ")
		}
		line := "  " + paint.paint(fateColor[t.Fate], fmt.Sprintf("%-13s", t.Fate)) + "  " + t.Step.Node.Addr
		if note != "" {
			line += strings.Repeat(" ", max(1, 53-len(t.Step.Node.Addr))) + paint.paint("2", note)
		}
		fmt.Fprintln(&b, line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var fateColor = map[graph.Fate]string{graph.FateReads: "33", graph.FateSpared: "32", graph.FateRuns: "31"}

func spared(n int) string {
	switch n {
	case 0:
		return "no node is spared for that alone"
	case 1:
		return "1 node is spared"
	}
	return thousands(n) + " nodes are spared"
}

func writeTouchedKinds(b *strings.Builder, byFate map[graph.Fate][]*graph.Touched) {
	for _, fate := range []graph.Fate{graph.FateReads, graph.FateRuns, graph.FateSpared} {
		kinds := map[string]int{}
		for _, t := range byFate[fate] {
			kinds[t.Step.Node.Kind()]++
		}
		var parts []string
		for _, k := range tasks.Kinds {
			if n := kinds[k.Name]; n > 0 {
				parts = append(parts, thousands(n)+" "+k.Name)
			}
		}
		if len(parts) > 0 {
			fmt.Fprintf(b, "  %-13s  %s\n", fate, strings.Join(parts, " · "))
		}
	}
}

// cutoffs are the nodes behind which most is spared, those first.
func cutoffs(touched []*graph.Touched) []*graph.Touched {
	const most = 12
	out := slices.DeleteFunc(slices.Clone(touched), func(t *graph.Touched) bool { return t.Spares == 0 })
	slices.SortStableFunc(out, func(a, b *graph.Touched) int { return b.Spares - a.Spares })
	return out[:min(len(out), most)]
}

func writeDownstreamJSON(w io.Writer, p *planned, s *graph.Step) error {
	type node struct {
		Address  string      `json:"address"`
		Kind     string      `json:"kind"`
		State    graph.State `json:"state"`
		Fate     graph.Fate  `json:"fate"`
		Distance int         `json:"distance"`
		Reads    []string    `json:"reads,omitempty"`
		Spares   int         `json:"spares"`
	}
	touched, spares := p.Downstream(s)
	out := struct {
		Address string      `json:"address"`
		State   graph.State `json:"state"`
		Spares  int         `json:"spares"`
		Nodes   []node      `json:"nodes"`
	}{s.Node.Addr, s.State, spares, []node{}}
	for _, t := range touched {
		out.Nodes = append(out.Nodes, node{t.Step.Node.Addr, t.Step.Node.Kind(), t.Step.State, t.Fate, t.Distance, t.Reads, t.Spares})
	}
	return writeJSON(w, out)
}
