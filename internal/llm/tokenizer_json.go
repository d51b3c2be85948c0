package llm

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// vocab is the object of tokens and ids of a model, in the file's order.
// Decoding it here instead of into a map takes a quarter of the time.
type vocab []vocabEntry

type vocabEntry struct {
	token string
	id    int32
}

func (v *vocab) UnmarshalJSON(data []byte) error {
	if len(data) == 0 || data[0] != '{' {
		return errors.New("the vocabulary is not an object")
	}
	s := jsonScanner{text: string(data)}
	s.open()
	for !s.close('}') {
		token, err := s.str()
		if err != nil {
			return fmt.Errorf("the vocabulary: %w", err)
		}
		s.skip(':')
		id, err := s.number()
		if err != nil {
			return fmt.Errorf("the vocabulary: %q: %w", token, err)
		}
		*v = append(*v, vocabEntry{token, id})
	}
	return nil
}

// merges is the list of merges of a model, each "left right" or, in newer
// files, ["left", "right"].
type merges [][2]string

func (m *merges) UnmarshalJSON(data []byte) error {
	if len(data) == 0 || data[0] != '[' {
		return errors.New("merges is not a list")
	}
	s := jsonScanner{text: string(data)}
	s.open()
	for !s.close(']') {
		if s.peek() == '"' {
			text, err := s.str()
			left, right, ok := strings.Cut(text, " ")
			if err != nil || !ok || left == "" || right == "" || strings.Contains(right, " ") {
				return fmt.Errorf("merge %d is %q, not two tokens with a space between", len(*m), text)
			}
			*m = append(*m, [2]string{left, right})
			continue
		}
		var pair [2]string
		var err error
		n := 0
		if s.peek() == '[' {
			s.open()
			for ; err == nil && !s.close(']'); n++ {
				pair[min(n, 1)], err = s.str()
			}
		}
		if err != nil || n != 2 {
			return fmt.Errorf("merge %d is not a pair of tokens", len(*m))
		}
		*m = append(*m, pair)
	}
	return nil
}

// jsonScanner walks over JSON that encoding/json has already checked to be
// well-formed.
type jsonScanner struct {
	text string
	at   int
}

// peek returns the next byte that is neither white space nor a comma.
func (s *jsonScanner) peek() byte {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\n', '\r', ',':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// open steps over the bracket that begins an object or a list.
func (s *jsonScanner) open() {
	s.peek()
	s.at++
}

// close steps over the bracket that ends it, if that is what comes next. The
// end of the text closes everything.
func (s *jsonScanner) close(bracket byte) bool {
	c := s.peek()
	if c == bracket {
		s.at++
	}
	return c == bracket || c == 0
}

func (s *jsonScanner) skip(c byte) {
	if s.peek() == c {
		s.at++
	}
}

// str returns the string that comes next, a view of the text unless it holds
// escapes.
func (s *jsonScanner) str() (string, error) {
	if s.peek() != '"' {
		return "", fmt.Errorf("a string was due at %.20q", s.text[s.at:])
	}
	begin := s.at
	escaped := false
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			escaped = true
			s.at++
		case '"':
			s.at++
			if !escaped {
				return s.text[begin+1 : s.at-1], nil
			}
			var out string
			err := json.Unmarshal([]byte(s.text[begin:s.at]), &out)
			return out, err
		}
	}
	return "", errors.New("a string has no end")
}

// number returns the token id that comes next.
func (s *jsonScanner) number() (int32, error) {
	s.peek()
	begin := s.at
	for s.at < len(s.text) && strings.IndexByte("0123456789+-.eE", s.text[s.at]) >= 0 {
		s.at++
	}
	id, err := strconv.ParseInt(s.text[begin:s.at], 10, 32)
	if err != nil || id < 0 {
		return 0, fmt.Errorf("its id %.20q is not a whole number from 0", s.text[begin:])
	}
	return int32(id), nil
}
