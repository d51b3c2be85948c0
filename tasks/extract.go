package tasks

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
	"clusterflow/studies"
)

// extract computes the raw rows of one layer for one shard of responses. Its
// output "rows" is a safetensors file: rows f32 [sentences, hidden], the mean
// of the residual stream after block layer over each sentence's tokens, and
// means f32 [responses, hidden], the mean over each response's tokens from its
// first sentence to its last (zero for a response without sentences). Its output
// "made" is [Made].
//
// All stale layers and shards of a model are one pass over its weights. Rows
// are remembered per response, so that a shard that grew or changed in part
// computes only the responses that it has not seen.
type extract struct {
	model   *studies.Model
	from    *checkpoint
	builtin string // identity of a built-in model, "" for files
	layer   int

	mat   *material // for estimates; nil where a task runs by itself
	shard int
}

func (t *extract) Kind() string    { return kindExtract.Name }
func (t *extract) Version() string { return kindExtract.Version }

func (t *extract) Params() []cache.Line {
	var p params
	p.add("layer", t.layer, t.model.Layers.Origin())
	set(&p, "precision", t.model.Precision)
	if t.builtin != "" {
		p.add("model", t.builtin, t.model.Source.Origin())
	}
	return p.lines
}

// Group is one pass over one model's weights.
func (t *extract) Group() string { return "extract " + t.model.Name }

// Hold is false: shards are all ready at once.
func (t *extract) Hold() bool { return false }

// Run does the work of a single node.
func (t *extract) Run(ctx context.Context, job *graph.Job) error {
	return t.RunGroup(ctx, []*graph.Job{job})
}

// Notes of an extract node about the pass that made it, up to its layer: the
// floating-point operations and the time.
const (
	NotePassWork    = "pass operations"
	NotePassSeconds = "pass seconds"
)

// rowsPiece says where the rows of one response and layer were kept.
type rowsPiece struct {
	Blob    cache.Digest `json:"blob"`
	Row     int          `json:"row"`
	Line    int          `json:"line"`
	Backend string       `json:"backend,omitempty"` // what computed them, where that was kept
}

// Made is the output "made" of extract and rows: what computed the states, each
// way once, in order. They are the same states for all that reads them but the
// report, which says where ways are mixed.
type Made struct {
	Backend []string `json:"backend"`
}

func writeMade(job *graph.Job, backends []string) error {
	backends = slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(backends))), func(s string) bool { return s == "" })
	return job.Write("made", func(w io.Writer) error { return json.NewEncoder(w).Encode(Made{backends}) })
}

// shardRows is the output of one job while it is filled.
type shardRows struct {
	job   *graph.Job
	layer int
	lines []shardLine
	first []int // row of each line's first sentence
	rows  linalg.Matrix
	means linalg.Matrix
	keys  []string // of each line's piece

	backends []string // what computed each line; "" where that is not known

	mu   sync.Mutex
	left int   // lines still to compute
	pass *pass // that computes them, once it has begun
}

// pass is one way through a model's blocks, to tell how fast this machine is.
type pass struct {
	begin   time.Time
	work    func(blocks int) float64 // floating-point operations up to a block
	partial bool                     // an earlier pass had done some of it
	device  llm.Device               // nil: the processor
}

// RunGroup fills the outputs of all jobs: from remembered rows where there are
// any, the rest in one forward pass.
func (t *extract) RunGroup(ctx context.Context, jobs []*graph.Job) error {
	ckpt, err := t.from.open(ctx, jobs...)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	outs := make([]*shardRows, len(jobs))
	for i, job := range jobs {
		if outs[i], err = newShardRows(job, ckpt.Hidden()); err != nil {
			return err
		}
	}
	need, err := recall(outs)
	if err != nil {
		return err
	}
	reused, computed := 0, 0
	for _, out := range outs {
		reused += len(out.lines) - out.left
		computed += out.left
		out.job.Note("responses", strconv.Itoa(len(out.lines)))
		out.job.Note("responses computed", strconv.Itoa(out.left))
	}
	for _, out := range outs {
		if out.left == 0 {
			if err := out.finish(); err != nil {
				return err
			}
		}
	}
	if len(need) == 0 {
		return nil
	}
	return t.forward(ctx, ckpt, need, reused, jobs)
}

