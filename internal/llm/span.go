package llm

import (
	"encoding/json"
	"unicode/utf8"
)

// Span is a range [Start, End) of a text: of its bytes, where nothing else is
// said. In JSON it is a list of two numbers.
type Span struct{ Start, End int }

func (s Span) MarshalJSON() ([]byte, error) { return json.Marshal([2]int{s.Start, s.End}) }

func (s *Span) UnmarshalJSON(data []byte) error {
	var pair [2]int
	err := json.Unmarshal(data, &pair)
	s.Start, s.End = pair[0], pair[1]
	return err
}

// CharSpans turns spans of bytes of text into spans of code points, in the time
// that one walk over the text takes if the starts never decrease.
func CharSpans(text string, spans []Span) []Span {
	out := make([]Span, len(spans))
	bytes, chars := 0, 0
	for i, s := range spans {
		if s.Start < bytes {
			bytes, chars = 0, 0
		}
		chars += utf8.RuneCountInString(text[bytes:s.Start])
		bytes = s.Start
		out[i] = Span{chars, chars + utf8.RuneCountInString(text[s.Start:s.End])}
	}
	return out
}
