package graph

import (
	"fmt"

	"clusterflow/cache"
)

// committing is the results that are being synced to the disk, and those that
// have gathered meanwhile and go together when it is done: a sync costs the same
// for one as for many, and nothing but the users of these nodes waits for it.
type committing struct {
	busy     bool
	gathered []*item
	done     chan committed
}

// committed is the end of one commit.
type committed struct {
	items []*item
	err   error
}

// commit has the records of finished items written.
func (r *run) commit(items []*item) {
	c := &r.committing
	c.gathered = append(c.gathered, items...)
	if c.busy || len(c.gathered) == 0 {
		return
	}
	batch := c.gathered
	c.busy, c.gathered = true, nil
	records := make([]*cache.Record, len(batch))
	for i, it := range batch {
		records[i] = it.record
	}
	go func() { c.done <- committed{batch, r.x.Store.Commit(records...)} }()
}

// committed completes the nodes whose records are on the disk.
func (r *run) committed(c committed) {
	r.committing.busy = false
	r.commit(nil)
	for _, it := range c.items {
		if c.err != nil {
			r.fail(it, fmt.Errorf("recording the result of %s: %w", it.node.Addr, c.err))
		} else {
			r.complete(it, false)
		}
	}
}
