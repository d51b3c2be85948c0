package graph_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"clusterflow/cache"
	"clusterflow/graph"
)

// step is a task of these tests: it joins its inputs and its text.
type step struct {
	kind, version, text string
	log                 *log
	fail                error
	group               string
	hold                bool
	wait                *int // times to wait before being done
	memory              func(int64)
}

// log remembers what ran, in order, and how much at once.
type log struct {
	mu      sync.Mutex
	ran     []string
	passes  [][]string
	now     int
	most    int
	pause   time.Duration
	started chan string
}

func (l *log) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.ran
	l.ran, l.passes, l.most = nil, nil, 0
	slices.Sort(out)
	return out
}

func (s *step) Kind() string    { return s.kind }
func (s *step) Version() string { return s.version }
func (s *step) Params() []cache.Line {
	return []cache.Line{{Label: "text", Value: s.text, Origin: "test.hcl:7"}}
}

func (s *step) Run(ctx context.Context, job *graph.Job) error {
	if s.memory != nil {
		s.memory(job.Memory)
	}
	l := s.log
	l.mu.Lock()
	l.ran = append(l.ran, job.Node.Addr)
	l.now++
	l.most = max(l.most, l.now)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.now--
		l.mu.Unlock()
	}()
	if l.started != nil {
		l.started <- job.Node.Addr
		<-ctx.Done()
		return ctx.Err()
	}
	time.Sleep(l.pause)
	if s.fail != nil {
		return s.fail
	}
	out := strings.ToLower(s.text) // so that some changes of text change nothing
	for _, in := range job.Node.Inputs {
		b, err := job.Bytes(in.Name)
		if err != nil {
			return err
		}
		out += "(" + string(b) + ")"
	}
	for _, src := range job.Node.Sources {
		b, err := os.ReadFile(src.Path)
		if err != nil {
			return err
		}
		out += "<" + string(b) + ">"
	}
	return job.Put("out", []byte(out))
}

// shared is a step that runs in groups.
type shared struct{ step }

func (s *shared) Group() string { return s.group }
func (s *shared) Hold() bool    { return s.hold }
func (s *shared) RunGroup(ctx context.Context, jobs []*graph.Job) error {
	var pass []string
	for _, j := range jobs {
		pass = append(pass, j.Node.Addr)
	}
	s.log.mu.Lock()
	s.log.passes = append(s.log.passes, pass)
	s.log.mu.Unlock()
	for _, j := range jobs {
		t := j.Node.Task.(*shared)
		if t.wait != nil && *t.wait > 0 {
			*t.wait--
			j.Wait(time.Now().Add(5*time.Millisecond), "a batch")
			continue
		}
		if err := t.Run(ctx, j); err != nil {
			j.Fail(err)
		} else {
			j.Done()
		}
	}
	return nil
}

func node(addr string, t graph.Task, from ...*graph.Node) *graph.Node {
	n := &graph.Node{Addr: addr, Task: t, Need: graph.Need{Threads: 1}}
	for i, f := range from {
		n.Inputs = append(n.Inputs, graph.Input{Name: fmt.Sprint("in", i), From: f, Output: "out"})
	}
	return n
}

// bench is a cache to run graphs in.
type bench struct {
	t     *testing.T
	dir   string
	store *cache.Store
	x     graph.Executor
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, dir: t.TempDir()}
	var err error
	if b.store, err = cache.Open(t.Context(), cache.Options{Dir: b.dir, Command: "test"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.store.Close() })
	b.x = graph.Executor{Store: b.store, Run: cache.Run{StudyID: "s"}, Threads: 2}
	return b
}

// plan makes a plan as the plan command does: from what lies on disk, briefly.
// A full plan must say the same.
func (b *bench) plan(nodes ...*graph.Node) *graph.Plan {
	b.t.Helper()
	p, _ := b.plans(nodes)
	return p
}

