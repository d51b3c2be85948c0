package judge

import (
	"math/rand/v2"
	"slices"
)

// MaxChunk is the largest number of sentences of one prompt.
const MaxChunk = 50

// DescriptionExamples draws the sentences that a titler sees of one cluster.
// order holds its sentence rows, best first. With at most n of them all are
// taken; otherwise the first ⌊n/2⌋ and the rest at random from the others. The
// result is shuffled; order is not changed.
func DescriptionExamples(order []int, n int, rng *rand.Rand) []int {
	picked := slices.Clone(order)
	if n = max(n, 0); len(order) > n {
		top := n / 2
		shuffle(picked[top:], rng)
		picked = picked[:n]
	}
	shuffle(picked, rng)
	return picked
}

// AccuracySample draws up to nIn rows from inside a cluster and up to nOut from
// outside, without replacement, shuffled together. The inputs are not changed.
func AccuracySample(inside, outside []int, nIn, nOut int, rng *rand.Rand) []int {
	in := Sample(inside, max(nIn, 0), rng)
	out := Sample(outside, max(nOut, 0), rng)
	rows := append(in, out...)
	shuffle(rows, rng)
	return rows
}

// Sample draws n rows without replacement in random order; all of them when n
// is negative or not below len(rows). A larger n with a generator in the same
// state begins with the same rows, so that their prompts stay the same. rows is
// not changed.
func Sample(rows []int, n int, rng *rand.Rand) []int {
	picked := slices.Clone(rows)
	shuffle(picked, rng)
	if n >= 0 && n < len(picked) {
		picked = picked[:n:n]
	}
	return picked
}

// Chunks cuts ids into runs of size, the last one shorter. A size below 1 or
// above MaxChunk means MaxChunk. The chunks share memory with ids.
func Chunks(ids []int, size int) [][]int {
	if size < 1 || size > MaxChunk {
		size = MaxChunk
	}
	var chunks [][]int
	for chunk := range slices.Chunk(ids, size) {
		chunks = append(chunks, chunk)
	}
	return chunks
}

// shuffle is Fisher-Yates from the front, so that a prefix of the result
// depends only on the draws made for it.
func shuffle(rows []int, rng *rand.Rand) {
	for i := 0; i < len(rows)-1; i++ {
		j := i + rng.IntN(len(rows)-i)
		rows[i], rows[j] = rows[j], rows[i]
	}
}
