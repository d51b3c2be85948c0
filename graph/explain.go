package graph

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"clusterflow/cache"
)

// Archive is what an explanation may read besides the plan: every record, to
// find the result that an input had before. A *cache.Reader is one.
type Archive interface {
	Records() iter.Seq[*cache.Record]
}

// LineChange says how a key line compares with the last run's.
type LineChange string

// The ways in which a line compares.
const (
	LineSame    LineChange = "same"
	LineChanged LineChange = "changed"
	LineAdded   LineChange = "added"
	LineRemoved LineChange = "removed"
	LineUnknown LineChange = "unknown" // an input that is not made yet
)

// ComparedLine is one hashed line beside that of the last run.
type ComparedLine struct {
	Label  string     `json:"label"` // "param seed", "input sentences"
	Kind   string     `json:"kind"`  // "param", "input", "source", "kind" or "code"
	Name   string     `json:"name"`  // the label without its kind
	Before string     `json:"before,omitempty"`
	Now    string     `json:"now,omitempty"`
	Change LineChange `json:"change"`
	Origin string     `json:"origin,omitempty"` // file:line, the path of a source, the address of an input
}

// Link is one node of a cascade with what changed there.
type Link struct {
	Addr    string   `json:"address"`
	Reasons []Reason `json:"reasons"`
}

// Cascade leads from a root, where something changed by itself, over the nodes
// that read it to the explained node, which is left out.
type Cascade struct {
	Root Link     `json:"root"`
	Path []string `json:"path"` // addresses after the root
}

// Explanation says what a node's key is made of and why it will run.
type Explanation struct {
	Step     *Step
	Compared bool // with a result of the last run
	Lines    []ComparedLine
	Cascades []Cascade // empty when nothing changed, or only here
}

// Explain compares the key lines of a planned node with those of the last run
// and follows changed and unknown inputs to where the change began. The step
// must be of the plan.
func (p *Plan) Explain(s *Step, archive Archive) *Explanation {
	e := &Explanation{Step: s, Compared: s.Last != nil}
	var old []cache.Line
	if s.Last != nil {
		old = s.Last.Lines
	}
	e.Lines = compareLines(old, keyLines(s), s.Last != nil)
	x := &explainer{archive: archive, at: make(map[string]*Step, len(p.Steps)), seen: map[string]bool{}}
	for _, st := range p.Steps {
		x.at[st.Node.Addr] = st
	}
	x.follow(s, old, nil)
	e.Cascades = x.found
	return e
}

// keyLines are the lines of a step with the origins that hold now.
func keyLines(s *Step) []cache.Line {
	if len(s.Lines) > 0 || s.Record == nil {
		return s.Lines
	}
	ls := slices.Clone(s.Record.Lines)
	origins := map[string]string{}
	for _, l := range s.Node.Task.Params() {
		origins[labelParam+l.Label] = l.Origin
	}
	for _, in := range s.Node.Inputs {
		origins[labelInput+in.Name] = in.From.Addr
	}
	for _, src := range s.Node.Sources {
		origins[labelSource+src.Name] = src.Path
	}
	for i := range ls {
		ls[i].Origin = origins[ls[i].Label]
	}
	return ls
}

func compareLines(old, now []cache.Line, compared bool) []ComparedLine {
	before := make(map[string]cache.Line, len(old))
	for _, l := range old {
		before[l.Label] = l
	}
	out := make([]ComparedLine, 0, len(now))
	seen := make(map[string]bool, len(now))
	for _, l := range now {
		seen[l.Label] = true
		name, kind := cutLabel(l.Label)
		c := ComparedLine{Label: l.Label, Kind: strings.TrimSpace(kind), Name: name, Now: l.Value, Change: LineSame, Origin: l.Origin}
		b, had := before[l.Label]
		c.Before = b.Value
		switch {
		case kind == labelInput && l.Value == "":
			c.Change = LineUnknown
		case !compared:
		case !had:
			c.Change = LineAdded
		case b.Value != l.Value:
			c.Change = LineChanged
		}
		out = append(out, c)
	}
	for _, l := range old {
		if !seen[l.Label] {
			name, kind := cutLabel(l.Label)
			out = append(out, ComparedLine{Label: l.Label, Kind: strings.TrimSpace(kind), Name: name, Before: l.Value, Change: LineRemoved, Origin: l.Origin})
		}
	}
	return out
}

// explainer follows inputs backwards to the roots of a change.
type explainer struct {
	archive Archive
	at      map[string]*Step
	seen    map[string]bool
	found   []Cascade
	earlier map[earlierOutput]*cache.Record // by address and digest of an output; nil until asked for
}

type earlierOutput struct {
	addr   string
	digest string
}

// follow looks at every input of a step that is unknown, or that came with
// another content than in the lines old. path leads from s, excluded, to the
// explained node, excluded.
func (x *explainer) follow(s *Step, old []cache.Line, path []string) {
	before := make(map[string]string, len(old))
	for _, l := range old {
		before[l.Label] = l.Value
	}
	now := map[string]string{}
	for _, l := range keyLines(s) {
		now[l.Label] = l.Value
	}
	for _, in := range s.Node.Inputs {
		from := x.at[in.From.Addr]
		if from == nil || x.seen[in.From.Addr] {
			continue
		}
		was, is := before[labelInput+in.Name], now[labelInput+in.Name]
		switch {
		case from.State != Cached:
			x.seen[in.From.Addr] = true
			x.visit(from, lastLines(from), from.Reasons, path)
		case old != nil && was != "" && was != is:
			x.seen[in.From.Addr] = true
			record := x.recordOf(in.From.Addr, was)
			if record == nil {
				x.add(from, []Reason{{CauseInput, "gave another result; what it was made of before is no longer known", ""}}, path)
				continue
			}
			reasons := compare(record.Lines, keyLines(from))
			if len(reasons) == 0 {
				reasons = []Reason{{CauseOutput, "gave other bytes although its key is the same", ""}}
			}
			x.visit(from, record.Lines, reasons, path)
		}
	}
}

