package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"clusterflow/graph"
	"clusterflow/studies"
	"clusterflow/tasks"
)

// pictureNodes is the number of nodes up to which a folded graph is a picture;
// beyond it more is folded.
const pictureNodes = 120

func (a *app) graphCommand() *cobra.Command {
	var f studyFlags
	var sel selection
	var format string
	var full bool
	c := &cobra.Command{
		Use:   "graph STUDY",
		Short: "Draw the study as dot, mermaid or JSON, with states as colours",
		Args:  oneStudy,
		RunE: func(c *cobra.Command, args []string) error {
			write, ok := graphFormats[format]
			if !ok {
				names := []string{"dot", "mermaid", "json"}
				hint := ""
				if near := studies.Suggest(format, names); near != "" {
					hint = "; did you mean " + near + "?"
				}
				return fmt.Errorf("--format %s: choose one of %s%s", format, strings.Join(names, ", "), hint)
			}
			p, err := a.plan(c.Context(), args[0], &f, &sel)
			if err != nil {
				return err
			}
			return write(a.out, p, fold(p, full))
		},
	}
	f.add(c)
	sel.add(c)
	c.Flags().StringVar(&format, "format", "dot", "dot, mermaid or json")
	c.Flags().BoolVar(&full, "full", false, "draw every node, folding nothing")
	return c
}

var graphFormats = map[string]func(io.Writer, *planned, *picture) error{
	"dot": writeDot, "mermaid": writeMermaid, "json": writeGraphJSON,
}

// picture is a graph as it is drawn.
type picture struct {
	Fold  []string // coordinates by which nodes are kept apart; empty: every node
	Nodes []*box
	Edges []edge
}

// box is one node of the study, or several folded into one.
type box struct {
	ID      string              `json:"id"`
	Label   string              `json:"label"`
	Branch  string              `json:"branch,omitempty"` // the model, or model and layer, that it belongs to
	Kind    string              `json:"kind"`
	Stage   string              `json:"stage"`
	Nodes   int                 `json:"nodes"`
	State   graph.State         `json:"state"` // that calls for most attention
	Counts  map[graph.State]int `json:"counts"`
	Address string              `json:"address,omitempty"` // of a single node
	Reasons []graph.Reason      `json:"reasons,omitempty"` // of a single node
}

// edge says that To reads From.
type edge struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Reads int    `json:"reads"` // pairs of nodes folded into it
}

// attention ranks states: the worst one colours a folded box.
var attention = []graph.State{graph.Failed, graph.Stale, graph.New, graph.Waiting, graph.Unknown, graph.Cached}

// folds are the coordinates that keep nodes apart, from fine to coarse.
var folds = [][]string{{"model", "layer", "method"}, {"model", "method"}, {"model"}, {}}

// fold draws a plan: every node if full, else nodes of one kind and equal
// coordinates as one, with as many coordinates as still make a picture.
func fold(p *planned, full bool) *picture {
	if full {
		return drawn(p, nil, func(n *graph.Node) string { return n.Addr })
	}
	var pic *picture
	for _, by := range folds {
		pic = drawn(p, by, func(n *graph.Node) string {
			parts := []string{n.Kind()}
			for _, name := range by {
				parts = append(parts, n.Attr(name))
			}
			return strings.Join(parts, "\x00")
		})
		if len(pic.Nodes) <= pictureNodes {
			break
		}
	}
	return pic
}

// drawn makes a box for every different text that group gives.
func drawn(p *planned, by []string, group func(*graph.Node) string) *picture {
	pic := &picture{Fold: by}
	boxes := map[string]*box{}
	of := map[*graph.Node]*box{}
	for _, s := range p.Steps {
		key := group(s.Node)
		b := boxes[key]
		if b == nil {
			b = &box{ID: fmt.Sprintf("n%d", len(pic.Nodes)), Kind: s.Node.Kind(), Stage: s.Node.Stage, Counts: map[graph.State]int{}, Address: s.Node.Addr, Reasons: s.Reasons}
			b.Branch = branch(s.Node, by)
			b.Label = label(s.Node, by)
			boxes[key] = b
			pic.Nodes = append(pic.Nodes, b)
		}
		b.Nodes++
		b.Counts[s.State]++
		of[s.Node] = b
	}
	for _, b := range pic.Nodes {
		if b.Nodes > 1 {
			b.Address, b.Reasons = "", nil
		} else {
			b.Label = b.Address
		}
		for _, st := range attention {
			if b.Counts[st] > 0 {
				b.State = st
				break
			}
		}
	}
	type ends struct{ from, to *box }
	at := map[ends]int{}
	for _, s := range p.Steps {
		var before []*graph.Node // read by this node
		for _, in := range s.Node.Inputs {
			from, to := of[in.From], of[s.Node]
			if from == nil || from == to || slices.Contains(before[max(0, len(before)-8):], in.From) {
				continue
			}
			before = append(before, in.From)
			e := ends{from, to}
			if i, ok := at[e]; ok {
				pic.Edges[i].Reads++
				continue
			}
			at[e] = len(pic.Edges)
			pic.Edges = append(pic.Edges, edge{from.ID, to.ID, 1})
		}
	}
	return pic
}

