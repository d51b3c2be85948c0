// Package judge is what clusterflow asks a language model about a clustering,
// and what it makes of the answers: the prompts with their JSON schemas, the
// parsers that read answers of any quality, the drawing of samples, the metrics
// and their statistics over repetitions, and the types of the result files.
//
// The package sends nothing and reads no clock: prompts are values, answers
// come in as text, and every random draw uses a generator that the caller
// hands in. All functions are safe for concurrent use.
//
// An answer that is missing, refused, cut off or unreadable is a *Failure. It
// is counted by kind and left out of every average and every denominator.
package judge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// PromptVersion names the frozen prompt set of this package. A change of any
// rendered prompt needs a new name, because answers already paid for were given
// to the old wording; a test holds the digests.
const PromptVersion = "v1"

// The tasks of Data.Task, which are also the kinds of answers that are counted.
const (
	TaskTitle        = "title"
	TaskAccuracy     = "accuracy"
	TaskCompleteness = "completeness"
	TaskFit          = "fit"
	TaskSimilarity   = "similarity"
)

// Tasks lists them.
var Tasks = []string{TaskTitle, TaskAccuracy, TaskCompleteness, TaskFit, TaskSimilarity}

// Sentence is one sentence of a prompt. ID is local to the prompt.
type Sentence struct {
	ID   int    `json:"id"`
	Text string `json:"text"`
}

// Category is a titled cluster; ID is the cluster's number.
type Category struct {
	ID          int    `json:"id"`
	Title       string `json:"title"`
	Description string `json:"description"`
}

// Prompt is one question: the two messages, the strict JSON schema of the
// answer for endpoints that take one, and a completion limit in tokens.
type Prompt struct {
	System     string
	User       string
	SchemaName string
	Schema     json.RawMessage
	// MaxTokens bounds the visible answer, with room to spare. Reasoning models
	// count their hidden reasoning too: give them ReasoningReserve on top.
	MaxTokens int
}

// ReasoningReserve is the number of completion tokens to allow a reasoning
// model beyond Prompt.MaxTokens.
const ReasoningReserve = 16384

// Data is the one JSON block that every prompt carries: all that varies from
// prompt to prompt of one task, the example categories of a title prompt
// excepted, which are wording.
type Data struct {
	Task       string     `json:"task"`
	Category   *Category  `json:"category,omitempty"`   // accuracy, fit; its id is always 1
	Categories []Category `json:"categories,omitempty"` // completeness; similarity: two, with ids 1 and 2
	Traces     []string   `json:"traces,omitempty"`     // title
	Sentences  []Sentence `json:"sentences,omitempty"`  // all but similarity
}

// The lines around the data block. No JSON line can equal them: a JSON string
// holds no raw newline.
const (
	beginData = "BEGIN DATA"
	endData   = "END DATA"
)

// Numbered gives the texts the ids 1, 2, … n that a prompt uses.
func Numbered(texts []string) []Sentence {
	s := make([]Sentence, len(texts))
	for i, t := range texts {
		s[i] = Sentence{ID: i + 1, Text: t}
	}
	return s
}

// IDs returns the ids of the sentences, in order.
func IDs(s []Sentence) []int {
	ids := make([]int, len(s))
	for i := range s {
		ids[i] = s[i].ID
	}
	return ids
}

// ReadData reads the data block back from the user message of a prompt. It
// fails if there is not exactly one block, or if its task is unknown.
func ReadData(user string) (Data, error) {
	var block []string
	state := 0 // 0 before, 1 inside, 2 after the block
	for line := range strings.Lines(user) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == beginData && state == 0:
			state = 1
		case line == beginData:
			return Data{}, fmt.Errorf("reading the data of a prompt: a second line %q", beginData)
		case line == endData && state == 1:
			state = 2
		case line == endData:
			return Data{}, fmt.Errorf("reading the data of a prompt: a line %q without its %q", endData, beginData)
		case state == 1:
			block = append(block, line)
		}
	}
	if state != 2 {
		return Data{}, fmt.Errorf("reading the data of a prompt: no block between the lines %q and %q", beginData, endData)
	}
	var d Data
	if err := json.Unmarshal([]byte(strings.Join(block, "\n")), &d); err != nil {
		return Data{}, fmt.Errorf("reading the data of a prompt: %w", err)
	}
	if slices.Contains(Tasks, d.Task) {
		return d, nil
	}
	return Data{}, fmt.Errorf("reading the data of a prompt: unknown task %q", d.Task)
}

// block renders d between its marker lines, list elements one a line. Invalid
// UTF-8 becomes U+FFFD.
func (d Data) block() string {
	var b strings.Builder
	b.WriteString(beginData + "\n{\"task\": " + encode(d.Task))
	if d.Category != nil {
		b.WriteString(",\n\"category\": " + encode(d.Category))
	}
	writeList(&b, "categories", d.Categories)
	writeList(&b, "traces", d.Traces)
	writeList(&b, "sentences", d.Sentences)
	b.WriteString("}\n" + endData)
	return b.String()
}

func writeList[T any](b *strings.Builder, name string, list []T) {
	if len(list) == 0 {
		return
	}
	b.WriteString(",\n\"" + name + "\": [")
	for i, v := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n" + encode(v))
	}
	b.WriteByte(']')
}

// encode is JSON without the escapes that protect HTML: a model should read
// x < 5 as it was written.
func encode(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // strings, integers and structs of them always encode
	}
	return strings.TrimSuffix(b.String(), "\n")
}
