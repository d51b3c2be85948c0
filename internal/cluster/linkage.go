package cluster

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sort"

	"clusterflow/internal/linalg"
)

// Dendrogram is the tree of an agglomerative clustering of N rows: N − 1 merges
// in the order of their heights. Rows are the clusters 0 to N−1, and merge t
// makes cluster N+t, as in scipy's linkage matrices.
type Dendrogram struct {
	Rows    int
	Merges  [][2]int32 // [N−1], the smaller number first
	Heights []float64  // [N−1], not falling: the cosine distance at which two clusters join
}

// The distances of all pairs are held in memory for at most matrixRows rows, 4
// GiB of them, and only where rows are wider than narrowRows: below that,
// computing distances again costs less than reading them.
const (
	matrixRows = 32768
	narrowRows = 640
)

func holdsMatrix(n, d int64) bool { return n <= matrixRows && d > narrowRows }

// AverageLinkage joins rows by average linkage (UPGMA: Sokal and Michener,
// Univ. Kansas Sci. Bull. 38, 1958) on the cosine distance. A row of zeros is at
// distance 1 from every other.
//
// The mean cosine between the rows of two clusters is the product of the means
// of their unit rows, so that no distance between rows is needed once clusters
// have grown. Up to 32,768 rows take the nearest-neighbour chain (Benzécri, Cah.
// Anal. Données 7, 1982; Müllner, arXiv 1109.2378) over a matrix of distances,
// in O(N²) time and memory; more take rounds in which all pairs that are each
// other's nearest join at once, in O(N·d) memory. Both are exact, since average
// linkage is reducible: a join brings nobody nearer to a third cluster. Heights
// are computed in float64 from sums of rows. progress may be nil.
func AverageLinkage(ctx context.Context, x linalg.Matrix, threads int, progress func(done, total int, note string)) (*Dendrogram, error) {
	if x.Rows < 1 {
		return nil, fmt.Errorf("joining clusters: there are no rows")
	}
	unit, err := unitRows(x, threads)
	if err != nil {
		return nil, fmt.Errorf("joining clusters: %w", err)
	}
	if progress == nil {
		progress = func(int, int, string) {}
	}
	t := newTree(unit, progress)
	if holdsMatrix(int64(x.Rows), int64(x.Cols)) {
		err = t.chain(ctx, threads)
	} else {
		err = t.rounds(ctx, threads)
	}
	if err != nil {
		return nil, err
	}
	return t.dendrogram(), nil
}

// unitRows is a copy of the rows at unit length; zero rows stay zero.
func unitRows(x linalg.Matrix, threads int) (linalg.Matrix, error) {
	norms, err := squaredNorms(x, threads)
	if err != nil {
		return linalg.Matrix{}, err
	}
	out := linalg.NewMatrix(x.Rows, x.Cols)
	linalg.ForEach(threads, linalg.Blocks(x.Rows, rowBlock), func(b int) {
		for i := b * rowBlock; i < min(x.Rows, (b+1)*rowBlock); i++ {
			if norms[i] > 0 {
				scaleTo(out.Row(i), x.Row(i), 1/math.Sqrt(norms[i]))
			}
		}
	})
	return out, nil
}

// tree collects joins in any order in which both sides are there.
type tree struct {
	unit     linalg.Matrix
	sums     map[int32][]float64 // of the unit rows of clusters of two rows and more that are not joined yet
	sizes    []float64           // by node: rows, then joins
	heights  []float64           // by node
	joins    [][2]int32          // node N+t is the t-th
	progress func(done, total int, note string)
}

func newTree(unit linalg.Matrix, progress func(done, total int, note string)) *tree {
	t := &tree{unit: unit, sums: map[int32][]float64{}, progress: progress}
	t.sizes, t.heights = make([]float64, unit.Rows, 2*unit.Rows), make([]float64, unit.Rows, 2*unit.Rows)
	for i := range t.sizes {
		t.sizes[i] = 1
	}
	return t
}

// sum is the sum of the rows of a node.
func (t *tree) sum(node int32) []float64 {
	if s, ok := t.sums[node]; ok {
		return s
	}
	s := make([]float64, t.unit.Cols)
	for c, v := range t.unit.Row(int(node)) {
		s[c] = float64(v)
	}
	return s
}

// similarity is the mean cosine between the rows of two nodes, in float64 and the
// same to the bit for both orders.
func (t *tree) similarity(a, b int32) float64 {
	sa, sb := t.sums[a], t.sums[b]
	product := 0.0
	switch {
	case sa == nil && sb == nil:
		product = dot(t.unit.Row(int(a)), t.unit.Row(int(b)))
	case sa == nil:
		return t.similarity(b, a)
	case sb == nil:
		row := t.unit.Row(int(b))
		for c, v := range sa[:len(row)] {
			product += v * float64(row[c])
		}
	default:
		for c, v := range sa {
			product += v * sb[c]
		}
	}
	return product / (t.sizes[a] * t.sizes[b])
}

