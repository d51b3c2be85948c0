package graph

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"clusterflow/cache"
)

// State is what a plan says of a node.
type State string

const (
	// Cached: the result of the present key lies in the cache, whole.
	Cached State = "cached"
	// Stale: the node will run; its reasons say why.
	Stale State = "stale"
	// New: the node will run, and no result of this address is known.
	New State = "new"
	// Unknown: a node that it reads must run first. If that gives the same
	// bytes as before, this one may still be spared.
	Unknown State = "unknown"
	// Waiting: it has been handed over and waits for something outside.
	Waiting State = "waiting"
	// Failed: it failed last time with this very key, and will be tried again.
	Failed State = "failed"
)

// States in the order in which a plan counts them.
var States = []State{New, Stale, Unknown, Waiting, Failed, Cached}

// Step is a node of a plan with its state.
type Step struct {
	Node    *Node
	State   State
	Reasons []Reason      // empty when cached
	Key     cache.Digest  // zero when the inputs are not known yet
	Lines   []cache.Line  // the key lines, as far as they are known; see Briefly
	Record  *cache.Record // the result, when cached; see Briefly
	Dropped bool          // cached, but gc took an output away: made again only if a node that runs reads it
	Last    *cache.Record // the last result of this address in this study, if any
	Forced  bool          // it runs even if a result of its key is there; see Force
	sources []cache.Digest
}

// Plan says of every selected node whether it will run, and why.
type Plan struct {
	Graph *Graph
	Steps []*Step    // topological order
	Last  *cache.Run // the study's last run, nil if there was none

	seen map[string]map[string]bool // see seenAttrs; nil until it is asked for
}

// Known is what a planner may read: records, blobs and stamped sources. A
// *cache.Reader has it without a lock, beside a running apply.
type Known interface {
	Record(key cache.Digest) (*cache.Record, bool)
	Blobs() *cache.Blobs
	FileDigest(path string) (cache.Digest, int64, error)
}

// SourceError is a source file that cannot be read.
type SourceError struct {
	Addr string
	Path string
	Err  error
}

func (e *SourceError) Error() string {
	if errors.Is(e.Err, fs.ErrNotExist) {
		return fmt.Sprintf("%s reads %s, which does not exist; correct the path in the study", e.Addr, e.Path)
	}
	return fmt.Sprintf("%s cannot read %s: %v", e.Addr, e.Path, e.Err)
}

func (e *SourceError) Unwrap() error { return e.Err }

// NewPlan compares the selected nodes (nil: all of the graph) with what the
// cache holds and with the study's last run. It changes nothing.
func NewPlan(ctx context.Context, g *Graph, selected []*Node, known Known, last *cache.Run) (*Plan, error) {
	if selected == nil {
		selected = g.Nodes
	}
	p := &Plan{Graph: g, Steps: make([]*Step, 0, len(selected)), Last: last}
	if k, ok := known.(briefly); ok {
		return p, p.brief(ctx, selected, k)
	}
	at := make([]*Step, len(g.Nodes))
	sources := newSourceSet(known.FileDigest)
	for _, n := range selected {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s := &Step{Node: n}
		var err error
		if s.sources, err = sources.of(n); err != nil {
			return nil, err
		}
		if was := lastState(last, n.Addr); was != nil && !was.Key.IsZero() {
			s.Last, _ = known.Record(was.Key)
		}
		p.judge(s, at, known)
		at[n.index] = s
		p.Steps = append(p.Steps, s)
	}
	p.restore(at, known.Blobs())
	return p, nil
}

// judge sets the state of a step from the steps of its inputs.
func (p *Plan) judge(s *Step, at []*Step, known Known) {
	n := s.Node
	inputs := make([]cache.Digest, len(n.Inputs)) // zero where not known
	var pending *Step
	for i, in := range n.Inputs {
		from := at[in.From.index]
		if from.State != Cached {
			pending = cmp.Or(pending, root(from, at))
			continue
		}
		out, ok := from.Record.Output(in.Output)
		if !ok {
			pending = cmp.Or(pending, from)
			continue
		}
		inputs[i] = out.Digest
	}
	s.Lines = lines(n, inputs, s.sources)
	if pending != nil {
		p.judgeUnknown(s, pending)
		return
	}
	s.Key = KeyOf(s.Lines)
	record, found := known.Record(s.Key)
	withdrawn := found && record.Withdrawn != ""
	if found && !withdrawn {
		why, dropped := brokenOutput(known.Blobs(), record)
		if why == "" || dropped {
			s.State, s.Record, s.Dropped = Cached, record, dropped
			return
		}
		s.State, s.Reasons = Stale, []Reason{{CauseOutput, why, ""}}
		return
	}
	was := lastState(p.Last, n.Addr)
	switch {
	case was != nil && was.FailedKey == s.Key && was.State == "failed":
		s.State, s.Reasons = Failed, []Reason{{CauseFailed, "failed last time: " + firstLine(was.Error), ""}}
	case was != nil && was.WaitKey == s.Key:
		s.State, s.Reasons = Waiting, []Reason{{CauseUpstream, was.Note, ""}}
	case withdrawn:
		s.State, s.Reasons = Stale, []Reason{{CauseOutput, record.Withdrawn, ""}}
	case s.Last == nil:
		s.State, s.Reasons = New, []Reason{p.newReason(n)}
	default:
		s.State, s.Reasons = Stale, compare(s.Last.Lines, s.Lines)
		if len(s.Reasons) == 0 {
			s.Reasons = []Reason{{CauseParam, "the order of its key lines changed", ""}}
		}
	}
}

