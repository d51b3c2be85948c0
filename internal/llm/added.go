package llm

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedToken is one entry of added_tokens, or of added_tokens_decoder.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // only where no word character touches it
	LStrip     bool   `json:"lstrip"`      // takes the white space before it
	RStrip     bool   `json:"rstrip"`      // takes the white space after it
	Normalized bool   `json:"normalized"`  // looked for in the normalised text
	Special    bool   `json:"special"`
}

// matcher finds added tokens in a text: at each place the longest one.
type matcher struct {
	nodes  []matcherNode
	starts [256]bool // bytes that some token begins with
	tokens []addedToken
}

type matcherNode struct {
	next  map[byte]int32
	token int32 // index in tokens, -1 if none ends here
}

func newMatcher() *matcher {
	return &matcher{nodes: []matcherNode{{token: -1}}}
}

// insert makes m find content as tok.
func (m *matcher) insert(content string, tok addedToken) {
	at := int32(0)
	for i := range len(content) {
		next, ok := m.nodes[at].next[content[i]]
		if !ok {
			next = int32(len(m.nodes))
			m.nodes = append(m.nodes, matcherNode{token: -1})
			if m.nodes[at].next == nil {
				m.nodes[at].next = map[byte]int32{}
			}
			m.nodes[at].next[content[i]] = next
		}
		at = next
	}
	m.starts[content[0]] = true
	m.nodes[at].token = int32(len(m.tokens))
	m.tokens = append(m.tokens, tok)
}

// cut calls f for text's pieces in order: with the token's id for an added
// token and -1 for what lies between. Pieces are never empty.
func (m *matcher) cut(text string, f func(a, b int, id int32)) {
	done := 0
	for i := 0; i < len(text) && len(m.tokens) > 0; {
		if !m.starts[text[i]] {
			i++
			continue
		}
		tok, end := m.longest(text, i)
		if tok == nil {
			i++
			continue
		}
		start := i
		i = end
		if tok.SingleWord && (endsInWord(text[:start]) || beginsWithWord(text[end:])) {
			continue
		}
		if tok.LStrip {
			start = max(done, len(strings.TrimRightFunc(text[:start], unicode.IsSpace)))
		}
		if tok.RStrip {
			end = len(text) - len(strings.TrimLeftFunc(text[end:], unicode.IsSpace))
		}
		if done < start {
			f(done, start, -1)
		}
		f(start, end, tok.ID)
		i, done = max(i, end), end
	}
	if done < len(text) {
		f(done, len(text), -1)
	}
}

// longest returns the longest token at byte i of text and its end.
func (m *matcher) longest(text string, i int) (tok *addedToken, end int) {
	at := int32(0)
	for ; i < len(text); i++ {
		next, ok := m.nodes[at].next[text[i]]
		if !ok {
			break
		}
		at = next
		if k := m.nodes[at].token; k >= 0 {
			tok, end = &m.tokens[k], i+1
		}
	}
	return tok, end
}

func endsInWord(text string) bool {
	r, n := utf8.DecodeLastRuneInString(text)
	return n > 0 && wordChar(r)
}

func beginsWithWord(text string) bool {
	r, n := utf8.DecodeRuneInString(text)
	return n > 0 && wordChar(r)
}

// wordChar is \w of Unicode's regular expressions (UTS #18, annex C).
func wordChar(r rune) bool {
	return unicode.In(r, unicode.L, unicode.Nl, unicode.Other_Alphabetic, unicode.M, unicode.Nd, unicode.Pc, unicode.Join_Control)
}
