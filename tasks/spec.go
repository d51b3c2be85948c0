package tasks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"clusterflow/cache"
	"clusterflow/graph"
)

// SpecFormat is the version of the form of a Spec and of its events.
const SpecFormat = 1

// Spec describes one task so that a process of its own can run it, on this
// machine or on another one that sees the files: no study, no cache and no
// database. It is a JSON file; paths that are not absolute are relative to the
// folder that it lies in.
//
// The task is made from its parameters alone: they hold everything that can
// change the result, or the key would be wrong. Run refuses a Spec whose parts
// do not make its key, and checks the contents of sources and inputs. What it
// writes is, byte for byte, what apply would have made.
type Spec struct {
	Format  int          `json:"clusterflow_task"`
	Address string       `json:"address"`
	Kind    string       `json:"kind"`
	Code    string       `json:"code"` // code version of the kind
	Key     cache.Digest `json:"key"`
	Params  []SpecParam  `json:"params"`
	Sources []SpecFile   `json:"sources"`
	Inputs  []SpecFile   `json:"inputs"`
	Outputs string       `json:"outputs"`           // folder: output NAME becomes the file NAME in it
	Threads int          `json:"threads,omitempty"` // that the task wants; 0: all
	Memory  int64        `json:"memory_bytes,omitempty"`

	dir string // that paths are relative to
}

// SpecParam is a parameter, as it stands in the key.
type SpecParam struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// SpecFile is a file that the task reads.
type SpecFile struct {
	Name   string       `json:"name"`             // what the task calls it
	From   string       `json:"from,omitempty"`   // address of the node that made it
	Output string       `json:"output,omitempty"` // what that node calls it
	Path   string       `json:"path"`
	SHA256 cache.Digest `json:"sha256"`
	Size   int64        `json:"size,omitempty"`
}

// NewSpec describes a step of a plan whose inputs have all been made, with the
// folder dir for inputs that are no blobs and for the outputs. All inputs are
// copied there if copies is set; else blobs are named by their path in the
// cache. The file is dir/spec.json, whose path is returned.
func NewSpec(p *graph.Plan, addr, dir string, known graph.Known, copies bool) (string, error) {
	steps := map[*graph.Node]*graph.Step{}
	var step *graph.Step
	for _, s := range p.Steps {
		steps[s.Node] = s
		if s.Node.Addr == addr {
			step = s
		}
	}
	if step == nil {
		return "", fmt.Errorf("%s is no node of this study", addr)
	}
	n := step.Node
	if _, err := rebuilder(n.Kind()); err != nil {
		return "", err
	}
	s := &Spec{
		Format: SpecFormat, Address: addr, Kind: n.Kind(), Code: n.Task.Version(), Outputs: "out",
		Threads: n.Need.Threads, Memory: n.Need.Memory, Params: []SpecParam{}, Sources: []SpecFile{}, Inputs: []SpecFile{},
	}
	if n.Need.Threads >= 1<<16 {
		s.Threads = 0
	}
	for _, l := range n.Task.Params() {
		s.Params = append(s.Params, SpecParam{l.Label, l.Value})
	}
	for _, src := range n.Sources {
		path, err := filepath.Abs(src.Path)
		if err != nil {
			return "", err
		}
		d, size, err := known.FileDigest(src.Path)
		if !src.Digest.IsZero() && errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%s reads %s, which has not been downloaded yet: apply --only extract does that", addr, src.Name)
		}
		if err != nil {
			return "", &graph.SourceError{Addr: addr, Path: src.Path, Err: err}
		}
		s.Sources = append(s.Sources, SpecFile{Name: src.Name, Path: path, SHA256: d, Size: size})
	}
	for _, in := range n.Inputs {
		from := steps[in.From]
		if from == nil || from.State != graph.Cached {
			return "", fmt.Errorf("%s reads %q of %s, which has not been made yet: apply --target %s makes it", addr, in.Output, in.From.Addr, in.From.Addr)
		}
		out, ok := from.Record.Output(in.Output)
		if !ok {
			return "", fmt.Errorf("%s reads %q of %s, which it has not made", addr, in.Output, in.From.Addr)
		}
		path, err := specInput(dir, in.Name, out, known.Blobs(), copies)
		if err != nil {
			return "", fmt.Errorf("input %q of %s: %w", in.Name, addr, err)
		}
		s.Inputs = append(s.Inputs, SpecFile{Name: in.Name, From: in.From.Addr, Output: in.Output, Path: path, SHA256: out.Digest, Size: out.Size})
	}
	s.Key = graph.KeyOf(graph.KeyLines(n, digests(s.Inputs), digests(s.Sources)))
	return s.write(dir)
}

