package cluster

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"clusterflow/internal/linalg"
)

// tfidfRows returns the texts as unit rows [N, terms] over the most frequent
// terms, at most that many, and their number: counts weighted by
// ln((1 + N)/(1 + texts with the term)) + 1, as scikit-learn's TfidfVectorizer
// does by default. Terms are runs of two or more letters, digits, marks and
// underscores in lower case. A text without any of them is a row of zeros.
func tfidfRows(texts []string, most int) (linalg.Matrix, int) {
	total, within := map[string]int{}, map[string]int{}
	counts := make([]map[string]int, len(texts))
	for i, text := range texts {
		counts[i] = map[string]int{}
		for _, w := range words(text) {
			counts[i][w]++
			total[w]++
		}
		for w := range counts[i] {
			within[w]++
		}
	}
	terms := slices.SortedFunc(maps.Keys(total), func(a, b string) int {
		return cmp.Or(total[b]-total[a], cmp.Compare(a, b))
	})
	terms = terms[:min(most, len(terms))]
	column, weight := map[string]int{}, make([]float64, len(terms))
	for j, w := range terms {
		column[w] = j
		weight[j] = math.Log(float64(1+len(texts))/float64(1+within[w])) + 1
	}
	rows := linalg.NewMatrix(len(texts), len(terms))
	for i, count := range counts {
		row, sum := rows.Row(i), 0.0
		for w, n := range count {
			if j, ok := column[w]; ok {
				row[j] = float32(float64(n) * weight[j])
			}
		}
		for _, v := range row { // in the order of columns, so that the sum has the same bits every time
			sum += float64(v) * float64(v)
		}
		if sum > 0 {
			scaleTo(row, row, 1/math.Sqrt(sum))
		}
	}
	return rows, len(terms)
}

// words are the terms of a text.
func words(text string) []string {
	fields := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
	})
	return slices.DeleteFunc(fields, func(w string) bool { return utf8.RuneCountInString(w) < 2 })
}

// tfidfMemory is that of k-means and of the rows it makes and scales.
func tfidfMemory(n, d, k int64, option func(string) int64) int64 {
	return kmeansMemory(n, d, k, option) + 2*n*option("terms")*4
}
