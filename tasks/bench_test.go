package tasks_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/internal/linalg"
	"clusterflow/studies"
	"clusterflow/tasks"
)

// bench is a cache to apply studies in, as the apply command does it.
type bench struct {
	t      testing.TB
	store  *cache.Store
	office *tasks.Office
	memory int64             // that apply may use; 0 is no limit
	watch  func(graph.Event) // sees what happens; may be nil
}

func newBench(t testing.TB) *bench {
	t.Helper()
	store, err := cache.Open(t.Context(), cache.Options{Dir: filepath.Join(t.TempDir(), "cache"), Command: "test"})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, store: store, office: tasks.NewOffice(func(string) string { return "" })}
	b.office.Open(store, batch.DeskOptions{})
	t.Cleanup(func() {
		if err := b.office.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// parse decodes the text of a study that lies in dir.
func parse(t testing.TB, dir, text string) *studies.Study {
	t.Helper()
	study, diags := studies.Parse(filepath.Join(dir, "study.hcl"), []byte(text), studies.Options{Methods: tasks.MethodSpecs()})
	if diags.HasErrors() {
		t.Fatalf("%v\n%s", diags.Errs(), text)
	}
	return study
}

func compile(t testing.TB, study *studies.Study, office *tasks.Office) *tasks.Compiled {
	t.Helper()
	c, diags := tasks.Compile(t.Context(), study, office)
	if diags.HasErrors() {
		t.Fatal(diags.Errs())
	}
	return c
}

// applied is what an apply came to.
type applied struct {
	*bench
	graph   *graph.Graph
	sum     *graph.Summary
	records map[string]*cache.Record
	ran     []string // addresses of nodes that were not cached, sorted
}

// try applies a study, or the kinds of it that only names, and returns what
// came of it.
func (b *bench) try(dir, text string, only ...string) *applied {
	b.t.Helper()
	a, err := b.tryWith(b.t.Context(), dir, text, only...)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// tryWith is try under a context that may end.
func (b *bench) tryWith(ctx context.Context, dir, text string, only ...string) (*applied, error) {
	b.t.Helper()
	c := compile(b.t, parse(b.t, dir, text), b.office)
	selected, err := c.Graph.Select(nil, only)
	if err != nil {
		b.t.Fatal(err)
	}
	known, err := b.store.Reader()
	if err != nil {
		b.t.Fatal(err)
	}
	last, err := known.Run("study")
	if err != nil {
		b.t.Fatal(err)
	}
	plan, err := graph.NewPlan(b.t.Context(), c.Graph, selected, known, last)
	if err != nil {
		b.t.Fatal(err)
	}
	a := &applied{bench: b, graph: c.Graph, records: map[string]*cache.Record{}}
	x := graph.Executor{
		Store: b.store, Threads: 2, Memory: b.memory, Run: cache.Run{StudyID: "study"}, Batches: b.office.Batches, Idle: b.office.Close,
		Notify: func(e graph.Event) {
			if b.watch != nil {
				b.watch(e)
			}
			if e.Record == nil {
				return
			}
			a.records[e.Node.Addr] = e.Record
			if e.Type == graph.EventDone {
				a.ran = append(a.ran, e.Node.Addr)
			}
		},
	}
	a.sum, err = x.Apply(ctx, plan)
	slices.Sort(a.ran)
	return a, err
}

// apply is try for studies that have to succeed.
func (b *bench) apply(dir, text string, only ...string) *applied {
	b.t.Helper()
	a := b.try(dir, text, only...)
	for _, f := range a.sum.Failures {
		b.t.Errorf("%s: %v", strings.Join(f.Addrs, ", "), f.Err)
	}
	if b.t.Failed() {
		b.t.FailNow()
	}
	return a
}

// output is the content of a node's output.
func (a *applied) output(addr, name string) []byte {
	a.t.Helper()
	o := a.digest(addr, name)
	if o.Inline != nil {
		return o.Inline
	}
	raw, err := a.store.Blobs().ReadAll(o.Digest)
	if err != nil {
		a.t.Fatal(err)
	}
	return raw
}

func (a *applied) digest(addr, name string) cache.Output {
	a.t.Helper()
	r := a.records[addr]
	if r == nil {
		a.t.Fatalf("%s has no result; there are %v", addr, sortedKeys(a.records))
	}
	o, ok := r.Output(name)
	if !ok {
		a.t.Fatalf("%s has no output %q", addr, name)
	}
	return o
}

// note is a fact in a node's record.
func (a *applied) note(addr, name string) string {
	a.t.Helper()
	a.digest(addr, a.records[addr].Outputs[0].Name)
	return a.records[addr].Info[name]
}

// tensor reads a tensor of a safetensors output.
func (a *applied) tensor(addr, output, name string) linalg.Tensor {
	a.t.Helper()
	o := a.digest(addr, output)
	st, err := linalg.OpenSafetensors(a.store.Blobs().Path(o.Digest))
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { st.Close() })
	t, ok := st.Tensor(name)
	if !ok {
		a.t.Fatalf("%s of %s has no tensor %q, but %v", output, addr, name, st.Names())
	}
	return t
}

func (a *applied) matrix(addr, output, name string) linalg.Matrix {
	a.t.Helper()
	m, err := a.tensor(addr, output, name).Matrix()
	if err != nil {
		a.t.Fatal(err)
	}
	return m
}

func (a *applied) labels(addr string) []int32 {
	a.t.Helper()
	labels, err := a.tensor(addr, "labels", "labels").Int32()
	if err != nil {
		a.t.Fatal(err)
	}
	return labels
}

func (a *applied) sentences(addr string) []tasks.Sentence {
	a.t.Helper()
	return jsonl[tasks.Sentence](a.t, a.output(addr, "sentences"))
}

func (a *applied) info(addr string) (info tasks.DataInfo) {
	a.t.Helper()
	unjson(a.t, a.output(addr, "info"), &info)
	return info
}

// request is a line of a request file.
type request struct {
	Key     string
	Task    string
	Rep     int
	Cluster int
	Other   int
	Rows    []int
	Traces  []int
	Body    json.RawMessage
}

func (a *applied) requests(addr string) []request {
	a.t.Helper()
	return jsonl[request](a.t, a.output(addr, "requests"))
}

func jsonl[T any](t testing.TB, raw []byte) []T {
	t.Helper()
	var out []T
	s := bufio.NewScanner(bytes.NewReader(raw))
	s.Buffer(nil, 1<<26)
	for s.Scan() {
		var v T
		unjson(t, s.Bytes(), &v)
		out = append(out, v)
	}
	return out
}

func unjson(t testing.TB, raw []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatalf("%v\n%.200s", err, raw)
	}
}

// write puts a file into dir and returns its path.
func write(t testing.TB, dir, name string, content any) string {
	t.Helper()
	var raw []byte
	switch c := content.(type) {
	case string:
		raw = []byte(c)
	case []byte:
		raw = c
	default:
		var err error
		if raw, err = json.Marshal(c); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// response is an element of a responses file.
type response struct {
	Full       string `json:"full_response"`
	QuestionID any    `json:"question_id,omitempty"`
	Category   string `json:"category,omitempty"`
}

// shortResponses are n responses of two sentences that differ.
func shortResponses(n int) []response {
	out := make([]response, n)
	for i := range out {
		out[i].Full = fmt.Sprintf("<think>The number is %d. Now I add %d to it.</think>", i, i%7)
	}
	return out
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func appendFloat32(b []byte, v float32) []byte {
	return binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
}