func lastLines(s *Step) []cache.Line {
	if s.Last == nil {
		return nil
	}
	return s.Last.Lines
}

// visit ends at a step that changed by itself and goes on from one that only
// follows others.
func (x *explainer) visit(s *Step, old []cache.Line, reasons []Reason, path []string) {
	own := slices.DeleteFunc(slices.Clone(reasons), func(r Reason) bool {
		return r.Cause == CauseInput || r.Cause == CauseUpstream && s.State != Waiting
	})
	if len(own) > 0 {
		x.add(s, own, path)
	}
	if len(own) == 0 || s.State != New {
		x.follow(s, old, append([]string{s.Node.Addr}, path...))
	}
}

func (x *explainer) add(s *Step, reasons []Reason, path []string) {
	x.found = append(x.found, Cascade{Link{s.Node.Addr, reasons}, path})
}

// recordOf finds the result of an address that had an output of this digest.
func (x *explainer) recordOf(addr, digest string) *cache.Record {
	if x.earlier == nil {
		x.earlier = map[earlierOutput]*cache.Record{}
		if x.archive != nil {
			for r := range x.archive.Records() {
				for _, o := range r.Outputs {
					x.earlier[earlierOutput{r.Address, o.Digest.String()}] = r
				}
			}
		}
	}
	return x.earlier[earlierOutput{addr, digest}]
}

// Fate is what will become of a node when one that it depends on changes.
type Fate string

// The fates of nodes downstream.
const (
	// FateReads: it reads the changed node and runs when what it reads changes.
	FateReads Fate = "reads"
	// FateSpared: it runs only if every change comes through to it; it is
	// spared if what it reads comes out the same.
	FateSpared Fate = "may be spared"
	// FateRuns: it will run whatever comes out, for a reason of its own.
	FateRuns Fate = "runs anyway"
)

// Touched is a node downstream of another.
type Touched struct {
	Step     *Step
	Distance int // reads on the shortest way
	Fate     Fate
	// Reads are the outputs of the changed node that it reads itself.
	Reads []string
	// Spares is how many nodes behind this one hang on it alone, and so are
	// spared if it gives the same bytes as before.
	Spares int

	alone bool // it hangs on its dominator alone: no other change reaches it
}

// Downstream lists the planned nodes that depend on a node, in topological
// order, and how many of them are spared if the node itself gives the same
// bytes as before.
func (p *Plan) Downstream(s *Step) (touched []*Touched, spares int) {
	at := map[*Node]*Touched{s.Node: {Step: s}}
	idom := map[*Node]*Node{}
	order := map[*Node]int{s.Node: 0}
	steps := make(map[*Node]*Step, len(p.Steps))
	// In topological order every node's dominator within the part that can be
	// reached from s is the nearest common one of its inputs'.
	for _, st := range p.Steps {
		n := st.Node
		steps[n] = st
		if n == s.Node {
			continue
		}
		var t *Touched
		var dom *Node
		for _, in := range n.Inputs {
			from := at[in.From]
			if from == nil {
				continue
			}
			if t == nil {
				t, dom = &Touched{Step: st, Distance: from.Distance + 1}, in.From
			}
			t.Distance = min(t.Distance, from.Distance+1)
			if in.From == s.Node && !slices.Contains(t.Reads, in.Output) {
				t.Reads = append(t.Reads, in.Output)
			}
			for a := in.From; dom != a; {
				if order[dom] > order[a] {
					dom = idom[dom]
				} else {
					a = idom[a]
				}
			}
		}
		if t == nil {
			continue
		}
		switch {
		case st.State == New || st.State == Stale || st.State == Failed:
			t.Fate = FateRuns
		case t.Distance == 1 && s.State == Cached:
			t.Fate = FateReads
		default:
			t.Fate = FateSpared
		}
		t.alone = true
		for _, in := range n.Inputs {
			from := steps[in.From]
			if at[in.From] == nil {
				t.alone = t.alone && (from == nil || from.State == Cached)
				continue
			}
			for a := in.From; a != dom; a = idom[a] {
				t.alone = t.alone && at[a].alone && at[a].Fate != FateRuns
			}
		}
		at[n], idom[n], order[n] = t, dom, len(order)
		touched = append(touched, t)
	}
	for i := len(touched) - 1; i >= 0; i-- {
		t := touched[i]
		if !t.alone || t.Fate == FateRuns {
			continue
		}
		behind := t.Spares + 1
		if dom := idom[t.Step.Node]; dom == s.Node {
			spares += behind
		} else {
			at[dom].Spares += behind
		}
	}
	return touched, spares
}

// Step returns the planned step of an address, or an error that says how
// addresses read.
func (p *Plan) Step(addr string) (*Step, error) {
	addr = strings.Trim(addr, "/")
	for _, s := range p.Steps {
		if s.Node.Addr == addr {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w %q", ErrNoMatch, addr)
}
