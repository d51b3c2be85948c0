package cuda

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
	"clusterflow/internal/llm/kernels/kerneltest"
	"clusterflow/internal/llm/llmtest"
)

// late is a card on the processor that does what it is told as late as a card may:
// nothing of a stream is done before somebody waits for it. What relies on an order
// that the driver does not promise comes out wrong, or reads what is no number.
type late struct {
	t    *testing.T
	card *kerneltest.Card
	room int64 // bytes; 0: no limit
	fail int   // the start of a kernel that fails, from 1; 0: none

	mu     sync.Mutex
	queues [2][]func() error
	copied []address // where the copies that are under way go
	taken  map[address]int64
	sum    int64
	pins   []pinned
	starts map[string]int
}

func newLate(t *testing.T, card *kerneltest.Card) *late {
	return &late{t: t, card: card, taken: map[address]int64{}, starts: map[string]int{}}
}

var errRoom = errors.New("no room")

func (d *late) take(bytes int64) (address, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.room > 0 && d.sum+bytes > d.room {
		return 0, errRoom
	}
	p, err := d.card.Take(bytes)
	d.taken[address(p)] = bytes
	d.sum += bytes
	return address(p), err
}

func (d *late) give(p address) {
	d.mu.Lock()
	defer d.mu.Unlock()
	bytes, ok := d.taken[p]
	if !ok {
		d.t.Errorf("memory is given back that was not taken")
		return
	}
	if len(d.queues[work]) > 0 || slices.ContainsFunc(d.copied, func(to address) bool { return to >= p && to < p+address(bytes) }) {
		d.t.Errorf("memory is given back while the card has work to do there")
	}
	delete(d.taken, p)
	d.sum -= bytes
	if err := d.card.Give(uint64(p)); err != nil {
		d.t.Error(err)
	}
}

func (d *late) available() (int64, error) {
	if d.room == 0 {
		return 1 << 40, nil
	}
	return d.room - d.sum, nil
}

func (d *late) pin(bytes int64) (pinned, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := make(pinned, max(bytes, 1))
	d.pins = append(d.pins, p)
	return p, nil
}

func (d *late) unpin(p pinned) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pins = slices.DeleteFunc(d.pins, func(q pinned) bool { return p != nil && &q[0] == &p[0] })
}

// isPinned reports whether data lies in page-locked memory.
func (d *late) isPinned(data []byte) bool {
	at := uintptr(unsafe.Pointer(&data[0]))
	return slices.ContainsFunc(d.pins, func(p pinned) bool {
		begin := uintptr(unsafe.Pointer(&p[0]))
		return at >= begin && at+uintptr(len(data)) <= begin+uintptr(len(p))
	})
}

func (d *late) attach() error { return nil }

func (d *late) later(on stream, do func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queues[on] = append(d.queues[on], do)
	return nil
}

func (d *late) wait(on stream) error {
	d.mu.Lock()
	queue := d.queues[on]
	d.queues[on] = nil
	d.mu.Unlock()
	for _, do := range queue {
		if err := do(); err != nil {
			return err
		}
	}
	if on == copies {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.copied = nil
	}
	return nil
}

func (d *late) clear(to address, bytes int64) error {
	return d.later(work, func() error { return d.card.Write(uint64(to), make([]byte, bytes)) })
}

func (d *late) move(to, from address, bytes int64) error {
	return d.later(work, func() error {
		data := make([]byte, bytes)
		if err := d.card.Read(uint64(from), data); err != nil {
			return err
		}
		return d.card.Write(uint64(to), data)
	})
}

func (d *late) send(to address, from []byte, on stream) error {
	d.mu.Lock()
	if !d.isPinned(from) {
		from = slices.Clone(from) // the driver has taken it
	}
	if on == copies {
		d.copied = append(d.copied, to)
	}
	d.mu.Unlock()
	return d.later(on, func() error { return d.card.Write(uint64(to), from) })
}

func (d *late) fetch(to pinned, from address) error {
	if !d.isPinned(to) {
		d.t.Error("the card writes to memory that is not page-locked")
	}
	return d.later(work, func() error { return d.card.Read(uint64(from), to) })
}

func (d *late) read(to []byte, from address) error {
	if err := d.wait(work); err != nil {
		return err
	}
	return d.card.Read(uint64(from), to)
}

func (d *late) start(kernel string, gridX, gridY, threads, shared int, cells []uint64) error {
	d.mu.Lock()
	d.starts[kernel]++
	n := 0
	for _, k := range d.starts {
		n += k
	}
	d.mu.Unlock()
	if n == d.fail {
		return errors.New("the card is lost")
	}
	return d.later(work, func() error { return d.card.Launch(kernel, gridX, gridY, threads, shared, cells) })
}

func (d *late) product(c, a, b address, m, n, k, lda, ldb, ldc int, number string, beta float32) (bool, error) {
	return false, nil
}

