package judge

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func count(n int) []int {
	rows := make([]int, n)
	for i := range rows {
		rows[i] = 1000 + i
	}
	return rows
}

func TestDescriptionExamples(t *testing.T) {
	order := count(500)
	before := slices.Clone(order)
	got := DescriptionExamples(order, 201, rng(1))
	if !reflect.DeepEqual(order, before) {
		t.Fatal("the order was changed")
	}
	sorted := slices.Sorted(slices.Values(got))
	if len(got) != 201 || len(slices.Compact(sorted)) != 201 {
		t.Fatalf("%d examples, not all different", len(got))
	}
	if !slices.Equal(sorted[:100], order[:100]) { // ⌊201/2⌋ from the top
		t.Error("the best 100 are not all there")
	}
	if slices.Equal(got, sorted) {
		t.Error("not shuffled")
	}
	if sorted[200] < 1300 { // 101 of 400 drawn evenly reach the last 200 with certainty enough
		t.Error("the rest is not drawn from all of the remainder")
	}
	if !reflect.DeepEqual(got, DescriptionExamples(order, 201, rng(1))) || reflect.DeepEqual(got, DescriptionExamples(order, 201, rng(2))) {
		t.Error("the draw does not follow its generator")
	}
	if got = DescriptionExamples(order[:7], 7, rng(1)); len(got) != 7 {
		t.Errorf("%d of 7", len(got))
	}
	for _, n := range []int{0, -1} {
		if got = DescriptionExamples(order, n, rng(1)); len(got) != 0 {
			t.Errorf("%d examples of %d", len(got), n)
		}
	}
	if got = DescriptionExamples(nil, 5, rng(1)); len(got) != 0 {
		t.Errorf("examples of nothing: %v", got)
	}
}

func TestAccuracySample(t *testing.T) {
	in, out := count(30), []int{1, 2, 3, 4, 5, 6}
	inside, outside := slices.Clone(in), slices.Clone(out)
	got := AccuracySample(inside, outside, 10, 10, rng(3))
	var nIn, nOut int
	for _, row := range got {
		if row >= 1000 {
			nIn++
		} else {
			nOut++
		}
	}
	if nIn != 10 || nOut != 6 { // as many as there are
		t.Errorf("%d from inside, %d from outside", nIn, nOut)
	}
	if !slices.Equal(in, inside) || !slices.Equal(out, outside) {
		t.Error("the inputs were changed")
	}
	if len(slices.Compact(slices.Sorted(slices.Values(got)))) != 16 {
		t.Error("drawn twice")
	}
	if slices.IsSortedFunc(got, func(a, b int) int { return b - a }) {
		t.Error("not shuffled together")
	}
}

func TestSampleIsPrefixStable(t *testing.T) {
	rows := count(100)
	small, large := Sample(rows, 20, rng(4)), Sample(rows, 60, rng(4))
	if !slices.Equal(small, large[:20]) {
		t.Error("a larger sample does not begin with the smaller one")
	}
	for _, n := range []int{-1, 100, 101} {
		if got := Sample(rows, n, rng(4)); !slices.Equal(got[:60], large) || len(got) != 100 {
			t.Errorf("n = %d: %d rows", n, len(got))
		}
	}
}

func TestChunks(t *testing.T) {
	for _, tc := range []struct {
		n, size int
		want    []int
	}{{0, 50, nil}, {1, 50, []int{1}}, {50, 50, []int{50}}, {101, 50, []int{50, 50, 1}}, {60, 0, []int{50, 10}}, {60, 99, []int{50, 10}}, {5, 2, []int{2, 2, 1}}} {
		var sizes []int
		next := 1000
		for _, c := range Chunks(count(tc.n), tc.size) {
			sizes = append(sizes, len(c))
			for _, row := range c {
				if row != next {
					t.Fatalf("row %d out of order", row)
				}
				next++
			}
		}
		if !slices.Equal(sizes, tc.want) {
			t.Errorf("%d by %d: %v, want %v", tc.n, tc.size, sizes, tc.want)
		}
	}
}
