package graph_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"clusterflow/cache"
	"clusterflow/graph"
)

// spec is a node of a random graph. What it makes is known without a graph: see
// spec.makes.
type spec struct {
	addr string
	text string // upper and lower case make the same
	code string
	deaf bool // its outputs do not depend on its inputs
	big  bool // "out" is too large for a record
	from []spot
}

// spot is an output of an earlier node.
type spot struct {
	node   int
	output string
}

// makes computes the outputs from the contents of the inputs.
func (s *spec) makes(ins []string) map[string]string {
	body := strings.ToLower(s.text)
	if !s.deaf {
		body += "(" + strings.Join(ins, ",") + ")"
	}
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(body)))
	out := sum
	if s.big {
		out = strings.Repeat(s.addr+sum, cache.InlineLimit/64+1) // no two nodes make the same blob
	}
	return map[string]string{"out": out, "side": sum[:1]}
}

// key is everything that the key of the node depends on.
func (s *spec) key(ins []string) string {
	return fmt.Sprintf("%s %q %q %v %v %q", s.addr, s.text, s.code, s.deaf, s.big, ins)
}

// naive is the truth about a list of specs: contents, and keys, by node.
func naive(specs []*spec) (contents []map[string]string, keys []string) {
	for _, s := range specs {
		var ins []string
		for _, f := range s.from {
			ins = append(ins, contents[f.node][f.output])
		}
		contents, keys = append(contents, s.makes(ins)), append(keys, s.key(ins))
	}
	return contents, keys
}

func addrOf(i int) string { return fmt.Sprintf("n%02d", i) }

// modelTask is the task of a spec.
type modelTask struct {
	s   spec
	run func(addr string) // called when it starts
}

func (m *modelTask) Kind() string    { return "model" }
func (m *modelTask) Version() string { return m.s.code }
func (m *modelTask) Params() []cache.Line {
	return []cache.Line{{Label: "addr", Value: m.s.addr}, {Label: "text", Value: m.s.text}, {Label: "deaf", Value: fmt.Sprint(m.s.deaf)}, {Label: "big", Value: fmt.Sprint(m.s.big)}}
}

func (m *modelTask) Run(ctx context.Context, job *graph.Job) error {
	m.run(job.Node.Addr)
	var ins []string
	for _, in := range job.Node.Inputs {
		b, err := job.Bytes(in.Name)
		if err != nil {
			return err
		}
		ins = append(ins, string(b))
	}
	time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond) // another order each time
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, name := range []string{"out", "side"} {
		if err := job.Put(name, []byte(m.s.makes(ins)[name])); err != nil {
			return err
		}
	}
	return nil
}

// world is a cache in which lists of specs are applied.
type world struct {
	t     *rapid.T
	dir   string // of one cache after the other: a crash leads to the next
	store *cache.Store

	mu  sync.Mutex
	ran []string
}

func newWorld(t *rapid.T) *world {
	dir, err := os.MkdirTemp("", "model-*")
	check(t, err)
	w := &world{t: t, dir: filepath.Join(dir, "0")}
	w.open()
	t.Cleanup(func() {
		w.store.Close()
		os.RemoveAll(dir)
	})
	return w
}

func check(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) open() {
	store, err := cache.Open(context.Background(), cache.Options{Dir: w.dir, Command: "model"})
	check(w.t, err)
	w.store = store
}

// plan makes a plan from what lies on disk. The nodes are given in any order.
func (w *world) plan(specs []*spec) *graph.Plan {
	nodes := make([]*graph.Node, len(specs))
	for i, s := range specs {
		nodes[i] = &graph.Node{Addr: addrOf(i), Need: graph.Need{Threads: 1}, Task: &modelTask{*s, func(addr string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ran = append(w.ran, addr)
		}}}
		for n, f := range s.from {
			nodes[i].Inputs = append(nodes[i].Inputs, graph.Input{Name: fmt.Sprint("in", n), From: nodes[f.node], Output: f.output})
		}
	}
	g, err := graph.Build(rapid.Permutation(nodes).Draw(w.t, "order"))
	check(w.t, err)
	r, err := cache.OpenReader(w.dir)
	check(w.t, err)
	last, err := r.Run("s")
	check(w.t, err)
	p, err := graph.NewPlan(context.Background(), g, nil, r, last)
	check(w.t, err)
	return p
}

