package graph

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"clusterflow/cache"
)

// SavedFormat is the version of the form of a saved plan.
const SavedFormat = 1

// Saved is a plan in a file: what apply may run, and what held when it was
// made. Applying it runs exactly that, or says what is no longer so.
//
// A node whose inputs were not made yet has key lines without a value. It may
// run with any inputs that the saved nodes give it, as long as its other lines
// are as saved and the requests stay below the ceiling.
type Saved struct {
	Format  int       `json:"clusterflow_plan"`
	Release string    `json:"release,omitempty"` // of the program that wrote it
	Created time.Time `json:"created"`

	File      string            `json:"file"`   // of the study, absolute
	Source    string            `json:"source"` // its text
	Variables map[string]string `json:"variables"`
	Vars      []string          `json:"vars,omitempty"`      // as given with --var
	VarFiles  []string          `json:"var_files,omitempty"` // as given with --var-file, absolute
	CacheDir  string            `json:"cache_dir"`           // absolute
	StateDir  string            `json:"state_dir,omitempty"`
	Force     []string          `json:"force,omitempty"` // patterns

	Sources map[string]cache.Digest `json:"sources"` // SHA-256 of files, by absolute path
	Code    map[string][]string     `json:"code"`    // versions of tasks, by kind
	Ceiling []Ceiling               `json:"ceiling"` // requests, at most
	Nodes   []SavedNode             `json:"nodes"`
}

// Ceiling is the most that may be sent to one destination.
type Ceiling struct {
	URL      string `json:"url"`
	KeyEnv   string `json:"key_env,omitempty"`
	Requests int    `json:"requests"`
}

// SavedNode is one node of a saved plan.
type SavedNode struct {
	Address string   `json:"address"`
	State   State    `json:"state"`
	Reasons []Reason `json:"reasons,omitempty"`
	// Lines are those of the key, by label; an input that was not made yet has
	// no value.
	Lines map[string]string `json:"lines"`
}

// Save adds to a Saved, whose study the caller has filled in, what the plan
// says: nodes, sources, code versions and the ceiling.
func (p *Plan) Save(to *Saved) error {
	to.Format = SavedFormat
	to.Sources, to.Code, to.Nodes = map[string]cache.Digest{}, map[string][]string{}, make([]SavedNode, 0, len(p.Steps))
	most, cached := map[Destination]int{}, map[string]bool{}
	for _, s := range p.Steps {
		cached[s.Node.Addr] = s.State == Cached
		n := SavedNode{Address: s.Node.Addr, State: s.State, Reasons: s.Reasons, Lines: map[string]string{}}
		for _, l := range keyLines(s) {
			if _, kind := cutLabel(l.Label); kind == labelInput && !cached[l.Origin] {
				l.Value = "" // what its maker will give
			}
			n.Lines[l.Label] = l.Value
		}
		to.Nodes = append(to.Nodes, n)
		kind, version := s.Node.Kind(), s.Node.Task.Version()
		if !slices.Contains(to.Code[kind], version) {
			to.Code[kind] = append(to.Code[kind], version)
		}
		for i, src := range s.Node.Sources {
			path, err := filepath.Abs(src.Path)
			if err != nil {
				return err
			}
			d, err := cache.ParseDigest(n.Lines[labelSource+src.Name])
			if err != nil {
				return fmt.Errorf("source %d of %s: %w", i, s.Node.Addr, err)
			}
			to.Sources[path] = d
		}
		if s.State != Cached && s.Node.Dest != (Destination{}) {
			for _, k := range s.Node.Demand {
				most[s.Node.Dest] += k
			}
		}
	}
	to.Ceiling = make([]Ceiling, 0, len(most))
	for d, k := range most {
		to.Ceiling = append(to.Ceiling, Ceiling{d.URL, d.KeyEnv, k})
	}
	slices.SortFunc(to.Ceiling, func(a, b Ceiling) int {
		return cmp.Or(strings.Compare(a.URL, b.URL), strings.Compare(a.KeyEnv, b.KeyEnv))
	})
	return nil
}

