package tasks

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"unicode/utf8"

	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
	"clusterflow/studies"
)

// shardSize is how many responses one extract node covers.
const shardSize = 512

// byteOrderMark begins text files of some programs.
const byteOrderMark = "\ufeff"

// Response is one saved response of a model.
type Response struct {
	Index      int    // position in the file
	QuestionID string // "" where the file has none
	Category   string
	Question   string
	Text       string // the prompt, the thinking and the answer, as tokenized
	Think      llm.Span
	Closed     bool // false where the thinking was cut off
}

// rawResponse is a response as files have it (reference format: a JSON array,
// or one object a line).
type rawResponse struct {
	FullResponse *string         `json:"full_response"`
	QuestionID   json.RawMessage `json:"question_id"`
	Category     string          `json:"category"`
	Question     string          `json:"question"`
}

// ReadResponses reads a JSON array or JSONL file of responses. It is an error,
// naming the place, if one has no full_response or is not valid UTF-8.
func ReadResponses(path string) ([]Response, error) {
	if err := looksLikeText(path); err != nil {
		return nil, fmt.Errorf("reading responses from %s: %w", path, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out, err := ParseResponses(data)
	if err != nil {
		return nil, fmt.Errorf("reading responses from %s: %w", path, err)
	}
	return out, nil
}

// ParseResponses is ReadResponses for the content of a file.
func ParseResponses(data []byte) ([]Response, error) {
	raws, err := decodeResponses(data)
	if err != nil {
		return nil, err
	}
	out := make([]Response, len(raws))
	for i, raw := range raws {
		if raw.FullResponse == nil {
			return nil, fmt.Errorf("response %d has no full_response", i)
		}
		r := Response{Index: i, QuestionID: scalar(raw.QuestionID), Category: raw.Category, Question: raw.Question, Text: *raw.FullResponse}
		r.Think.Start, r.Think.End, r.Closed = llm.Thinking(r.Text)
		out[i] = r
	}
	if len(out) == 0 {
		return nil, errors.New("the file holds no responses")
	}
	return out, nil
}

// looksLikeText refuses a file whose beginning cannot be JSON, before all of it
// is held in memory: an image of a disk or of a model, named by mistake.
func looksLikeText(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 4<<10)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if i := bytes.IndexByte(head[:n], 0); i >= 0 {
		return fmt.Errorf("byte %d is zero, so this is not text; name a JSON or JSONL file", i)
	}
	return nil
}

func decodeResponses(data []byte) ([]rawResponse, error) {
	for n, line := range bytes.Split(data, []byte("\n")) { // the decoder would mend it silently
		if !utf8.Valid(line) {
			return nil, fmt.Errorf("line %d is not valid UTF-8", n+1)
		}
	}
	data = bytes.TrimPrefix(data, []byte(byteOrderMark))
	var raws []rawResponse
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) {
		if err := json.Unmarshal(data, &raws); err != nil {
			return nil, fmt.Errorf("the JSON array is malformed%s: %w", at(data, err), plain(err))
		}
		return raws, nil
	}
	for n, line := range bytes.Split(data, []byte("\n")) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var raw rawResponse
		if err := json.Unmarshal(line, &raw); err != nil {
			return nil, fmt.Errorf("line %d is not a JSON object: %w", n+1, plain(err))
		}
		raws = append(raws, raw)
	}
	return raws, nil
}

// plain says in JSON's words, not in Go's, that a value has the wrong type.
func plain(err error) error {
	var e *json.UnmarshalTypeError
	switch {
	case !errors.As(err, &e):
		return err
	case e.Field == "":
		return fmt.Errorf("it holds a %s where an object is due", e.Value)
	}
	return fmt.Errorf("%s is a %s", e.Field, e.Value)
}

// at is the line of a JSON error, whose offset is just behind the byte at fault.
func at(data []byte, err error) string {
	offset := int64(-1)
	switch e := err.(type) {
	case *json.SyntaxError:
		offset = e.Offset
	case *json.UnmarshalTypeError:
		offset = e.Offset
	}
	if offset < 0 || offset > int64(len(data)) {
		return ""
	}
	return fmt.Sprintf(" in line %d", 1+bytes.Count(data[:max(offset-1, 0)], []byte("\n")))
}

// scalar reads a string or a number as text.
func scalar(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	if string(raw) == "null" {
		return ""
	}
	return string(raw)
}

// selected returns the responses of a study in the order of their random ranks:
// all are shuffled with the seed and the first n taken (0: all), so that a
// larger n begins with the same ones. Cut-off responses are left out before the
// shuffle if the dataset says so.
func selected(all []Response, d *studies.Dataset, seed int64) []Response {
	pool := all
	if d.Truncated.V == "drop" {
		pool = slices.DeleteFunc(slices.Clone(all), func(r Response) bool { return !r.Closed })
	}
	rng := linalg.Rand(seed, "dataset", strconv.Itoa(len(pool)))
	order := rng.Perm(len(pool))
	if n := d.NExamples.V; n > 0 && n < len(order) {
		order = order[:n]
	}
	out := make([]Response, len(order))
	for rank, i := range order {
		out[rank] = pool[i]
	}
	return out
}

// cutOff counts the responses that are left out because their thinking was not
// closed.
func cutOff(all []Response, d *studies.Dataset) int {
	n := 0
	for _, r := range all {
		if !r.Closed && d.Truncated.V == "drop" {
			n++
		}
	}
	return n
}

// Sentence is one row of the data, as the sentences files have it.
type Sentence struct {
	ID         int    `json:"id"`       // row, from 0
	Response   int    `json:"response"` // position in the dataset's file
	Index      int    `json:"index"`    // within the response, from 0
	QuestionID string `json:"question_id,omitempty"`
	Category   string `json:"category,omitempty"`
	Text       string `json:"text"`
	Chars      [2]int `json:"chars"`  // in the response, code points, end exclusive
	Bytes      [2]int `json:"bytes"`  // in the response, UTF-8 bytes, end exclusive
	Tokens     [2]int `json:"tokens"` // whose states are averaged, end exclusive
}

// Trace is the thinking text of one response.
type Trace struct {
	Response   int    `json:"response"`
	QuestionID string `json:"question_id,omitempty"`
	Category   string `json:"category,omitempty"`
	Question   string `json:"question,omitempty"`
	Text       string `json:"text"`
	Closed     bool   `json:"closed"`
}

// readJSONL decodes one value a line.
func readJSONL[T any](r io.Reader) ([]T, error) {
	var out []T
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), 1<<30)
	for n := 1; s.Scan(); n++ {
		line := s.Bytes()
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte(byteOrderMark))
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if !utf8.Valid(line) { // the decoder would mend it silently
			return nil, fmt.Errorf("line %d is not valid UTF-8", n)
		}
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		out = append(out, v)
	}
	return out, s.Err()
}

// writeJSONL encodes one value a line, without HTML escapes.
func writeJSONL[T any](w io.Writer, values []T) error {
	b := bufio.NewWriterSize(w, 1<<20)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	for _, v := range values {
		if err := enc.Encode(v); err != nil {
			return err
		}
	}
	return b.Flush()
}