// closeCall is how far apart two similarities must be for float32 to tell which
// is larger, with room for what a matrix of them loses in a long row of joins.
// Closer ones are compared in float64: one wrong join can change the whole tree
// above it.
const closeCall = 1e-5

// join makes a node of two. Rounding must not put it below either.
func (t *tree) join(a, b int32) int32 {
	height := max(0, 1-t.similarity(a, b), t.heights[a], t.heights[b])
	sa, sb := t.sum(a), t.sum(b)
	for c, v := range sb {
		sa[c] += v
	}
	delete(t.sums, a)
	delete(t.sums, b)
	node := int32(len(t.sizes))
	t.sums[node] = sa
	t.joins = append(t.joins, [2]int32{a, b})
	t.sizes = append(t.sizes, t.sizes[a]+t.sizes[b])
	t.heights = append(t.heights, height)
	if done := len(t.joins); done%1024 == 0 {
		t.progress(done, t.unit.Rows-1, fmt.Sprintf("%d of %d clusters joined", done, t.unit.Rows-1))
	}
	return node
}

// dendrogram brings the joins into the order of their heights.
func (t *tree) dendrogram() *Dendrogram {
	n := t.unit.Rows
	order := make([]int, len(t.joins))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return t.heights[n+order[a]] < t.heights[n+order[b]] })
	d := &Dendrogram{Rows: n, Merges: make([][2]int32, 0, len(order)), Heights: make([]float64, 0, len(order))}
	name := make([]int32, 2*n) // node → number in the dendrogram
	for i := range n {
		name[i] = int32(i)
	}
	for place, j := range order {
		a, b := name[t.joins[j][0]], name[t.joins[j][1]]
		d.Merges = append(d.Merges, [2]int32{min(a, b), max(a, b)})
		d.Heights = append(d.Heights, t.heights[n+j])
		name[n+j] = int32(n + place)
	}
	return d
}

// Cut returns the labels of the rows when k clusters are left, numbered in the
// order of their first rows.
func (d *Dendrogram) Cut(k int) ([]int32, error) {
	if k < 1 || k > d.Rows {
		return nil, fmt.Errorf("cutting a tree of %d rows into %d clusters", d.Rows, k)
	}
	parent := make([]int32, d.Rows+len(d.Merges))
	for i := range parent {
		parent[i] = int32(i)
	}
	for t, m := range d.Merges[:d.Rows-k] {
		for _, side := range m {
			if int(side) >= d.Rows+t || side < 0 || parent[side] != side {
				return nil, fmt.Errorf("merge %d of the tree joins cluster %d, which is not there", t, side)
			}
			parent[side] = int32(d.Rows + t)
		}
	}
	for i := len(parent) - 1; i >= 0; i-- { // parents have larger numbers
		parent[i] = parent[parent[i]]
	}
	number := map[int32]int32{}
	labels := make([]int32, d.Rows)
	for i := range labels {
		l, ok := number[parent[i]]
		if !ok {
			l = int32(len(number))
			number[parent[i]] = l
		}
		labels[i] = l
	}
	return labels, nil
}

// fitAgglomerative cuts the tree of the rows, or of the coordinates. Centers are
// the means of the rows; the tensor "pca_centers" has those of the coordinates.
func fitAgglomerative(_ context.Context, in Input) (*Model, error) {
	if in.Tree == nil || in.Tree.Rows != in.X.Rows {
		return nil, fmt.Errorf("cutting a tree: there is none of these %d rows", in.X.Rows)
	}
	labels, err := in.Tree.Cut(in.K)
	if err != nil {
		return nil, err
	}
	m := &Model{Labels: labels, Centers: clusterMeans(in.X, labels, in.K, in.Threads), Tensors: map[string]linalg.Matrix{}, Info: map[string]float64{}}
	if at := in.X.Rows - in.K; at < len(in.Tree.Heights) { // of the merge that the cut leaves out
		m.Info["cut_above"] = in.Tree.Heights[at]
	}
	if in.Coords.Rows > 0 {
		m.Tensors["pca_centers"] = clusterMeans(in.Coords, labels, in.K, in.Threads)
	}
	return m, nil
}

// chain joins along chains of nearest neighbours over a matrix of similarities.
func (t *tree) chain(ctx context.Context, threads int) error {
	s, err := newSimilarities(ctx, t.unit, threads)
	if err != nil {
		return err
	}
	n := t.unit.Rows
	nodes := make([]int32, n) // of each place of the matrix
	for i := range nodes {
		nodes[i] = int32(i)
	}
	var chain []int
	first := 0
	for left := n; left > 1; {
		if len(t.joins)%256 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if len(chain) == 0 {
			for s.gone[first] {
				first++
			}
			chain = append(chain, first)
		}
		at := chain[len(chain)-1]
		before := -1
		if len(chain) > 1 {
			before = chain[len(chain)-2]
		}
		next := t.nearest(s, nodes, at, before)
		if next != before {
			chain = append(chain, next)
			continue
		}
		chain = chain[:len(chain)-2]
		a, b := min(at, next), max(at, next)
		wa, wb := t.sizes[nodes[a]], t.sizes[nodes[b]]
		nodes[a] = t.join(nodes[a], nodes[b])
		s.merge(a, b, float32(wa/(wa+wb)), float32(wb/(wa+wb)))
		left--
		if s.n > 1024 && left < s.n/2 {
			places := s.compact()
			nodes = pick(nodes, places)
			first = 0
			for i, c := range chain {
				chain[i], _ = slices.BinarySearch(places, c)
			}
		}
	}
	return nil
}

