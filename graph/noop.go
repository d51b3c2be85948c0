package graph

import (
	"bytes"
	"crypto/sha256"
	"time"

	"clusterflow/cache"
)

// A run that finds everything as the last one left it has nothing to say of any
// node that the last run file does not say: its nodes are kept as they are, and
// nothing is scheduled.

// nothing finishes the run if that is the case.
func (r *run) nothing(p *Plan, begin time.Time) (bool, error) {
	if p.Last == nil || p.Last.Settled.IsZero() || len(p.Steps) != len(p.Graph.Nodes) || p.Work() {
		return false, nil
	}
	for _, s := range p.Steps {
		if s.Record == nil || !s.Record.Brief {
			return false, nil // somebody wants to hear of every node
		}
	}
	if settledAs(len(p.Steps), func(i int) (*Node, cache.Digest) { return p.Steps[i].Node, p.Steps[i].Key }) != p.Last.Settled ||
		!r.board.KeepNodes(p.Last) {
		return false, nil
	}
	r.sum.Cached = len(p.Steps)
	for _, s := range p.Steps {
		if len(s.Node.users) == 0 {
			r.sum.Records[s.Node.Addr] = s.Record
		}
	}
	r.board.Settled = p.Last.Settled
	r.board.Started = begin
	r.close(nil)
	r.sum.Elapsed = time.Since(begin)
	return true, r.x.Store.SaveRun(&r.board)
}

// settle notes, at the end of a run that did everything, what it came to.
func (r *run) settle(p *Plan) {
	r.board.Settled = cache.Digest{}
	if r.board.State != "done" || len(r.order) != len(p.Graph.Nodes) {
		return
	}
	for _, it := range r.order {
		if it.phase != done {
			return
		}
	}
	r.board.Settled = settledAs(len(r.order), func(i int) (*Node, cache.Digest) { return r.order[i].node, r.order[i].key })
}

// settledAs is the digest of the addresses, kinds and keys of n nodes.
func settledAs(n int, node func(i int) (*Node, cache.Digest)) cache.Digest {
	h := sha256.New()
	var b bytes.Buffer
	for i := range n {
		at, key := node(i)
		b.WriteString(at.Addr)
		b.WriteByte(0)
		b.WriteString(at.Kind())
		b.WriteByte(0)
		b.Write(key[:])
		if b.Len() > 32<<10 {
			h.Write(b.Bytes())
			b.Reset()
		}
	}
	h.Write(b.Bytes())
	return cache.Digest(h.Sum(nil))
}
