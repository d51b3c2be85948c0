package llm

import (
	"context"
	"math"
	"slices"
	"testing"

	"clusterflow/internal/linalg"
)

// What the precisions round, in float64 and by other means than the code under
// test: [reference] applies it to the sides of products.
var roundings = map[Precision]func(float64) float64{
	BF16: func(v float64) float64 { return roundBits(v, 8, -126) },
	F16:  func(v float64) float64 { return roundBits(v, 11, -14) },
}

// roundBits rounds v to that many bits of significand, ties to even, with the
// step of the smallest normal exponent below it.
func roundBits(v float64, bits, least int) float64 {
	_, exp := math.Frexp(v) // v = frac·2^exp with frac in [½, 1)
	step := math.Ldexp(1, max(exp, least+1)-bits)
	return math.RoundToEven(v/step) * step
}

func TestRounding(t *testing.T) {
	for _, v := range []float32{0, 1, -1, 1.00390625, 1.01171875, 3.14159, -65519, 1e-5, 6.1e-5, 5.9604645e-8, 2.9802322e-8, 2.9802326e-8, 8.9406967e-8, -1e-9, 0.1, 2049, 2051, 65504} {
		if got, want := linalg.RoundF16(v), roundings[F16](float64(v)); float64(got) != want {
			t.Errorf("RoundF16(%g) = %g, want %g", v, got, want)
		}
		if got, want := linalg.RoundBF16(v), roundings[BF16](float64(v)); float64(got) != want {
			t.Errorf("RoundBF16(%g) = %g, want %g", v, got, want)
		}
	}
	inf := float32(math.Inf(1))
	for _, test := range [][2]float32{{65520, inf}, {-65520, -inf}, {inf, inf}, {65519.996, 65504}, {1e30, inf}} {
		if got := linalg.RoundF16(test[0]); got != test[1] {
			t.Errorf("RoundF16(%g) = %g, want %g", test[0], got, test[1])
		}
	}
	if nan := linalg.RoundF16(float32(math.NaN())); nan == nan {
		t.Errorf("RoundF16(NaN) = %g", nan)
	}
}

// Each precision against float64 with the same roundings: what is left are
// numbers near the middle between two, which float32 rounds the other way, and
// what follows from them. Against float64 without, the error is what the
// precision costs.
func TestPrecisions(t *testing.T) {
	for _, modelType := range Architectures() {
		s := testShape(modelType, "F32")
		s.outliers = true
		c := openTest(t, makeCheckpoint(t, s))
		for _, tokens := range []int{1, 150, 1100} { // 1100 are more than go through the MLP at once
			if tokens > 1000 && modelType != "qwen2" {
				continue
			}
			ids := randomIDs(tokens, s.Vocab)
			exact := reference(t, c, ids, F32)
			for _, p := range []Precision{BF16, F16, Int8} {
				got := passStates(t, c, Pass{Sequences: []Sequence{{IDs: ids, Layers: []int{0, 1, 2}}}, Precision: p, Threads: 2})
				for layer, want := range reference(t, c, ids, p) {
					e, cost := relativeError(got[layer][0], want), relativeError(got[layer][0], exact[layer])
					if !(e < cost/2) || cost < 1e-4 { // with the library for products it moves by some tenths
						t.Errorf("%s, %s, %d tokens, layer %d: error %.1e beside the rules, %.1e beside exact states", modelType, p, tokens, layer, e, cost)
					}
				}
			}
		}
	}
}

// The bits do not depend on threads or on what else is run, in any precision.
func TestPrecisionBits(t *testing.T) {
	s := testShape("qwen2", "BF16")
	s.outliers = true
	c := openTest(t, makeCheckpoint(t, s))
	var ids [][]int32
	for _, n := range []int{3, 1100, 140} {
		ids = append(ids, randomIDs(n, s.Vocab))
	}
	for _, p := range []Precision{BF16, F16, Int8} {
		run := func(ids [][]int32, threads int) []linalg.Matrix {
			return passStates(t, c, Pass{Sequences: sequences(ids, []int{2}), Precision: p, Threads: threads})[2]
		}
		together := run(ids, 2)
		for i := range ids {
			for _, threads := range []int{1, 7} {
				if alone := run(ids[i:i+1], threads)[0]; !slices.Equal(alone.Data, together[i].Data) {
					t.Errorf("%s, %d tokens, %d threads: other bits", p, len(ids[i]), threads)
				}
			}
		}
	}
}

