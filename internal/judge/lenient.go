package judge

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// values returns the JSON objects and arrays found at the outermost level of a
// text, as map[string]any and []any, in order, with whatever prose and fences
// stand around them. It forgives what models write: trailing commas, smart or
// single quotes around strings, raw line breaks and unknown escapes inside
// them, unescaped quotes in the middle of them, True, False and None.
//
// A value that cannot be read to its end is skipped up to its first bracket
// within, so that prose in brackets hides nothing; skipped tells what kind of
// value was skipped, because then the values found may be parts of it. The work
// is linear in the length of the text.
func values(text string) (found []any, skipped flaw) {
	p := &lenient{s: text, budget: 16*len(text) + 1<<16}
	for i := 0; i < len(text) && p.budget > 0; {
		if text[i] != '{' && text[i] != '[' {
			i++
			continue
		}
		v, end, err := p.parse(i)
		switch {
		case err == nil:
			found = append(found, v)
			i = end
			continue
		case errors.Is(err, errEnd) && p.keyed:
			skipped = flawTorn
		case errors.Is(err, errEnd):
			skipped = max(skipped, flawCut)
		case p.keyed:
			skipped = max(skipped, flawBroken)
		}
		i++
	}
	if p.budget <= 0 {
		skipped = max(skipped, flawBroken)
	}
	return found, skipped
}

// flaw is the worst thing that values had to skip.
type flaw int

const (
	flawNone   flaw = iota // nothing, or brackets of prose
	flawBroken             // an object with at least one key that breaks off in disorder
	flawCut                // brackets in which the text ends
	flawTorn               // an object with at least one key in which the text ends
)

var (
	errEnd    = errors.New("the text ends inside a value")
	errSyntax = errors.New("not JSON")
)

// maxDepth bounds the nesting that is followed; answers need three levels.
const maxDepth = 32

// lenient is a recursive-descent reader over s with a bound on its work.
type lenient struct {
	s      string
	i      int
	strict bool // a quote always ends a string
	keyed  bool // a key and its colon were read
	budget int
}

// parse reads the value that starts at from: first with the usual meaning of
// quotes, then taking a quote that nothing of JSON follows as part of its
// string.
func (p *lenient) parse(from int) (v any, end int, err error) {
	p.keyed = false
	for _, strict := range []bool{true, false} {
		p.i, p.strict = from, strict
		v, e := p.value(0)
		if e == nil {
			return v, p.i, nil
		}
		if err == nil {
			err = e
		}
	}
	return nil, from, err
}

// spend pays for n bytes of work.
func (p *lenient) spend(n int) error {
	if p.budget -= n; p.budget < 0 {
		return errSyntax
	}
	return nil
}

// space skips white space; false at the end of the text.
func (p *lenient) space() bool {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
			p.budget--
		default:
			if strings.HasPrefix(p.s[p.i:], "\u00a0") || strings.HasPrefix(p.s[p.i:], "\ufeff") {
				_, n := utf8.DecodeRuneInString(p.s[p.i:])
				p.i += n
				p.budget--
				continue
			}
			return true
		}
	}
	return false
}

func (p *lenient) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errSyntax
	}
	if err := p.spend(1); err != nil {
		return nil, err
	}
	if !p.space() {
		return nil, errEnd
	}
	switch c := p.s[p.i]; {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	}
	if _, n := opening(p.s[p.i:]); n > 0 {
		return p.text()
	}
	return p.word()
}

func (p *lenient) object(depth int) (any, error) {
	p.i++ // {
	m := map[string]any{}
	for {
		if err := p.spend(1); err != nil {
			return nil, err
		}
		if !p.space() {
			return nil, errEnd
		}
		if p.s[p.i] == '}' {
			p.i++
			return m, nil
		}
		if _, n := opening(p.s[p.i:]); n == 0 {
			return nil, errSyntax
		}
		key, err := p.text()
		if err != nil {
			return nil, err
		}
		if !p.space() {
			return nil, errEnd
		}
		if p.s[p.i] != ':' {
			return nil, errSyntax
		}
		p.i++
		p.keyed = true
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		m[key] = v
		if err := p.comma('}'); err != nil {
			return nil, err
		}
	}
}

