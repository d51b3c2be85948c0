package llm

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"clusterflow/internal/linalg"
)

// Sequence is the token ids of one text and the layers at which its states are
// wanted.
type Sequence struct {
	IDs    []int32
	Layers []int
	// Means, unless it is nil, lists ranges of tokens, [start, end), whose mean
	// states are wanted instead, summed in float64.
	Means [][2]int
}

// Pass is one way of sequences through the blocks of a model.
type Pass struct {
	Sequences []Sequence
	Precision Precision // F32 where it is ""
	Threads   int       // at least 1 is used

	// Visit is called once for every layer that a sequence asks for, with the
	// block's output [tokens, hidden], or its means [ranges, hidden], which are
	// valid during the call. Calls come several at once; those of one sequence
	// come in the order of layers.
	Visit func(layer, seq int, states linalg.Matrix) error
	// Progress, which may be nil, is told how many of total tokens times blocks
	// are done, from one goroutine at a time: first, before anything is done,
	// of what an earlier pass left (see Scratch).
	Progress func(done, total int)

	// Memory is how many bytes the pass should get by with (see
	// [Checkpoint.ForwardMemory]); 0 is no limit. Where the states of all
	// sequences do not fit, they are kept in files between blocks.
	Memory int64
	// Scratch is a folder for these files. A pass that was ended leaves there
	// what the next one on the same model in the same precision goes on with;
	// one that comes to its end leaves nothing. With "" nothing can be gone on
	// with, and files are temporary.
	Scratch string
	// Device, unless it is nil, runs the pass instead of the processor.
	Device Device
}

// Forward runs sequences of token ids through the blocks of the model, each
// from block 0 to the highest layer that it asks for. Blocks above, the final
// norm and the head are not run.
//
// It goes block by block over all sequences: each weight is read once, and
// memory holds the states of all sequences, or those that are worked on, and
// one block. The states of a sequence depend on nothing but the sequence, the
// weights, the precision and the BLAS in use, to the bit: not on threads, nor
// on what else is run, nor on whether the pass was ended and gone on with.
//
// ids must lie in the embedding. When ctx ends, Forward returns its error
// within a part of a block.
func (c *Checkpoint) Forward(ctx context.Context, p Pass) error {
	p.Sequences = slices.Clone(p.Sequences)
	err := p.check(c.Config)
	switch {
	case err != nil:
	case p.Device != nil:
		err = p.Device.Forward(ctx, c, &p)
	default:
		err = c.forwardHere(ctx, &p)
	}
	if err != nil {
		return fmt.Errorf("running model %q: %w", c.source, err)
	}
	return nil
}

// forwardHere is Forward on the processor.
func (c *Checkpoint) forwardHere(ctx context.Context, p *Pass) error {
	f, err := c.newForward(ctx, p)
	if err != nil {
		return err
	}
	err = f.run()
	if end := f.states.close(err == nil); err == nil {
		err = end
	}
	return err
}

// forward is a pass under way.
type forward struct {
	*runner
	ckpt    *Checkpoint
	pass    *Pass
	last    []int // of each sequence: its highest layer, -1 for none
	states  *stateStore
	workers int // sequences worked on at once

	stopped atomic.Bool
	mu      sync.Mutex // guards what follows, and calls of Progress
	err     error      // the first
	done    int
	total   int
}

func (c *Checkpoint) newForward(ctx context.Context, p *Pass) (*forward, error) {
	if p.Precision == "" {
		p.Precision = F32
	}
	if _, err := ParsePrecision(string(p.Precision)); err != nil {
		return nil, err
	}
	p.Threads = max(1, p.Threads)
	f := &forward{ckpt: c, pass: p, workers: p.Threads}
	tokens, longest := 0, 0
	for _, q := range p.Sequences {
		f.last = append(f.last, q.Last())
		tokens += len(q.IDs)
		longest = max(longest, len(q.IDs))
		f.total += len(q.IDs) * (q.Last() + 1)
	}
	table, err := c.tensor(c.prefix+"embed_tokens.weight", c.Config.Vocab, c.Config.Hidden)
	if err != nil {
		return nil, err
	}
	embed := func(seq int, dst linalg.Matrix) {
		for j, id := range p.Sequences[seq].IDs {
			table.readAt(dst.Row(j), int(id)*c.Config.Hidden)
		}
		table.release(0, c.Config.Vocab*c.Config.Hidden)
	}
	// Many sequences: a thread takes one at a time. Few: all threads work on
	// one. The bits are the same.
	inner := 1
	if len(p.Sequences) < p.Threads {
		f.workers, inner = 1, p.Threads
	}
	f.runner = newRunner(ctx, c.Config, p.Precision, longest, inner)
	f.states, err = newStateStore(p, c.Config.Hidden, p.Memory == 0 || c.ForwardMemory(tokens, longest, p.Precision) <= p.Memory, embed)
	return f, err
}

