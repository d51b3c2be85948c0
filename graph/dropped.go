package graph

import (
	"fmt"

	"clusterflow/cache"
)

// A record whose blobs gc dropped still tells what its node made, so that
// nothing below it need run. It is made again when somebody wants the bytes: a
// node that runs and reads them, or, for the last node of a graph, the user.

// restore says of the steps whose outputs were dropped which are wanted.
func (p *Plan) restore(at []*Step, blobs *cache.Blobs) {
	for i := len(p.Steps) - 1; i >= 0; i-- { // readers come first
		s := p.Steps[i]
		if !s.Dropped {
			continue
		}
		why := ""
		if len(s.Node.users) == 0 {
			why = "what it made was dropped from the cache"
		}
		state := Stale
		for _, u := range s.Node.users {
			if user := at[u.index]; user != nil && user.State != Cached && reads(blobs, user, s) {
				if user.State == Unknown {
					if why == "" {
						why, state = "dropped from the cache, and made again only if "+u.Addr+" must run", Unknown
					}
					continue
				}
				why, state = "dropped from the cache, and "+u.Addr+" reads it", Stale
				break
			}
		}
		if why != "" {
			s.State, s.Record, s.Dropped = state, nil, false
			s.Reasons = []Reason{{CauseOutput, why, ""}}
		}
	}
}

// reads reports whether a node reads an output of s that is not there.
func reads(blobs *cache.Blobs, user, s *Step) bool {
	for _, in := range user.Node.Inputs {
		if in.From != s.Node {
			continue
		}
		if out, ok := s.Record.Output(in.Output); ok && !out.InRecord() && blobs.Check(out.Digest, out.Size) != cache.OK {
			return true
		}
	}
	return false
}

// restore puts back the makers of the inputs of a node about to run that were
// dropped, and reports whether it has to wait for them.
func (r *run) restore(it *item) bool {
	wait := false
	for _, in := range it.node.Inputs {
		from := r.items[in.From.index]
		out, ok := from.record.Output(in.Output)
		if !ok || out.InRecord() {
			continue
		}
		blobs := r.x.Store.Blobs()
		if blobs.Check(out.Digest, out.Size) != cache.Missing || !blobs.Dropped(out.Digest) {
			continue // a damaged one shows when it is read; see remake
		}
		if from.phase == done {
			if from.again {
				r.fail(it, fmt.Errorf("%s reads %s of %s, which was made again and is still not there; run the command again", it.node.Addr, in.Output, from.node.Addr))
				return true
			}
			from.again, from.was = true, from.record
			from.phase = idle
			*from.counted--
			r.publish(from, "pending", Event{})
		}
		from.waiters = append(from.waiters, it)
		wait = true
		if from.phase == idle && !r.restore(from) {
			r.enqueue(from)
		}
	}
	return wait
}
