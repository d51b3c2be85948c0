package graph

import (
	"fmt"
)

// CauseForced is the cause of a node that runs because the user says so.
const CauseForced Cause = "forced"

// Exclude takes the nodes that a pattern names out of a selection (nil: all of
// the graph), together with everything that depends on them. A pattern is as in
// Select. Both lists are in topological order.
func (g *Graph) Exclude(selected []*Node, patterns []string) (kept, left []*Node, err error) {
	if selected == nil {
		selected = g.Nodes
	}
	if len(patterns) == 0 {
		return selected, nil, nil
	}
	named, err := g.matching(patterns)
	if err != nil {
		return nil, nil, err
	}
	out := make([]bool, len(g.Nodes))
	for _, n := range g.Nodes {
		out[n.index] = named[n.index]
		for _, in := range n.Inputs {
			out[n.index] = out[n.index] || out[in.From.index]
		}
	}
	for _, n := range selected {
		if out[n.index] {
			left = append(left, n)
		} else {
			kept = append(kept, n)
		}
	}
	return kept, left, nil
}

// matching says of every node, by index, whether a pattern names it. A pattern
// that names none is an error.
func (g *Graph) matching(patterns []string) ([]bool, error) {
	named := make([]bool, len(g.Nodes))
	for _, p := range patterns {
		found := false
		for _, n := range g.Nodes {
			ok, err := matchAddr(p, n.Addr)
			if err != nil {
				return nil, fmt.Errorf("the pattern %q is malformed: %w", p, err)
			}
			if ok {
				named[n.index], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("%w %q; an address reads like %s", ErrNoMatch, p, g.Nodes[len(g.Nodes)-1].Addr)
		}
	}
	return named, nil
}

// Force makes the steps that a pattern names run although they are cached. What
// reads them is not known until they have run: the same bytes spare it.
func (p *Plan) Force(patterns []string) error {
	if len(patterns) == 0 {
		return nil
	}
	named, err := p.Graph.matching(patterns)
	if err != nil {
		return err
	}
	at := make([]*Step, len(p.Graph.Nodes))
	for _, s := range p.Steps {
		at[s.Node.index] = s
	}
	hit := false
	for _, s := range p.Steps {
		if named[s.Node.index] {
			hit, s.Forced = true, true
			if s.State == Cached {
				s.State, s.Record, s.Dropped = Stale, nil, false
				s.Reasons = []Reason{{CauseForced, "--force", ""}}
			}
			continue
		}
		if s.State != Cached {
			continue
		}
		for _, in := range s.Node.Inputs {
			from := at[in.From.index]
			if from.State == Stale && from.Forced || from.State == Unknown {
				s.State, s.Record, s.Dropped = Unknown, nil, false
				s.Reasons = []Reason{{CauseUpstream, "unknown until " + root(from, at).Node.Addr + " has run", ""}}
				break
			}
		}
	}
	if !hit {
		return fmt.Errorf("%w %q among those selected", ErrNoMatch, patterns)
	}
	return nil
}
