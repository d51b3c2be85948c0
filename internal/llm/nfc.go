package llm

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalizeNFC brings a piece of text that begins at byte base of the original
// to Unicode normalization form C (UAX #15) in the version of [normalizable],
// and remembers what it changed.
//
// x/text's own conversion knows later characters and puts a U+034F into runs of
// more than 30 combining marks (the Stream-Safe Text Format), which tokenizers
// do not; so x/text only says where nothing changes, and composes pairs. (What
// is composed by the newer version is composed by the older one too.)
func normalizeNFC(text string, base int) aligned {
	p := aligned{text: text, base: base}
	same := norm.NFC.QuickSpanString(text)
	if same == len(text) {
		return p
	}
	var out strings.Builder
	for i := 0; i < len(text); {
		if same > 0 {
			out.WriteString(text[i : i+same])
			i += same
		}
		end := segmentEnd(text, i)
		if composed := composeNFC(text[i:end]); composed == text[i:end] {
			out.WriteString(composed)
		} else {
			from := out.Len()
			out.WriteString(composed)
			p.changed = append(p.changed, change{from, out.Len(), Span{base + i, base + end}})
		}
		i = end
		same = norm.NFC.QuickSpanString(text[i:])
	}
	p.text = out.String()
	return p
}

// segmentEnd returns the end of the shortest piece of text that begins at from
// and composes with nothing after it.
func segmentEnd(text string, from int) int {
	for i := from; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		if i > from && (r == utf8.RuneError && n == 1 || !normalizes(r) || norm.NFC.PropertiesString(text[i:]).BoundaryBefore()) {
			return i
		}
		i += n
		if r == utf8.RuneError && n == 1 || !normalizes(r) {
			return i
		}
	}
	return len(text)
}

// normalizes reports whether normalisation knows the character, which else
// stands for itself and keeps what is before it from what is after it.
func normalizes(r rune) bool { return r < 0x300 || unicode.Is(normalizable(), r) }

// composeNFC returns the composed form of one segment: full canonical
// decomposition, marks in the order of their combining classes, then pairs
// composed from the left (UAX #15, definitions D105 to D117).
func composeNFC(segment string) string {
	if r, _ := utf8.DecodeRuneInString(segment); !normalizes(r) || !utf8.ValidString(segment) {
		return segment
	}
	type char struct {
		r     rune
		class uint8
	}
	var chars []char
	for _, r := range segment {
		for _, d := range norm.NFD.String(string(r)) {
			chars = append(chars, char{d, norm.NFC.PropertiesString(string(d)).CCC()})
		}
	}
	for i := 0; i < len(chars); i++ {
		j := i
		for j < len(chars) && chars[j].class > 0 {
			j++
		}
		slices.SortStableFunc(chars[i:j], func(a, b char) int { return int(a.class) - int(b.class) })
		i = j
	}
	out := chars[:0]
	starter := -1
	for _, c := range chars {
		if starter >= 0 && (starter == len(out)-1 || out[len(out)-1].class < c.class) {
			if r, ok := composePair(out[starter].r, c.r); ok {
				out[starter].r = r
				continue
			}
		}
		if c.class == 0 {
			starter = len(out)
		}
		out = append(out, c)
	}
	var s strings.Builder
	for _, c := range out {
		s.WriteRune(c.r)
	}
	return s.String()
}

// composePair returns the primary composite of a and b, if there is one.
func composePair(a, b rune) (rune, bool) {
	pair := norm.NFC.String(string(a) + string(b))
	r, n := utf8.DecodeRuneInString(pair)
	return r, n == len(pair)
}
