// Package graph is the engine of clusterflow: a directed acyclic graph of tasks
// whose results are kept in a content-addressed cache.
//
// A node's key is the SHA-256 of labelled lines: the kind of its task, the code
// version of that kind, every parameter that can change the result, and the
// digests of its inputs' contents. Inputs enter by content and not by key, so a
// node that is run again and makes the same bytes stops the rebuild there
// (early cutoff).
//
// The package knows what a task does only through the interface Task. It
// decides what must run (NewPlan), why (Reason), and runs it (Executor).
package graph

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"clusterflow/cache"
)

// A Task is the work of one node. Params must name everything that can change
// the result, inputs and sources aside, which enter the key by their content;
// what cannot change the result (threads, devices, paths, names, retries) must
// not be in it.
type Task interface {
	// Kind names the sort of task, such as "train": a word of the plan and of
	// the flag --only.
	Kind() string
	// Version is the code version of the kind. It changes exactly when the same
	// key lines may give another result than before.
	Version() string
	// Params are the labelled parameters in a fixed order. A label stands only
	// once. Origin says where in the study the value comes from.
	Params() []cache.Line
	// Run computes every output of the node. It returns ErrWait, wrapped by
	// WaitUntil, when the result depends on something outside that is not
	// ready yet. It must return soon after ctx ends.
	Run(ctx context.Context, job *Job) error
}

// A GroupTask shares one expensive pass between nodes: all layers of a model,
// all requests to one evaluator. The nodes stay separate, with keys of their
// own; only the work is shared.
type GroupTask interface {
	Task
	// Group is the same text for all nodes that can run in one pass.
	Group() string
	// Hold says that a pass is better begun late: the scheduler then waits
	// until nothing else can add members to it, or HoldFor has gone by.
	Hold() bool
	// RunGroup does the work of all jobs. It settles each job as soon as its
	// outputs are complete (Job.Done, Job.Fail, Job.Wait); jobs that it leaves
	// unsettled share the error that it returns, or are done if that is nil.
	RunGroup(ctx context.Context, jobs []*Job) error
}

// Input is an output of another node that a node reads.
type Input struct {
	Name   string // the reader's name for it, part of the key
	From   *Node
	Output string // the maker's name for it
}

// Source is a file outside the graph that a node reads. It enters the key by
// its content; Name, not Path, is part of the key.
type Source struct {
	Name string
	Path string
	// Digest is the content of a file that need not be there yet: the task
	// makes sure that it is before it reads it. Zero for all others.
	Digest cache.Digest
}

// Need is what a node takes of the machine while it runs.
type Need struct {
	Threads int   // at least 1; capped by the scheduler's threads
	Memory  int64 // bytes at the peak, an estimate
	Least   int64 // bytes that do as well, more slowly, where Memory is not allowed; 0 for Memory
}

// Node is one step of a study.
type Node struct {
	Addr    string
	Stage   string   // heading of the plan under which it is counted
	Attrs   []Attr   // what distinguishes it: layer 12, method gmm, …
	Task    Task     // what it does
	Inputs  []Input  // what it reads of other nodes
	Sources []Source // what it reads from outside
	Need    Need
	Disk    int64          // bytes that its outputs take, an estimate; 0 when unknown or small
	Demand  map[string]int // requests that it sends, at most, by kind; nil for most nodes
	Dest    Destination    // where those requests go

	index int
	reads int // nodes that it reads
	users []*Node
}

// Destination is a server outside this machine that a node sends text to, and
// pays. The zero value is none.
type Destination struct {
	URL    string // base address, with its path
	KeyEnv string // the environment variable with the key that pays
}

// Attr is one coordinate of a node in the study, such as layer = 12.
type Attr struct {
	Name   string
	Value  string
	Origin string // where in the study the value stands
}