// wanted is one response that some layers still need.
type wanted struct {
	line shardLine
	outs map[int]target // by layer
}

// target is where the rows of a response and layer go.
type target struct {
	out  *shardRows
	line int
}

// newShardRows reads the shard of a job and makes room for its rows.
func newShardRows(job *graph.Job, hidden int) (*shardRows, error) {
	in, err := job.Open("shard")
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out := &shardRows{job: job, layer: job.Node.Task.(*extract).layer}
	if out.lines, err = readJSONL[shardLine](in); err != nil {
		return nil, fmt.Errorf("reading the shard of %s: %w", job.Node.Addr, err)
	}
	rows := 0
	for _, l := range out.lines {
		out.first = append(out.first, rows)
		rows += len(l.Spans)
	}
	out.rows, out.means = linalg.NewMatrix(rows, hidden), linalg.NewMatrix(len(out.lines), hidden)
	out.keys, out.backends = make([]string, len(out.lines)), make([]string, len(out.lines))
	base := pieceBase(job)
	for i, l := range out.lines {
		if len(l.Spans) == 0 {
			continue
		}
		enc, err := json.Marshal([]any{l.IDs, l.Spans, l.Mean})
		if err != nil {
			return nil, err
		}
		out.keys[i] = cache.Sum(append([]byte(base), enc...)).String()
	}
	return out, nil
}

// pieceBase is what the rows of a response depend on besides its tokens: every
// line of the node's key except the shard, and except the version of what is made
// of them: rows that version 6 kept are still right.
func pieceBase(job *graph.Job) string {
	var b strings.Builder
	for _, l := range job.Lines {
		value := l.Value
		if l.Label == "code" {
			value = "6"
		}
		if !strings.HasPrefix(l.Label, "input ") {
			fmt.Fprintf(&b, "%q %q\n", l.Label, value)
		}
	}
	return b.String()
}

// recall copies remembered rows into the outputs and lists what is left.
func recall(outs []*shardRows) ([]*wanted, error) {
	byResponse := map[string]*wanted{} // by shard digest and line: layers of one shard share a pass
	var need []*wanted
	kept := keptRows{}
	for _, out := range outs {
		shard, err := out.job.Digest("shard")
		if err != nil {
			return nil, err
		}
		for i, l := range out.lines {
			if len(l.Spans) == 0 {
				continue
			}
			ok, err := out.restore(i, kept)
			if err != nil {
				return nil, err
			}
			if ok {
				continue
			}
			out.left++
			id := shard.String() + " " + strconv.Itoa(i)
			w := byResponse[id]
			if w == nil {
				w = &wanted{line: l, outs: map[int]target{}}
				byResponse[id] = w
				need = append(need, w)
			}
			w.outs[out.layer] = target{out, i}
		}
	}
	return need, nil
}

// keptRows are earlier results of extract, read once each.
type keptRows map[cache.Digest]*[2]linalg.Matrix

// open returns the rows and means of an earlier result, nil if it is no longer
// there whole.
func (k keptRows) open(blobs *cache.Blobs, d cache.Digest) *[2]linalg.Matrix {
	if m, ok := k[d]; ok {
		return m
	}
	k[d] = nil // dropped or damaged rows are computed again
	f, err := blobs.Open(d)
	if err != nil {
		return nil
	}
	f.Close()
	st, err := linalg.OpenSafetensors(blobs.Path(d))
	if err != nil {
		return nil
	}
	defer st.Close()
	var m [2]linalg.Matrix
	for i, name := range []string{"rows", "means"} {
		t, ok := st.Tensor(name)
		if !ok {
			return nil
		}
		if m[i], err = t.Matrix(); err != nil {
			return nil
		}
	}
	k[d] = &m
	return &m
}

