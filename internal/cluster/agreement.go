package cluster

import "math"

// Agreement compares two partitions of the same rows. Each measure is 1 for
// partitions that are equal but for the clusters' names.
type Agreement struct {
	ARI float64 // adjusted Rand index (Hubert and Arabie, J. Classification 2, 1985): 0 expected of unrelated partitions
	AMI float64 // adjusted mutual information (Vinh, Epps and Bailey, JMLR 11, 2010), by the arithmetic mean of the entropies
	NMI float64 // mutual information by the arithmetic mean of the entropies, 0 to 1; not adjusted for chance
}

// Agree compares labels a and b of the same rows, 0 or above. Two partitions
// of a single cluster each, or of nothing but single rows, agree fully.
func Agree(a, b []int32) Agreement {
	t := newContingency(a, b)
	if t.n < 2 || t.trivial() {
		return Agreement{1, 1, 1}
	}
	mutual, mean := t.mutual(), (entropy(t.rows, t.n)+entropy(t.cols, t.n))/2
	out := Agreement{ARI: t.rand(), NMI: 1}
	if mean > 0 {
		out.NMI = min(1, max(0, mutual/mean))
	}
	expected := t.expectedMutual()
	if below := mean - expected; math.Abs(below) > 1e-15 {
		out.AMI = (mutual - expected) / below
	}
	return out
}

// AdjustedRand is the adjusted Rand index of Agree alone, which is far quicker.
func AdjustedRand(a, b []int32) float64 {
	t := newContingency(a, b)
	if t.n < 2 || t.trivial() {
		return 1
	}
	return t.rand()
}

// contingency counts the rows of each pair of clusters; empty clusters are
// left out.
type contingency struct {
	n          int
	rows, cols []int         // sizes of the clusters of a and of b
	cells      []contingents // that are not 0, in order of a's cluster, then b's
}

type contingents struct{ row, col, n int }

func newContingency(a, b []int32) *contingency {
	if len(a) != len(b) {
		panic("cluster: partitions of different numbers of rows are compared")
	}
	ra, rb := ranks(a), ranks(b)
	t := &contingency{n: len(a)}
	ka, kb := 0, 0
	for _, r := range ra {
		ka = max(ka, r+1)
	}
	for _, r := range rb {
		kb = max(kb, r+1)
	}
	t.rows, t.cols = make([]int, ka), make([]int, kb)
	counts := make([]int, ka*kb)
	for i := range a {
		x, y := ra[a[i]], rb[b[i]]
		t.rows[x]++
		t.cols[y]++
		counts[x*kb+y]++
	}
	for i, n := range counts {
		if n > 0 {
			t.cells = append(t.cells, contingents{i / kb, i % kb, n})
		}
	}
	return t
}

// ranks numbers the labels that occur from 0, in order; -1 for the others.
func ranks(labels []int32) []int {
	top := int32(-1)
	for _, l := range labels {
		top = max(top, l)
	}
	out := make([]int, top+1)
	for i := range out {
		out[i] = -1
	}
	for _, l := range labels {
		out[l] = 0
	}
	next := 0
	for l, seen := range out {
		if seen == 0 {
			out[l] = next
			next++
		}
	}
	return out
}

// trivial reports whether both partitions are one cluster, or both single rows.
func (t *contingency) trivial() bool {
	a, b := len(t.rows), len(t.cols)
	return a == 1 && b == 1 || a == t.n && b == t.n
}

func (t *contingency) rand() float64 {
	pairs := func(n int) float64 { return float64(n) * float64(n-1) / 2 }
	var both, inA, inB float64
	for _, c := range t.cells {
		both += pairs(c.n)
	}
	for _, n := range t.rows {
		inA += pairs(n)
	}
	for _, n := range t.cols {
		inB += pairs(n)
	}
	expected := inA / pairs(t.n) * inB
	return (both - expected) / ((inA+inB)/2 - expected) // 0 below the line only if both are trivial
}

func (t *contingency) mutual() float64 {
	sum, n := 0.0, float64(t.n)
	for _, c := range t.cells {
		p := float64(c.n) / n
		sum += p * math.Log(float64(c.n)*n/(float64(t.rows[c.row])*float64(t.cols[c.col])))
	}
	return max(0, sum)
}

func entropy(sizes []int, n int) float64 {
	sum := 0.0
	for _, s := range sizes {
		p := float64(s) / float64(n)
		sum -= p * math.Log(p)
	}
	return sum
}

// expectedMutual is the mean mutual information of partitions with these
// cluster sizes whose rows are drawn at random: a sum over the hypergeometric
// distribution of each cell.
func (t *contingency) expectedMutual() float64 {
	logs := make([]float64, t.n+1) // ln i!
	for i := 2; i <= t.n; i++ {
		logs[i] = logs[i-1] + math.Log(float64(i))
	}
	sum, n := 0.0, float64(t.n)
	for _, a := range t.rows {
		for _, b := range t.cols {
			for c := max(1, a+b-t.n); c <= min(a, b); c++ {
				chance := logs[a] + logs[b] + logs[t.n-a] + logs[t.n-b] -
					logs[t.n] - logs[c] - logs[a-c] - logs[b-c] - logs[t.n-a-b+c]
				sum += float64(c) / n * math.Log(n*float64(c)/(float64(a)*float64(b))) * math.Exp(chance)
			}
		}
	}
	return sum
}