// full makes the plan that explanations and saved plans need.
func (b *bench) full(nodes ...*graph.Node) *graph.Plan {
	b.t.Helper()
	_, p := b.plans(nodes)
	return p
}

func (b *bench) plans(nodes []*graph.Node) (brief, full *graph.Plan) {
	b.t.Helper()
	g, err := graph.Build(nodes)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := cache.OpenReader(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	last, err := r.Run("s")
	if err != nil {
		b.t.Fatal(err)
	}
	full, err = graph.NewPlan(b.t.Context(), g, nil, r, last)
	if err != nil {
		b.t.Fatal(err)
	}
	if last, err = r.ReadRun("s"); err != nil {
		b.t.Fatal(err)
	}
	p, err := graph.NewPlan(b.t.Context(), g, nil, graph.Briefly(r), last)
	if err != nil {
		b.t.Fatal(err)
	}
	if states(p) != states(full) {
		b.t.Fatalf("a brief plan says\n%s\na full one\n%s", states(p), states(full))
	}
	for i, s := range p.Steps {
		if want := full.Steps[i]; s.State == graph.Cached && (s.Key != want.Key || s.Record.Key != want.Record.Key) {
			b.t.Fatalf("%s has the key %s in a brief plan, in a full one %s", s.Node.Addr, s.Key.Short(), want.Key.Short())
		}
	}
	return p, full
}

func (b *bench) apply(nodes ...*graph.Node) *graph.Summary {
	b.t.Helper()
	sum, err := b.x.Apply(b.t.Context(), b.plan(nodes...))
	if err != nil {
		b.t.Fatal(err)
	}
	return sum
}

// states lists "addr state: reasons" of a plan.
func states(p *graph.Plan) string {
	var out []string
	for _, s := range p.Steps {
		var why []string
		for _, r := range s.Reasons {
			why = append(why, r.String())
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", s.Node.Addr, s.State, strings.Join(why, "; "))))
	}
	return strings.Join(out, "\n")
}

// chain is a → b → c, and d beside them.
func chain(l *log, a, b string) []*graph.Node {
	na := node("a", &step{kind: "first", version: "1", text: a, log: l})
	nb := node("b", &step{kind: "second", version: "1", text: b, log: l}, na)
	nc := node("c", &step{kind: "third", version: "1", text: "c", log: l}, nb)
	nd := node("d", &step{kind: "third", version: "1", text: "d", log: l})
	return []*graph.Node{na, nb, nc, nd}
}

func TestOnlyStaleNodesRun(t *testing.T) {
	b, l := newBench(t), &log{}
	expect := func(what string, nodes []*graph.Node, ran, plan string) {
		t.Helper()
		if got := states(b.plan(nodes...)); got != plan {
			t.Errorf("%s: plan\n%s\nwant\n%s", what, got, plan)
		}
		b.apply(nodes...)
		if got := strings.Join(l.take(), " "); got != ran {
			t.Errorf("%s: ran %q, want %q", what, got, ran)
		}
		if p := b.plan(nodes...); p.Work() {
			t.Errorf("%s: after apply there is work:\n%s", what, states(p))
		}
	}
	expect("first", chain(l, "a", "b"), "a b c d", "a new new\nb new new\nc new new\nd new new")
	expect("again", chain(l, "a", "b"), "", "a cached\nb cached\nc cached\nd cached")
	expect("middle", chain(l, "a", "x"), "b c",
		"a cached\nb stale text b → x (test.hcl:7)\nc unknown unknown until b has run\nd cached")
	expect("root", chain(l, "z", "x"), "a b c",
		"a stale text a → z (test.hcl:7)\nb unknown unknown until a has run\nc unknown unknown until a has run\nd cached")
	expect("back", chain(l, "a", "x"), "", "a cached\nb cached\nc cached\nd cached")
	expect("early cutoff", chain(l, "A", "x"), "a",
		"a stale text a → A (test.hcl:7)\nb unknown unknown until a has run\nc unknown unknown until a has run\nd cached")

	nodes := chain(l, "A", "x")
	nodes[2].Task.(*step).version = "2"
	expect("code", nodes, "c", "a cached\nb cached\nc stale code version of third 1 → 2\nd cached")
}

func TestNewNodesNameWhatIsNew(t *testing.T) {
	b, l := newBench(t), &log{}
	sized := func(sizes ...string) []*graph.Node {
		var out []*graph.Node
		for _, s := range sizes {
			n := node("m/"+s, &step{kind: "train", text: s, log: l})
			n.Attrs = []graph.Attr{{Name: "clusters", Value: s, Origin: "test.hcl:3"}}
			out = append(out, n)
		}
		return out
	}
	b.apply(sized("5", "10")...)
	want := "m/5 cached\nm/10 cached\nm/20 new new: clusters 20 (test.hcl:3)"
	if got := states(b.plan(sized("5", "10", "20")...)); got != want {
		t.Errorf("plan\n%s\nwant\n%s", got, want)
	}
}

func TestSourcesEnterByContent(t *testing.T) {
	b, l := newBench(t), &log{}
	dir := t.TempDir()
	reads := func(file, content string) *graph.Node {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		n := node("a", &step{kind: "first", log: l})
		n.Sources = []graph.Source{{Name: "data", Path: path}}
		return n
	}
	b.apply(reads("x", "one"))
	b.apply(reads("y", "one")) // another path, the same content
	if got := l.take(); len(got) != 1 {
		t.Errorf("ran %v, want one run", got)
	}
	n := reads("y", "two")
	if got, want := states(b.plan(n)), "a stale data changed ("+filepath.Join(dir, "y")+")"; got != want {
		t.Errorf("plan %q, want %q", got, want)
	}
	var missing *graph.SourceError
	n.Sources[0].Path = filepath.Join(dir, "none")
	g, _ := graph.Build([]*graph.Node{n})
	r, _ := cache.OpenReader(b.dir)
	if _, err := graph.NewPlan(t.Context(), g, nil, r, nil); !errors.As(err, &missing) {
		t.Errorf("a missing source gives %v", err)
	}
}

func TestFailureStopsOnlyWhatDependsOnIt(t *testing.T) {
	b, l := newBench(t), &log{}
	nodes := chain(l, "a", "b")
	nodes[1].Task.(*step).fail = errors.New("no luck")
	sum := b.apply(nodes...)
	if sum.Ran != 2 || sum.Failed != 1 || sum.Blocked != 1 || len(sum.Failures) != 1 {
		t.Errorf("summary %+v", sum)
	}
	want := "a cached\nb failed failed last time: no luck\nc new new\nd cached"
	if got := states(b.plan(nodes...)); got != want {
		t.Errorf("plan after the failure\n%s\nwant\n%s", got, want)
	}
	l.take()
	b.apply(chain(l, "a", "b")...)
	if got := strings.Join(l.take(), " "); got != "b c" {
		t.Errorf("after the repair ran %q", got)
	}
}

func TestPanicIsThatNodesError(t *testing.T) {
	b, l := newBench(t), &log{}
	bad := node("bad", &panicking{step{kind: "first", log: l}})
	sum := b.apply(bad, node("good", &step{kind: "first", text: "g", log: l}))
	if sum.Failed != 1 || sum.Ran != 1 || !strings.Contains(sum.Failures[0].Err.Error(), "out of luck") {
		t.Errorf("summary %+v", sum)
	}
}

type panicking struct{ step }

func (*panicking) Run(context.Context, *graph.Job) error { panic("out of luck") }

func TestGroupsShareOnePass(t *testing.T) {
	b, l := newBench(t), &log{}
	root := node("root", &step{kind: "first", log: l})
	nodes := []*graph.Node{root}
	for i := range 5 {
		nodes = append(nodes, node(fmt.Sprint("g", i), &shared{step{kind: "pass", text: fmt.Sprint(i), log: l, group: "g"}}, root))
	}
	b.apply(nodes...)
	if len(l.passes) != 1 || len(l.passes[0]) != 5 {
		t.Errorf("passes %v, want one with five members", l.passes)
	}
	l.take()
	nodes[2].Task.(*shared).text = "other"
	b.apply(nodes...)
	if len(l.passes) != 1 || len(l.passes[0]) != 1 {
		t.Errorf("passes after one change %v", l.passes)
	}
}

func TestHeldGroupsWaitForTheirMembers(t *testing.T) {
	b, l := newBench(t), &log{pause: 3 * time.Millisecond}
	var nodes []*graph.Node
	for i := range 4 {
		fit := node(fmt.Sprint("fit", i), &step{kind: "fit", text: fmt.Sprint(i), log: l})
		nodes = append(nodes, fit, node(fmt.Sprint("ask", i), &shared{step{kind: "ask", log: l, group: "judge", hold: true}}, fit))
	}
	b.apply(nodes...)
	if len(l.passes) != 1 || len(l.passes[0]) != 4 {
		t.Errorf("passes %v, want one with all four", l.passes)
	}
}

func TestWaitingHoldsNothingAndIsAskedAgain(t *testing.T) {
	b, l := newBench(t), &log{}
	times := 2
	ask := node("ask", &shared{step{kind: "ask", log: l, group: "judge", hold: true, wait: &times}})
	ask.Dest = graph.Destination{URL: "https://judge.example/v1"}
	after := node("after", &step{kind: "first", log: l}, ask)
	b.x.Detach = true
	sum := b.apply(ask, after)
	if sum.Waiting != 1 || sum.Pending != 1 || sum.Failed != 0 {
		t.Errorf("detached summary %+v", sum)
	}
	if got, want := states(b.plan(ask, after)), "ask waiting a batch\nafter new new"; got != want {
		t.Errorf("plan %q, want %q", got, want)
	}
	b.x.Detach = false
	if sum = b.apply(ask, after); sum.Ran != 2 || sum.Waiting != 0 {
		t.Errorf("summary %+v", sum)
	}
}

func TestANodeThatIsLeftIsNeitherDoneNorFailed(t *testing.T) {
	b, l := newBench(t), &log{}
	left := &step{kind: "ask", log: l, fail: fmt.Errorf("%w: enough for now", graph.ErrLeft)}
	ask := node("ask", left)
	after, other := node("after", &step{kind: "first", log: l}, ask), node("other", &step{kind: "first", log: l})
	b.x.FailFast = true // it is no failure
	if sum := b.apply(ask, after, other); sum.Ran != 1 || sum.Pending != 2 || sum.Failed+sum.Blocked+sum.Waiting != 0 {
		t.Errorf("summary %+v", sum)
	}
	if got, want := states(b.plan(ask, after, other)), "ask new new\nafter new new\nother cached"; got != want {
		t.Errorf("plan %q, want %q", got, want)
	}
	left.fail = nil
	if sum := b.apply(ask, after, other); sum.Ran != 2 || sum.Cached != 1 {
		t.Errorf("summary %+v", sum)
	}
}

func TestThreadsAndMemoryAreNeverOversubscribed(t *testing.T) {
	b, l := newBench(t), &log{pause: 2 * time.Millisecond}
	b.x.Threads, b.x.Memory = 8, 100
	var nodes []*graph.Node
	for i := range 12 {
		n := node(fmt.Sprint("n", i), &step{kind: "first", text: fmt.Sprint(i), log: l})
		n.Need = graph.Need{Threads: 1, Memory: 40}
		nodes = append(nodes, n)
	}
	big := node("big", &step{kind: "first", text: "big", log: l})
	big.Need = graph.Need{Threads: 1 << 16, Memory: 10} // all threads there are
	sum := b.apply(append(nodes, big)...)
	if sum.Ran != 13 || l.most > 2 {
		t.Errorf("%d ran, %d at once; memory allows 2", sum.Ran, l.most)
	}
	huge := node("huge", &step{kind: "first", text: "huge", log: l})
	huge.Need.Memory = 101
	if sum := b.apply(huge); sum.Failed != 1 || !strings.Contains(sum.Failures[0].Err.Error(), "--memory") {
		t.Errorf("a node larger than the machine: %+v", sum)
	}

	// One that can do with less gets what there is, and is told.
	for _, test := range []struct {
		limit int64
		need  graph.Need
		want  int64
	}{
		{100, graph.Need{Memory: 300, Least: 30}, 100},
		{100, graph.Need{Memory: 90, Least: 30}, 90},
		{0, graph.Need{Memory: 90, Least: 30}, 0},
	} {
		b := newBench(t)
		b.x.Memory = test.limit
		told := int64(-1)
		n := node("modest", &step{kind: "first", text: "modest", log: l, memory: func(m int64) { told = m }})
		n.Need = test.need
		if sum := b.apply(n); sum.Ran != 1 || told != test.want {
			t.Errorf("%+v of %d: told of %d, want %d; %+v", test.need, test.limit, told, test.want, sum)
		}
	}
	wide := node("wide", &step{kind: "first", text: "wide", log: l})
	wide.Need = graph.Need{Memory: 300, Least: 101}
	if sum := b.apply(wide); sum.Failed != 1 {
		t.Errorf("a node whose least is larger than the machine: %+v", sum)
	}
}

func TestInterruptKeepsWhatIsDone(t *testing.T) {
	b, l := newBench(t), &log{}
	nodes := chain(l, "a", "b")
	b.apply(nodes[:2]...)
	l.started = make(chan string)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-l.started
		cancel()
		for range l.started { // the others
		}
	}()
	sum, err := b.x.Apply(ctx, b.plan(nodes...))
	close(l.started)
	if !errors.Is(err, context.Canceled) || sum.Pending == 0 || sum.Failed != 0 {
		t.Errorf("error %v, summary %+v", err, sum)
	}
	l.started = nil
	l.take()
	b.apply(nodes...)
	if got := strings.Join(l.take(), " "); got != "c d" {
		t.Errorf("after the interrupt ran %q, want only what was not done", got)
	}
}

func TestBrokenOutputsAreMadeAgain(t *testing.T) {
	b, l := newBench(t), &log{}
	long := strings.Repeat("x", 2*cache.InlineLimit)
	a := node("a", &step{kind: "first", text: long, log: l})
	c := node("c", &step{kind: "first", text: "c", log: l}, a)
	b.apply(a, c)
	r, err := cache.OpenReader(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(r.Blobs().Path(cache.Sum([]byte(long)))); err != nil {
		t.Fatal(err)
	}
	l.take()
	want := "a stale output out is missing from the cache\nc unknown unknown until a has run"
	if got := states(b.plan(a, c)); got != want {
		t.Errorf("plan\n%s\nwant\n%s", got, want)
	}
	sum := b.apply(a, c)
	if got := strings.Join(l.take(), " "); got != "a" || sum.Spared != 1 {
		t.Errorf("ran %q, summary %+v; want a run and c spared", got, sum)
	}
}

// A byte that flips without a trace is found when the blob is read, and what
// made it runs again in the same apply.
func TestDamageFoundOnReadingIsRepaired(t *testing.T) {
	b, l := newBench(t), &log{}
	long := strings.Repeat("x", 2*cache.InlineLimit)
	a := node("a", &step{kind: "first", text: long, log: l})
	c := node("c", &step{kind: "first", text: "c", log: l}, a)
	d := node("d", &step{kind: "first", text: "d", log: l}, a)
	b.apply(a)
	path := b.store.Blobs().Path(cache.Sum([]byte(long)))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("y"+long[1:]), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(b.dir, "runs", "stamps")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	b.store.Close()
	if b.store, err = cache.Open(t.Context(), cache.Options{Dir: b.dir, Command: "test"}); err != nil {
		t.Fatal(err)
	}
	b.x.Store = b.store
	l.take()
	sum := b.apply(a, c, d)
	if got := strings.Join(l.take(), " "); sum.Failed != 0 || !strings.HasPrefix(got, "a c") || sum.Ran+sum.Cached != 3 {
		t.Errorf("ran %q, summary %+v", got, sum)
	}
	if p := b.plan(a, c, d); p.Work() {
		t.Errorf("after the repair there is work:\n%s", states(p))
	}
}

func TestSelect(t *testing.T) {
	l := &log{}
	nodes := chain(l, "a", "b")
	nodes = append(nodes, node("m/12/gmm/10/train", &step{kind: "train", log: l}, nodes[0]), node("m/12/gmm/20/train", &step{kind: "train", log: l}))
	g, err := graph.Build(nodes)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		targets, kinds string
		want           string // "error" for an error
	}{
		{"", "", "a b c d m/12/gmm/10/train m/12/gmm/20/train"},
		{"c", "", "a b c"},
		{"m", "", "a m/12/gmm/10/train m/12/gmm/20/train"},
		{"m/*/gmm/20", "", "m/12/gmm/20/train"},
		{"**/10/**", "", "a m/12/gmm/10/train"},
		{"**/train", "", "a m/12/gmm/10/train m/12/gmm/20/train"},
		{"", "train", "a m/12/gmm/10/train m/12/gmm/20/train"},
		{"m/12/gmm/20", "train", "m/12/gmm/20/train"},
		{"", "trian", "error"},
		{"nothing", "", "error"},
		{"[", "", "error"},
	} {
		got, err := g.Select(strings.Fields(c.targets), strings.Fields(c.kinds))
		var addrs []string
		for _, n := range got {
			addrs = append(addrs, n.Addr)
		}
		slices.Sort(addrs)
		text := strings.Join(addrs, " ")
		if err != nil {
			text = "error"
		}
		if text != c.want {
			t.Errorf("Select(%q, %q) = %q (%v), want %q", c.targets, c.kinds, text, err, c.want)
		}
	}
}

func TestBuildRefusesBadGraphs(t *testing.T) {
	l := &log{}
	a := node("a", &step{log: l})
	if _, err := graph.Build([]*graph.Node{a, node("a", &step{log: l})}); err == nil {
		t.Error("two nodes of one address are accepted")
	}
	b := node("b", &step{log: l}, a)
	if _, err := graph.Build([]*graph.Node{b}); err == nil {
		t.Error("an input from outside the graph is accepted")
	}
	a.Inputs = []graph.Input{{Name: "x", From: b, Output: "out"}}
	if _, err := graph.Build([]*graph.Node{a, b}); err == nil {
		t.Error("a cycle is accepted")
	}
}

func TestKeysDependOnLinesAlone(t *testing.T) {
	base := []cache.Line{{Label: "kind", Value: "x"}, {Label: "param k", Value: "5", Origin: "a.hcl:1"}}
	key := graph.KeyOf(base)
	moved := slices.Clone(base)
	moved[1].Origin = "b.hcl:99"
	if graph.KeyOf(moved) != key {
		t.Error("the place of a value changes the key")
	}
	for i := range base {
		other := slices.Clone(base)
		other[i].Value += "0"
		if graph.KeyOf(other) == key {
			t.Errorf("a change of %q does not change the key", base[i].Label)
		}
	}
	// A value that looks like the next line must not be able to stand for it.
	tricky := []cache.Line{{Label: "kind", Value: "x\"\n\"param k\" \"5"}}
	if graph.KeyOf(tricky) == key {
		t.Error("a value with a line break forges another line")
	}
}
