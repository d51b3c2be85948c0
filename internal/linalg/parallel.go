package linalg

import (
	"sync"
	"sync/atomic"
)

// ForEach calls f(0) … f(n-1), each once, from at most threads goroutines,
// and returns when all have returned. Which goroutine takes which piece is
// left open, so a result keeps its bits for every number of threads only if
// f(i) writes nothing that another f(j) reads or writes.
func ForEach(threads, n int, f func(i int)) {
	threads = min(threads, n)
	if threads <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range threads {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	wg.Wait()
}

// Blocks returns how many blocks of the given size cover n elements.
func Blocks(n, size int) int { return (n + size - 1) / size }
