package llm

import (
	"container/heap"
	"fmt"
	"math/bits"
	"strings"
)

// bpe merges the bytes of a word into tokens: as long as some neighbours can
// be merged, those with the lowest rank, the leftmost of them first (Sennrich
// et al. 2016, arXiv 1508.07909). It is not changed once built.
type bpe struct {
	vocab        map[string]int32 // token bytes → id
	bytes        [256]int32       // id of each single byte, -1 where there is none
	merges       mergeTable
	ignoreMerges bool // a word that is a token is that token, whatever the merges say
}

// Words up to shortWord tokens are merged by looking at all pairs again after
// each merge, longer ones with a heap. Words of up to cachedWord bytes are
// remembered, cachedWords of them per scratch.
const (
	shortWord   = 32
	cachedWord  = 48
	cachedWords = 1 << 16
)

// bpeScratch is what one goroutine at a time works in.
type bpeScratch struct {
	words map[string][]int32
	ids   []int32
	pairs []merge
	long  longWord
}

// encode returns the tokens of word, valid until the next call with s.
func (b *bpe) encode(s *bpeScratch, word string) ([]int32, error) {
	if ids, ok := s.words[word]; ok {
		return ids, nil
	}
	ids, err := b.merge(s, word)
	if err == nil && len(word) <= cachedWord {
		if len(s.words) >= cachedWords {
			clear(s.words)
		}
		ids = append([]int32(nil), ids...)
		s.words[strings.Clone(word)] = ids
	}
	return ids, err
}

func (b *bpe) merge(s *bpeScratch, word string) ([]int32, error) {
	s.ids = s.ids[:0]
	if b.ignoreMerges {
		if id, ok := b.vocab[word]; ok {
			s.ids = append(s.ids, id)
			return s.ids, nil
		}
	}
	for i := range len(word) {
		id := b.bytes[word[i]]
		if id < 0 {
			return nil, fmt.Errorf("the vocabulary has no token for the byte 0x%02x of %q", word[i], word)
		}
		s.ids = append(s.ids, id)
	}
	if len(s.ids) > shortWord {
		s.ids = s.long.merge(&b.merges, s.ids)
		return s.ids, nil
	}
	ids := s.ids
	s.pairs = s.pairs[:0]
	for i := 0; i+1 < len(ids); i++ {
		s.pairs = append(s.pairs, b.merges.get(ids[i], ids[i+1]))
	}
	pairs := s.pairs // pairs[i] is what ids[i], ids[i+1] merge to
	for {
		best := -1
		rank := noMerge.rank
		for i, p := range pairs {
			if p.rank < rank {
				best, rank = i, p.rank
			}
		}
		if best < 0 {
			break
		}
		ids[best] = pairs[best].id
		ids = append(ids[:best+1], ids[best+2:]...)
		pairs = append(pairs[:best], pairs[best+1:]...)
		if best < len(pairs) {
			pairs[best] = b.merges.get(ids[best], ids[best+1])
		}
		if best > 0 {
			pairs[best-1] = b.merges.get(ids[best-1], ids[best])
		}
	}
	s.ids = ids
	return ids, nil
}

// longWord merges a long word in O(n log n): its tokens are a linked list, the
// possible merges a heap, and an entry whose neighbours have changed since is
// dropped when it comes up.
type longWord struct {
	ids        []int32 // -1 for a token that was merged into the one before it
	prev, next []int32
	queue      mergeQueue
}

type queued struct {
	merge
	at          int32 // index of the left token
	left, right int32 // the ids to merge, to notice that they have changed
}

type mergeQueue []queued

func (q mergeQueue) Len() int { return len(q) }
func (q mergeQueue) Less(i, j int) bool {
	return q[i].rank < q[j].rank || q[i].rank == q[j].rank && q[i].at < q[j].at
}
func (q mergeQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *mergeQueue) Push(x any)   { *q = append(*q, x.(queued)) }
func (q *mergeQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// merge merges ids in place and returns what is left of them.
func (w *longWord) merge(merges *mergeTable, ids []int32) []int32 {
	w.ids, w.prev, w.next, w.queue = append(w.ids[:0], ids...), w.prev[:0], w.next[:0], w.queue[:0]
	entry := func(left, right int32) (queued, bool) {
		m := merges.get(w.ids[left], w.ids[right])
		return queued{m, left, w.ids[left], w.ids[right]}, m != noMerge
	}
	for i := range int32(len(ids)) {
		w.prev, w.next = append(w.prev, i-1), append(w.next, i+1)
	}
	w.next[len(ids)-1] = -1
	for i := range int32(len(ids) - 1) {
		if q, ok := entry(i, i+1); ok {
			w.queue = append(w.queue, q)
		}
	}
	heap.Init(&w.queue)
	for len(w.queue) > 0 {
		q := heap.Pop(&w.queue).(queued)
		right := w.next[q.at]
		if w.ids[q.at] != q.left || right < 0 || w.ids[right] != q.right {
			continue
		}
		w.ids[q.at], w.ids[right] = q.id, -1
		after := w.next[right]
		w.next[q.at] = after
		if after >= 0 {
			w.prev[after] = q.at
			if q, ok := entry(q.at, after); ok {
				heap.Push(&w.queue, q)
			}
		}
		if before := w.prev[q.at]; before >= 0 {
			if q, ok := entry(before, q.at); ok {
				heap.Push(&w.queue, q)
			}
		}
	}
	out := ids[:0]
	for _, id := range w.ids {
		if id >= 0 {
			out = append(out, id)
		}
	}
	return out
}

// merge is what a pair of tokens becomes, and how early.
type merge struct {
	rank uint32
	id   int32
}

var noMerge = merge{rank: ^uint32(0), id: -1}

// mergeTable maps pairs of ids to merges: a hash table with linear probing, at
// most half full.
type mergeTable struct {
	keys   []uint64 // left<<32 | right; emptyPair where free
	values []merge
	shift  int
}

const emptyPair = ^uint64(0)

func newMergeTable(n int) mergeTable {
	size := bits.Len(uint(2*n + 1))
	t := mergeTable{keys: make([]uint64, 1<<size), values: make([]merge, 1<<size), shift: 64 - size}
	for i := range t.keys {
		t.keys[i] = emptyPair
	}
	return t
}

// slot returns where the pair is, or where it would go.
func (t *mergeTable) slot(key uint64) int {
	i := int(key * 0x9e3779b97f4a7c15 >> t.shift) // Fibonacci hashing
	for t.keys[i] != key && t.keys[i] != emptyPair {
		i = (i + 1) & (len(t.keys) - 1)
	}
	return i
}

func (t *mergeTable) get(left, right int32) merge {
	key := uint64(left)<<32 | uint64(uint32(right))
	if i := t.slot(key); t.keys[i] == key {
		return t.values[i]
	}
	return noMerge
}

// set adds a pair; a later rank for the same pair replaces the earlier one.
func (t *mergeTable) set(left, right int32, m merge) {
	key := uint64(left)<<32 | uint64(uint32(right))
	i := t.slot(key)
	t.keys[i], t.values[i] = key, m
}