// Attr returns the value of the named coordinate, or "".
func (n *Node) Attr(name string) string {
	for _, a := range n.Attrs {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}

// Kind is the kind of the node's task.
func (n *Node) Kind() string { return n.Task.Kind() }

// Users are the nodes that read an output of n.
func (n *Node) Users() []*Node { return n.users }

// Graph is a set of nodes in topological order: every node comes after all
// that it reads.
type Graph struct {
	Nodes  []*Node
	byAddr map[string]*Node
}

// Build orders the nodes. Nodes that do not depend on each other keep the order
// in which they were given. It is an error if two share an address, if an
// input is not among the nodes, or if the inputs form a cycle.
func Build(nodes []*Node) (*Graph, error) {
	g := &Graph{byAddr: make(map[string]*Node, len(nodes))}
	given := make(map[*Node]int, len(nodes))
	for i, n := range nodes {
		if _, ok := g.byAddr[n.Addr]; ok {
			return nil, fmt.Errorf("two nodes have the address %s", n.Addr)
		}
		g.byAddr[n.Addr] = n
		given[n] = i
		n.users = nil
	}
	missing := make([]int, len(nodes)) // nodes read and not yet placed
	for i, n := range nodes {
		for _, in := range n.Inputs {
			if _, ok := given[in.From]; !ok {
				return nil, fmt.Errorf("%s reads %q, which comes from no node of the graph", n.Addr, in.Name)
			}
			if u := in.From.users; len(u) > 0 && u[len(u)-1] == n {
				continue // reads another output of it as well
			}
			missing[i]++
			in.From.users = append(in.From.users, n)
		}
		n.reads = missing[i]
	}
	// Depth first from the given order keeps related nodes together in a plan.
	g.Nodes = make([]*Node, 0, len(nodes))
	var stack []*Node
	for i := len(nodes) - 1; i >= 0; i-- {
		if missing[i] == 0 {
			stack = append(stack, nodes[i])
		}
	}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		n.index = len(g.Nodes)
		g.Nodes = append(g.Nodes, n)
		for i := len(n.users) - 1; i >= 0; i-- {
			u := given[n.users[i]]
			if missing[u]--; missing[u] == 0 {
				stack = append(stack, nodes[u])
			}
		}
	}
	if len(g.Nodes) < len(nodes) {
		for i, n := range nodes {
			if missing[i] > 0 {
				return nil, fmt.Errorf("the inputs of %s form a cycle", n.Addr)
			}
		}
	}
	return g, nil
}

// Node returns the node of an address, or nil.
func (g *Graph) Node(addr string) *Node { return g.byAddr[addr] }

// ErrNoMatch is returned by Select for a pattern that names nothing.
var ErrNoMatch = errors.New("no node of this study matches")

// Select returns the nodes that targets and kinds name, together with all that
// they need, in topological order. A target is an address or a pattern of
// path.Match in which "**" stands for any number of parts; a prefix that names
// a whole branch ("r1/12") selects that branch. Empty lists select everything.
func (g *Graph) Select(targets, kinds []string) ([]*Node, error) {
	if len(targets) == 0 && len(kinds) == 0 {
		return g.Nodes, nil
	}
	known := map[string]bool{}
	for _, n := range g.Nodes {
		known[n.Kind()] = true
	}
	for _, k := range kinds {
		if !known[k] {
			names := make([]string, 0, len(known))
			for name := range known {
				names = append(names, name)
			}
			slices.Sort(names)
			return nil, fmt.Errorf("%w the kind %q; this study has %s", ErrNoMatch, k, strings.Join(names, ", "))
		}
	}
	want := make([]bool, len(g.Nodes))
	hit := make([]bool, len(targets))
	for _, n := range g.Nodes {
		match := len(targets) == 0
		for i, t := range targets {
			ok, err := matchAddr(t, n.Addr)
			if err != nil {
				return nil, fmt.Errorf("the pattern %q is malformed: %w", t, err)
			}
			if ok {
				hit[i], match = true, true
			}
		}
		want[n.index] = match && (len(kinds) == 0 || slices.Contains(kinds, n.Kind()))
	}
	for i, ok := range hit {
		if !ok {
			return nil, fmt.Errorf("%w %q; an address reads like %s", ErrNoMatch, targets[i], g.Nodes[len(g.Nodes)-1].Addr)
		}
	}
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		if want[i] {
			for _, in := range g.Nodes[i].Inputs {
				want[in.From.index] = true
			}
		}
	}
	var out []*Node
	for i, n := range g.Nodes {
		if want[i] {
			out = append(out, n)
		}
	}
	return out, nil
}

// matchAddr reports whether pattern names addr or a branch that holds it.
func matchAddr(pattern, addr string) (bool, error) {
	p := strings.Split(strings.Trim(pattern, "/"), "/")
	return matchParts(p, strings.Split(addr, "/"))
}

func matchParts(pattern, parts []string) (bool, error) {
	if len(pattern) == 0 {
		return true, nil // a whole branch
	}
	if pattern[0] == "**" {
		for i := range len(parts) + 1 {
			if ok, err := matchParts(pattern[1:], parts[i:]); ok || err != nil {
				return ok, err
			}
		}
		return false, nil
	}
	if len(parts) == 0 {
		_, err := path.Match(pattern[0], "")
		return false, err
	}
	ok, err := path.Match(pattern[0], parts[0])
	if !ok || err != nil {
		return false, err
	}
	return matchParts(pattern[1:], parts[1:])
}

// ErrWait is what WaitUntil wraps: the result depends on something outside.
var ErrWait = errors.New("waiting")

// WaitError says that a node is not done and when to ask again.
type WaitError struct {
	Until time.Time
	Note  string // what it waits for
}

func (e *WaitError) Error() string { return "waiting: " + e.Note }
func (e *WaitError) Unwrap() error { return ErrWait }

// ErrLeft is what a task wraps that leaves its node to a later run: neither done
// nor failed.
var ErrLeft = errors.New("left to a later run")

// WaitUntil is the error with which a task hands its node back until t.
func WaitUntil(t time.Time, note string) error { return &WaitError{t, note} }
