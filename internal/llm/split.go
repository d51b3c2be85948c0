package llm

import (
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// splitter returns the length of the first word of a text that is not empty.
type splitter func(text string) int

// splitters holds the Split patterns that are known, each with the code that
// cuts text as Oniguruma does with that pattern: first alternative that
// matches, Unicode classes, and a case-insensitive s that the long ſ matches.
var splitters = map[string]splitter{
	// Qwen2, Qwen2.5, Qwen3 and the DeepSeek distills of Qwen2.5.
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`: func(text string) int { return splitWord(text, 1) },
	// Llama 3 and its DeepSeek distills.
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`: func(text string) int { return splitWord(text, 3) },
}

// knownPatterns lists the patterns of splitters, sorted.
func knownPatterns() string {
	list := make([]string, 0, len(splitters))
	for p := range splitters {
		list = append(list, p)
	}
	sort.Strings(list)
	return strings.Join(list, "\n  ")
}

// class is what the patterns tell apart.
type class uint8

const (
	other class = iota
	letter
	number
	space   // white space but newlines
	newline // \r, \n
)

var asciiClass = func() (table [utf8.RuneSelf]class) {
	for r := range rune(utf8.RuneSelf) {
		table[r] = classOf(r)
	}
	return table
}()

func classOf(r rune) class {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case r == '\r' || r == '\n':
		return newline
	case unicode.IsSpace(r):
		return space
	}
	return other
}

// classAt returns the class and length of the character at byte i, and length
// 0 at the end. A byte that is not UTF-8 is a character of class other.
func classAt(text string, i int) (class, int) {
	if i >= len(text) {
		return other, 0
	}
	if c := text[i]; c < utf8.RuneSelf {
		return asciiClass[c], 1
	}
	r, n := utf8.DecodeRuneInString(text[i:])
	return classOf(r), n
}

// runOf returns the end of the run of characters of a class that begins at i.
func runOf(k class, text string, i int) int {
	for {
		c, n := classAt(text, i)
		if c != k || n == 0 {
			return i
		}
		i += n
	}
}

// splitWord returns the length of the first word of text under the patterns
// above, whose only difference is how many numerals go together.
func splitWord(text string, numerals int) int {
	c, n := classAt(text, 0)
	// (?i:'s|'t|'re|'ve|'m|'ll|'d)
	if text[0] == '\'' {
		if m := contraction(text[1:]); m > 0 {
			return 1 + m
		}
	}
	// [^\r\n\p{L}\p{N}]?\p{L}+
	if c == letter {
		return runOf(letter, text, n)
	}
	next, m := classAt(text, n)
	if next == letter && m > 0 && (c == space || c == other) {
		return runOf(letter, text, n+m)
	}
	// \p{N} or \p{N}{1,3}
	if c == number {
		end := n
		for k := 1; k < numerals; k++ {
			d, m := classAt(text, end)
			if d != number {
				break
			}
			end += m
		}
		return end
	}
	//  ?[^\s\p{L}\p{N}]+[\r\n]*
	if c == other || text[0] == ' ' && next == other && m > 0 {
		return runOf(newline, text, runOf(other, text, n))
	}
	// \s*[\r\n]+ | \s+(?!\S) | \s+
	end, before, lineEnd := 0, 0, 0
	for {
		d, m := classAt(text, end)
		if m == 0 || d != space && d != newline {
			break
		}
		before, end = end, end+m
		if d == newline {
			lineEnd = end
		}
	}
	switch {
	case lineEnd > 0:
		return lineEnd
	case end < len(text) && before > 0:
		return before // the last one goes with the next word
	}
	return end
}

// contraction returns the length of what may follow an apostrophe at the
// start of text: s, t, re, ve, m, ll or d in either case; 0 for nothing.
func contraction(text string) int {
	if strings.HasPrefix(text, "ſ") { // U+017F folds to s
		return len("ſ")
	}
	if text == "" {
		return 0
	}
	switch text[0] | 0x20 {
	case 's', 't', 'm', 'd':
		return 1
	case 'r', 'v':
		if len(text) > 1 && text[1]|0x20 == 'e' {
			return 2
		}
	case 'l':
		if len(text) > 1 && text[1]|0x20 == 'l' {
			return 2
		}
	}
	return 0
}
