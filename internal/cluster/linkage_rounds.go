package cluster

import (
	"context"
	"fmt"
	"math"
	"slices"

	"clusterflow/internal/linalg"
)

// nearKept is how many of the nearest clusters a comparison with all of them
// keeps in mind.
const nearKept = 6

// neighbours are the clusters that were most like one at its last comparison
// with all, best first. What they have become since is found by their nodes.
// Nobody else can be more like it than the last of them was: a join's
// similarity is an average of its sides'.
type neighbours struct {
	node [nearKept]int32
	sim  [nearKept]float32 // noSimilarity where there were not so many
}

func (l *neighbours) clear() {
	for i := range l.sim {
		l.node[i], l.sim[i] = -1, noSimilarity
	}
}

// add takes a cluster in if it is more like than the last one; of equal ones the
// first to come stays ahead.
func (l *neighbours) add(node int32, sim float32) {
	if !(sim > l.sim[nearKept-1]) {
		return
	}
	at := nearKept - 1
	for ; at > 0 && sim > l.sim[at-1]; at-- {
		l.node[at], l.sim[at] = l.node[at-1], l.sim[at-1]
	}
	l.node[at], l.sim[at] = node, sim
}

// lineage finds what nodes have become.
type lineage struct {
	into  []int32 // the join that a node went into, or one of its later ones; −1 for none
	place []int32 // of a cluster among those that are left
}

// root is the cluster that a node is part of now.
func (g *lineage) root(node int32) int32 {
	top := node
	for g.into[top] >= 0 {
		top = g.into[top]
	}
	for node != top { // so that nobody walks this way again
		node, g.into[node] = g.into[node], top
	}
	return top
}

// rounds joins, again and again, all pairs of clusters that are each other's
// nearest. A cluster whose nearest was not joined keeps it, because a join
// brings nobody nearer; one whose nearest was joined looks first among those that
// were almost as near.
func (t *tree) rounds(ctx context.Context, threads int) error {
	n, d := t.unit.Rows, t.unit.Cols
	means := t.unit.Clone() // of the clusters, in the first rows
	nodes := make([]int32, n)
	g := &lineage{into: make([]int32, max(1, 2*n-1)), place: make([]int32, max(1, 2*n-1))}
	for i := range g.into {
		g.into[i] = -1
	}
	near, lists := make([]int, n), make([]neighbours, n)
	unknown := make([]int, n) // places that have to be compared with all
	for i := range nodes {
		nodes[i], unknown[i] = int32(i), i
	}
	var orphans []int // places whose nearest was joined
	for round := 1; len(nodes) > 1; round++ {
		m := means.Slice(0, len(nodes))
		for i, node := range nodes {
			g.place[node] = int32(i)
		}
		unknown = append(unknown, t.remember(nodes, orphans, g, lists, near, threads)...)
		slices.Sort(unknown)
		err := t.nearestOf(ctx, m, nodes, unknown, near, lists, g.place, threads, func(done int) {
			t.progress(len(t.joins), n-1, fmt.Sprintf("round %d, %d clusters, %d of %d compared", round, len(nodes), done, len(unknown)))
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
			join := t.join(nodes[a], nodes[b])
			g.into[nodes[a]], g.into[nodes[b]] = join, join
			nodes[a] = join
			sum, row := t.sums[join], means.Row(a)
			for c := range d {
				row[c] = float32(sum[c] / t.sizes[join])
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
		unknown, orphans = unknown[:0], orphans[:0]
		for i := range lost {
			if lost[i] {
				continue
			}
			to, b := place[i], near[i]
			if to != i {
				copy(means.Row(to), means.Row(i))
				nodes[to], lists[to] = nodes[i], lists[i]
			}
			near[to] = place[b]
			switch {
			case changed[i]:
				unknown = append(unknown, to)
			case changed[b] || lost[b]:
				orphans = append(orphans, to)
			}
		}
		nodes = nodes[:left]
	}
	return nil
}

// sureBy is how much more like a cluster has to be than anybody who was not kept
// in mind can be, so that the rounding of float32 does not decide.
const sureBy = 1e-6

// remember sets near of the given places from who was kept in mind, and returns
// those for which that does not settle it.
func (t *tree) remember(nodes []int32, rows []int, g *lineage, lists []neighbours, near []int, threads int) []int {
	for _, i := range rows {
		for j, node := range lists[i].node {
			if node >= 0 {
				lists[i].node[j] = g.root(node)
			}
		}
	}
	open := make([]bool, len(rows))
	linalg.ForEach(threads, linalg.Blocks(len(rows), rowBlock), func(b int) {
		for r := b * rowBlock; r < min(len(rows), (b+1)*rowBlock); r++ {
			i := rows[r]
			l := &lists[i]
			best, at := math.Inf(-1), -1
			for j, node := range l.node {
				if node < 0 || slices.Contains(l.node[:j], node) {
					continue
				}
				p := int(g.place[node])
				if sim := t.similarity(nodes[i], node); sim > best || sim == best && p < at {
					best, at = sim, p
				}
			}
			if at < 0 || l.node[nearKept-1] >= 0 && best < float64(l.sim[nearKept-1])+sureBy {
				open[r] = true
				continue
			}
			near[i] = at
		}
	})
	var left []int
	for r, i := range rows {
		if open[r] {
			left = append(left, i)
		}
	}
	return left
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
		if sim := t.similarity(nodes[a], nodes[b]); sim > best {
			best, at = sim, a
		}
	}
	near[near[at]] = at
}

// nearestKept is the place of the first in a list, or of one too close to it to
// tell which is nearer in float32.
func (t *tree) nearestKept(node int32, l *neighbours, place []int32) int {
	at := place[l.node[0]]
	if l.sim[0]-l.sim[1] > closeCall {
		return int(at)
	}
	most := math.Inf(-1)
	for j, sim := range l.sim {
		if l.sim[0]-sim > closeCall || l.node[j] < 0 {
			break
		}
		p := place[l.node[j]]
		if sim := t.similarity(node, l.node[j]); sim > most || sim == most && p < at {
			most, at = sim, p
		}
	}
	return int(at)
}

// nearestOf sets near of the given places to the cluster that each is most like,
// the first of equal ones, and their lists. places are those of nodes.
func (t *tree) nearestOf(ctx context.Context, means linalg.Matrix, nodes []int32, rows []int, near []int, lists []neighbours, places []int32, threads int, report func(done int)) error {
	const some, across = 512, 2048
	pieces := linalg.Blocks(means.Rows, across)
	gathered := linalg.NewMatrix(some, means.Cols)
	found := make([]neighbours, some*pieces) // of places, piece by piece
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
				l := &found[r*pieces+p]
				l.clear()
				least := noSimilarity
				for j, v := range y.Row(r) {
					if v > least && first+j != i {
						l.add(int32(first+j), v)
						least = l.sim[nearKept-1]
					}
				}
			}
		})
		for r, i := range part {
			l := &lists[i]
			l.clear()
			for p := range pieces {
				for j, v := range found[r*pieces+p].sim {
					l.add(found[r*pieces+p].node[j], v)
				}
			}
			for j, place := range l.node {
				if place >= 0 {
					l.node[j] = nodes[place]
				}
			}
		}
		linalg.ForEach(threads, linalg.Blocks(len(part), 16), func(b int) {
			for _, i := range part[b*16 : min(len(part), (b+1)*16)] {
				near[i] = t.nearestKept(nodes[i], &lists[i], places)
			}
		})
		report(from + len(part))
	}
	return nil
}