func digests(files []SpecFile) []cache.Digest {
	out := make([]cache.Digest, len(files))
	for i, f := range files {
		out[i] = f.SHA256
	}
	return out
}

// specInput is the path of an input: the blob's own, or that of a copy.
func specInput(dir, name string, out cache.Output, blobs *cache.Blobs, copies bool) (string, error) {
	if out.Inline == nil && blobs.Check(out.Digest, out.Size) != cache.OK {
		return "", fmt.Errorf("%w: its bytes are no longer in the cache; plan says how they come back", os.ErrNotExist)
	}
	if out.Inline == nil && !copies {
		return blobs.Path(out.Digest), nil
	}
	rel := "in/" + strings.ReplaceAll(name, " ", "_")
	path, err := graph.OutputPath(dir, rel)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	var from io.Reader = bytes.NewReader(out.Inline)
	if out.Inline == nil {
		f, err := blobs.Open(out.Digest)
		if err != nil {
			return "", err
		}
		defer f.Close()
		from = f
	}
	to, err := os.Create(path)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(to, from)
	return rel, errors.Join(err, to.Close())
}

func (s *Spec) write(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "spec.json")
	return path, os.WriteFile(path, b.Bytes(), 0o644)
}

// ReadSpec reads a task specification and checks its form.
func ReadSpec(path string) (*Spec, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the task specification: %w", err)
	}
	s, err := parseSpec(raw)
	if err != nil {
		return nil, fmt.Errorf("%s is no task specification: %w", path, err)
	}
	s.dir = filepath.Dir(path)
	return s, nil
}

