package cache

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"
)

// A run file is JSON of which the nodes are nearly everything, so they are
// written and read by hand; what encodeRun did not write is left to
// encoding/json. The nodes come last.
const nodesOpen = `,"nodes":{`

// encodeRun writes a run with its nodes.
func encodeRun(r *Run) ([]byte, error) {
	head, err := encodeHead(r, "")
	if err != nil || r.later.none() && len(r.Nodes) == 0 {
		return head, err
	}
	nodes, err := encodeNodes(r)
	if err != nil {
		return nil, err
	}
	return joinRun(head, nodes), nil
}

// joinRun puts nodes, as encodeNodes wrote them, into a run without nodes.
func joinRun(head, nodes []byte) []byte {
	b := make([]byte, 0, len(head)+len(nodesOpen)+len(nodes))
	b = append(append(b, head[:len(head)-1]...), nodesOpen...)
	return append(b, nodes...)
}

// encodeHead writes a run without its nodes.
func encodeHead(r *Run, nodesFile string) ([]byte, error) {
	head := *r
	head.Nodes, head.NodesFile = nil, nodesFile
	return json.Marshal(&head)
}

// encodeNodes writes what follows nodesOpen.
func encodeNodes(r *Run) ([]byte, error) {
	if !r.later.none() { // kept as they were
		text, err := r.later.read(r.NodesFile)
		return bytes.TrimRight(text, "\n"), err
	}
	b := make([]byte, 0, 300*len(r.Nodes))
	var err error
	for i, addr := range slices.Sorted(maps.Keys(r.Nodes)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, addr), ':')
		if b, err = appendNode(b, r.Nodes[addr]); err != nil {
			return nil, err
		}
	}
	return append(b, "}}"...), nil
}

func appendNode(b []byte, st *NodeState) ([]byte, error) {
	begin := len(b)
	label := func(name string) {
		c := byte(',')
		if len(b) == begin {
			c = '{'
		}
		b = append(append(append(b, c, '"'), name...), '"', ':')
	}
	digest := func(name string, d Digest) {
		if !d.IsZero() {
			label(name)
			b = append(hex.AppendEncode(append(b, '"'), d[:]), '"')
		}
	}
	text := func(name, s string) {
		if s != "" {
			label(name)
			b = appendText(b, s)
		}
	}
	number := func(name string, n int64) {
		if n != 0 {
			label(name)
			b = strconv.AppendInt(b, n, 10)
		}
	}
	var err error
	clock := func(name string, t time.Time) {
		if !t.IsZero() {
			label(name)
			var terr error
			if b, terr = t.AppendText(append(b, '"')); terr != nil {
				err = terr
			}
			b = append(b, '"')
		}
	}
	digest("key", st.Key)
	text("kind", st.Kind)
	text("state", st.State)
	text("error", st.Error)
	digest("failed_key", st.FailedKey)
	digest("wait_key", st.WaitKey)
	clock("started", st.Started)
	clock("finished", st.Finished)
	number("done", st.Done)
	number("total", st.Total)
	text("note", st.Note)
	clock("until", st.Until)
	if len(b) == begin {
		b = append(b, '{')
	}
	return append(b, '}'), err
}

func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			text, _ := json.Marshal(s) // of a string, which cannot fail
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func decodeRun(text []byte, r *Run) error {
	if i := bytes.Index(text, []byte(nodesOpen)); i > 0 {
		nodes, err := decodeNodes(text[i+len(nodesOpen):])
		if err == nil {
			err = json.Unmarshal(append(bytes.Clone(text[:i]), '}'), r)
		}
		if err == nil {
			r.Nodes = nodes
			return nil
		}
		*r = Run{}
	}
	return json.Unmarshal(text, r)
}

// decodeRunHead reads all but the nodes, which LoadNodes reads.
func decodeRunHead(text []byte, r *Run) error {
	i := bytes.Index(text, []byte(nodesOpen))
	if i > 0 && bytes.HasSuffix(text, []byte("}}\n")) && json.Unmarshal(append(bytes.Clone(text[:i]), '}'), r) == nil {
		r.later.text = text[i+len(nodesOpen):]
		return nil
	}
	*r = Run{}
	return decodeRun(text, r)
}

var errOtherJSON = errors.New("not as encodeRun writes it")

