package tasks

import (
	"cmp"
	"fmt"
	"sync"

	"clusterflow/graph"
)

// ceiling is the most requests that may be sent to each destination.
type ceiling struct {
	mu   sync.Mutex
	most map[graph.Destination]int
	sent map[graph.Destination]map[string]bool // request keys that were let through
}

// SetCeiling limits how many requests the office sends to each destination from
// now on; one that is not listed gets none. A request that is sent again, after
// its batch expired, is counted once. The offline judge has no limit.
func (o *Office) SetCeiling(most map[graph.Destination]int) {
	o.ceiling = &ceiling{most: most, sent: map[graph.Destination]map[string]bool{}}
}

// admit lets the requests of one node through to a destination, all of them or
// none.
func (c *ceiling) admit(to graph.Destination, keys map[string]bool) error {
	if c == nil || to == (graph.Destination{}) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	sent := c.sent[to]
	more := 0
	for k := range keys {
		if !sent[k] {
			more++
		}
	}
	if n := len(sent) + more; n > c.most[to] {
		return fmt.Errorf("sending %s requests more to %s, paid with the key in $%s, would make %s, and the saved plan allows %s: nothing more is sent; make a new plan",
			thousands(more), to.URL, cmp.Or(to.KeyEnv, "?"), thousands(n), thousands(c.most[to]))
	}
	if sent == nil {
		sent = map[string]bool{}
		c.sent[to] = sent
	}
	for k := range keys {
		sent[k] = true
	}
	return nil
}
