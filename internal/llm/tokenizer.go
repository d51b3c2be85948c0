package llm

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sort"
	"sync"
	"unicode/utf8"
)

// Tokenizer is a byte-level BPE tokenizer as Hugging Face's tokenizer.json
// describes it: added tokens are cut out of the text, the rest is brought to
// NFC where the file says so, split into words by the file's pattern, and each
// word is merged from bytes to tokens. The ids are those of Hugging Face's
// tokenizers library. It is safe for concurrent use.
type Tokenizer struct {
	tokens []string // bytes of each id; "" where no token has that id
	bpe    bpe
	split  splitter
	nfc    bool

	raw        *matcher // added tokens looked for in the text as it is
	normalized *matcher // added tokens looked for in the normalised text

	before, after []int32 // special tokens that the files put around a text
	bos           int32   // -1 where the files name none

	scratch sync.Pool // of *bpeScratch
}

// Encoding is a tokenized text.
type Encoding struct {
	IDs []int32
	// Offsets holds, for each id, the bytes of the original text that it
	// stands for, widened to whole characters: tokens that share a character
	// all hold it, and where normalisation composed characters, a token holds
	// all that were composed. Starts never decrease. A special token that the
	// text does not contain is empty, {0, 0} before the text and
	// {len, len} after it.
	Offsets  []Span
	AddedBOS bool // a BOS was put before the text
	HadBOS   bool // the text itself begins with the BOS token
}

// OpenTokenizer reads tokenizer.json, and tokenizer_config.json where there is
// one, from the root of fsys. A normalizer, pre-tokenizer, post-processor or
// model that is not known is an error that names it.
func OpenTokenizer(fsys fs.FS) (*Tokenizer, error) {
	file, err := readTokenizerFile(fsys)
	if err != nil {
		return nil, fmt.Errorf("reading the tokenizer: %w", err)
	}
	t, err := newTokenizer(file)
	if err != nil {
		return nil, fmt.Errorf("reading the tokenizer: %w", err)
	}
	return t, nil
}