// A product in int8 beside its definition, in whole numbers, deeper than
// float32 sums are exact at once and wider than a tile.
func TestInt8Product(t *testing.T) {
	const rows, in, out = 5, 2500, 700
	rng := linalg.Rand(3, "test int8")
	x, w := linalg.NewMatrix(rows, in), linalg.NewMatrix(out, in)
	for i := range x.Data {
		x.Data[i] = float32(rng.NormFloat64())
	}
	for i := range w.Data {
		w.Data[i] = float32(rng.NormFloat64())
	}
	x.Row(3)[17], x.Row(1)[2400] = 60, -7
	clear(x.Row(4))
	clear(w.Row(8))
	l := newLinear(Int8, out, in, false)
	for o := range out {
		l.quant.setRow(o, slices.Clone(w.Row(o)))
	}
	r := newRunner(context.Background(), Config{Heads: 1, KVHeads: 1, HeadDim: 2, Hidden: 2, Inter: 2}, Int8, 1, 3)
	outliers := r.mark(nil, x).list()
	if !slices.Equal(outliers, []int{17, 2400}) {
		t.Fatalf("outliers %v", outliers)
	}
	got := linalg.NewMatrix(rows, out)
	for i := range got.Data {
		got.Data[i] = 1
	}
	r.product(&workspace{}, &l, x.Clone(), 1, got, outliers)
	bad := x.Clone() // what is not finite stays so, in its row
	bad.Row(2)[5] = float32(math.NaN())
	spoilt := linalg.NewMatrix(rows, out)
	r.product(&workspace{}, &l, bad, 0, spoilt, outliers)
	if v := spoilt.Row(2)[3]; v == v || math.Abs(float64(spoilt.Row(1)[3]-got.Row(1)[3]+1)) > 1e-3 {
		t.Errorf("with NaN in row 2: %g there, %g in row 1, want NaN and %g", v, spoilt.Row(1)[3], got.Row(1)[3]-1)
	}
	numbers := func(v []float32, leave []int) ([]int64, float64) {
		top := 0.0
		for j, a := range v {
			if !slices.Contains(leave, j) {
				top = max(top, math.Abs(float64(a)))
			}
		}
		q := make([]int64, len(v))
		for j, a := range v {
			if top > 0 && !slices.Contains(leave, j) {
				q[j] = int64(math.RoundToEven(float64(a / float32(top/127))))
			}
		}
		return q, top / 127
	}
	for i := range rows {
		qx, sx := numbers(x.Row(i), outliers)
		for o := range out {
			qw, sw := numbers(w.Row(o), nil)
			sum := int64(0)
			for j := range qx {
				sum += qx[j] * qw[j]
			}
			want := float64(sum) * sx * sw
			for _, j := range outliers {
				want += float64(x.Row(i)[j]) * float64(qw[j]) * sw
			}
			if d := math.Abs(float64(got.Row(i)[o]) - 1 - want); !(d <= 1e-6*(math.Abs(want)+10)) {
				t.Fatalf("[%d, %d] is %g, want %g", i, o, got.Row(i)[o]-1, want)
			}
		}
	}
}

func TestBlockBytes(t *testing.T) {
	c := Config{Hidden: 512, Inter: 1408, Heads: 8, KVHeads: 2, HeadDim: 64, QKVBias: true, QKNorm: true}
	for _, p := range Precisions() {
		if got, want := newBlock(c, p).bytes(), c.blockBytes(p); p != Int8 && got != want || p == Int8 && (got > want || got < want-1<<16) {
			t.Errorf("%s: a block holds %d bytes, estimated %d", p, got, want)
		}
	}
	if part := float64(newBlock(c, Int8).bytes()) / float64(2*c.blockElements()); part > 0.52 {
		t.Errorf("an int8 block takes %.3f of a bf16 one", part)
	}
}
