package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"clusterflow/internal/llm"
	"clusterflow/tasks"
)

func (a *app) debugTokenizeCommand() *cobra.Command {
	var model, bos string
	c := &cobra.Command{
		Use:   "tokenize --model MODEL < TEXTS",
		Short: "Print the ids and offsets of texts",
		Long: `Reads one text a line: a JSON string, or an object with "text" or "full_response".
Writes one JSON object a line: the ids, and for each the bytes and the characters
(code points) of the text that it stands for, end exclusive. Only the tokenizer's
files are read; the model's weights need not be there.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			tok, err := llm.TokenizerOf(model)
			if err != nil {
				return err
			}
			return tokenizeLines(a.in, a.out, tok, bos)
		},
	}
	c.Flags().StringVar(&model, "model", "", "a `folder` with tokenizer.json, a hub id, or builtin:tiny")
	c.Flags().StringVar(&bos, "add-bos", "auto", "auto (as the tokenizer's files say), true or false")
	if err := c.MarkFlagRequired("model"); err != nil {
		panic(err) // the flag is defined above
	}
	return c
}

// tokenizedLine is one line that debug tokenize writes.
type tokenizedLine struct {
	IDs      []int32    `json:"ids"`
	Bytes    []llm.Span `json:"bytes"`
	Chars    []llm.Span `json:"chars"`
	AddedBOS bool       `json:"added_bos"`
	HadBOS   bool       `json:"had_bos"`
}

// tokenizeLines tokenizes each line of in. An error says which line it is about.
func tokenizeLines(in io.Reader, out io.Writer, tok *llm.Tokenizer, bos string) error {
	w := bufio.NewWriterSize(out, 1<<20)
	r := bufio.NewReaderSize(in, 1<<20)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			text, err := textOf(line)
			if err != nil {
				return fmt.Errorf("line %d of the input: %w", n, err)
			}
			e, err := tok.Encode(text, bos)
			if err != nil {
				return fmt.Errorf("line %d of the input: %w", n, err)
			}
			raw, err := json.Marshal(tokenizedLine{e.IDs, e.Offsets, llm.CharSpans(text, e.Offsets), e.AddedBOS, e.HadBOS})
			if err != nil {
				return err
			}
			if _, err := w.Write(append(raw, '\n')); err != nil {
				return err
			}
		}
		if err != nil {
			return w.Flush()
		}
	}
}

// textOf reads a text from a line of JSON.
func textOf(line []byte) (string, error) {
	if !utf8.Valid(line) {
		return "", errors.New("it is not valid UTF-8")
	}
	var text string
	if json.Unmarshal(line, &text) == nil {
		return text, nil
	}
	var object struct {
		Text         *string `json:"text"`
		FullResponse *string `json:"full_response"`
	}
	err := json.Unmarshal(line, &object)
	switch {
	case err != nil:
		return "", errors.New(`it is neither a JSON string nor an object with "text"`)
	case object.Text != nil:
		return *object.Text, nil
	case object.FullResponse != nil:
		return *object.FullResponse, nil
	}
	return "", errors.New(`the object has neither "text" nor "full_response"`)
}

func (a *app) debugSentencesCommand() *cobra.Command {
	var minWords int
	c := &cobra.Command{
		Use:   "sentences < RESPONSES",
		Short: "Print the sentences of responses with their places",
		Long: `Reads responses as a dataset's file has them: a JSON array, or one object a line,
with full_response. Writes one JSON object a sentence: which response, which
sentence of it, its characters (code points) and bytes in full_response, end
exclusive, and its text.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if minWords < 1 {
				return fmt.Errorf("--min-words %d: at least 1", minWords)
			}
			data, err := io.ReadAll(a.in)
			if err != nil {
				return err
			}
			all, err := tasks.ParseResponses(data)
			if err != nil {
				return fmt.Errorf("reading responses from the input: %w", err)
			}
			return a.printSentences(all, minWords)
		},
	}
	c.Flags().IntVar(&minWords, "min-words", 3, "drop sentences of fewer than `n` words")
	return c
}

func (a *app) printSentences(all []tasks.Response, minWords int) error {
	type line struct {
		Response int      `json:"response"`
		Index    int      `json:"index"`
		Chars    llm.Span `json:"chars"`
		Bytes    llm.Span `json:"bytes"`
		Text     string   `json:"text"`
	}
	w := bufio.NewWriterSize(a.out, 1<<20)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	sentences, cut := 0, 0
	for _, r := range all {
		if !r.Closed {
			cut++
		}
		spans := llm.Sentences(r.Text, r.Think.Start, r.Think.End, minWords)
		for i, chars := range llm.CharSpans(r.Text, spans) {
			s := spans[i]
			if err := enc.Encode(line{r.Index, i, chars, s, r.Text[s.Start:s.End]}); err != nil {
				return err
			}
		}
		sentences += len(spans)
	}
	fmt.Fprintf(a.err, "%s of %s, %s\n", count(sentences, "sentence", "sentences"), count(len(all), "response", "responses"), count(cut, "cut-off trace", "cut-off traces"))
	return w.Flush()
}