// TokenizerOf reads the tokenizer of a source as [Open] takes it, of which the
// weights need not be there.
func TokenizerOf(source string) (*Tokenizer, error) {
	if source == BuiltinTiny {
		return OpenTokenizer(tinyFiles())
	}
	dir, err := findSource(source)
	if err != nil {
		return nil, err
	}
	t, err := OpenTokenizer(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return t, nil
}

// Encode returns the tokens of text. bos says whether a BOS token goes before
// them: "auto" (or "") as the tokenizer's files say, "true", or "false". A
// text that already begins with the BOS token never gets a second one.
func (t *Tokenizer) Encode(text, bos string) (Encoding, error) {
	var addBOS bool
	switch bos {
	case "", "auto":
		addBOS = t.bos >= 0 && slices.Contains(t.before, t.bos)
	case "true":
		if t.bos < 0 {
			return Encoding{}, fmt.Errorf("tokenizing with add_bos = true: the tokenizer's files name no BOS token (bos_token in tokenizer_config.json)")
		}
		addBOS = true
	case "false":
	default:
		return Encoding{}, fmt.Errorf("tokenizing: add_bos is %q; it can be auto, true or false", bos)
	}
	e := encoder{t: t, s: t.scratch.Get().(*bpeScratch)}
	defer t.scratch.Put(e.s)
	e.out.IDs = make([]int32, 0, len(text)/3+8)
	e.out.Offsets = make([]Span, 0, len(text)/3+8)

	before := t.before
	if addBOS && !slices.Contains(before, t.bos) {
		before = append([]int32{t.bos}, before...)
	}
	for _, id := range before {
		if id != t.bos || addBOS {
			e.add(id, Span{})
		}
	}
	first := len(e.out.IDs)
	e.text(text)
	if e.err != nil {
		return Encoding{}, fmt.Errorf("tokenizing: %w", e.err)
	}
	e.out.HadBOS = t.bos >= 0 && len(e.out.IDs) > first && e.out.IDs[first] == t.bos
	e.out.AddedBOS = addBOS && !e.out.HadBOS
	if addBOS && e.out.HadBOS {
		i := slices.Index(e.out.IDs, t.bos)
		e.out.IDs = slices.Delete(e.out.IDs, i, i+1)
		e.out.Offsets = slices.Delete(e.out.Offsets, i, i+1)
	}
	for _, id := range t.after {
		e.add(id, Span{len(text), len(text)})
	}
	return e.out, nil
}

// TokenSpan returns the tokens [start, end) that cover the bytes [a, b) of the
// text: start is the token that holds the character at a, end the one that
// holds the character at b, in both cases the last one where several share the
// character; past the text, or past where the encoding was cut, it is the
// number of tokens. start ≥ end means that one token holds both.
func (e Encoding) TokenSpan(a, b int) (start, end int) {
	return e.holding(a), e.holding(b)
}

// holding returns the last token that holds the character at byte at.
func (e Encoding) holding(at int) int {
	i := sort.Search(len(e.Offsets), func(i int) bool { return e.Offsets[i].Start > at }) - 1
	if i >= 0 && at < e.Offsets[i].End {
		return i
	}
	return i + 1
}

// Cut returns the encoding's first n tokens, and whether any were left out.
func (e Encoding) Cut(n int) (Encoding, bool) {
	if len(e.IDs) <= n {
		return e, false
	}
	e.IDs, e.Offsets = e.IDs[:n:n], e.Offsets[:n:n]
	return e, true
}

// Decode returns the text of the tokens, special ones included. A sequence cut
// within a character gives the bytes that are there, not U+FFFD.
func (t *Tokenizer) Decode(ids []int32) (string, error) {
	var out []byte
	for i, id := range ids {
		if id < 0 || int(id) >= len(t.tokens) || t.tokens[id] == "" {
			return "", fmt.Errorf("decoding token %d of %d: the tokenizer has no id %d", i, len(ids), id)
		}
		out = append(out, t.tokens[id]...)
	}
	return string(out), nil
}

// Size returns one more than the highest id.
func (t *Tokenizer) Size() int { return len(t.tokens) }

// BOS returns the id of the tokenizer's BOS token, and whether it has one.
func (t *Tokenizer) BOS() (int32, bool) { return t.bos, t.bos >= 0 }

// encoder is one call of Encode.
type encoder struct {
	t   *Tokenizer
	s   *bpeScratch
	out Encoding
	err error
}

func (e *encoder) add(id int32, at Span) {
	e.out.IDs = append(e.out.IDs, id)
	e.out.Offsets = append(e.out.Offsets, at)
}

// text tokenizes a whole text.
func (e *encoder) text(text string) {
	e.t.raw.cut(text, func(a, b int, id int32) {
		if id >= 0 {
			e.add(id, Span{a, b})
			return
		}
		part := aligned{text: text[a:b], base: a}
		if e.t.nfc {
			part = normalizeNFC(text[a:b], a)
		}
		e.part(part)
	})
}

// part tokenizes what lies between two added tokens, normalised.
func (e *encoder) part(p aligned) {
	e.t.normalized.cut(p.text, func(a, b int, id int32) {
		if id >= 0 {
			e.add(id, p.span(a, b))
			return
		}
		for a < b {
			end := a + e.t.split.next(p.text[a:b])
			e.word(&p, a, end)
			a = end
		}
	})
}

// word tokenizes bytes [a, b) of a part.
func (e *encoder) word(p *aligned, a, b int) {
	ids, err := e.t.bpe.encode(e.s, p.text[a:b])
	if err != nil && e.err == nil {
		e.err = err
	}
	for _, id := range ids {
		end := a + len(e.t.tokens[id])
		e.add(id, p.span(a, end))
		a = end
	}
}

// aligned is a piece of the original text after normalisation, with where its
// bytes came from.
type aligned struct {
	text string
	base int // where the piece begins in the original text
	// changed lists what normalisation changed, in order. Between two of them
	// bytes are copies.
	changed []change
}

// change says that bytes [from, to) of the normalised piece stand for the
// bytes origin of the original text.
type change struct {
	from, to int
	origin   Span
}

// span returns the original bytes of the whole characters that bytes [a, b) of
// the piece touch.
func (p *aligned) span(a, b int) Span {
	a, b = charStart(p.text, a), charEnd(p.text, b)
	if len(p.changed) == 0 {
		return Span{p.base + a, p.base + b}
	}
	s := Span{p.base + a, p.base + b}
	if i := sort.Search(len(p.changed), func(i int) bool { return p.changed[i].from > a }) - 1; i >= 0 {
		if c := p.changed[i]; a < c.to {
			s.Start = c.origin.Start
		} else {
			s.Start = c.origin.End + a - c.to
		}
	}
	if i := sort.Search(len(p.changed), func(i int) bool { return p.changed[i].from >= b }) - 1; i >= 0 {
		s.End = p.changed[i].origin.End + max(0, b-p.changed[i].to)
	}
	return s
}

// charStart returns the start of the character that byte i of text lies in.
func charStart(text string, i int) int {
	for j := i; j >= 0 && j > i-utf8.UTFMax && j < len(text); j-- {
		if utf8.RuneStart(text[j]) {
			if _, n := utf8.DecodeRuneInString(text[j:]); j+n > i {
				return j
			}
			break
		}
	}
	return i
}

// charEnd returns the end of the character that byte i-1 of text lies in.
func charEnd(text string, i int) int {
	if i <= 0 || i >= len(text) || utf8.RuneStart(text[i]) {
		return i
	}
	j := charStart(text, i-1)
	_, n := utf8.DecodeRuneInString(text[j:])
	return max(i, j+n)
}
