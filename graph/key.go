package graph

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"

	"clusterflow/cache"
)

// keyFormat is the first line of every key; it changes only when the way lines
// are written does, which makes every earlier result stale.
const keyFormat = "clusterflow node 1"

// Labels of key lines. Parameters, inputs and sources carry their name after it.
const (
	labelKind   = "kind"
	labelCode   = "code"
	labelParam  = "param "
	labelInput  = "input "
	labelSource = "source "
)

// lines returns the key lines of a node whose inputs and sources have the given
// digests, in the order of Node.Inputs and Node.Sources. An input whose digest
// is zero is not known yet: its line has no value, and the lines make no key.
func lines(n *Node, inputs, sources []cache.Digest) []cache.Line {
	ls := taskLines(n.Task, len(inputs)+len(sources))
	for i, s := range n.Sources {
		ls = append(ls, cache.Line{Label: labelSource + s.Name, Value: sources[i].String(), Origin: s.Path})
	}
	for i, in := range n.Inputs {
		l := cache.Line{Label: labelInput + in.Name, Origin: in.From.Addr}
		if !inputs[i].IsZero() {
			l.Value = inputs[i].String()
		}
		ls = append(ls, l)
	}
	return ls
}

// taskLines are the lines that come from the task alone, with room for more.
func taskLines(t Task, more int) []cache.Line {
	params := t.Params()
	ls := make([]cache.Line, 0, 2+len(params)+more)
	ls = append(ls, cache.Line{Label: labelKind, Value: t.Kind()}, cache.Line{Label: labelCode, Value: t.Version()})
	for _, p := range params {
		ls = append(ls, cache.Line{Label: labelParam + p.Label, Value: p.Value, Origin: p.Origin})
	}
	return ls
}

// KeyOf is the key of labelled lines: SHA-256 over one line per label and value,
// each quoted in ASCII, so that no value can look like another line. Origins do
// not enter.
func KeyOf(ls []cache.Line) cache.Digest {
	h := sha256.New()
	writeKey(h, ls)
	var d cache.Digest
	h.Sum(d[:0])
	return d
}

// writeKey writes what is hashed of the first lines of a key; the bytes of the
// others follow.
func writeKey(h hash.Hash, ls []cache.Line) {
	b := append(make([]byte, 0, 256), keyFormat+"\n"...)
	h.Write(b)
	for _, l := range ls {
		b = strconv.AppendQuoteToASCII(b[:0], l.Label)
		b = append(b, ' ')
		b = strconv.AppendQuoteToASCII(b, l.Value)
		h.Write(append(b, '\n'))
	}
}

// Cause is what sort of change makes a node run.
type Cause string

// The causes, in the order in which a plan counts them.
const (
	CauseNew      Cause = "new"      // this node has never been run
	CauseParam    Cause = "param"    // a parameter has another value
	CauseSource   Cause = "source"   // a file from outside has other content
	CauseCode     Cause = "code"     // this release computes the kind differently
	CauseOutput   Cause = "output"   // the result is missing or damaged
	CauseFailed   Cause = "failed"   // it failed last time
	CauseInput    Cause = "input"    // a node that it reads gave another result
	CauseUpstream Cause = "upstream" // a node that it reads must run first
)

// Reason says why a node is stale. Text is a phrase for people, such as
// "clusters 10 → 12"; Origin is where that value stands.
type Reason struct {
	Cause  Cause  `json:"cause"`
	Text   string `json:"text"`
	Origin string `json:"origin,omitempty"`
}

func (r Reason) String() string {
	if r.Origin == "" {
		return r.Text
	}
	return r.Text + " (" + r.Origin + ")"
}

// compare returns what changed between the lines of an earlier result and the
// present ones: one reason per changed line, parameters first. Inputs that were
// read before and are not known yet are passed over.
func compare(old, now []cache.Line) []Reason {
	before := make(map[string]cache.Line, len(old))
	for _, l := range old {
		before[l.Label] = l
	}
	var params, rest []Reason
	var added, gone []string // inputs, by the node that makes them
	seen := make(map[string]bool, len(now))
	for _, l := range now {
		seen[l.Label] = true
		o, had := before[l.Label]
		name, kind := cutLabel(l.Label)
		if had && (o.Value == l.Value || kind == labelInput && l.Value == "") {
			continue
		}
		switch kind {
		case labelParam:
			text := fmt.Sprintf("%s %s → %s", name, shown(o.Value), shown(l.Value))
			if !had {
				text = fmt.Sprintf("%s is now %s", name, shown(l.Value))
			}
			params = append(params, Reason{CauseParam, text, l.Origin})
		case labelSource:
			rest = append(rest, Reason{CauseSource, name + " changed", l.Origin})
		case labelInput:
			if had {
				rest = append(rest, Reason{CauseInput, l.Origin + " gave another result", ""})
			} else {
				added = append(added, l.Origin)
			}
		default:
			rest = append(rest, Reason{CauseCode, fmt.Sprintf("code version of %s %s → %s", kindOf(now), shown(o.Value), shown(l.Value)), ""})
		}
	}
	for _, l := range old {
		name, kind := cutLabel(l.Label)
		if seen[l.Label] {
			continue
		}
		switch kind {
		case labelParam:
			params = append(params, Reason{CauseParam, fmt.Sprintf("%s %s is no longer set", name, shown(l.Value)), l.Origin})
		case labelSource:
			rest = append(rest, Reason{CauseSource, name + " is no longer read", ""})
		case labelInput:
			gone = append(gone, l.Origin)
		}
	}
	if len(added) > 0 {
		rest = append(rest, Reason{CauseInput, "reads " + several(added) + " as well", ""})
	}
	if len(gone) > 0 {
		rest = append(rest, Reason{CauseInput, "no longer reads " + several(gone), ""})
	}
	return append(params, rest...)
}

// several names the first of a list and counts the others.
func several(list []string) string {
	slices.Sort(list)
	list = slices.Compact(list)
	switch len(list) {
	case 1:
		return list[0]
	case 2:
		return list[0] + " and 1 other"
	}
	return fmt.Sprintf("%s and %d others", list[0], len(list)-1)
}

func cutLabel(label string) (name, kind string) {
	for _, k := range []string{labelParam, labelInput, labelSource} {
		if rest, ok := strings.CutPrefix(label, k); ok {
			return rest, k
		}
	}
	return label, label
}

func kindOf(ls []cache.Line) string {
	for _, l := range ls {
		if l.Label == labelKind {
			return l.Value
		}
	}
	return "the task"
}

// shown shortens a value for a line of a plan.
func shown(v string) string {
	const most = 40
	if v == "" {
		return `""`
	}
	if r := []rune(v); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return v
}
