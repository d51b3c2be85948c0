package cluster

import (
	"context"
	"fmt"

	"clusterflow/internal/linalg"
)

// rounds joins, again and again, all pairs of clusters that are each other's
// nearest. A cluster whose nearest was not joined keeps it, because a join
// brings nobody nearer.
func (t *tree) rounds(ctx context.Context, threads int) error {
	n, d := t.unit.Rows, t.unit.Cols
	means := t.unit.Clone() // of the clusters, in the first rows
	nodes := make([]int32, n)
	for i := range nodes {
		nodes[i] = int32(i)
	}
	near := make([]int, n)
	stale := make([]int, n) // places whose nearest is not known
	for i := range stale {
		stale[i] = i
	}
	for round := 1; len(nodes) > 1; round++ {
		m := means.Slice(0, len(nodes))
		err := nearestOf(ctx, m, stale, near, threads, func(done int) {
			t.progress(len(t.joins), n-1, fmt.Sprintf("round %d, %d clusters, %d of %d compared", round, len(nodes), done, len(stale)))
		})
		if err != nil {
			return err
		}
		lost, changed := make([]bool, len(nodes)), make([]bool, len(nodes))
		t.pairUp(nodes, near[:len(nodes)])
		for a, b := range near[:len(nodes)] {
			if a >= b || near[b] != a {
				continue
			}
			nodes[a] = t.join(nodes[a], nodes[b])
			sum, row := t.sums[nodes[a]], means.Row(a)
			for c := range d {
				row[c] = float32(sum[c] / t.sizes[nodes[a]])
			}
			changed[a], lost[b] = true, true
		}
		place := make([]int, len(nodes)) // where each goes
		left := 0
		for i, gone := range lost {
			place[i] = left
			if !gone {
				left++
			}
		}
		stale = stale[:0]
		for i := range lost {
			if lost[i] {
				continue
			}
			to := place[i]
			b := near[i]
			known := !changed[i] && !changed[b] && !lost[b]
			if to != i {
				copy(means.Row(to), means.Row(i))
				nodes[to] = nodes[i]
			}
			near[to] = place[b]
			if !known {
				stale = append(stale, to)
			}
		}
		nodes = nodes[:left]
	}
	return nil
}

// pairUp makes sure that there is a pair. There always is one, but where
// distances are equal up to the rounding of float32, which may differ between
// the two sides: then the nearest two of all are it.
func (t *tree) pairUp(nodes []int32, near []int) {
	for a, b := range near {
		if near[b] == a {
			return
		}
	}
	best, at := -2.0, 0
	for a, b := range near {
		product, sb := 0.0, t.sum(nodes[b])
		for c, v := range t.sum(nodes[a]) {
			product += v * sb[c]
		}
		if product /= t.sizes[nodes[a]] * t.sizes[nodes[b]]; product > best {
			best, at = product, a
		}
	}
	near[near[at]] = at
}

// nearestOf sets near of the given rows to the row with which each has the
// largest product, the first of equal ones.
func nearestOf(ctx context.Context, means linalg.Matrix, rows []int, near []int, threads int, report func(done int)) error {
	const some, across = 512, 2048
	pieces := linalg.Blocks(means.Rows, across)
	gathered := linalg.NewMatrix(some, means.Cols)
	best, at := make([]float32, some*pieces), make([]int, some*pieces)
	for from := 0; from < len(rows); from += some {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := rows[from:min(from+some, len(rows))]
		g := gathered.Slice(0, len(part))
		for r, i := range part {
			copy(g.Row(r), means.Row(i))
		}
		linalg.ForEach(threads, pieces, func(p int) {
			first, last := p*across, min(means.Rows, (p+1)*across)
			y := linalg.NewMatrix(len(part), last-first)
			linalg.Gemm(1, false, true, 1, g, means.Slice(first, last), 0, y)
			for r, i := range part {
				top, place := noSimilarity, 0
				for j, v := range y.Row(r) {
					if v > top && first+j != i {
						top, place = v, first+j
					}
				}
				best[r*pieces+p], at[r*pieces+p] = top, place
			}
		})
		for r, i := range part {
			top, place := noSimilarity, 0
			for p := range pieces {
				if v := best[r*pieces+p]; v > top {
					top, place = v, at[r*pieces+p]
				}
			}
			near[i] = place
		}
		report(from + len(part))
	}
	return nil
}