func (p *lenient) array(depth int) (any, error) {
	p.i++ // [
	list := []any{}
	for {
		if !p.space() {
			return nil, errEnd
		}
		if p.s[p.i] == ']' {
			p.i++
			return list, nil
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if err := p.comma(']'); err != nil {
			return nil, err
		}
	}
}

// comma takes the comma after an element; the closing bracket is left to the
// caller, which so accepts a trailing comma.
func (p *lenient) comma(closing byte) error {
	if !p.space() {
		return errEnd
	}
	switch p.s[p.i] {
	case ',':
		p.i++
		return nil
	case closing:
		return nil
	}
	return errSyntax
}

// opening returns the rune that opens a string at the start of s and its
// length; 0 if none does.
func opening(s string) (rune, int) {
	r, n := utf8.DecodeRuneInString(s)
	if r == '"' || r == '\'' || doubleQuote(r) || singleQuote(r) {
		return r, n
	}
	return 0, 0
}

func doubleQuote(r rune) bool {
	return r == '“' || r == '”' || r == '„' || r == '‟' || r == '＂'
}
func singleQuote(r rune) bool { return r == '‘' || r == '’' || r == '‚' || r == '‛' }

// closes reports whether r can end a string that open began. Only a straight
// double quote ends a straight double quoted string, so that smart quotes may
// stand inside it.
func closes(open, r rune) bool {
	switch {
	case open == '"' || open == '\'':
		return r == open
	case doubleQuote(open):
		return doubleQuote(r) || r == '"'
	default:
		return singleQuote(r) || r == '\''
	}
}

// text reads a string in any of the quotes.
func (p *lenient) text() (string, error) {
	open, n := opening(p.s[p.i:])
	p.i += n
	var b strings.Builder
	for p.i < len(p.s) {
		r, n := utf8.DecodeRuneInString(p.s[p.i:])
		if err := p.spend(n); err != nil {
			return "", err
		}
		switch {
		case r == '\\':
			p.escape(&b)
		case closes(open, r):
			p.i += n
			if (p.strict && open == '"') || p.ends() {
				return b.String(), nil
			}
			b.WriteRune(r)
		default:
			b.WriteRune(r) // invalid UTF-8 becomes U+FFFD
			p.i += n
		}
	}
	return "", errEnd
}

// ends reports whether what follows a quote is what follows a string in JSON.
func (p *lenient) ends() bool {
	for j := p.i; j < len(p.s); j++ {
		switch p.s[j] {
		case ' ', '\t', '\n', '\r':
			p.budget--
		case ',', ':', '}', ']':
			return true
		default:
			return false
		}
	}
	return true
}

// escape reads a backslash and what it escapes. An unknown escape, such as the
// \( of a formula, is kept as it stands.
func (p *lenient) escape(b *strings.Builder) {
	p.i++ // backslash
	if p.i == len(p.s) {
		return
	}
	c := p.s[p.i]
	if k := strings.IndexByte(`"\/bfnrt'`, c); k >= 0 {
		b.WriteByte("\"\\/\b\f\n\r\t'"[k])
		p.i++
		return
	}
	if c == 'u' {
		if r, ok := p.hex(p.i + 1); ok {
			p.i += 5
			if r >= 0xD800 && r < 0xDC00 && strings.HasPrefix(p.s[p.i:], `\u`) {
				if low, ok := p.hex(p.i + 2); ok && low >= 0xDC00 && low < 0xE000 {
					r = (r-0xD800)<<10 + (low - 0xDC00) + 0x10000
					p.i += 6
				}
			}
			b.WriteRune(r) // a lone surrogate becomes U+FFFD
			return
		}
	}
	b.WriteByte('\\')
}

// hex reads four hexadecimal digits at i.
func (p *lenient) hex(i int) (rune, bool) {
	if i+4 > len(p.s) {
		return 0, false
	}
	v, err := strconv.ParseUint(p.s[i:i+4], 16, 32)
	return rune(v), err == nil
}

// word reads a number or one of the bare constants.
func (p *lenient) word() (any, error) {
	j := p.i
	for j < len(p.s) && strings.IndexByte(" \t\r\n,:{}[]\"", p.s[j]) < 0 && j-p.i < 64 {
		j++
	}
	w := p.s[p.i:j]
	if err := p.spend(len(w)); err != nil {
		return nil, err
	}
	if j == len(p.s) {
		return nil, errEnd // inside an object or array there is always more
	}
	p.i = j
	switch w {
	case "true", "True":
		return true, nil
	case "false", "False":
		return false, nil
	case "null", "None":
		return nil, nil
	}
	f, ok := decimal(w)
	if !ok {
		return nil, errSyntax
	}
	return f, nil
}
