package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"clusterflow/internal/linalg"
)

// Adam's constants (Kingma and Ba, ICLR 2015), as they are by default
// everywhere.
const (
	adamBeta1 = 0.9
	adamBeta2 = 0.999
	adamEps   = 1e-8
)

// saeNormEps is added to the norm of a decoder row when it is scaled.
const saeNormEps = 1e-5

// sae is a sparse autoencoder with k latents, of which each row keeps the
// largest few (Makhzani and Frey, k-Sparse Autoencoders, ICLR 2014; top-k as in
// Gao et al., Scaling and evaluating sparse autoencoders, 2024):
//
//	z = enc·(x − b) + bias,  x̂ = Σ over the kept latents of z·dec + b
//
// Loss and gradients of a batch are taken from two products of all its rows at
// once, [enc; dec]·xᵀ and the transposes of what the latents weigh times x: no
// residual of a row is ever written down.
type sae struct {
	k, d, keep int
	weights    linalg.Matrix // [2k, d]: encoder rows, then decoder rows
	bias       []float32     // [k]
	origin     []float32     // [d], b
	threads    int
}

// fitSAE trains the autoencoder. Labels are the largest latent of each row,
// before any is dropped; Centers are the decoder rows at unit length. The
// tensors are encoder [k, d], encoder_bias [1, k], decoder [k, d] and
// decoder_bias [1, d].
func fitSAE(ctx context.Context, in Input) (*Model, error) {
	fail := func(err error) (*Model, error) { return nil, fmt.Errorf("fitting sae_topk: %w", err) }
	o, err := Method{Name: "sae_topk", Options: saeOptions}.Complete(in.Options)
	if err != nil {
		return nil, err
	}
	norms, err := squaredNorms(in.X, in.Threads)
	if err != nil {
		return fail(err)
	}
	if in.K < 1 || in.K > in.X.Rows {
		return fail(fmt.Errorf("%d clusters of %d rows", in.K, in.X.Rows))
	}
	s := newSAE(in, int(o["top_k"].(int64)))
	t := &saeTrainer{
		sae: s, x: in.X, norms: norms, batch: min(int(o["batch_size"].(int64)), in.X.Rows),
		rate: o["learning_rate"].(float64) / math.Sqrt(float64(in.K)/(1<<14)),
	}
	best, loss, epochs, err := t.train(ctx, in, int(o["max_epochs"].(int64)), int(o["patience"].(int64)))
	if err != nil {
		return fail(err)
	}
	labels, all := best.label(in.X, norms)
	counts := make([]int, in.K)
	for _, l := range labels {
		counts[l]++
	}
	centers := linalg.NewMatrix(in.K, s.d)
	for j := range in.K {
		row := best.decoder().Row(j)
		scaleTo(centers.Row(j), row, 1/max(Norm(row), math.SmallestNonzeroFloat32))
	}
	return &Model{
		Labels: labels, Centers: centers,
		Tensors: map[string]linalg.Matrix{
			"encoder": best.encoder().Clone(), "decoder": best.decoder().Clone(),
			"encoder_bias": rowMatrix(best.bias), "decoder_bias": rowMatrix(best.origin),
		},
		Info: map[string]float64{"loss": loss, "loss_all_rows": all, "epochs": float64(epochs), "empty": float64(len(emptyClusters(counts)))},
	}, nil
}

// newSAE draws the encoder uniformly from ±1/√d; the decoder begins as the
// encoder, at unit length.
func newSAE(in Input, keep int) *sae {
	s := &sae{k: in.K, d: in.X.Cols, keep: min(keep, in.K), threads: in.Threads}
	s.weights = linalg.NewMatrix(2*s.k, s.d)
	s.bias, s.origin = make([]float32, s.k), make([]float32, s.d)
	rng := linalg.Rand(in.Seed, "sae start", fmt.Sprint(s.k))
	bound := 1 / math.Sqrt(float64(s.d))
	for j := range s.k {
		row := s.weights.Row(j)
		for i := range row {
			row[i] = float32((2*rng.Float64() - 1) * bound)
		}
		copy(s.weights.Row(s.k+j), row)
	}
	s.scaleDecoder()
	return s
}

func (s *sae) encoder() linalg.Matrix { return s.weights.Slice(0, s.k) }
func (s *sae) decoder() linalg.Matrix { return s.weights.Slice(s.k, 2*s.k) }

func (s *sae) clone() *sae {
	c := *s
	c.weights = s.weights.Clone()
	c.bias, c.origin = append([]float32(nil), s.bias...), append([]float32(nil), s.origin...)
	return &c
}

func (s *sae) scaleDecoder() {
	dec := s.decoder()
	linalg.ForEach(s.threads, s.k, func(j int) {
		row := dec.Row(j)
		scaleTo(row, row, 1/(Norm(row)+saeNormEps))
	})
}

// shift is what the bias and the origin add to the latents: bias − enc·b.
func (s *sae) shift() []float64 {
	out := make([]float64, s.k)
	for j := range out {
		out[j] = float64(s.bias[j]) - dot(s.weights.Row(j), s.origin)
	}
	return out
}