// apply runs the specs. With crash, the machine dies when so many nodes have
// settled; with stop, the user interrupts.
func (w *world) apply(specs []*spec, crash, stop int) *graph.Summary {
	w.ran = nil
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	settled, image := 0, filepath.Join(filepath.Dir(w.dir), fmt.Sprint(rand.Uint64()))
	x := graph.Executor{Store: w.store, Run: cache.Run{StudyID: "s"}, Threads: rapid.IntRange(1, 4).Draw(w.t, "threads")}
	x.Notify = func(e graph.Event) {
		if e.Type != graph.EventDone {
			return
		}
		settled++
		if settled == crash {
			check(w.t, snapshot(w.dir, image))
		}
		if settled == crash || settled == stop {
			cancel()
		}
	}
	sum, err := x.Apply(ctx, w.plan(specs))
	if err != nil && !errors.Is(err, context.Canceled) {
		w.t.Fatal(err)
	}
	if _, err := os.Stat(image); err == nil { // go on with what the disk had then
		check(w.t, w.store.Close())
		w.dir = image
		w.open()
	}
	if sum.Failed > 0 {
		w.t.Fatalf("failed: %v", sum.Failures[0].Err)
	}
	slices.Sort(w.ran)
	return sum
}

// snapshot copies a cache that is at work, as a crash would leave it. A copy
// during which the database made or removed a table shows no moment that there
// ever was, so it is made again.
func snapshot(from, to string) error {
	for {
		before, err := databaseFiles(from)
		if err != nil {
			return err
		}
		if err := copyCache(from, to); err != nil {
			return err
		}
		if after, err := databaseFiles(from); err != nil || after == before {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
}

// databaseFiles names the files of the database and says what its MANIFEST does.
func databaseFiles(dir string) (string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "db"))
	if err != nil {
		return "", err
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "db", "MANIFEST"))
	return fmt.Sprint(entries, manifest), err
}

func copyCache(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		rel, rerr := filepath.Rel(from, path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone meanwhile
			return nil
		case rel == filepath.Join("blobs", "tmp"):
			return fs.SkipDir
		case errors.Join(err, rerr) != nil:
			return errors.Join(err, rerr)
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, os.WriteFile(filepath.Join(to, rel), b, 0o644))
	})
}

// absent are the nodes of which a blob is not there.
func (w *world) absent(contents []map[string]string) map[int]bool {
	out := map[int]bool{}
	for i, c := range contents {
		if len(c["out"]) > cache.InlineLimit && w.store.Blobs().Check(cache.Sum([]byte(c["out"])), -1) != cache.OK {
			out[i] = true
		}
	}
	return out
}

// expected are the nodes that must run and no others: those with a key that has
// never been run, those whose dropped output such a node reads, and the last of
// the graph if what they made is gone.
func expected(specs []*spec, keys []string, known map[string]bool, absent map[int]bool) []string {
	run := map[int]bool{}
	var must func(int)
	must = func(i int) {
		if run[i] {
			return
		}
		run[i] = true
		for _, f := range specs[i].from {
			if f.output == "out" && known[keys[f.node]] && absent[f.node] {
				must(f.node)
			}
		}
	}
	used := map[int]bool{}
	for _, s := range specs {
		for _, f := range s.from {
			used[f.node] = true
		}
	}
	for i := range specs {
		if !known[keys[i]] || absent[i] && !used[i] {
			must(i)
		}
	}
	return addrs(run)
}

func addrs(set map[int]bool) []string {
	out := []string{}
	for i := range set {
		out = append(out, addrOf(i))
	}
	slices.Sort(out)
	return out
}

// stale are the nodes that a plan cannot promise to be cached: unknown keys and
// all that hangs on them.
func stale(specs []*spec, keys []string, known map[string]bool) []string {
	out := map[int]bool{}
	for i, s := range specs {
		below := slices.ContainsFunc(s.from, func(f spot) bool { return out[f.node] })
		if below || !known[keys[i]] {
			out[i] = true
		}
	}
	return addrs(out)
}

func specsGen(t *rapid.T) []*spec {
	n := rapid.IntRange(1, 10).Draw(t, "nodes")
	specs := make([]*spec, n)
	for i := range specs {
		specs[i] = &spec{addr: addrOf(i), text: text.Draw(t, "text"), code: "1", deaf: rapid.IntRange(0, 5).Draw(t, "deaf") == 0, big: rapid.Bool().Draw(t, "big")}
		if i == 0 {
			continue
		}
		for range rapid.IntRange(0, 3).Draw(t, "inputs") {
			specs[i].from = append(specs[i].from, spot{rapid.IntRange(0, i-1).Draw(t, "from"), rapid.SampledFrom([]string{"out", "out", "side"}).Draw(t, "output")})
		}
	}
	return specs
}

var text = rapid.SampledFrom([]string{"a", "A", "b", "B", "c"})

// edit changes one thing.
func edit(t *rapid.T, specs []*spec) {
	s := rapid.SampledFrom(specs).Draw(t, "edited")
	switch rapid.IntRange(0, 3).Draw(t, "edit") {
	case 0:
		s.code += "1"
	case 1:
		s.deaf = !s.deaf
	default:
		s.text = text.Draw(t, "text")
	}
}

// planned are the addresses of a plan that are not cached.
func planned(p *graph.Plan) []string {
	out := []string{}
	for _, s := range p.Steps {
		if s.State != graph.Cached {
			out = append(out, s.Node.Addr)
		}
	}
	slices.Sort(out)
	return out
}