// restore fills a line from an earlier result, if there is one.
func (out *shardRows) restore(i int, kept keptRows) (bool, error) {
	if out.job.Store == nil {
		return false, nil
	}
	raw, ok, err := out.job.Store.Bucket("rows").Get(out.keys[i])
	if err != nil || !ok {
		return false, err
	}
	var p rowsPiece
	if json.Unmarshal(raw, &p) != nil {
		return false, nil
	}
	m := kept.open(out.job.Store.Blobs(), p.Blob)
	n, d := len(out.lines[i].Spans), out.rows.Cols
	if m == nil || m[0].Cols != d || m[1].Cols != d || p.Row < 0 || p.Row+n > m[0].Rows || p.Line < 0 || p.Line >= m[1].Rows {
		return false, nil
	}
	for s := range n {
		copy(out.rows.Row(out.first[i]+s), m[0].Row(p.Row+s))
	}
	copy(out.means.Row(i), m[1].Row(p.Line))
	out.backends[i] = p.Backend
	return true, nil
}

// forward computes the rows of some responses, each at the layers that lack
// them, in one pass over the weights. A pass that was ended goes on after the
// last block that it had finished.
func (t *extract) forward(ctx context.Context, ckpt *llm.Checkpoint, need []*wanted, reused int, jobs []*graph.Job) error {
	seqs := make([]llm.Sequence, len(need))
	tokens, squares, blocks := 0, 0.0, 0
	for i, w := range need {
		ids := w.line.IDs[:w.line.Mean[1]] // attention is causal: nothing after the last sentence matters
		seqs[i] = llm.Sequence{IDs: ids, Layers: sortedLayers(w.outs), Means: append(slices.Clone(w.line.Spans), w.line.Mean)}
		blocks = max(blocks, seqs[i].Last()+1)
		tokens += len(ids)
		squares += float64(len(ids)) * float64(len(ids))
	}
	begin, first := time.Now(), -1
	device := deviceFrom(ctx)
	now := &pass{begin: begin, device: device, work: func(blocks int) float64 { return ckpt.Work(float64(tokens), squares, blocks) }}
	for _, w := range need {
		for _, to := range w.outs {
			to.out.pass = now
		}
	}
	kept := ""
	if reused > 0 {
		kept = fmt.Sprintf(", %d responses kept", reused)
	}
	progress := func(done, of int) {
		if first < 0 {
			if first, begin = done, time.Now(); done > 0 {
				now.partial = true
			}
		}
		p := graph.Progress{Done: int64(done) * int64(tokens) / int64(of), Total: int64(tokens), Unit: "tokens"}
		if s := time.Since(begin).Seconds(); s > 0 {
			rate := float64(done-first) / float64(of) * float64(tokens) / s
			p.Note = fmt.Sprintf("through %d blocks, %s tokens/s%s", blocks, thousands(int(rate)), kept)
		}
		for _, j := range jobs {
			j.Progress(p)
		}
	}
	scratch, drop, err := t.scratch(jobs[0])
	if err != nil {
		return err
	}
	err = ckpt.Forward(ctx, llm.Pass{
		Sequences: seqs, Precision: llm.Precision(t.model.Precision.V), Threads: jobs[0].Threads,
		Memory: passMemory(jobs), Scratch: scratch, Progress: progress, Device: device,
		Visit: func(layer, seq int, means linalg.Matrix) error {
			to := need[seq].outs[layer]
			return to.out.fill(to.line, means)
		},
	})
	if err != nil {
		return fmt.Errorf("running %s: %w", t.model.Source.V, err)
	}
	return drop()
}