// run takes the sequences through block after block.
func (f *forward) run() error {
	first := slices.Max(append([]int{-1}, f.last...)) + 1
	for i, at := range f.states.at {
		if f.last[i] > at.Block {
			first = min(first, at.Block+1)
		}
		f.done += len(f.pass.Sequences[i].IDs) * min(at.Block+1, f.last[i]+1)
	}
	if f.pass.Progress != nil && f.total > 0 {
		f.pass.Progress(f.done, f.total)
	}
	// Layers that an earlier pass computed and did not show.
	f.each(f.members(func(i int) bool { return f.states.at[i].Block >= 0 }), func(i int, s *workspace) error {
		if !slices.Contains(f.pass.Sequences[i].Layers, f.states.at[i].Block) {
			return nil
		}
		x, err := f.states.take(i, &s.states)
		if err == nil {
			err = f.pass.Visit(f.states.at[i].Block, i, f.pass.Sequences[i].shown(x))
		}
		return err
	})
	last := slices.Max(append([]int{-1}, f.last...))
	for layer := first; layer <= last && !f.stopped.Load(); layer++ {
		if err := f.block.load(f.ctx, f.ckpt, layer, last, f.precision, f.pass.Threads); err != nil {
			return err
		}
		members := f.members(func(i int) bool { return f.states.at[i].Block < layer && f.last[i] >= layer })
		var on []int // to the next block
		for _, i := range members {
			if f.last[i] > layer {
				on = append(on, i)
			}
		}
		if err := f.states.begin(layer, on); err != nil {
			return err
		}
		f.each(members, func(i int, s *workspace) error { return f.step(layer, i, s) })
		if f.stopped.Load() {
			break
		}
		if err := f.states.commit(on); err != nil {
			return err
		}
	}
	if f.stopped.Load() && f.err == nil {
		return f.ctx.Err()
	}
	return f.err
}

// step takes one sequence through one block.
func (f *forward) step(layer, i int, s *workspace) error {
	x, err := f.states.take(i, &s.states)
	if err != nil {
		return err
	}
	if !f.sequence(s, x) {
		return f.ctx.Err()
	}
	q := f.pass.Sequences[i]
	if slices.Contains(q.Layers, layer) {
		if err := f.pass.Visit(layer, i, q.shown(x)); err != nil {
			return err
		}
	}
	if f.last[i] > layer {
		if err := f.states.put(i, x); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done += len(q.IDs); f.pass.Progress != nil {
		f.pass.Progress(f.done, f.total)
	}
	return nil
}

// members returns the sequences that in accepts, the longest first, so that
// the threads end together.
func (f *forward) members(in func(i int) bool) []int {
	var list []int
	for i := range f.pass.Sequences {
		if in(i) {
			list = append(list, i)
		}
	}
	slices.SortStableFunc(list, func(a, b int) int { return len(f.pass.Sequences[b].IDs) - len(f.pass.Sequences[a].IDs) })
	return list
}

// each calls do for the sequences, several at once, until one fails or the
// context ends.
func (f *forward) each(seqs []int, do func(i int, s *workspace) error) {
	linalg.ForEach(f.workers, len(seqs), func(k int) {
		if f.stopped.Load() || f.ctx.Err() != nil {
			f.stopped.Store(true)
			return
		}
		s := f.spaces.Get().(*workspace)
		defer f.spaces.Put(s)
		if err := do(seqs[k], s); err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.stopped.Store(true); f.err == nil {
				f.err = err
			}
		}
	})
}

// ForwardMemory estimates the bytes that Forward needs for so many tokens in
// all, in sequences of at most longest: the states, one block, and the work
// space of a thread per processor. [Checkpoint.ForwardLeast] is what it needs
// with the states in files. The mapped weights are not in it: their pages are
// given back once they are read.
func (c *Checkpoint) ForwardMemory(tokens, longest int, p Precision) int64 {
	return c.fixedMemory(longest, p) + 4*int64(tokens)*int64(c.Config.Hidden)
}

// ForwardLeast estimates the bytes that Forward needs at least.
func (c *Checkpoint) ForwardLeast(longest int, p Precision) int64 {
	return c.fixedMemory(longest, p) + 4*int64(longest)*int64(c.Config.Hidden)*int64(runtime.NumCPU())
}

func (c *Checkpoint) fixedMemory(longest int, p Precision) int64 {
	f := c.Config
	heads, kv := int64(f.Heads*f.HeadDim), int64(f.KVHeads*f.HeadDim)
	rows := int64(min(longest, rowsAtOnce))
	perThread := int64(longest)*(2*heads+2*kv) + rows*int64(f.Hidden+2*f.Inter) + queryBlock*int64(longest)
	if p == Int8 { // the input in whole numbers, and the sums and weights of a tile
		perThread += max(rows*int64(max(f.Inter, f.Hidden)), int64(longest)*heads) + 2*rows*512 + 512*exactDepth
	}
	rotations := int64(longest) * int64(f.HeadDim)
	return f.blockBytes(p) + 4*(rotations+perThread*int64(runtime.NumCPU()))
}

func sortedSet(layers []int) []int { return slices.Compact(slices.Sorted(slices.Values(layers))) }

func pick(first bool, a, b int) int {
	if first {
		return a
	}
	return b
}