// nodeReader takes the text of nodes apart.
type nodeReader struct {
	text  []byte
	words map[string]string // kinds and states, of which there are few
	err   error
}

// decodeNodes reads what follows nodesOpen.
func decodeNodes(text []byte) (map[string]*NodeState, error) {
	p := &nodeReader{text: text, words: map[string]string{}}
	nodes := make(map[string]*NodeState, len(text)/250)
	var slab []NodeState
	for {
		if len(slab) == 0 {
			slab = make([]NodeState, 256)
		}
		st := &slab[0]
		slab = slab[1:]
		addr := string(p.quoted())
		p.expect(':')
		p.node(st)
		nodes[addr] = st
		switch {
		case p.err != nil:
			return nil, p.err
		case p.next() == ',':
		default: // the end, if all is well
			rest := bytes.TrimSpace(p.text)
			if len(rest) != 1 || rest[0] != '}' {
				return nil, errOtherJSON
			}
			return nodes, nil
		}
	}
}

func (p *nodeReader) next() byte {
	if len(p.text) == 0 {
		p.err = errOtherJSON
		return 0
	}
	c := p.text[0]
	p.text = p.text[1:]
	return c
}

func (p *nodeReader) expect(c byte) {
	if p.next() != c {
		p.err = errOtherJSON
	}
}

// quoted reads a string.
func (p *nodeReader) quoted() []byte {
	p.expect('"')
	if p.err != nil {
		return nil
	}
	end := bytes.IndexByte(p.text, '"')
	if end < 0 {
		p.err = errOtherJSON
		return nil
	}
	s := p.text[:end]
	if !slices.ContainsFunc(s, func(c byte) bool { return c < 0x20 || c > 0x7e || c == '\\' }) {
		p.text = p.text[end+1:]
		return s
	}
	for escaped(p.text[:end]) {
		next := bytes.IndexByte(p.text[end+1:], '"')
		if next < 0 {
			p.err = errOtherJSON
			return nil
		}
		end += 1 + next
	}
	var out string
	if err := json.Unmarshal(append(append([]byte{'"'}, p.text[:end]...), '"'), &out); err != nil {
		p.err = errOtherJSON
	}
	p.text = p.text[end+1:]
	return []byte(out)
}

// escaped reports whether the byte behind s is.
func escaped(s []byte) bool {
	n := 0
	for n < len(s) && s[len(s)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

func (p *nodeReader) word() string {
	raw := p.quoted()
	w, ok := p.words[string(raw)]
	if !ok {
		w = string(raw)
		p.words[w] = w
	}
	return w
}

func (p *nodeReader) digest() (d Digest) {
	if err := d.UnmarshalText(p.quoted()); err != nil {
		p.err = errOtherJSON
	}
	return d
}

func (p *nodeReader) clock() (t time.Time) {
	if err := t.UnmarshalText(p.quoted()); err != nil {
		p.err = errOtherJSON
	}
	return t
}

func (p *nodeReader) number() int64 {
	n := 0
	for n < len(p.text) && (p.text[n] >= '0' && p.text[n] <= '9' || p.text[n] == '-') {
		n++
	}
	v, err := strconv.ParseInt(string(p.text[:n]), 10, 64)
	if err != nil {
		p.err = errOtherJSON
	}
	p.text = p.text[n:]
	return v
}

func (p *nodeReader) node(st *NodeState) {
	p.expect('{')
	if len(p.text) > 0 && p.text[0] == '}' {
		p.next()
		return
	}
	for p.err == nil {
		name := p.quoted()
		p.expect(':')
		switch string(name) {
		case "key":
			st.Key = p.digest()
		case "kind":
			st.Kind = p.word()
		case "state":
			st.State = p.word()
		case "error":
			st.Error = string(p.quoted())
		case "failed_key":
			st.FailedKey = p.digest()
		case "wait_key":
			st.WaitKey = p.digest()
		case "started":
			st.Started = p.clock()
		case "finished":
			st.Finished = p.clock()
		case "done":
			st.Done = p.number()
		case "total":
			st.Total = p.number()
		case "note":
			st.Note = string(p.quoted())
		case "until":
			st.Until = p.clock()
		default:
			p.err = errOtherJSON
		}
		switch p.next() {
		case ',':
		case '}':
			return
		default:
			p.err = errOtherJSON
		}
	}
}
