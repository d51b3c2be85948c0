package main

import (
	"errors"
	"fmt"
	"math"

	"clusterflow/internal/linalg"
)

// scorer says how much better a clustering describes the points than no
// clustering does. It works in float64, from differences and without products
// of matrices, from nothing but the parameters that a fit returned, and is the
// same for both sides.
type scorer struct {
	points  linalg.Matrix // [N, d]
	threads int
	mean    []float64 // [d]
	spread  float64   // Σ‖x − mean‖²
}

func newScorer(points linalg.Matrix, threads int) *scorer {
	s := &scorer{points: points, threads: threads, mean: make([]float64, points.Cols)}
	for i := range points.Rows {
		for c, v := range points.Row(i) {
			s.mean[c] += float64(v) / float64(points.Rows)
		}
	}
	s.spread = s.sum(func(row []float32) float64 { return distance(row, s.mean) })
	return s
}

// sum adds up what f says of each row. f must be safe to call at once.
func (s *scorer) sum(f func(row []float32) float64) float64 {
	const rows = 256
	parts := make([]float64, linalg.Blocks(s.points.Rows, rows))
	linalg.ForEach(s.threads, len(parts), func(b int) {
		for i := b * rows; i < min(s.points.Rows, (b+1)*rows); i++ {
			parts[b] += f(s.points.Row(i))
		}
	})
	total := 0.0
	for _, p := range parts {
		total += p
	}
	return total
}

// kmeans is the total variance less the inertia, both sums over the rows of
// squared distances; every row counts for its nearest centre.
func (s *scorer) kmeans(centers linalg.Matrix) float64 {
	c := wide(centers)
	return s.spread - s.sum(func(row []float32) float64 {
		best := math.Inf(1)
		for _, center := range c {
			best = min(best, distance(row, center))
		}
		return best
	})
}

// mixture is the mean log-likelihood of a row less that of a single Gaussian of
// the same kind, fitted with the same regularization. covariances are [k, d], or
// [k·d, d] if full.
func (s *scorer) mixture(weights []float32, means, covariances linalg.Matrix, full bool, reg float64) (float64, error) {
	w, total := make([]float64, len(weights)), 0.0
	for j, v := range weights {
		w[j] = float64(v)
		total += w[j]
	}
	for j := range w {
		w[j] /= total // which rounding to float32 may have moved from 1
	}
	own, err := s.likelihood(w, wide(means), wide(covariances), full)
	if err != nil {
		return 0, err
	}
	single, err := s.likelihood([]float64{1}, [][]float64{s.mean}, s.covariance(full, reg), full)
	return own - single, err
}

// covariance is that of all rows.
func (s *scorer) covariance(full bool, reg float64) [][]float64 {
	d := s.points.Cols
	rows := 1
	if full {
		rows = d
	}
	cov := make([][]float64, rows)
	for a := range cov {
		cov[a] = make([]float64, d)
	}
	linalg.ForEach(s.threads, rows, func(a int) {
		for i := range s.points.Rows {
			row := s.points.Row(i)
			for b, v := range row {
				other := float64(v) - s.mean[b]
				if full {
					other = float64(row[a]) - s.mean[a]
				}
				cov[a][b] += (float64(v) - s.mean[b]) * other / float64(s.points.Rows)
			}
		}
	})
	for a := range d {
		if full {
			cov[a][a] += reg
		} else {
			cov[0][a] += reg
		}
	}
	return cov
}

