package tasks_test

import (
	"strings"
	"testing"

	"clusterflow/tasks"
)

func TestReadResponses(t *testing.T) {
	const one, two = `{"full_response": "<think>a</think>b", "question_id": 7, "category": "math", "question": "why?"}`, `{"full_response": "über", "question_id": "q-2", "else": [1]}`
	want := []tasks.Response{
		{Index: 0, QuestionID: "7", Category: "math", Question: "why?", Text: "<think>a</think>b", Closed: true},
		{Index: 1, QuestionID: "q-2", Text: "über"},
	}
	want[0].Think.Start, want[0].Think.End = 7, 8
	want[1].Think.End = len("über")
	for name, text := range map[string]string{
		"array":              "[" + one + ",\n" + two + "]",
		"lines":              one + "\n" + two,
		"lines, Windows":     one + "\r\n" + two + "\r\n",
		"blank lines":        "\n" + one + "\n\n  \n" + two + "\n\n",
		"array with a BOM":   "\ufeff [\n" + one + "," + two + "\n]\n",
		"lines with a BOM":   "\ufeff" + one + "\n" + two,
		"blanks and a array": "\n\n\t[" + one + "," + two + "]",
	} {
		got, err := tasks.ReadResponses(write(t, t.TempDir(), "r.json", text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestReadResponsesErrors(t *testing.T) {
	const good = `{"full_response": "a"}`
	for _, test := range []struct{ text, want string }{
		{"", "no responses"},
		{"[]", "no responses"},
		{"\ufeff \n", "no responses"},
		{"[" + good + ", {}]", "response 1 has no full_response"},
		{"[" + good + ", null]", "response 1 has no full_response"},
		{good + "\n" + `{"response": "a"}`, "response 1 has no full_response"},
		{good + "\n" + `{"full_response": null}`, "response 1 has no full_response"},
		{"[\n" + good + ",\n" + `{"full_response": 7}]`, "line 3"},
		{"\n\n[\n" + good + "\n" + good + "]", "line 5"},
		{"[" + good, "malformed"},
		{"[" + good + "] x", "malformed"},
		{good + "\n\n" + good + good, "line 3"},
		{"\n" + good + "\n" + `["a"]`, "line 3"},
		{good + "\n{\"full_response\": \"a\xff\"}", "line 2 is not valid UTF-8"},
		{"[" + good + ",\n\n{\"full_response\": \"\xe2\x82\"}]", "line 3 is not valid UTF-8"},
	} {
		path := write(t, t.TempDir(), "r.json", test.text)
		_, err := tasks.ReadResponses(path)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v\nwant the path and %q", test.text, err, test.want)
		}
	}
	if _, err := tasks.ReadResponses(t.TempDir() + "/missing.json"); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestReadSentences(t *testing.T) {
	text := "\ufeff{\"text\": \"one\", \"response\": 4, \"question_id\": 9}\n\n" +
		"{\"text\": \"alone\"}\r\n{\"text\": \"two\", \"response\": 4, \"category\": \"c\"}\n{\"text\": \"other\", \"response\": 1}\n{\"text\": \"\"}\n"
	got, err := tasks.ReadSentences(write(t, t.TempDir(), "s.jsonl", text))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 5 {
		t.Fatalf("%d sentences", len(got))
	}
	for i, s := range got {
		if s.ID != i {
			t.Errorf("row %d has the id %d", i, s.ID)
		}
	}
	if got[0].Text != "one" || got[0].Response != 4 || got[0].Index != 0 || got[0].QuestionID != "9" ||
		got[2].Response != 4 || got[2].Index != 1 || got[2].Category != "c" || got[3].Response != 1 {
		t.Errorf("%+v", got)
	}
	// Rows without a response belong to nobody else's.
	if a, b := got[1].Response, got[4].Response; a == b || a == 4 || a == 1 || b == 4 || b == 1 || got[1].Index != 0 {
		t.Errorf("%+v", got)
	}
	for _, test := range []struct{ text, want string }{
		{"", "no sentences"},
		{"\n\n", "no sentences"},
		{"{\"text\": \"a\"}\n{\"response\": 1}", "row 1 has no text"},
		{"{\"text\": \"a\"}\n\n{\"text\": 3}", "line 3"},
		{"{\"text\": \"a\"}\n[", "line 2"},
		{"{\"text\": \"a\", \"response\": 1.5}", "line 1"},
		{"{\"text\": \"a\"}\n{\"text\": \"\xc3\"}", "line 2 is not valid UTF-8"},
	} {
		path := write(t, t.TempDir(), "s.jsonl", test.text)
		if _, err := tasks.ReadSentences(path); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v\nwant the path and %q", test.text, err, test.want)
		}
	}
}