func (d *late) tensor(data address, rows, ld int) ([]byte, error) {
	words := make([]byte, 128) // as kernels/emulate/hopper.h has them
	for i, v := range []uint64{uint64(data), uint64(rows), uint64(ld), uint64(ld)} {
		binary.LittleEndian.PutUint64(words[8*i:], v)
	}
	return words, nil
}

// clean fails if a pass has left something behind.
func (d *late) clean(t *testing.T) {
	t.Helper()
	if len(d.taken) > 0 || len(d.pins) > 0 || len(d.queues[work])+len(d.queues[copies]) > 0 {
		t.Errorf("the pass left %d pieces of the card's memory, %d of the host's, %d and %d things to do", len(d.taken), len(d.pins), len(d.queues[work]), len(d.queues[copies]))
	}
}

// sequences of several lengths, with layers and means of all sorts.
func sequences(vocab, layers int) []llm.Sequence {
	var out []llm.Sequence
	for i, n := range []int{5, 70, 1, 0, 33, 64, 12} {
		q := llm.Sequence{}
		for j := range n {
			q.IDs = append(q.IDs, int32((i*131+j*17)%vocab))
		}
		switch i % 3 {
		case 0:
			q.Layers = []int{layers - 1}
		case 1:
			q.Layers = []int{0, layers - 1}
		default:
			q.Layers = []int{0}
		}
		if i%2 == 1 && n > 3 {
			q.Means = [][2]int{{0, n}, {1, 3}, {n - 1, n}}
		}
		if i == 4 {
			q.Means = [][2]int{}
		}
		out = append(out, q)
	}
	return append(out, llm.Sequence{IDs: []int32{1, 2}}) // asks for nothing
}

// visited are the matrices that a pass hands out, by layer and sequence.
func visited(ctx context.Context, ckpt *llm.Checkpoint, p llm.Pass) (map[[2]int]linalg.Matrix, error) {
	var mu sync.Mutex
	out := map[[2]int]linalg.Matrix{}
	p.Threads = 2
	p.Visit = func(layer, seq int, m linalg.Matrix) error {
		mu.Lock()
		defer mu.Unlock()
		if _, twice := out[[2]int{layer, seq}]; twice {
			return fmt.Errorf("layer %d of sequence %d is shown twice", layer, seq)
		}
		out[[2]int{layer, seq}] = linalg.Matrix{Rows: m.Rows, Cols: m.Cols, Stride: m.Cols, Data: slices.Clone(m.Data[:m.Rows*m.Cols])}
		return nil
	}
	return out, ckpt.Forward(ctx, p)
}

// cardOf is a device over an engine.
type cardOf struct{ *engine }

func (cardOf) Name() string { return "a card on the processor" }

// away is the largest difference of two results, relative to the norm of its row.
func away(t *testing.T, got, want map[[2]int]linalg.Matrix) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d matrices are shown, want %d", len(got), len(want))
	}
	worst := 0.0
	for at, w := range want {
		g, ok := got[at]
		if !ok || g.Rows != w.Rows || g.Cols != w.Cols {
			t.Fatalf("layer %d of sequence %d is [%d, %d], want [%d, %d]", at[0], at[1], g.Rows, g.Cols, w.Rows, w.Cols)
		}
		for r := range w.Rows {
			diff, norm := 0.0, 0.0
			for c, v := range w.Row(r) {
				d := float64(g.Row(r)[c]) - float64(v)
				if math.IsNaN(d) {
					t.Fatalf("layer %d of sequence %d, row %d is no number", at[0], at[1], r)
				}
				diff, norm = diff+d*d, norm+float64(v)*float64(v)
			}
			worst = max(worst, math.Sqrt(diff/norm))
		}
	}
	return worst
}

func TestMain(m *testing.M) { kerneltest.Main(m) }