// branch is the part of the study that a box is drawn in.
func branch(n *graph.Node, by []string) string {
	model, layer := n.Attr("model"), n.Attr("layer")
	switch {
	case by == nil || slices.Contains(by, "layer"):
		if layer != "" {
			return model + " · layer " + layer
		}
		return model
	case slices.Contains(by, "model"):
		return model
	}
	return ""
}

// label names a folded box within its branch.
func label(n *graph.Node, by []string) string {
	if m := n.Attr("method"); m != "" && slices.Contains(by, "method") {
		return m + " " + n.Kind()
	}
	return n.Kind()
}

// states counts a folded box's nodes in words.
func (b *box) states() string {
	if b.Nodes == 1 {
		return string(b.State)
	}
	var parts []string
	for _, st := range attention {
		if n := b.Counts[st]; n > 0 {
			parts = append(parts, thousands(n)+" "+string(st))
		}
	}
	return strings.Join(parts, " · ")
}

// title is a line about the whole picture.
func (pic *picture) title(p *planned) string {
	var parts []string
	counts := p.Count()
	for _, st := range graph.States {
		if n := counts[st]; n > 0 {
			parts = append(parts, thousands(n)+" "+stateName(st))
		}
	}
	text := fmt.Sprintf("%s: %s: %s", p.compiled.Study.Name.V, count(len(p.Steps), "node", "nodes"), strings.Join(parts, " · "))
	if len(pic.Nodes) < len(p.Steps) {
		text += " (folded by " + strings.Join(append(slices.Clone(pic.Fold), "kind"), ", ") + ")"
	}
	return text
}

// branches lists the branches in the order in which they are met.
func (pic *picture) branches() []string {
	var out []string
	for _, b := range pic.Nodes {
		if !slices.Contains(out, b.Branch) {
			out = append(out, b.Branch)
		}
	}
	return out
}

// fill and text colours of states in pictures.
var pictureColor = map[graph.State][2]string{
	graph.New: {"#cfe8cf", "#1b5e20"}, graph.Stale: {"#ffe9b3", "#7a4f00"}, graph.Unknown: {"#fff7df", "#7a4f00"},
	graph.Waiting: {"#cdeaf2", "#0b5563"}, graph.Failed: {"#f6c9c9", "#8b0000"}, graph.Cached: {"#ececec", "#444444"},
}

func writeDot(w io.Writer, p *planned, pic *picture) error {
	quote := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
	}
	var b strings.Builder
	b.WriteString("digraph study {\n  rankdir=LR;\n  labelloc=t;\n")
	fmt.Fprintf(&b, "  label=%s;\n  fontname=\"sans-serif\";\n  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\", fontsize=11];\n  edge [color=\"#888888\"];\n", quote(pic.title(p)))
	for i, name := range pic.branches() {
		indent := "  "
		if name != "" {
			fmt.Fprintf(&b, "  subgraph cluster_%d {\n    label=%s;\n    color=\"#bbbbbb\";\n", i, quote(name))
			indent = "    "
		}
		for _, n := range pic.Nodes {
			if n.Branch == name {
				c := pictureColor[n.State]
				fmt.Fprintf(&b, "%s%s [label=%s, fillcolor=%q, color=%q, fontcolor=%q];\n", indent, n.ID, quote(n.Label+"\n"+n.states()), c[0], c[1], c[1])
			}
		}
		if name != "" {
			b.WriteString("  }\n")
		}
	}
	for _, e := range pic.Edges {
		fmt.Fprintf(&b, "  %s -> %s;\n", e.From, e.To)
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func writeMermaid(w io.Writer, p *planned, pic *picture) error {
	quote := func(s string) string {
		return `"` + strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "\n", "<br/>").Replace(s) + `"`
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%%%% %s\nflowchart LR\n", strings.ReplaceAll(pic.title(p), "\n", " "))
	for i, name := range pic.branches() {
		indent := "  "
		if name != "" {
			fmt.Fprintf(&b, "  subgraph b%d [%s]\n", i, quote(name))
			indent = "    "
		}
		for _, n := range pic.Nodes {
			if n.Branch == name {
				fmt.Fprintf(&b, "%s%s[%s]:::%s\n", indent, n.ID, quote(n.Label+"\n"+n.states()), n.State)
			}
		}
		if name != "" {
			b.WriteString("  end\n")
		}
	}
	for _, e := range pic.Edges {
		fmt.Fprintf(&b, "  %s --> %s\n", e.From, e.To)
	}
	for _, st := range graph.States {
		c := pictureColor[st]
		fmt.Fprintf(&b, "  classDef %s fill:%s,stroke:%s,color:%s\n", st, c[0], c[1], c[1])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeGraphJSON(w io.Writer, p *planned, pic *picture) error {
	slices.SortStableFunc(pic.Nodes, func(a, b *box) int {
		return cmp.Compare(slices.Index(tasks.Stages, a.Stage), slices.Index(tasks.Stages, b.Stage))
	})
	return writeJSON(w, struct {
		Study  string              `json:"study"`
		File   string              `json:"file"`
		Total  int                 `json:"total"`
		Counts map[graph.State]int `json:"counts"`
		Fold   []string            `json:"folded_by"`
		Nodes  []*box              `json:"nodes"`
		Edges  []edge              `json:"edges"`
	}{p.compiled.Study.Name.V, p.compiled.Study.File, len(p.Steps), p.Count(), nonNil(pic.Fold), nonNil(pic.Nodes), nonNil(pic.Edges)})
}
