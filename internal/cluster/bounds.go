package cluster

import (
	"math"

	"clusterflow/internal/linalg"
)

// bounds say which centres may be nearest to a point while the centres of
// k-means move, by the triangle inequality (Elkan, "Using the triangle
// inequality to accelerate k-means", ICML 2003). No label depends on them, only
// the work: they leave room for all rounding.
//
// Both are kept as they were when last computed, beside how far each centre has
// gone since the beginning, so that a step of the centres changes [k] numbers.
type bounds struct {
	path  []float32     // [k] how far the centre has gone in all, at least
	lower linalg.Matrix // [N, k] the least distance to a centre, plus its path until then
	upper []float32     // [N] the greatest distance to the own centre, less its path until then
}

// boundsKept is how many bytes the bounds of all starts may take; where they
// would take more, every distance is computed in every iteration.
const boundsKept = 1 << 29

func keepsBounds(n, k, starts int64) bool { return 4*n*k*starts <= boundsKept }

// boundsRounding is by which part of it float32 may be off in a sum of distances
// and paths, generously.
const boundsRounding = 1e-6

// newBounds know nothing.
func newBounds(n, k int) *bounds {
	b := &bounds{path: make([]float32, k), lower: linalg.NewMatrix(n, k), upper: make([]float32, n)}
	for i := range b.upper {
		b.forget(i)
	}
	return b
}

// forget makes every other centre a rival of the point's own.
func (b *bounds) forget(i int) { b.upper[i] = float32(math.Inf(1)) }

// shift adds to the path of a centre.
func (b *bounds) shift(c int, by float64) {
	if by > 0 {
		b.path[c] = float32((float64(b.path[c]) + by) * (1 + boundsRounding))
	}
}

// rival reports whether c may be nearer to a point than its own centre is, or
// as near.
func (b *bounds) rival(i, own, c int) bool {
	return b.lower.Row(i)[c]-b.path[c] <= b.upper[i]+b.path[own]
}

// rivals is how many centres may be.
func (b *bounds) rivals(i, own int) int {
	far, found := b.upper[i]+b.path[own], 0
	row := b.lower.Row(i)
	path := b.path[:len(row)]
	for c, v := range row {
		if v-path[c] <= far && c != own {
			found++
		}
	}
	return found
}

// open is how many distances from the points [from, to) would have to be
// computed, those to their own centres included.
func (b *bounds) open(from, to int, labels []int32) int {
	open := 0
	for i := from; i < to; i++ {
		if labels[i] < 0 {
			return (to - from) * len(b.path)
		}
		if rivals := b.rivals(i, int(labels[i])); rivals > 0 {
			open += rivals + 1
		}
	}
	return open
}

// set keeps what was computed of a point: ‖c‖² − 2x·c, right to within err, of
// those centres where it is finite, its own among them. norm is its ‖x‖².
func (b *bounds) set(i, own int, scores []float32, norm, err float64) {
	row := b.lower.Row(i)
	for c, v := range scores {
		if v <= math.MaxFloat32 {
			near := math.Sqrt(max(0, float64(v)+norm-err))
			row[c] = float32(near + float64(b.path[c]) - boundsRounding*(near+float64(b.path[c])))
		}
	}
	b.setOwn(i, own, scores[own], norm, err)
}

// setOwn keeps what was computed of the own centre alone.
func (b *bounds) setOwn(i, own int, score float32, norm, err float64) {
	far, path := math.Sqrt(max(0, float64(score)+norm+err)), float64(b.path[own])
	b.upper[i] = float32(far - path + boundsRounding*(far+path))
}
