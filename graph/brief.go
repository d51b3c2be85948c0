package graph

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"hash"
	"reflect"
	"strconv"

	"clusterflow/cache"
)

// BriefKnown is a Known that also gives what a plan needs of a record without
// reading it. A *cache.Reader is one.
type BriefKnown interface {
	Known
	Brief(key cache.Digest) (*cache.Record, bool)
}

// Briefly makes NewPlan leave out what only explanations need: cached and
// unknown steps have no lines, and their records are brief. It finds the same
// states, keys and reasons, at a small part of the cost.
func Briefly(k BriefKnown) Known { return briefly{k} }

type briefly struct{ BriefKnown }

// guess is what a brief plan supposes of a node before it knows which nodes
// must run: that those give again what they gave last time.
type guess struct {
	key    cache.Digest
	record *cache.Record // of that key, nil if there is none
	last   *cache.Record // else the last result of the address
	at     int           // of its outputs among all that are looked at
}

// outputs are what the node is supposed to give.
func (g *guess) outputs() *cache.Record {
	if g.record != nil {
		return g.record
	}
	return g.last
}

// brief makes the plan of NewPlan. It supposes that every node whose key is
// known is cached, looks at all their blobs at once, and then goes through the
// nodes again: what the look did not confirm is judged one by one, as NewPlan
// does.
func (p *Plan) brief(ctx context.Context, selected []*Node, known briefly) error {
	guesses := make([]guess, len(p.Graph.Nodes))
	steps := make([]Step, len(selected))
	sources := newSourceSet(known.FileDigest)
	keys := newKeyer()
	outputs := make([]cache.Output, 0, len(selected)+len(selected)/3)
	for i, n := range selected {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, g := &steps[i], &guesses[n.index]
		s.Node = n
		var err error
		if s.sources, err = sources.of(n); err != nil {
			return err
		}
		g.at = len(outputs)
		if key, ok := keys.of(n, s.sources, guesses); ok {
			g.key = key
			if g.record, ok = known.Brief(key); ok {
				outputs = append(outputs, g.record.Outputs...)
				continue
			}
		}
		if was := lastState(p.Last, n.Addr); was != nil && !was.Key.IsZero() {
			g.last, _ = known.Brief(was.Key)
		}
	}
	states := known.Blobs().Look(outputs)
	at := make([]*Step, len(p.Graph.Nodes))
	for i, n := range selected {
		s, g := &steps[i], &guesses[n.index]
		p.confirm(s, g, at, states, known)
		at[n.index] = s
		p.Steps = append(p.Steps, s)
	}
	p.restore(at, known.Blobs())
	return nil
}

// confirm sets the state of a step, given those of its inputs.
func (p *Plan) confirm(s *Step, g *guess, at []*Step, states []cache.State, known briefly) {
	pending := pendingOf(s.Node, at)
	switch {
	case pending == nil && g.record != nil && g.record.Withdrawn == "" && whole(states[g.at:g.at+len(g.record.Outputs)]):
		s.State, s.Key, s.Record, s.Last = Cached, g.key, g.record, g.record
		return
	case pending != nil && g.record != nil:
		// Its lines are those of the last run if that had the key.
		if was := lastState(p.Last, s.Node.Addr); was != nil && was.Key == g.key {
			s.State, s.Last = Unknown, g.record
			s.Reasons = unknownUntil(pending)
			return
		}
	}
	if was := lastState(p.Last, s.Node.Addr); was != nil && !was.Key.IsZero() {
		s.Last, _ = known.Record(was.Key)
	}
	p.judge(s, at, known)
}

// pendingOf is the step that a node waits for to be known, nil if there is none.
func pendingOf(n *Node, at []*Step) *Step {
	for _, in := range n.Inputs {
		if from := at[in.From.index]; from.State != Cached {
			return root(from, at)
		}
	}
	return nil
}

func whole(states []cache.State) bool {
	for _, s := range states {
		if s != cache.OK {
			return false
		}
	}
	return true
}

// keyer computes the keys of many nodes: KeyOf(lines(…)), with the part that
// comes from the task hashed once for all nodes that share the task.
type keyer struct {
	hash  hash.Hash
	tasks map[Task][]byte // state of the hash after the task's lines
	buf   []byte
}

func newKeyer() *keyer {
	return &keyer{hash: sha256.New(), tasks: map[Task][]byte{}, buf: make([]byte, 0, 8<<10)}
}

// of is the key of a node whose inputs are as guessed; false if one of them is
// not known.
func (k *keyer) of(n *Node, sources []cache.Digest, guesses []guess) (key cache.Digest, ok bool) {
	k.begin(n.Task)
	b := k.buf[:0]
	for i, s := range n.Sources {
		b = appendKeyLine(b, labelSource, s.Name, sources[i])
	}
	for _, in := range n.Inputs {
		if len(b) > cap(b)-256 { // a report has very many
			k.hash.Write(b)
			b = b[:0]
		}
		record := guesses[in.From.index].outputs()
		if record == nil {
			return key, false
		}
		found := false
		for i := range record.Outputs {
			if o := &record.Outputs[i]; o.Name == in.Output {
				b, found = appendKeyLine(b, labelInput, in.Name, o.Digest), true
				break
			}
		}
		if !found {
			return key, false
		}
	}
	k.hash.Write(b)
	k.hash.Sum(key[:0])
	return key, true
}

// begin brings the hash to where the lines of the task have been written.
func (k *keyer) begin(t Task) {
	shared := reflect.TypeOf(t).Kind() == reflect.Pointer
	if shared {
		if state, ok := k.tasks[t]; ok && k.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(state) == nil {
			return
		}
	}
	k.hash.Reset()
	writeKey(k.hash, taskLines(t, 0))
	if shared {
		if state, err := k.hash.(encoding.BinaryMarshaler).MarshalBinary(); err == nil {
			k.tasks[t] = state
		}
	}
}

// appendKeyLine writes a line with a digest as KeyOf does.
func appendKeyLine(b []byte, label, name string, d cache.Digest) []byte {
	if plain(name) {
		b = append(append(append(append(b, '"'), label...), name...), '"')
	} else {
		b = strconv.AppendQuoteToASCII(b, label+name)
	}
	b = hex.AppendEncode(append(b, ' ', '"'), d[:])
	return append(b, '"', '\n')
}

// plain reports whether quoting leaves s as it is.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