func (p *Plan) judgeUnknown(s *Step, pending *Step) {
	if s.Last == nil {
		s.State, s.Reasons = New, []Reason{p.newReason(s.Node)}
		return
	}
	if own := compare(s.Last.Lines, s.Lines); len(own) > 0 {
		s.State, s.Reasons = Stale, own
		return
	}
	s.State = Unknown
	s.Reasons = unknownUntil(pending)
}

func unknownUntil(pending *Step) []Reason {
	return []Reason{{CauseUpstream, "unknown until " + pending.Node.Addr + " has run", ""}}
}

// root follows steps of unknown state to the stale one that they wait for.
func root(s *Step, at []*Step) *Step {
	for s.State == Unknown {
		next := s
		for _, in := range s.Node.Inputs {
			if from := at[in.From.index]; from.State != Cached {
				next = from
				break
			}
		}
		if next == s {
			break
		}
		s = next
	}
	return s
}

// seenAttrs are the coordinates that nodes with a result had in the last run.
func seenAttrs(g *Graph, last *cache.Run) map[string]map[string]bool {
	seen := map[string]map[string]bool{}
	if last == nil {
		return seen
	}
	last.LoadNodes()
	for _, n := range g.Nodes {
		if was := last.Nodes[n.Addr]; was == nil || was.Key.IsZero() {
			continue
		}
		for _, a := range n.Attrs {
			if seen[a.Name] == nil {
				seen[a.Name] = map[string]bool{}
			}
			seen[a.Name][a.Value] = true
		}
	}
	return seen
}

// newReason names the coordinate that makes a node new, if there is one.
func (p *Plan) newReason(n *Node) Reason {
	if p.seen == nil {
		p.seen = seenAttrs(p.Graph, p.Last)
	}
	seen := p.seen
	for _, a := range n.Attrs {
		if vs := seen[a.Name]; len(vs) > 0 && !vs[a.Value] {
			return Reason{CauseNew, "new: " + a.Name + " " + a.Value, a.Origin}
		}
	}
	return Reason{CauseNew, "new", ""}
}

func lastState(last *cache.Run, addr string) *cache.NodeState {
	if last == nil {
		return nil
	}
	return last.Node(addr)
}

// brokenOutput says which output of a record is missing or damaged, or "".
// dropped: every one that is broken was taken away by gc.
func brokenOutput(blobs *cache.Blobs, r *cache.Record) (why string, dropped bool) {
	for _, o := range r.Outputs {
		if o.InRecord() {
			continue
		}
		switch blobs.Check(o.Digest, o.Size) {
		case cache.Missing:
			if !blobs.Dropped(o.Digest) {
				return "output " + o.Name + " is missing from the cache", false
			}
			why, dropped = "output "+o.Name+" was dropped from the cache", true
		case cache.Damaged:
			return "output " + o.Name + " is damaged in the cache", false
		}
	}
	return why, dropped
}

// Count is how many steps are in each state.
func (p *Plan) Count() map[State]int {
	c := map[State]int{}
	for _, s := range p.Steps {
		c[s.State]++
	}
	return c
}

// Work reports whether any node is not cached.
func (p *Plan) Work() bool {
	return slices.ContainsFunc(p.Steps, func(s *Step) bool { return s.State != Cached })
}

// Because is a reason shared by several steps.
type Because struct {
	Reason Reason
	State  State
	Kinds  map[string]int // steps by kind of task
	Total  int
}

// Because groups the steps that will run by their first reason: what was
// edited first, then what follows from it; within that the most frequent.
func (p *Plan) Because() []Because {
	type id struct {
		r Reason
		s State
	}
	groups := map[id]*Because{}
	for _, s := range p.Steps {
		if s.State == Cached || len(s.Reasons) == 0 {
			continue
		}
		r := s.Reasons[0]
		if s.State == Failed {
			r.Text = "failed last time" // the causes are listed once, by node
		}
		k := id{r, s.State}
		if groups[k] == nil {
			groups[k] = &Because{Reason: r, State: s.State, Kinds: map[string]int{}}
		}
		groups[k].Kinds[s.Node.Kind()]++
		groups[k].Total++
	}
	order := []Cause{CauseNew, CauseParam, CauseSource, CauseCode, CauseOutput, CauseFailed, CauseInput, CauseUpstream}
	out := make([]Because, 0, len(groups))
	for _, b := range groups {
		out = append(out, *b)
	}
	slices.SortFunc(out, func(a, b Because) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.Reason.Cause), slices.Index(order, b.Reason.Cause)),
			cmp.Compare(b.Total, a.Total),
			strings.Compare(a.Reason.String(), b.Reason.String()))
	})
	return out
}

// sourceSet digests each source file once per plan or run.
type sourceSet struct {
	digest func(path string) (cache.Digest, int64, error)
	done   map[string]cache.Digest
}

func newSourceSet(digest func(string) (cache.Digest, int64, error)) *sourceSet {
	return &sourceSet{digest: digest, done: map[string]cache.Digest{}}
}

func (s *sourceSet) of(n *Node) ([]cache.Digest, error) {
	if len(n.Sources) == 0 {
		return nil, nil
	}
	ds := make([]cache.Digest, len(n.Sources))
	for i, src := range n.Sources {
		d, ok := s.done[src.Path]
		if !src.Digest.IsZero() {
			d, ok = src.Digest, true
		}
		if !ok {
			var err error
			if d, _, err = s.digest(src.Path); err != nil {
				return nil, &SourceError{n.Addr, src.Path, err}
			}
			s.done[src.Path] = d
		}
		ds[i] = d
	}
	return ds, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
