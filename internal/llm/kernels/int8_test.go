package kernels

import (
	"math"
	"slices"
	"testing"
)

// quantised are the whole numbers that stand for a row, and their scale, as
// package llm defines them, leaving columns out.
func quantised(row []float32, leave func(column int) bool) ([]int8, float32) {
	top, out := float32(0), make([]int8, len(row))
	for j, v := range row {
		switch size := float32(math.Abs(float64(v))); {
		case leave(j):
		case !(size <= math.MaxFloat32):
			return out, float32(math.NaN())
		default:
			top = max(top, size)
		}
	}
	scale := top / 127
	for j, v := range row {
		if scale > 0 && !leave(j) {
			out[j] = int8(min(127, max(-127, math.RoundToEven(float64(v/scale)))))
		}
	}
	return out, scale
}

func none(int) bool { return false }

func same(a, b float32) bool { return a == b || a != a && b != b }

func TestQuantiseWeights(t *testing.T) {
	c := newCard(t)
	const rows = 6
	for _, f := range formats {
		for _, cols := range []int{1, 16, 77, 515} {
			w := rounded(f, normal(21, rows*cols))
			clear(w[cols : 2*cols])
			w[2*cols] = float32(math.NaN())
			w[4*cols-1] = float32(math.Inf(-1))
			for i := range cols { // sizes at the lower end, and halves of steps
				w[4*cols+i] = f.round(w[4*cols+i] * 1e-7)
				w[5*cols+i] = f.round(float32(i%255) - 127 + 0.5)
			}
			w[5*cols] = 127
			ld := (cols + 15) / 16 * 16
			out, scales := c.take(rows*ld), c.take(4*rows)
			c.launch("quantise_weights_"+f.name, rows, 1, 256, 0, out, scales, f.numbers(c, w), cols, ld)
			got, scale := make([]int8, rows*ld), make([]float32, rows)
			c.get(out, got)
			c.get(scales, scale)
			for r := range rows {
				want, step := quantised(w[r*cols:][:cols], none)
				if want = append(want, make([]int8, ld-cols)...); !slices.Equal(got[r*ld:][:ld], want) || !same(scale[r], step) {
					t.Errorf("%s, row %d of %d: %v over %g, should be %v over %g", f.name, r, cols, got[r*ld:][:ld], scale[r], want, step)
				}
			}
		}
	}
}

// Products of sequences that are packed, some with outliers and one with what is
// no number, beside their definition.
func TestInt8Product(t *testing.T) {
	c := newCard(t)
	lengths := []int{1, 67, 130, 5, 2, 40}
	owners := []int32{}
	for i, n := range lengths {
		owners = append(owners, slices.Repeat([]int32{int32(i)}, n)...)
	}
	m := len(owners)
	for i, shape := range [][2]int{{1, 1}, {259, 77}, {5, 200}, {66, 600}} {
		n, k := shape[0], shape[1]
		ldx, ld := up(k), (k+15)/16*16
		x, w, old := normal(22, m*k), normal(23, n*k), normal(24, m*n)
		for r, owner := range owners { // most columns in one sequence, one or two in others
			for j := range k {
				if owner == 2 && j%3 > 0 && r%50 == 7 || owner > 2 && j == k/2 || owner == 4 && j == k-1 {
					x[r*k+j] = 7 * x[r*k+j] / (0.1 + float32(math.Abs(float64(x[r*k+j]))))
				}
			}
		}
		x[m*k-1] = float32(math.NaN())
		x[5*k] = 6 // no outlier
		beta := float32(i % 2)

		xs, own := c.put(padded(x, k, ldx)), c.put(owners)
		marks, columns, counts := c.put(make([]uint8, len(lengths)*k)), c.take(4*len(lengths)*k), c.take(4*len(lengths))
		c.launch("mark_outliers", m, 1, 256, 0, marks, xs, own, k, ldx)
		c.launch("list_outliers", len(lengths), 1, 256, 0, columns, counts, marks, k)
		apart, found, list := make([]uint8, len(lengths)*k), make([]int32, len(lengths)), make([]int32, len(lengths)*k)
		c.get(marks, apart)
		c.get(counts, found)
		c.get(columns, list)
		leave := func(owner int32) func(int) bool { return func(j int) bool { return apart[int(owner)*k+j] == 1 } }
		total := 0
		for s := range lengths {
			var want []int32
			for j := range k {
				out := false
				for r, owner := range owners {
					out = out || owner == int32(s) && math.Abs(float64(x[r*k+j])) > 6
				}
				if out {
					want = append(want, int32(j))
				}
				if out != leave(int32(s))(j) {
					t.Fatalf("%v: column %d of sequence %d is marked wrongly", shape, j, s)
				}
			}
			if total += len(want); !slices.Equal(list[s*k:][:found[s]], want) {
				t.Fatalf("%v: the outliers of sequence %d are %v, should be %v", shape, s, list[s*k:][:found[s]], want)
			}
		}
		if total == 0 && k > 1 {
			t.Fatalf("%v: there is no outlier", shape)
		}

		numbers, scales, weights, steps := c.take(m*ld), c.take(4*m), c.take(n*ld), c.take(4*n)
		c.launch("quantise_rows", m, 1, 256, 0, numbers, scales, xs, marks, own, k, ldx, ld)
		c.launch("quantise_weights_float", n, 1, 256, 0, weights, steps, c.put(w), k, ld)
		for _, limit := range []int{99 << 10, 163 << 10} {
			to := c.put(old)
			name, tall, broad, shared := Gemm("int8", limit)
			c.launch(name, (m+tall-1)/tall, (n+broad-1)/broad, 256, shared, to, numbers, weights, scales, steps, m, n, ld/2, beta)
			sums := make([]float32, m*n)
			c.get(to, sums)
			c.launch("add_outliers", (m+63)/64, (n+63)/64, 256, 0, to, xs, weights, steps, own, columns, counts, m, n, k, ldx, ld)
			got := make([]float32, m*n)
			c.get(to, got)
			bad := 0
			for r, owner := range owners {
				qx, sx := quantised(x[r*k:][:k], leave(owner))
				for o := range n {
					qw, sw := quantised(w[o*k:][:k], none)
					sum, rest, size := int32(0), 0.0, 0.0
					for j := range k {
						sum += int32(qx[j]) * int32(qw[j])
						if leave(owner)(j) {
							p := float64(x[r*k+j]) * float64(float32(qw[j])*sw)
							rest, size = rest+p, size+math.Abs(p)
						}
					}
					want := float32(sum) * sx * sw
					if beta != 0 {
						want += old[r*n+o]
					}
					at := r*n + o
					whole := float64(want) + rest
					near := math.Abs(float64(got[at])-whole) <= 1e-5*size+1e-7*math.Abs(whole)
					if whole != whole {
						near = got[at] != got[at]
					}
					if !same(sums[at], want) || !near {
						if bad++; bad < 4 {
							t.Errorf("%s %v: [%d, %d] is %g, then %g, should be %g, then %g", name, shape, r, o, sums[at], got[at], want, whole)
						}
					}
				}
			}
			if bad > 0 {
				t.Errorf("%s %v: %d of %d are wrong", name, shape, bad, m*n)
			}
		}
	}
}
