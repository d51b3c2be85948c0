package main

import (
	"math/rand/v2"
	"strings"
	"unicode/utf8"
)

// randomTexts makes n texts, each of up to 40 pieces.
func randomTexts(rng *rand.Rand, n int) []string {
	texts := make([]string, n)
	for i := range texts {
		var b strings.Builder
		for range 1 + rng.IntN(40) {
			b.WriteString(piece(rng))
		}
		texts[i] = b.String()
	}
	return texts
}

// pieces are lists of which each is drawn from equally often.
var pieces = [][]string{
	{" ", "\t", "\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\u0085", "\u00a0", "\u1680", "\u2000", "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff", "\u180e"},
	{"\r\n", "\n\r", "\r\r\n", "\n\n", "  ", "   ", "\t\t", " \n ", " \r\n"},
	{"👨‍👩‍👧‍👦", "👍🏽", "🇩🇪", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "❤️", "1️⃣", "😀", "🤷🏻‍♀️"},
	{"12", "3", "4567890", "00000000000", "٣٤", "௧", "𝟙", "½", "²", "Ⅳ", "①", "3.14", "1,000"},
	{"'s", "'S", "'ſ", "'re", "'RE", "'Ll", "'d", "'m", "'t", "’s", "''s", "'vE", "'K", "'ı"},
	{"<think>", "</think>", "<｜User｜>", "<｜Assistant｜>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "<|begin_of_text|>", "<|eot_id|>", "<|reserved_special_token_1|>", "<|reserved_special_token_10|>", "<|im_", "|>", "<|", "<tool_call"},
	{"\x00", "\x01", "\a", "\b", "\x1b", "\x7f", "\u0080", "\u009f", "\u200d", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\ufff9", "\ufffd", "\ufffe", "\uffff"},
	{"Å", "Ω", "K", "e\u0301", "a\u0323\u0302", "A\u030a", "o\u0308\u0304", "\u1100\u1161\u11a8", "\u1161", "\u11a8", "가", "\u0344", "\u2126", "\u212b", "\u1e9b\u0323", "q\u0307\u0323", "\u0958", "\u0f73", "\u0f71\u0f72", "שׁ", "か\u3099", "ﬁ", "豈", "\U0001d15e"},
	{" the", " and", " Let", " me", " think", "Wait", ",", ". ", "So", " x", " =", "+", "$$", "\\frac", "{", "}", "```", "**", "--", "__", "::", "http://"},
	{"你好", "日本語", "한국어", "العربية", "עברית", "हिन्दी", "ไทย", "Ελλάδα", "Москва", "déjà", "ß"},
}

// piece draws a string from the lists, a run of one character, a combining mark
// or any character at all.
func piece(rng *rand.Rand) string {
	switch k := rng.IntN(len(pieces) + 5); k - len(pieces) {
	case 0:
		return strings.Repeat(string(rune(0x20+rng.IntN(0x5f))), 1+rng.IntN(40))
	case 1:
		return string(rune(0x300 + rng.IntN(0x70)))
	case 2:
		return string(rune(0x80 + rng.IntN(0x3000)))
	case 3, 4:
		for {
			if r := rune(rng.IntN(0x32000)); utf8.ValidRune(r) {
				return string(r)
			}
		}
	default:
		return pieces[k][rng.IntN(len(pieces[k]))]
	}
}