func parseSpec(raw []byte) (*Spec, error) {
	var head struct {
		Format int `json:"clusterflow_task"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, err
	}
	switch head.Format {
	case SpecFormat:
	case 0:
		return nil, errors.New(`it has no "clusterflow_task"`)
	default:
		return nil, fmt.Errorf("it has the format %d, this release reads %d", head.Format, SpecFormat)
	}
	s := &Spec{}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s); err != nil {
		return nil, err
	}
	if s.Address == "" || s.Kind == "" || s.Outputs == "" {
		return nil, errors.New("address, kind and outputs must be given")
	}
	if s.Threads < 0 {
		return nil, fmt.Errorf("threads is %d", s.Threads)
	}
	return s, nil
}

// path is where a path of the specification leads.
func (s *Spec) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(s.dir, filepath.FromSlash(p))
}

// SpecEvent is one line of the output of a task that runs by itself, as JSON.
type SpecEvent struct {
	Event string    `json:"event"` // started, progress, note, done or failed
	Time  time.Time `json:"time"`

	Address string       `json:"address,omitempty"` // started
	Kind    string       `json:"kind,omitempty"`
	Code    string       `json:"code,omitempty"`
	Key     cache.Digest `json:"key,omitzero"`
	PID     int          `json:"pid,omitempty"`
	Threads int          `json:"threads,omitempty"`

	Done  int64  `json:"done,omitempty"` // progress
	Total int64  `json:"total,omitempty"`
	Unit  string `json:"unit,omitempty"`
	Note  string `json:"note,omitempty"`

	Name  string `json:"name,omitempty"` // note
	Value string `json:"value,omitempty"`

	Seconds float64           `json:"seconds,omitempty"` // done
	Backend string            `json:"backend,omitempty"`
	Outputs []SpecFile        `json:"outputs,omitempty"`
	Info    map[string]string `json:"info,omitempty"`

	Error string `json:"error,omitempty"` // failed
}

// progressEvery is the least time between two progress events.
const progressEvery = 100 * time.Millisecond

// Run runs the task with so many threads at most and tells say about it, one
// event at a time: started, then progress and note, then done or failed. The
// error is the one that failed says.
func (s *Spec) Run(ctx context.Context, threads int, say func(SpecEvent)) error {
	var mu sync.Mutex
	tell := func(e SpecEvent) {
		mu.Lock()
		defer mu.Unlock()
		e.Time = time.Now()
		say(e)
	}
	if s.Threads > 0 {
		threads = min(threads, s.Threads)
	}
	tell(SpecEvent{Event: "started", Address: s.Address, Kind: s.Kind, Code: s.Code, Key: s.Key, PID: os.Getpid(), Threads: threads})
	record, err := s.run(ctx, threads, tell)
	if err != nil {
		tell(SpecEvent{Event: "failed", Error: err.Error()})
		return err
	}
	e := SpecEvent{Event: "done", Seconds: record.Finished.Sub(record.Started).Seconds(), Backend: record.Backend, Info: record.Info}
	for _, o := range record.Outputs {
		path, err := graph.OutputPath(s.path(s.Outputs), o.Name)
		if err != nil {
			return err // it could not have been written
		}
		e.Outputs = append(e.Outputs, SpecFile{Name: o.Name, Path: path, SHA256: o.Digest, Size: o.Size})
	}
	tell(e)
	return nil
}

func (s *Spec) run(ctx context.Context, threads int, tell func(SpecEvent)) (*cache.Record, error) {
	a, err := s.alone()
	if err != nil {
		return nil, err
	}
	a.Threads = threads
	a.Digest = fileDigest
	a.Note = func(name, value string) { tell(SpecEvent{Event: "note", Name: name, Value: value}) }
	var mu sync.Mutex
	var last time.Time
	a.Progress = func(p graph.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(last) >= progressEvery || p.Total > 0 && p.Done >= p.Total {
			last = now
			tell(SpecEvent{Event: "progress", Done: p.Done, Total: p.Total, Unit: p.Unit, Note: p.Note})
		}
	}
	return a.Run(ctx)
}

// alone makes the node that the specification describes.
func (s *Spec) alone() (*graph.Alone, error) {
	make, err := rebuilder(s.Kind)
	if err != nil {
		return nil, err
	}
	g := &given{spec: s, params: map[string]string{}}
	for _, p := range s.Params {
		g.params[p.Name] = p.Value
	}
	task, err := make(g)
	if err := errors.Join(append(g.errs, err)...); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Address, err)
	}
	if task.Version() != s.Code {
		return nil, fmt.Errorf("%s was described for the code version %q of %s, this release has %q: write the specification again", s.Address, s.Code, s.Kind, task.Version())
	}
	if err := sameParams(s, task); err != nil {
		return nil, err
	}
	a := &graph.Alone{
		Node: &graph.Node{Addr: s.Address, Task: task, Need: graph.Need{Threads: 1, Memory: s.Memory}},
		Key:  s.Key, Sources: digests(s.Sources), Outputs: s.path(s.Outputs),
	}
	for _, f := range s.Sources {
		a.Node.Sources = append(a.Node.Sources, graph.Source{Name: f.Name, Path: s.path(f.Path)})
	}
	for _, f := range s.Inputs {
		a.Node.Inputs = append(a.Node.Inputs, graph.Input{Name: f.Name, From: &graph.Node{Addr: f.From}, Output: f.Output})
		a.Inputs = append(a.Inputs, graph.File{Path: s.path(f.Path), Digest: f.SHA256, Size: f.Size})
	}
	return a, nil
}

// sameParams fails if the task that was made has other parameters than those
// that it was made from.
func sameParams(s *Spec, task graph.Task) error {
	have := map[string]string{}
	for _, l := range task.Params() {
		have[l.Label] = l.Value
	}
	for _, p := range s.Params {
		if v, ok := have[p.Name]; !ok || v != p.Value {
			return fmt.Errorf("%s: this release makes no %s with %s = %q", s.Address, s.Kind, p.Name, p.Value)
		}
		delete(have, p.Name)
	}
	for _, name := range sortedKeys(have) {
		return fmt.Errorf("%s: the parameter %s is missing", s.Address, name)
	}
	return nil
}

func fileDigest(path string) (cache.Digest, error) {
	if st, err := os.Stat(path); err != nil {
		return cache.Digest{}, err
	} else if !st.Mode().IsRegular() { // reading a pipe or a device may never end
		return cache.Digest{}, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return cache.Digest{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return cache.Digest{}, err
	}
	return cache.Digest(h.Sum(nil)), nil
}
