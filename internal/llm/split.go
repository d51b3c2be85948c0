package llm

import (
	"sort"
	"strings"
)

// splitter cuts text into words as Oniguruma does with one of the patterns
// below: first alternative that matches, Unicode classes, and a
// case-insensitive s that the long ſ matches.
type splitter struct {
	numerals int // how many numerals go together at most, the patterns' only difference
	classes  classes
}

// splitPatterns holds the Split patterns that are known and their numerals.
var splitPatterns = map[string]int{
	// Qwen2, Qwen2.5, Qwen3 and the DeepSeek distills of Qwen2.5.
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`: 1,
	// Llama 3 and its DeepSeek distills.
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`: 3,
}

// knownPatterns lists the patterns, sorted.
func knownPatterns() string {
	list := make([]string, 0, len(splitPatterns))
	for p := range splitPatterns {
		list = append(list, p)
	}
	sort.Strings(list)
	return strings.Join(list, "\n  ")
}

// next returns the length of the first word of text, which is not empty.
func (s splitter) next(text string) int {
	t := s.classes
	c, n := t.at(text, 0)
	// (?i:'s|'t|'re|'ve|'m|'ll|'d)
	if text[0] == '\'' {
		if m := contraction(text[1:]); m > 0 {
			return 1 + m
		}
	}
	// [^\r\n\p{L}\p{N}]?\p{L}+
	if c == letter {
		return t.run(letter, text, n)
	}
	next, m := t.at(text, n)
	if next == letter && m > 0 && (c == space || c == other) {
		return t.run(letter, text, n+m)
	}
	// \p{N} or \p{N}{1,3}
	if c == number {
		end := n
		for k := 1; k < s.numerals; k++ {
			d, m := t.at(text, end)
			if d != number {
				break
			}
			end += m
		}
		return end
	}
	//  ?[^\s\p{L}\p{N}]+[\r\n]*
	if c == other || text[0] == ' ' && next == other && m > 0 {
		return t.run(newline, text, t.run(other, text, n))
	}
	// \s*[\r\n]+ | \s+(?!\S) | \s+
	end, before, lineEnd := 0, 0, 0
	for {
		d, m := t.at(text, end)
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
