package cluster

import (
	"math"

	"clusterflow/internal/linalg"
)

// step moves the weights against the gradient of one batch's loss, which it
// returns: Σ‖x̂ − x‖² / Σ‖x − mean of the batch‖²; false for a batch without
// spread. With r the rows, z the kept latents, and everything but 2/spread left
// out, the gradients are
//
//	dec_j     Σ_l (zᵀz)_jl dec_l + (Σ z_j) b − (zᵀr)_j
//	z_ij      Σ_l z_il dec_l·dec_j + b·dec_j − r_i·dec_j, of those that are kept
//	enc_j     (dzᵀr)_j − (Σ dz_j) b
//	bias_j    Σ dz_j
//	b         Σ_j (Σ z_j) dec_j + n b − Σ r − Σ_j (Σ dz_j) enc_j
func (t *saeTrainer) step(which []int) (loss float64, ok bool) {
	n, k := len(which), t.k
	rows, y, mix := t.rows.Slice(0, n), t.y.Slice(0, n), t.mix.Slice(0, n)
	linalg.ForEach(t.threads, linalg.Blocks(n, 64), func(b int) {
		for i := b * 64; i < min(n, (b+1)*64); i++ {
			copy(rows.Row(i), t.x.Row(which[i]))
		}
	})
	linalg.Gemm(t.threads, false, true, 1, rows, t.weights, 0, y)

	products, shift := t.latentProducts(), t.shift()
	zz := linalg.NewMatrix(k, k)
	zSum, dzSum := make([]float64, k), make([]float64, k)
	lost, total := 0.0, 0.0
	z, kept := make([]float64, k), make([]int, 0, t.keep)
	clear(mix.Data)
	for i := range n {
		row, to := y.Row(i), mix.Row(i)
		to[2*k] = 1
		for j := range z {
			z[j] = float64(row[j]) + shift[j]
		}
		kept = largest(z, t.keep, kept[:0])
		for _, j := range kept {
			dz := products.origin[j] - float64(row[k+j])
			for _, l := range kept {
				dz += z[l] * products.gram[j*k+l]
				zz.Data[j*k+l] += float32(z[j] * z[l])
			}
			to[j], to[k+j] = float32(z[j]), float32(dz)
			zSum[j] += z[j]
			dzSum[j] += dz
		}
		norm := t.norms[which[i]]
		total += norm
		lost += norm + t.rowError(z, kept, row[k:], products)
	}
	linalg.Gemm(t.threads, true, false, 1, mix, rows, 0, t.sums)
	sum := t.sums.Row(2 * k)
	spread := total - dot(sum, sum)/float64(n)
	if spread <= 1e-9*total {
		return 0, false
	}
	lost -= 2 * dot(sum, t.origin)
	linalg.Gemm(t.threads, false, false, 1, zz, t.decoder(), 0, t.decoded)

	t.steps++
	a := newAdam(t.steps, t.rate, 2/spread)
	// b first: its gradient needs the weights as they were.
	gradient := make([]float64, t.d)
	linalg.ForEach(t.threads, linalg.Blocks(t.d, colBlock), func(b int) {
		from, to := b*colBlock, min(t.d, (b+1)*colBlock)
		g := gradient[from:to]
		for i := range g {
			g[i] = float64(n)*float64(t.origin[from+i]) - float64(sum[from+i])
		}
		for j := range k {
			enc, dec := t.weights.Row(j)[from:to], t.weights.Row(k + j)[from:to]
			for i := range g {
				g[i] += zSum[j]*float64(dec[i]) - dzSum[j]*float64(enc[i])
			}
		}
	})
	linalg.ForEach(t.threads, 2*k, func(j int) {
		var g []float32 // of rows zᵀr, then dzᵀr
		if j < k {      // the encoder
			by := float32(dzSum[j])
			g = t.sums.Row(k + j)
			for i, o := range t.origin {
				g[i] -= by * o
			}
		} else {
			by, decoded := float32(zSum[j-k]), t.decoded.Row(j-k)
			g = t.sums.Row(j - k)
			for i, o := range t.origin {
				g[i] = decoded[i] + by*o - g[i]
			}
		}
		a.move(t.weights.Row(j), g, t.first.Row(j), t.second.Row(j))
	})
	bias, origin := make([]float32, k), make([]float32, t.d)
	for j, v := range dzSum {
		bias[j] = float32(v)
	}
	for i, v := range gradient {
		origin[i] = float32(v)
	}
	a.move(t.bias, bias, t.biasFirst, t.biasSecond)
	a.move(t.origin, origin, t.originFirst, t.originSecond)
	t.scaleDecoder()
	return lost / spread, true
}

// adam is one step of Adam.
type adam struct {
	scale float32 // of the gradients that it is given
	rate  float32 // corrected for the first moment's beginning at 0
	root  float32 // 1/√ of the correction of the second
}

func newAdam(step int, rate, scale float64) adam {
	return adam{
		scale: float32(scale),
		rate:  float32(rate / (1 - math.Pow(adamBeta1, float64(step)))),
		root:  float32(1 / math.Sqrt(1-math.Pow(adamBeta2, float64(step)))),
	}
}

// move takes the step for some parameters, given their gradient over scale.
func (a adam) move(p, g, first, second []float32) {
	g, first, second = g[:len(p)], first[:len(p)], second[:len(p)]
	for i := range p {
		v := a.scale * g[i]
		first[i] = adamBeta1*first[i] + (1-adamBeta1)*v
		second[i] = adamBeta2*second[i] + (1-adamBeta2)*v*v
		p[i] -= a.rate * first[i] / (float32(math.Sqrt(float64(second[i])))*a.root + adamEps)
	}
}