func sortedLayers(outs map[int]target) []int { return slices.Sorted(maps.Keys(outs)) }

// scratch returns the folder in which a pass on this model and precision keeps
// what it can go on with, and what removes it; "" where there is no cache.
func (t *extract) scratch(job *graph.Job) (dir string, drop func() error, err error) {
	if job.Store == nil {
		return "", func() error { return nil }, nil
	}
	var b strings.Builder
	for _, l := range job.Lines {
		if !strings.HasPrefix(l.Label, "input ") && l.Label != "param layer" {
			fmt.Fprintf(&b, "%q %q\n", l.Label, l.Value)
		}
	}
	fmt.Fprintf(&b, "products %q\n", linalg.Backend().Name) // states of two libraries do not go together
	key := cache.Sum([]byte(b.String()))
	dir, err = job.Store.Scratch(key)
	return dir, func() error { return job.Store.DropScratch(key) }, err
}

// passMemory is what the forward pass may take of the jobs' memory, 0 for no
// limit: the rows of all layers are held beside it.
func passMemory(jobs []*graph.Job) int64 {
	if jobs[0].Memory == 0 {
		return 0
	}
	rows := int64(0)
	for _, j := range jobs {
		rows += j.Node.Disk
	}
	return max(1, jobs[0].Memory-rows)
}

// fill takes the mean states of one response: of each sentence, and last of all
// of them. When the last line is in, the output is complete. It can be called
// for several lines at once.
func (out *shardRows) fill(i int, means linalg.Matrix) error {
	n := len(out.lines[i].Spans)
	for s := range n {
		copy(out.rows.Row(out.first[i]+s), means.Row(s))
	}
	copy(out.means.Row(i), means.Row(n))
	out.backends[i] = out.backend()
	out.mu.Lock()
	defer out.mu.Unlock()
	if out.left--; out.left > 0 {
		return nil
	}
	return out.finish()
}

// backend is what computes the lines that are not restored.
func (out *shardRows) backend() string {
	if out.pass != nil && out.pass.device != nil {
		return out.pass.device.Name()
	}
	return "cpu float32, " + linalg.Backend().Name
}

// finish stores the output, remembers its pieces and settles the job.
func (out *shardRows) finish() error {
	job := out.job
	job.Backend(out.backend())
	if p := out.pass; p != nil && !p.partial {
		job.Note(NotePassWork, strconv.FormatFloat(p.work(out.layer+1), 'g', 6, 64))
		job.Note(NotePassSeconds, strconv.FormatFloat(time.Since(p.begin).Seconds(), 'f', 3, 64))
	}
	err := job.Write("rows", func(w io.Writer) error {
		st, err := linalg.NewSafetensorsWriter(w, nil, []linalg.TensorSpec{
			{Name: "rows", DType: "F32", Shape: []int{out.rows.Rows, out.rows.Cols}},
			{Name: "means", DType: "F32", Shape: []int{out.means.Rows, out.means.Cols}},
		})
		if err != nil {
			return err
		}
		if err := st.WriteMatrix(out.rows); err != nil {
			return err
		}
		if err := st.WriteMatrix(out.means); err != nil {
			return err
		}
		return st.Close()
	})
	if err != nil {
		return err
	}
	blob, err := job.Output("rows")
	if err != nil {
		return err
	}
	if err := writeMade(job, out.backends); err != nil {
		return err
	}
	pieces := map[string][]byte{}
	for i, key := range out.keys {
		if key == "" {
			continue
		}
		raw, err := json.Marshal(rowsPiece{blob, out.first[i], i, out.backends[i]})
		if err != nil {
			return err
		}
		pieces[key] = raw
	}
	if job.Store != nil {
		if err := job.Store.Bucket("rows").Put(pieces); err != nil {
			return err
		}
	}
	out.rows, out.means, out.lines = linalg.Matrix{}, linalg.Matrix{}, nil
	job.Done()
	return nil
}
