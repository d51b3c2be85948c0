package batch

import (
	"runtime/debug"
	"sync"
)

const (
	// manyRequests is from how many requests on a pass collects garbage sooner.
	manyRequests = 100_000
	// soon is the growth of the heap, in percent, after which it then does: the
	// requests themselves are most of the heap, and would let as much garbage grow
	// beside them.
	soon = 20
)

// sooner counts the passes under way that have many requests.
var sooner struct {
	mu     sync.Mutex
	passes int
	before int // the setting of the process
}

// collectSooner collects garbage sooner while a pass over so many requests is under
// way, until the function that it returns is called. That takes more of the
// processor, of which a pass over a network needs little.
func collectSooner(requests int) (done func()) {
	if requests < manyRequests {
		return func() {}
	}
	sooner.mu.Lock()
	defer sooner.mu.Unlock()
	if sooner.passes++; sooner.passes == 1 {
		sooner.before = debug.SetGCPercent(soon)
		if sooner.before >= 0 && sooner.before < soon {
			debug.SetGCPercent(sooner.before) // somebody wants it sooner still
		}
	}
	return func() {
		sooner.mu.Lock()
		defer sooner.mu.Unlock()
		if sooner.passes--; sooner.passes == 0 {
			debug.SetGCPercent(sooner.before)
		}
	}
}
