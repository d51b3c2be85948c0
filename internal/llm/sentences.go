package llm

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The marks around the thinking part of a response.
const (
	thinkOpen  = "<think>"
	thinkClose = "</think>"
)

// Thinking returns the bytes of a response that hold its thinking: from the
// last <think>, or the start where there is none, to the first </think> after
// it, or the end, without white space around. closed is false where the
// thinking was cut off: no </think> follows.
func Thinking(response string) (start, end int, closed bool) {
	if i := strings.LastIndex(response, thinkOpen); i >= 0 {
		start = i + len(thinkOpen)
	}
	end = len(response)
	if i := strings.Index(response[start:], thinkClose); i >= 0 {
		end, closed = start+i, true
	}
	start, end = strip(response, start, end)
	return start, end, closed
}

// Sentences returns the sentences of response[start:end] as spans of the
// response, in order and without overlap, each without white space around it
// and of at least minWords words.
//
// A sentence ends after a run of the same mark out of . ! ? ; and at a
// newline. Not ends: the point between two digits, the point after a single
// letter when white space and a letter follow ("E. coli"; a newline in that
// white space is still an end), and the mark of a single letter and ! ("k!").
// A quotation mark " that would open a sentence closes the one before it
// instead. Letters are ASCII letters, and a letter is single where no letter,
// digit or underscore stands before it.
func Sentences(response string, start, end, minWords int) []Span {
	text := response[start:end]
	var spans []Span
	last := -1 // index in spans of the piece before, -1 if that was too short or there is none
	for at := 0; at < len(text); {
		next := pieceEnd(text, at)
		a, b := strip(text, at, next)
		if at > 0 && a < b && text[a] == '"' {
			if last >= 0 {
				spans[last].End = start + a + 1
			}
			a, b = strip(text, a+1, b)
		}
		if a < b {
			last = -1
			if wordCount(text[a:b]) >= minWords {
				spans = append(spans, Span{start + a, start + b})
				last = len(spans) - 1
			}
		}
		at = next
	}
	return spans
}

// pieceEnd returns where the piece of text that begins at byte from ends.
func pieceEnd(text string, from int) int {
	for i := from; i < len(text); i++ {
		switch c := text[i]; c {
		case '\n':
			return i + 1
		case '.', '!', '?', ';':
			j := i + 1
			for j < len(text) && text[j] == c {
				j++
			}
			if j > i+1 || !insideWord(text, i) {
				return j
			}
		}
	}
	return len(text)
}

// insideWord reports whether the mark at byte i, which stands alone, belongs
// to a number, an abbreviation or a factorial and so ends no sentence.
func insideWord(text string, i int) bool {
	switch text[i] {
	case '.':
		before, _ := utf8.DecodeLastRuneInString(text[:i])
		after, _ := utf8.DecodeRuneInString(text[i+1:])
		if unicode.IsDigit(before) && unicode.IsDigit(after) {
			return true
		}
		if !isSpace(after) || !singleLetter(text[:i]) {
			return false
		}
		rest := strings.TrimLeftFunc(text[i+1:], isSpace)
		return rest != "" && asciiLetter(rest[0])
	case '!':
		return singleLetter(text[:i])
	}
	return false
}

// singleLetter reports whether text ends in a letter that begins a word.
func singleLetter(text string) bool {
	if text == "" || !asciiLetter(text[len(text)-1]) {
		return false
	}
	r, _ := utf8.DecodeLastRuneInString(text[:len(text)-1])
	return !(r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r))
}

func asciiLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// strip narrows text[a:b] to leave out the white space at both its ends.
func strip(text string, a, b int) (int, int) {
	trimmed := strings.TrimLeftFunc(text[a:b], isSpace)
	a = b - len(trimmed)
	return a, a + len(strings.TrimRightFunc(trimmed, isSpace))
}

func wordCount(text string) int { return len(strings.FieldsFunc(text, isSpace)) }

// isSpace is Unicode's white space with the four ASCII separators 0x1c to
// 0x1f, as Python's str.strip and str.split take it.
func isSpace(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }
