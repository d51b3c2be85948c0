package llm

import (
	"context"
	"fmt"

	"clusterflow/internal/linalg"
)

// Device runs passes elsewhere than on the processor.
type Device interface {
	// Forward is [Checkpoint.Forward] of a pass whose sequences have been
	// checked; what a pass says of threads and of files does not bind it.
	Forward(ctx context.Context, c *Checkpoint, p *Pass) error
	// Name says on what states are computed, for records.
	Name() string
}

// Weight is a tensor of a checkpoint as its file has it.
type Weight struct {
	Name  string // after "layers.N.", or whole for the embedding
	DType string // BF16, F16 or F32
	Shape []int
	Data  []byte // little-endian, by rows
}

// Embedding returns the embedding table, [vocabulary, hidden].
func (c *Checkpoint) Embedding() (Weight, error) {
	name := c.prefix + "embed_tokens.weight"
	t, err := c.tensor(name, c.Config.Vocab, c.Config.Hidden)
	return Weight{name, t.dtype, t.shape, t.raw}, err
}

// BlockWeights returns the tensors of block i; those of layers that read the
// same input follow each other in the order in which they are stacked.
func (c *Checkpoint) BlockWeights(i int) ([]Weight, error) {
	var list []Weight
	for _, p := range c.Config.parts(nil) {
		t, err := c.tensor(c.blockTensor(i, p.name), p.shape...)
		if err != nil {
			return nil, err
		}
		list = append(list, Weight{p.name, t.dtype, t.shape, t.raw})
	}
	return list, nil
}

// Floats returns the numbers of a weight in float32, exactly.
func (w Weight) Floats() []float32 {
	n := 1
	for _, d := range w.Shape {
		n *= d
	}
	out := make([]float32, n)
	tensor{dtype: w.DType, raw: w.Data}.readAt(out, 0)
	return out
}

// Rotations returns the cosines and sines of the rotary angles of so many
// positions, [positions, HeadDim/2] each.
func (c Config) Rotations(positions int) (cos, sin []float32) {
	r := newRope(c, positions)
	return r.cos, r.sin
}

// meanRows sets dst to the mean of rows span[0] to span[1] of m, summed in
// float64.
func meanRows(dst []float32, m linalg.Matrix, span [2]int) {
	sum := make([]float64, len(dst))
	for r := span[0]; r < span[1]; r++ {
		for c, v := range m.Row(r) {
			sum[c] += float64(v)
		}
	}
	n := float64(span[1] - span[0])
	for c := range dst {
		dst[c] = float32(sum[c] / n)
	}
}

// Last is the highest of the layers, which are sorted; -1 without any.
func (q *Sequence) Last() int {
	if len(q.Layers) == 0 {
		return -1
	}
	return q.Layers[len(q.Layers)-1]
}

// shown is what Visit is given of a sequence's states.
func (q *Sequence) shown(states linalg.Matrix) linalg.Matrix {
	if q.Means == nil {
		return states
	}
	m := linalg.NewMatrix(len(q.Means), states.Cols)
	for i, span := range q.Means {
		meanRows(m.Row(i), states, span)
	}
	return m
}

// check sorts the layers of the sequences. It refuses layers, ids and ranges that
// there are not.
func (p *Pass) check(c Config) error {
	for i := range p.Sequences {
		q := &p.Sequences[i]
		q.Layers = sortedSet(q.Layers)
		if top := q.Last(); len(q.Layers) > 0 && (q.Layers[0] < 0 || top >= c.Layers) {
			return fmt.Errorf("there is no layer %d: it has %d blocks, 0 to %d", pick(q.Layers[0] < 0, q.Layers[0], top), c.Layers, c.Layers-1)
		}
		for j, id := range q.IDs {
			if id < 0 || int(id) >= c.Vocab {
				return fmt.Errorf("token %d of sequence %d has the id %d, outside the embedding of %d rows; was it made with another tokenizer?", j, i, id, c.Vocab)
			}
		}
		for _, m := range q.Means {
			if m[0] < 0 || m[1] <= m[0] || m[1] > len(q.IDs) {
				return fmt.Errorf("sequence %d has %d tokens; there is no mean over %d to %d", i, len(q.IDs), m[0], m[1])
			}
		}
	}
	return nil
}

// Location is what [Open] opens the checkpoint from again: its folder, or the
// name of a built-in model.
func (c *Checkpoint) Location() string {
	if c.dir != "" {
		return c.dir
	}
	return c.source
}