// Write puts the plan into a file that only its user can read, whole or not at
// all. A file that is there is replaced only if it is a saved plan.
func (s *Saved) Write(path string) error {
	if _, err := os.Lstat(path); err == nil {
		if is, err := IsSaved(path); err != nil {
			return err
		} else if !is {
			return fmt.Errorf("%s is there already and is no saved plan: give another name", path)
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(s); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".plan-*") // mode 0600
	if err != nil {
		return fmt.Errorf("saving the plan: %w", err)
	}
	_, err = f.Write(b.Bytes())
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("saving the plan: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// savedMark is the first member of a saved plan.
const savedMark = `"clusterflow_plan"`

// IsSaved reports whether a file looks like a saved plan rather than a study.
func IsSaved(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return false, err
	}
	head := make([]byte, 256)
	n, _ := f.Read(head)
	rest, ok := strings.CutPrefix(strings.TrimSpace(string(head[:n])), "{")
	return ok && strings.HasPrefix(strings.TrimSpace(rest), savedMark), nil
}

// ReadSaved reads a saved plan.
func ReadSaved(path string) (*Saved, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the saved plan: %w", err)
	}
	var head struct {
		Format int `json:"clusterflow_plan"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("the saved plan %s is damaged (%w): make it again with plan --out", path, err)
	}
	if head.Format != SavedFormat {
		return nil, fmt.Errorf("the saved plan %s has the format %d, this release reads %d: make it again with plan --out", path, head.Format, SavedFormat)
	}
	s := &Saved{}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s); err != nil {
		return nil, fmt.Errorf("the saved plan %s is damaged (%w): make it again with plan --out", path, err)
	}
	if s.File == "" || len(s.Nodes) == 0 {
		return nil, fmt.Errorf("the saved plan %s names no study or no nodes: make it again with plan --out", path)
	}
	return s, nil
}

// Limits is the ceiling by destination.
func (s *Saved) Limits() map[Destination]int {
	out := make(map[Destination]int, len(s.Ceiling))
	for _, c := range s.Ceiling {
		out[Destination{c.URL, c.KeyEnv}] = c.Requests
	}
	return out
}

// Select returns the saved nodes of a graph. changed lists those that it no
// longer has.
func (s *Saved) Select(g *Graph) (nodes []*Node, changed []string) {
	want := make([]bool, len(g.Nodes))
	for _, sn := range s.Nodes {
		if n := g.Node(sn.Address); n != nil {
			want[n.index] = true
		} else {
			changed = append(changed, sn.Address+" is no longer a node of the study")
		}
	}
	for _, n := range g.Nodes {
		if !want[n.index] {
			continue
		}
		for _, in := range n.Inputs {
			if !want[in.From.index] {
				changed = append(changed, n.Addr+" reads "+in.From.Addr+", which was not planned")
			}
		}
		nodes = append(nodes, n)
	}
	return nodes, changed
}

// Changed lists what is no longer as it was when the plan was saved, in a plan
// of the same nodes: sources and code versions once each, then nodes. It is
// empty if the plan may be applied.
func (s *Saved) Changed(p *Plan) []string {
	saved := s.byAddress()
	sources, code := map[string]bool{}, map[string]bool{}
	var nodes []string
	for _, st := range p.Steps {
		was, now := saved[st.Node.Addr], map[string]bool{}
		for _, l := range keyLines(st) {
			now[l.Label] = true
			name, kind := cutLabel(l.Label)
			v, had := was[l.Label]
			switch {
			case had && v == l.Value, kind == labelInput && had && (v == "" || l.Value == ""):
			case kind == labelSource:
				sources[fmt.Sprintf("%s (%s) has other content", l.Origin, name)] = true
			case kind == labelInput:
				nodes = append(nodes, fmt.Sprintf("%s: %s gave another result", st.Node.Addr, l.Origin))
			case kind == labelParam:
				nodes = append(nodes, fmt.Sprintf("%s: %s %s → %s", st.Node.Addr, name, shown(v), shown(l.Value)))
			default:
				code[fmt.Sprintf("%s %s → %s: this is another release", name, shown(v), shown(l.Value))] = true
			}
		}
		for _, label := range slices.Sorted(maps.Keys(was)) {
			if !now[label] {
				nodes = append(nodes, fmt.Sprintf("%s: no longer has the key line %q", st.Node.Addr, label))
			}
		}
	}
	return slices.Concat(slices.Sorted(maps.Keys(sources)), slices.Sorted(maps.Keys(code)), nodes)
}

// byAddress are the values of the saved key lines, by address and label.
func (s *Saved) byAddress() map[string]map[string]string {
	out := make(map[string]map[string]string, len(s.Nodes))
	for _, n := range s.Nodes {
		out[n.Address] = n.Lines
	}
	return out
}

// Permit says whether a node may run with these key lines: it is in the plan,
// and each line that was known then is the same.
func (s *Saved) Permit() func(n *Node, ls []cache.Line) error {
	saved := s.byAddress()
	return func(n *Node, ls []cache.Line) error {
		was, ok := saved[n.Addr]
		if !ok {
			return fmt.Errorf("%s is not in the saved plan", n.Addr)
		}
		for _, l := range ls {
			name, kind := cutLabel(l.Label)
			v, ok := was[l.Label]
			switch {
			case ok && (v == l.Value || kind == labelInput && v == ""):
			case kind == labelInput:
				return fmt.Errorf("%s now gives %s another %s than the saved plan knew: make a new plan", l.Origin, n.Addr, name)
			default:
				return fmt.Errorf("%s of %s is %s, and the saved plan says %s: make a new plan", name, n.Addr, shown(l.Value), shown(v))
			}
		}
		if len(ls) != len(was) {
			return fmt.Errorf("%s has %d key lines, and %d in the saved plan: make a new plan", n.Addr, len(ls), len(was))
		}
		return nil
	}
}