// TestForward runs whole passes on the card on the processor beside the passes of
// the processor's own: architectures, precisions, packing, states in the host's
// memory, weights on their way beside the work.
func TestForward(t *testing.T) {
	card, err := kerneltest.Open()
	if errors.Is(err, kerneltest.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := card.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, model := range []string{"qwen2", "llama"} {
		for _, c := range []struct {
			precision llm.Precision
			hopper    int
			tolerance float64
		}{{llm.F32, 0, 1e-5}, {llm.F32, 2, 1e-5}, {llm.BF16, 0, 1.5e-2}, {llm.BF16, 4, 1.5e-2}, {llm.F16, 0, 2e-3}, {llm.F16, 2, 2e-3}, {llm.Int8, 2, 1e-2}} {
			precision, tolerance := c.precision, c.tolerance
			t.Run(fmt.Sprintf("%s %s hopper=%d", model, precision, c.hopper), func(t *testing.T) {
				dir := t.TempDir()
				dim := map[string]int{"qwen2": 128}[model] // as hopper.cu takes them, or not
				if err := (llmtest.Checkpoint{ModelType: model, Seed: 3, HeadDim: dim, Outliers: precision == llm.Int8}).Write(dir); err != nil {
					t.Fatal(err)
				}
				ckpt, err := llm.Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer ckpt.Close()
				pass := llm.Pass{Sequences: sequences(ckpt.Config.Vocab, ckpt.Layers()), Precision: precision}
				want, err := visited(t.Context(), ckpt, pass)
				if err != nil {
					t.Fatal(err)
				}
				d := newLate(t, card)
				e := &engine{driver: d, shared: 100 << 10, hopper: c.hopper}
				pass.Device = cardOf{e}
				last, total := -1, 0
				pass.Progress = func(done, of int) {
					if done < last || done > of {
						t.Errorf("progress goes from %d to %d of %d", last, done, of)
					}
					last, total = done, of
				}
				got, err := visited(t.Context(), ckpt, pass)
				if err != nil {
					t.Fatal(err)
				}
				d.clean(t)
				if last != total || total == 0 {
					t.Errorf("the pass ends at %d of %d", last, total)
				}
				for kernel, want := range map[string]bool{"gated_product_": true, "turned_product_": dim == 128, "hopper_attention_": dim == 128, "product_": true} {
					used := d.starts[kernel+"bf16"] + d.starts[kernel+"f16"]
					if want = want && c.hopper > 0 && (precision == llm.BF16 || precision == llm.F16); (used > 0) != want {
						t.Errorf("kernels %s of hopper.cu were started %d times", kernel, used)
					}
				}
				if worst := away(t, got, want); worst > tolerance || worst == 0 && precision != llm.F32 {
					t.Errorf("the card is %.2g away from the processor, want at most %.2g", worst, tolerance)
				}

				// With too little memory for the states, and alone, the same bits.
				last = -1
				e.Memory = 1
				limited, err := visited(t.Context(), ckpt, pass)
				if err != nil {
					t.Fatal(err)
				}
				d.clean(t)
				if worst := away(t, limited, got); worst != 0 {
					t.Errorf("states in the host's memory change the result by %.2g", worst)
				}
				e.Memory = 0
				pass.Progress = nil
				e.piece = 32
				pieces, err := visited(t.Context(), ckpt, pass)
				if err != nil {
					t.Fatal(err)
				}
				if worst := away(t, pieces, got); worst != 0 {
					t.Errorf("fewer rows at once change the result by %.2g", worst)
				}
				e.piece = 0
				alone := pass
				alone.Sequences = pass.Sequences[4:5]
				one, err := visited(t.Context(), ckpt, alone)
				if err != nil {
					t.Fatal(err)
				}
				for at, m := range one {
					if !slices.Equal(m.Data, got[[2]int{at[0], 4}].Data) {
						t.Errorf("layer %d of a sequence alone differs from that among others", at[0])
					}
				}
			})
		}
	}
	t.Run("trouble", func(t *testing.T) { trouble(t, card) })
}

// trouble ends passes in the middle: they say why, and leave nothing.
func trouble(t *testing.T, card *kerneltest.Card) {
	dir := t.TempDir()
	if err := (llmtest.Checkpoint{ModelType: "qwen2", Seed: 3}).Write(dir); err != nil {
		t.Fatal(err)
	}
	ckpt, err := llm.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	pass := llm.Pass{Sequences: sequences(ckpt.Config.Vocab, ckpt.Layers()), Precision: llm.BF16}
	for _, fail := range []int{1, 2, 9, 25, 40} {
		d := newLate(t, card)
		d.fail = fail
		pass.Device = cardOf{&engine{driver: d, shared: 100 << 10}}
		if _, err := visited(t.Context(), ckpt, pass); err == nil || !strings.Contains(err.Error(), "the card is lost") {
			t.Errorf("kernel %d fails: %v", fail, err)
		}
		d.clean(t)
	}
	for _, room := range []int64{1 << 10, 1 << 20, 5 << 20} {
		d := newLate(t, card)
		d.room = room
		pass.Device = cardOf{&engine{driver: d, shared: 100 << 10}}
		if _, err := visited(t.Context(), ckpt, pass); !errors.Is(err, errRoom) || !strings.Contains(err.Error(), "GB of the card for") {
			t.Errorf("a card of %d bytes: %v", room, err)
		}
		d.clean(t)
	}
	d := newLate(t, card)
	pass.Device = cardOf{&engine{driver: d, shared: 100 << 10}}
	ctx, cancel := context.WithCancel(t.Context())
	pass.Progress = func(done, total int) {
		if done > 0 {
			cancel()
		}
	}
	if _, err := visited(ctx, ckpt, pass); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled pass: %v", err)
	}
	d.clean(t)
	pass.Progress = nil
	refused := errors.New("refused")
	pass.Visit = func(int, int, linalg.Matrix) error { return refused }
	if err := ckpt.Forward(t.Context(), pass); !errors.Is(err, refused) {
		t.Errorf("a visitor that refuses: %v", err)
	}
	d.clean(t)
	pass.Precision = "int4"
	if err := ckpt.Forward(t.Context(), pass); err == nil || !strings.Contains(err.Error(), "int4 cannot be run on the card") {
		t.Errorf("int4: %v", err)
	}
}
