package main

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"

	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
)

// caseWidth is the number of columns of every hand-made case.
const caseWidth = 128

// cases are rows made by hand, before they are centred and scaled to unit
// length, each hard in its own way.
var cases = map[string]func(rng *rand.Rand) linalg.Matrix{
	// twelve blobs, of 1,000 rows, 500, 333, …
	"blobs": func(rng *rand.Rand) linalg.Matrix { return skewed(rng, 12, 0.6) },
	// three circles around one centre in a plane, which no centre tells apart
	"rings": func(rng *rand.Rand) linalg.Matrix {
		x, a, b := linalg.NewMatrix(3000, caseWidth), direction(rng), direction(rng)
		for i := range x.Rows {
			radius, angle := float64(1+i%3), 2*math.Pi*rng.Float64()
			for c := range x.Row(i) {
				x.Row(i)[c] = float32(radius*(math.Cos(angle)*a[c]+math.Sin(angle)*b[c]) + 0.01*rng.NormFloat64())
			}
		}
		return x
	},
	// 300 rows, ten times each
	"duplicates": func(rng *rand.Rand) linalg.Matrix {
		distinct, x := skewed(rng, 12, 0.6), linalg.NewMatrix(3000, caseWidth)
		for i := range x.Rows {
			copy(x.Row(i), distinct.Row(i%300*10))
		}
		return x
	},
	// a quarter of the columns says nothing
	"constant": func(rng *rand.Rand) linalg.Matrix {
		x := skewed(rng, 12, 0.6)
		for i := range x.Rows {
			for c := 0; c < caseWidth; c += 4 {
				x.Row(i)[c] = 7
			}
		}
		return x
	},
	// as many rows as clusters, with -sizes 12
	"few": func(rng *rand.Rand) linalg.Matrix { return skewed(rng, 12, 0.6).Slice(0, 12) },
	// 97 in a hundred rows in one cloud, the rest in four small ones
	"huge": func(rng *rand.Rand) linalg.Matrix {
		x := linalg.NewMatrix(3000, caseWidth)
		var away [][]float64
		for range 4 {
			away = append(away, direction(rng))
		}
		for i := range x.Rows {
			for c := range x.Row(i) {
				v := 0.3 * rng.NormFloat64()
				if i < 90 {
					v += 4 * away[i%4][c]
				}
				x.Row(i)[c] = float32(v)
			}
		}
		return x
	},
	// 24 points, each 125 times with hardly any noise: of more clusters, the
	// rest have next to nothing to divide
	"points": func(rng *rand.Rand) linalg.Matrix {
		x, at := linalg.NewMatrix(3000, caseWidth), make([][]float64, 24)
		for i := range at {
			at[i] = direction(rng)
		}
		for i := range x.Rows {
			for c, v := range at[i%24] {
				x.Row(i)[c] = float32(v + 1e-4*rng.NormFloat64())
			}
		}
		return x
	},
	// hidden states that were stored as float16, with a few enormous columns
	"float16": func(rng *rand.Rand) linalg.Matrix {
		x := skewed(rng, 12, 0.6)
		for i := range x.Rows {
			x.Row(i)[5] += 300
			x.Row(i)[77] -= 150
			for c, v := range x.Row(i) {
				x.Row(i)[c] = linalg.RoundF16(v)
			}
		}
		return x
	},
}

func caseNames() []string { return slices.Sorted(maps.Keys(cases)) }

// skewed are about 3,000 rows in blobs whose sizes fall as 1, 1/2, 1/3, …, in
// the order of a shuffle.
func skewed(rng *rand.Rand, blobs int, noise float64) linalg.Matrix {
	var of [][]float64
	for b := range blobs {
		center := direction(rng)
		for range 1000 / (b + 1) {
			of = append(of, center)
		}
	}
	rng.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
	x := linalg.NewMatrix(len(of), caseWidth)
	for i, center := range of {
		for c, v := range center {
			x.Row(i)[c] = float32(3*v + noise*rng.NormFloat64())
		}
	}
	return x
}

// direction is a random vector of unit length.
func direction(rng *rand.Rand) []float64 {
	v, sum := make([]float64, caseWidth), 0.0
	for i := range v {
		v[i] = rng.NormFloat64()
		sum += v[i] * v[i]
	}
	for i := range v {
		v[i] /= math.Sqrt(sum)
	}
	return v
}

// handMade writes a case to the folder.
func handMade(name, folder string) (path string, err error) {
	rows, ok := cases[name]
	if !ok {
		return "", fmt.Errorf("-case has %q; there are %s", name, strings.Join(caseNames(), ", "))
	}
	raw := rows(linalg.Rand(1, "case", name))
	mean := make([]float32, raw.Cols)
	for c := range mean {
		sum := 0.0
		for i := range raw.Rows {
			sum += float64(raw.Row(i)[c])
		}
		mean[c] = float32(sum / float64(raw.Rows))
	}
	x, err := cluster.Prepare(raw, mean, true, true, 1)
	if err != nil {
		return "", err
	}
	path = filepath.Join(folder, name+".npy")
	return path, writeNPY(path, x)
}