func (s *scorer) likelihood(weights []float64, means, cov [][]float64, full bool) (float64, error) {
	k, d := len(weights), s.points.Cols
	level, factors := make([]float64, k), make([][][]float64, k)
	for j := range k {
		level[j] = math.Log(weights[j]) - float64(d)/2*math.Log(2*math.Pi)
		if full {
			var err error
			if factors[j], err = cholesky(cov[j*d : (j+1)*d]); err != nil {
				return 0, fmt.Errorf("component %d: %w", j, err)
			}
			for c := range d {
				level[j] -= math.Log(factors[j][c][c])
			}
			continue
		}
		for _, v := range cov[j] {
			if v <= 0 {
				return 0, fmt.Errorf("component %d: %w", j, errNotPositive)
			}
			level[j] -= math.Log(v) / 2
		}
	}
	return s.sum(func(row []float32) float64 {
		top, terms, white := math.Inf(-1), make([]float64, k), make([]float64, d)
		for j := range k {
			square := 0.0
			for c, v := range row {
				diff := float64(v) - means[j][c]
				if !full {
					square += diff * diff / cov[j][c]
					continue
				}
				l := factors[j][c]
				for b, w := range white[:c] {
					diff -= l[b] * w
				}
				white[c] = diff / l[c]
				square += white[c] * white[c]
			}
			terms[j] = level[j] - square/2
			top = max(top, terms[j])
		}
		total := 0.0
		for _, t := range terms {
			total += math.Exp(t - top)
		}
		return top + math.Log(total)
	}) / float64(s.points.Rows), nil
}

var errNotPositive = errors.New("its covariance is not positive definite")

// cholesky returns the lower L with a = L·Lᵀ.
func cholesky(a [][]float64) ([][]float64, error) {
	l := make([][]float64, len(a))
	for i := range a {
		l[i] = make([]float64, i+1)
		for j := range i + 1 {
			v := a[i][j]
			for c := range j {
				v -= l[i][c] * l[j][c]
			}
			if j < i {
				l[i][j] = v / l[j][j]
				continue
			}
			if v <= 0 {
				return nil, errNotPositive
			}
			l[i][i] = math.Sqrt(v)
		}
	}
	return l, nil
}

// autoencoder is 1 less the loss over all rows, Σ‖x̂ − x‖² / Σ‖x − mean‖².
func (s *scorer) autoencoder(enc, dec linalg.Matrix, bias, origin []float32, keep int) float64 {
	e, d := wide(enc), wide(dec)
	lost := s.sum(func(row []float32) float64 {
		guess, z, taken := make([]float64, len(row)), make([]float64, len(e)), make([]bool, len(e))
		for c, v := range origin {
			guess[c] = float64(v)
		}
		for j := range z {
			z[j] = float64(bias[j])
			for c, v := range row {
				z[j] += e[j][c] * (float64(v) - float64(origin[c]))
			}
		}
		for range min(keep, len(z)) {
			best := -1
			for j, v := range z {
				if !taken[j] && (best < 0 || v > z[best]) {
					best = j
				}
			}
			taken[best] = true
			for c, v := range d[best] {
				guess[c] += z[best] * v
			}
		}
		return distance(row, guess)
	})
	return 1 - lost/s.spread
}

// cosine is the mean cosine of two rows of one cluster (a row and itself
// included), every cluster weighted by its rows.
func (s *scorer) cosine(labels []int32, k int) float64 {
	sums, sizes := make([][]float64, k), make([]float64, k)
	for c := range sums {
		sums[c] = make([]float64, s.points.Cols)
	}
	origin := make([]float64, s.points.Cols)
	for i, l := range labels {
		sizes[l]++
		row := s.points.Row(i)
		if norm := math.Sqrt(distance(row, origin)); norm > 0 {
			for c, v := range row {
				sums[l][c] += float64(v) / norm
			}
		}
	}
	total := 0.0
	for c, sum := range sums {
		for _, v := range sum {
			total += v * v / max(1, sizes[c])
		}
	}
	return total / float64(len(labels))
}

// distance is ‖row − to‖².
func distance(row []float32, to []float64) float64 {
	sum := 0.0
	for c, v := range row {
		d := float64(v) - to[c]
		sum += d * d
	}
	return sum
}

func wide(m linalg.Matrix) [][]float64 {
	out := make([][]float64, m.Rows)
	for i := range out {
		out[i] = make([]float64, m.Cols)
		for c, v := range m.Row(i) {
			out[i][c] = float64(v)
		}
	}
	return out
}
