package tasks

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"clusterflow/internal/llm"
)

func FuzzResponses(f *testing.F) {
	for _, seed := range []string{
		``, `[]`, `[{"full_response": "<think>a b c.</think>"}]`, "{\"full_response\": \"a\"}\n{\"full_response\": \"\\ud800\"}",
		"\ufeff[{\"full_response\": \"x\", \"question_id\": {\"a\": 1}}]", "[{\"full_response\": \"<think>\u00e9e\u0301</think><think>\"},\n{}]",
		"\n\n[\n1]", "{\"full_response\": \"a\xff\"}", `null`, `[null]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		raws, err := decodeResponses(data)
		if err != nil {
			return
		}
		if !utf8.Valid(data) {
			t.Fatal("invalid UTF-8 was read")
		}
		for _, raw := range raws {
			scalar(raw.QuestionID)
			if raw.FullResponse == nil {
				continue
			}
			text := *raw.FullResponse
			start, end, _ := llm.Thinking(text)
			if start < 0 || start > end || end > len(text) {
				t.Fatalf("the thinking of %q is [%d, %d)", text, start, end)
			}
			at := start
			spans := llm.Sentences(text, start, end, 1)
			chars := llm.CharSpans(text, spans)
			for i, s := range spans {
				if s.Start < at || s.End <= s.Start || s.End > end {
					t.Fatalf("a sentence of %q is %v, after %d, in [%d, %d)", text, s, at, start, end)
				}
				at = s.End
				if got, want := chars[i].Start, utf8.RuneCountInString(text[:s.Start]); got != want {
					t.Fatalf("byte %d of %q is character %d, not %d", s.Start, text, want, got)
				}
				if !utf8.ValidString(text[s.Start:s.End]) {
					t.Fatalf("a sentence of %q cuts a character: %v", text, s)
				}
			}
		}
	})
}

func FuzzSentencesFile(f *testing.F) {
	for _, seed := range []string{
		"", "{\"text\": \"a\"}", "\ufeff{\"text\": \"a\", \"response\": 3}\n{\"text\": \"b\"}\n{\"text\": \"c\", \"response\": 3}",
		"{\"text\": \"a\", \"response\": -1}\n\n{\"text\": \"b\", \"response\": 9223372036854775807}", "{}", "[1]", "{\"text\": null}", "{\"text\": \"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "s.jsonl")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		all, err := ReadSentences(path)
		if err != nil {
			return
		}
		if len(all) > 1+bytes.Count(data, []byte("\n")) {
			t.Fatalf("%d sentences in %q", len(all), data)
		}
		n := map[int]int{}
		for i, s := range all {
			if s.ID != i || s.Index != n[s.Response] || !utf8.ValidString(s.Text) {
				t.Fatalf("row %d is %+v", i, s)
			}
			n[s.Response]++
		}
		rows := 0
		for _, tr := range tracesOf(all) {
			rows += n[tr.Response]
			delete(n, tr.Response)
		}
		if rows != len(all) || len(n) != 0 {
			t.Fatalf("the traces hold %d of %d rows", rows, len(all))
		}
	})
}