// label returns each row's largest latent, the first of equal ones, and the
// loss over all rows.
func (s *sae) label(x linalg.Matrix, norms []float64) (labels []int32, loss float64) {
	labels = make([]int32, x.Rows)
	shift, latents := s.shift(), s.latentProducts()
	blocks := linalg.Blocks(x.Rows, rowBlock)
	errs := make([]float64, blocks)
	linalg.ForEach(s.threads, blocks, func(b int) {
		from, to := b*rowBlock, min(x.Rows, (b+1)*rowBlock)
		y := linalg.NewMatrix(to-from, 2*s.k)
		linalg.Gemm(1, false, true, 1, x.Slice(from, to), s.weights, 0, y)
		kept := make([]int, 0, s.keep)
		z := make([]float64, s.k)
		for i := from; i < to; i++ {
			row := y.Row(i - from)
			for j := range z {
				z[j] = float64(row[j]) + shift[j]
			}
			kept = largest(z, s.keep, kept[:0])
			labels[i] = int32(kept[0])
			errs[b] += norms[i] + s.rowError(z, kept, row[s.k:], latents) - 2*dot(x.Row(i), s.origin)
		}
	})
	sum, mean, total := 0.0, columnMeans(x, s.threads), 0.0
	for _, e := range errs {
		sum += e
	}
	for _, n := range norms {
		total += n
	}
	for _, m := range mean {
		total -= float64(x.Rows) * m * m
	}
	return labels, sum / total
}

// latentProducts are what the rows of the decoder have to do with each other.
type latentProducts struct {
	gram   []float64 // [k, k] dec·decᵀ
	origin []float64 // [k] dec·b
	length float64   // b·b
}

func (s *sae) latentProducts() latentProducts {
	p := latentProducts{gram: make([]float64, s.k*s.k), origin: make([]float64, s.k), length: dot(s.origin, s.origin)}
	dec := s.decoder()
	g := linalg.NewMatrix(s.k, s.k)
	linalg.Gemm(1, false, true, 1, dec, dec, 0, g)
	for i, v := range g.Data {
		p.gram[i] = float64(v)
	}
	for j := range p.origin {
		p.origin[j] = dot(dec.Row(j), s.origin)
	}
	return p
}

// rowError is ‖x̂ − x‖² of a row less ‖x‖² − 2x·b, given its latents, those that
// are kept, and the products of the row with the decoder.
func (s *sae) rowError(z []float64, kept []int, withDecoder []float32, p latentProducts) float64 {
	e := p.length
	for _, j := range kept {
		e += 2 * z[j] * (p.origin[j] - float64(withDecoder[j]))
		for _, l := range kept {
			e += z[j] * z[l] * p.gram[j*s.k+l]
		}
	}
	return e
}

// largest appends the places of the n largest values of z to out, the largest
// first and of equal ones the first.
func largest(z []float64, n int, out []int) []int {
	for j, v := range z {
		at := len(out)
		for at > 0 && v > z[out[at-1]] {
			at--
		}
		if at >= n {
			continue
		}
		if len(out) < n {
			out = append(out, 0)
		}
		copy(out[at+1:], out[at:])
		out[at] = j
	}
	return out
}

var errNoSpread = errors.New("all rows are equal, so there is nothing for an autoencoder to learn")

// saeTrainer runs Adam over batches.
type saeTrainer struct {
	*sae
	x     linalg.Matrix
	norms []float64 // ‖x‖² of each row
	batch int
	rate  float64
	steps int

	first, second             linalg.Matrix // Adam's moments of the weights
	biasFirst, biasSecond     []float32
	originFirst, originSecond []float32

	rows, y, mix, sums, decoded linalg.Matrix // room for a batch
}

// train goes over all rows in a new order until the mean loss of the batches
// has not fallen for so many epochs, and returns the best state of an epoch's end.
func (t *saeTrainer) train(ctx context.Context, in Input, maxEpochs, patience int) (best *sae, loss float64, epochs int, err error) {
	t.room()
	loss = math.Inf(1)
	for bad := 0; epochs < maxEpochs && bad < patience; {
		rng := linalg.Rand(in.Seed, "sae order", fmt.Sprint(t.k), fmt.Sprint(epochs))
		mean, err := t.epoch(ctx, rng)
		if err != nil {
			return nil, 0, 0, err
		}
		epochs++
		if mean < loss {
			best, loss, bad = t.clone(), mean, 0
		} else {
			bad++
		}
		if in.Progress != nil {
			in.Progress(epochs, maxEpochs, fmt.Sprintf("epoch %d, loss %.4f, best %.4f", epochs, mean, loss))
		}
	}
	if best == nil {
		return nil, 0, 0, errors.New("the loss is not a number from the first epoch on; lower learning_rate")
	}
	return best, loss, epochs, nil
}

func (t *saeTrainer) room() {
	t.first, t.second = linalg.NewMatrix(2*t.k, t.d), linalg.NewMatrix(2*t.k, t.d)
	t.biasFirst, t.biasSecond = make([]float32, t.k), make([]float32, t.k)
	t.originFirst, t.originSecond = make([]float32, t.d), make([]float32, t.d)
	t.rows, t.y = linalg.NewMatrix(t.batch, t.d), linalg.NewMatrix(t.batch, 2*t.k)
	t.mix, t.sums = linalg.NewMatrix(t.batch, 2*t.k+1), linalg.NewMatrix(2*t.k+1, t.d)
	t.decoded = linalg.NewMatrix(t.k, t.d)
}

// epoch makes a step for every batch and returns the mean of their losses,
// weighted by rows. A batch without spread, such as one of a single row that is
// left over, is passed over.
func (t *saeTrainer) epoch(ctx context.Context, rng *rand.Rand) (float64, error) {
	order := rng.Perm(t.x.Rows)
	sum, seen := 0.0, 0
	for from := 0; from < len(order); from += t.batch {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		which := order[from:min(from+t.batch, len(order))]
		loss, ok := t.step(which)
		if ok {
			sum += loss * float64(len(which))
			seen += len(which)
		}
	}
	if seen == 0 {
		return 0, errNoSpread
	}
	return sum / float64(seen), nil
}
