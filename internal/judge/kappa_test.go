package judge

import (
	"math"
	"math/rand/v2"
	"testing"
)

// ratingsOf expands counts by category into ratings.
func ratingsOf(counts ...[]int) [][]int {
	var out [][]int
	for _, row := range counts {
		var item []int
		for category, n := range row {
			for range n {
				item = append(item, category)
			}
		}
		out = append(out, item)
	}
	return out
}

// The worked example of the article "Fleiss' kappa" in Wikipedia: 10 items, 14
// raters, 5 categories.
func TestFleiss(t *testing.T) {
	k := Fleiss(ratingsOf(
		[]int{0, 0, 0, 0, 14}, []int{0, 2, 6, 4, 2}, []int{0, 0, 3, 5, 6}, []int{0, 3, 9, 2, 0}, []int{2, 2, 8, 1, 1},
		[]int{7, 7, 0, 0, 0}, []int{3, 2, 6, 3, 0}, []int{2, 5, 3, 2, 2}, []int{6, 5, 2, 1, 0}, []int{0, 2, 2, 3, 7},
	))
	if math.Abs(k.Value-0.210) > 5e-4 || math.Abs(k.Observed-0.378) > 5e-4 || k.Items != 10 || !k.Defined {
		t.Errorf("%+v, want 0.210 (agreement 0.378) over 10 items", k)
	}
	// Table 1 of Fleiss 1971: 30 patients, 6 psychiatrists; depression, personality
	// disorder, schizophrenia, neurosis, other.
	k = Fleiss(ratingsOf(
		[]int{0, 0, 0, 6, 0}, []int{0, 3, 0, 0, 3}, []int{0, 1, 4, 0, 1}, []int{0, 0, 0, 0, 6}, []int{0, 3, 0, 3, 0},
		[]int{2, 0, 4, 0, 0}, []int{0, 0, 4, 0, 2}, []int{2, 0, 3, 1, 0}, []int{2, 0, 0, 4, 0}, []int{0, 0, 0, 0, 6},
		[]int{1, 0, 0, 5, 0}, []int{1, 1, 0, 4, 0}, []int{0, 3, 3, 0, 0}, []int{1, 0, 0, 5, 0}, []int{0, 2, 0, 3, 1},
		[]int{0, 0, 5, 0, 1}, []int{3, 0, 0, 1, 2}, []int{5, 1, 0, 0, 0}, []int{0, 2, 0, 4, 0}, []int{1, 0, 2, 0, 3},
		[]int{0, 0, 0, 0, 6}, []int{0, 1, 0, 5, 0}, []int{0, 2, 0, 1, 3}, []int{2, 0, 0, 4, 0}, []int{1, 0, 0, 4, 1},
		[]int{0, 5, 0, 1, 0}, []int{4, 0, 0, 0, 2}, []int{0, 2, 0, 4, 0}, []int{1, 0, 5, 0, 0}, []int{0, 0, 0, 0, 6},
	))
	if math.Abs(k.Value-0.430) > 5e-4 || math.Abs(k.Observed-0.5556) > 5e-5 || k.Items != 30 || !k.Defined {
		t.Errorf("%+v, want 0.430 (agreement 0.5556) over 30 items", k)
	}
	for _, c := range []struct {
		name    string
		ratings [][]int
		want    Kappa
	}{
		{"none", nil, Kappa{}},
		{"one rating each", [][]int{{1}, {2}, {}}, Kappa{}},
		{"one category", [][]int{{3, 3}, {3, 3, 3}}, Kappa{Observed: 1, Items: 2}},
		{"always alike", [][]int{{0, 0}, {1, 1}, {2}}, Kappa{Value: 1, Observed: 1, Items: 2, Defined: true}},
		{"never alike", [][]int{{0, 1}, {1, 0}}, Kappa{Value: -1, Items: 2, Defined: true}},
	} {
		if got := Fleiss(c.ratings); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// The examples of the article "Cohen's kappa" in Wikipedia.
func TestCohen(t *testing.T) {
	for _, c := range []struct {
		yy, yn, ny, nn int
		want           float64
	}{{20, 5, 10, 15, 0.4}, {45, 15, 25, 15, 0.1304}, {25, 35, 5, 35, 0.2593}} {
		var a, b []int
		for _, cell := range [][3]int{{1, 1, c.yy}, {1, 0, c.yn}, {0, 1, c.ny}, {0, 0, c.nn}} {
			for range cell[2] {
				a, b = append(a, cell[0]), append(b, cell[1])
			}
		}
		if k := Cohen(a, b); math.Abs(k.Value-c.want) > 5e-5 || !k.Defined {
			t.Errorf("%+v, want %g", k, c.want)
		}
	}
	if k := Cohen([]int{1, 1}, []int{1, 1}); k.Defined || k.Observed != 1 {
		t.Errorf("one category: %+v", k)
	}
	if k := Cohen(nil, nil); k != (Kappa{}) {
		t.Errorf("nothing: %+v", k)
	}
}

// With one item per response and many items the interval is near the kappa's
// asymptotic standard error.
func TestKappaInterval(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a, b, responses []int
	for i := range 400 {
		x := rng.IntN(2)
		y := x
		if rng.Float64() < 0.2 {
			y = 1 - x
		}
		a, b, responses = append(a, x), append(b, y), append(responses, i)
	}
	of := func(items []int) Kappa {
		var x, y []int
		for _, i := range items {
			x, y = append(x, a[i]), append(y, b[i])
		}
		return Cohen(x, y)
	}
	whole := Cohen(a, b)
	ci := KappaInterval(responses, of, rng)
	se := math.Sqrt(whole.Observed*(1-whole.Observed)/400) / 0.5 // chance is 1/2
	if got := (ci[1] - ci[0]) / (2 * 1.96); math.Abs(got/se-1) > 0.15 || ci[0] > whole.Value || ci[1] < whole.Value {
		t.Errorf("%+v has the interval %v, standard error %.4f, want %.4f", whole, ci, got, se)
	}
	if got := KappaInterval(nil, of, rng); got != [2]float64{} {
		t.Errorf("of nothing: %v", got)
	}
}
