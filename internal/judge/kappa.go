package judge

import "math/rand/v2"

// Kappa is an agreement beyond chance.
type Kappa struct {
	Value    float64 `json:"kappa"`     // 1: always; 0: as by chance
	Observed float64 `json:"agreement"` // share of agreeing pairs of ratings
	Items    int     `json:"items"`     // with at least two ratings
	// Defined is false where there is nothing to measure: no item has two ratings,
	// or all ratings are of one category, so that chance alone would agree always.
	Defined bool `json:"defined"`
}

// Fleiss is Fleiss' kappa of nominal ratings: ratings[i] are the categories that
// item i was given, in any order, by any raters. Items may have different numbers
// of ratings; those with fewer than two say nothing and are left out (Fleiss,
// Measuring nominal scale agreement among many raters, 1971; with unequal numbers,
// the agreement of an item is still the share of its agreeing pairs, and items
// count alike).
func Fleiss(ratings [][]int) Kappa {
	counts, total := map[int]float64{}, 0.0
	var k Kappa
	sum := 0.0
	for _, item := range ratings {
		n := float64(len(item))
		if n < 2 {
			continue
		}
		own := map[int]float64{}
		for _, c := range item {
			own[c]++
			counts[c]++
		}
		total += n
		agree := 0.0
		for _, m := range own {
			agree += m * (m - 1)
		}
		sum += agree / (n * (n - 1))
		k.Items++
	}
	if k.Items == 0 {
		return k
	}
	k.Observed = sum / float64(k.Items)
	chance := 0.0
	for _, m := range counts {
		chance += m / total * (m / total)
	}
	if len(counts) > 1 {
		k.Value, k.Defined = (k.Observed-chance)/(1-chance), true
	}
	return k
}

// Cohen is Cohen's kappa of two raters: a[i] and b[i] are their categories of item
// i (Cohen, A coefficient of agreement for nominal scales, 1960). Chance is by each
// rater's own use of the categories.
func Cohen(a, b []int) Kappa {
	k := Kappa{Items: min(len(a), len(b))}
	if k.Items == 0 {
		return k
	}
	n := float64(k.Items)
	byA, byB := map[int]float64{}, map[int]float64{}
	for i := range k.Items {
		if a[i] == b[i] {
			k.Observed += 1 / n
		}
		byA[a[i]] += 1 / n
		byB[b[i]] += 1 / n
	}
	chance := 0.0
	for c, p := range byA {
		chance += p * byB[c]
	}
	if chance < 1-rounding {
		k.Value, k.Defined = (k.Observed-chance)/(1-chance), true
	}
	return k
}

// KappaInterval is the 95 % percentile interval of a kappa over responses:
// responses[i] is that of item i, and of computes the kappa of some items, which
// may come several times. Samples in which it is undefined are left out; 0, 0 if
// all are.
func KappaInterval(responses []int, of func(items []int) Kappa, rng *rand.Rand) [2]float64 {
	index, items := map[int]int{}, [][]int{}
	for i, r := range responses {
		at, ok := index[r]
		if !ok {
			at = len(items)
			index[r], items = at, append(items, nil)
		}
		items[at] = append(items[at], i)
	}
	if len(items) == 0 {
		return [2]float64{}
	}
	var values []float32
	var drawn []int
	for range Resamples {
		drawn = drawn[:0]
		for range items {
			drawn = append(drawn, items[rng.IntN(len(items))]...)
		}
		if k := of(drawn); k.Defined {
			values = append(values, float32(k.Value))
		}
	}
	return Percentile(values)
}