// records are the outputs of a list of specs as the cache has them, by address.
func (w *world) records(p *graph.Plan) map[string]string {
	out := map[string]string{}
	for _, s := range p.Steps {
		if s.State != graph.Cached {
			w.t.Fatalf("%s is %s after apply: %v", s.Node.Addr, s.State, s.Reasons)
		}
		o, _ := s.Record.Output("out")
		side, _ := s.Record.Output("side")
		out[s.Node.Addr] = s.Key.String() + " " + o.Digest.String() + " " + side.Digest.String()
	}
	return out
}

// few bounds how often a property is tried, unless the command line says, and
// keeps failures out of the source folder: the seed is printed.
func few(t *testing.T, n string) {
	if err := flag.Set("rapid.nofailfile", "true"); err != nil {
		t.Fatal(err)
	}
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(n); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Value.Set(f.DefValue) }) //nolint:errcheck // it was valid before
	}
}

// TestModelStale compares plans and what runs, edit after edit and through gc,
// with a planner that knows what every node makes.
func TestModelStale(t *testing.T) {
	few(t, "30")
	rapid.Check(t, func(t *rapid.T) {
		w, specs := newWorld(t), specsGen(t)
		known := map[string]bool{}
		collected := false
		for range rapid.IntRange(1, 4).Draw(t, "edits") {
			contents, keys := naive(specs)
			p := w.plan(specs)
			if want := stale(specs, keys, known); !collected && !slices.Equal(planned(p), want) {
				t.Fatalf("not cached: %v, want %v", planned(p), want)
			}
			want := expected(specs, keys, known, w.absent(contents))
			w.apply(specs, 0, 0)
			if !slices.Equal(w.ran, want) {
				t.Fatalf("ran %v, want %v (planned %v)", w.ran, want, planned(p))
			}
			for _, addr := range w.ran {
				if !slices.Contains(planned(p), addr) {
					t.Errorf("%s ran, and was planned as cached", addr)
				}
			}
			for _, k := range keys {
				known[k] = true
			}
			if p := w.plan(specs); p.Work() {
				t.Fatalf("after apply there is work:\n%s", states(p))
			}
			edit(t, specs)
			if rapid.Bool().Draw(t, "gc") {
				// The last run knows another graph now, so that some may go.
				check(t, w.store.SaveRun(&cache.Run{StudyID: "s", Finished: time.Now()}))
				_, err := w.store.GC(context.Background(), cache.GCOptions{})
				check(t, err)
				collected = true
			}
		}
	})
}

// TestModelOrder runs the same graph in other orders, on other numbers of
// threads, and finds the same records.
func TestModelOrder(t *testing.T) {
	few(t, "15")
	rapid.Check(t, func(t *rapid.T) {
		specs := specsGen(t)
		var first map[string]string
		for range 2 {
			w := newWorld(t)
			w.apply(specs, 0, 0)
			got := w.records(w.plan(specs))
			if first == nil {
				first = got
			}
			if !maps.Equal(got, first) {
				t.Fatalf("records\n%v\nwant\n%v", got, first)
			}
		}
	})
}

// TestModelCrash edits, interrupts, crashes, collects garbage and loses blobs
// in any order; in the end one run makes what a clean run makes.
func TestModelCrash(t *testing.T) {
	few(t, "25")
	rapid.Check(t, func(t *rapid.T) {
		w, specs := newWorld(t), specsGen(t)
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"edit", "crash", "crash", "stop", "apply", "gc", "lose"}).Draw(t, "step") {
			case "edit":
				edit(t, specs)
			case "crash":
				w.apply(specs, rapid.IntRange(1, len(specs)).Draw(t, "at"), 0)
			case "stop":
				w.apply(specs, 0, rapid.IntRange(1, len(specs)).Draw(t, "at"))
			case "apply":
				w.apply(specs, 0, 0)
			case "gc":
				_, err := w.store.GC(context.Background(), cache.GCOptions{})
				check(t, err)
			case "lose":
				blobs, err := filepath.Glob(filepath.Join(w.dir, "blobs", "??", "*"))
				check(t, err)
				for _, b := range blobs {
					if rapid.Bool().Draw(t, "lost") {
						check(t, os.Remove(b))
					}
				}
			}
		}
		w.apply(specs, 0, 0)
		if done := w.apply(specs, 0, 0); len(w.ran) > 0 || done.Cached != len(specs) {
			t.Errorf("a second run did %v", w.ran)
		}
		got := w.records(w.plan(specs))
		clean := newWorld(t)
		clean.apply(specs, 0, 0)
		if want := clean.records(clean.plan(specs)); !maps.Equal(got, want) {
			t.Errorf("records\n%v\nwant\n%v", got, want)
		}
		r, err := w.store.Check(context.Background(), cache.CheckOptions{Key: graph.KeyOf})
		check(t, err)
		if r.Open() > 0 {
			t.Errorf("the cache is not whole: %+v", r.Problems)
		}
	})
}