func pick[T any](from []T, places []int) []T {
	out := make([]T, len(places))
	for i, p := range places {
		out[i] = from[p]
	}
	return out
}

// similarities are the mean cosines between clusters, whole rows of a square.
type similarities struct {
	n    int
	s    linalg.Matrix
	gone []bool
}

const noSimilarity = float32(-4) // of a cluster to itself, and to one that is gone

func newSimilarities(ctx context.Context, unit linalg.Matrix, threads int) (*similarities, error) {
	n := unit.Rows
	s := &similarities{n: n, s: linalg.NewMatrix(n, n), gone: make([]bool, n)}
	const side = 1024
	for from := 0; from < n; from += side {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		to := min(n, from+side)
		band := linalg.Matrix{Rows: to - from, Cols: n - from, Stride: n, Data: s.s.Data[from*n+from : (to-1)*n+n]}
		linalg.Gemm(threads, false, true, 1, unit.Slice(from, to), unit.Slice(from, n), 0, band)
	}
	linalg.ForEach(threads, linalg.Blocks(n, 64), func(b int) { // the lower half, by squares
		for from := 0; from <= b*64; from += 64 {
			for i := b * 64; i < min(n, (b+1)*64); i++ {
				row := s.s.Row(i)
				for j := from; j < min(from+64, i); j++ {
					row[j] = s.s.Data[j*n+i]
				}
			}
		}
	})
	for i := range n {
		s.s.Row(i)[i] = noSimilarity
	}
	return s, nil
}

// contested is how many clusters are compared in float64 at most, the first ones.
const contested = 256

// nearest is the place of the cluster most similar to the one at a place; of
// equal ones before, else the first. Similarities rise along a chain, so that it
// ends, because before is always among those compared.
func (t *tree) nearest(s *similarities, nodes []int32, at, before int) int {
	row := s.s.Row(at)
	best := row[0]
	for _, v := range row {
		if v > best {
			best = v
		}
	}
	most, place := math.Inf(-1), before
	if before >= 0 {
		most = t.similarity(nodes[at], nodes[before])
	}
	compared := 0
	for j, v := range row {
		if v <= best-closeCall || compared == contested {
			continue
		}
		compared++
		if sim := t.similarity(nodes[at], nodes[j]); sim > most {
			most, place = sim, j
		}
	}
	return place
}

// merge puts cluster b into a.
func (s *similarities) merge(a, b int, wa, wb float32) {
	ra, rb := s.s.Row(a), s.s.Row(b)
	for j, v := range rb {
		if !s.gone[j] {
			ra[j] = wa*ra[j] + wb*v
		}
	}
	s.gone[b] = true
	ra[a], ra[b] = noSimilarity, noSimilarity
	for j := range s.n {
		if s.gone[j] {
			continue
		}
		row := s.s.Data[j*s.s.Stride:]
		row[a], row[b] = ra[j], noSimilarity
	}
}

// compact leaves out what is gone and returns the places that are left.
func (s *similarities) compact() []int {
	var places []int
	for j, g := range s.gone {
		if !g {
			places = append(places, j)
		}
	}
	m := len(places)
	for i, p := range places { // in place: rows and columns only move forward
		from, to := s.s.Row(p), s.s.Data[i*m:(i+1)*m]
		for j, q := range places {
			to[j] = from[q]
		}
	}
	s.s = linalg.Matrix{Rows: m, Cols: m, Stride: m, Data: s.s.Data[:m*m]}
	s.n, s.gone = m, make([]bool, m)
	return places
}

// LinkageMemory is about how many bytes AverageLinkage takes for rows [n, d].
func LinkageMemory(n, d int64) int64 {
	sums := n * d * 8 / 2 // of the clusters of two rows and more
	if holdsMatrix(n, d) {
		return n*d*8 + n*n*4 + sums
	}
	return n*d*12 + sums + n*128
}

// LinkageWork estimates what AverageLinkage does for rows [n, d], in
// floating-point operations, with the time that it waits for memory as
// operations too. Its constants were fitted to 4,000 to 22,000 rows of 100 and
// 1,536 columns of real text, where rounds compared 1.6 to 2.0 n² pairs.
func LinkageWork(n, d int64) float64 {
	pairs := float64(n) * float64(n)
	if holdsMatrix(n, d) {
		return 0.9 * pairs * float64(d+4500)
	}
	compared := max(1.3, 1.85+0.15*math.Log2(float64(n)/16000))
	return 2 * compared * pairs * float64(d+200)
}
