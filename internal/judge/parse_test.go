package judge

import (
	"strings"
	"testing"
)

// broken is a corpus of answers to an accuracy prompt with the sentences 1, 2
// and 3. want lists id:verdict in order of ids, or the reason of the failure.
var broken = []struct{ name, content, want string }{
	{"clean", `{"answers": [{"id": 1, "explanation": "e", "answer": "Yes"}, {"id": 2, "explanation": "", "answer": "No"}, {"id": 3, "explanation": "x", "answer": "Yes"}]}`, "1:yes 2:no 3:yes"},
	{"fence", "```json\n{\"answers\": [{\"id\": 1, \"answer\": \"Yes\"}]}\n```", "1:yes"},
	{"fence without language, prose around", "Here you are:\n```\n{\"answers\": [{\"id\": 1, \"answer\": \"No\"}]}\n```\nI hope this helps {truly}!", "1:no"},
	{"prose with braces before", `For the set {1, 2} and [see below] we get {"answers": [{"id": 2, "answer": "Yes"}]}`, "2:yes"},
	{"trailing commas", `{"answers": [{"id": 1, "answer": "Yes",}, {"id": 2, "answer": "No",},],}`, "1:yes 2:no"},
	{"smart quotes", `{“answers”: [{“id”: 1, “explanation”: “it’s "so"”, “answer”: “Yes”}]}`, "1:yes"},
	{"single quotes and Python constants", `{'answers': [{'id': 1, 'explanation': None, 'answer': 'No'}, {'id': 2, 'answer': True}]}`, "1:no 2:yes"},
	{"smart quotes inside straight ones", `{"answers": [{"id": 1, "explanation": "the word “wait”, then", "answer": "Yes"}]}`, "1:yes"},
	{"unescaped quotes inside", `{"answers": [{"id": 1, "explanation": "says "wait" twice", "answer": "Yes"}]}`, "1:yes"},
	{"raw line break and formula", "{\"answers\": [{\"id\": 1, \"explanation\": \"two\nlines, \\(x^2\\)\", \"answer\": \"Yes\"}]}", "1:yes"},
	{"ids as strings", `{"answers": [{"id": "1", "answer": "yes"}, {"id": "Sentence 2", "answer": "NO."}, {"id": 3.0, "answer": " Yes "}]}`, "1:yes 2:no 3:yes"},
	{"old field names", `{"classifications": [{"sentence_id": 1, "explanation": "e", "belongs_to_category": "Yes"}]}`, "1:yes"},
	{"other case of keys", `{"Answers": [{"ID": 1, "Answer": "Yes"}]}`, "1:yes"},
	{"bare list", `[{"id": 1, "answer": "Yes"}, {"id": 3, "answer": "No"}]`, "1:yes 3:no"},
	{"objects one a line", "{\"id\": 1, \"answer\": \"Yes\"}\n{\"id\": 2, \"answer\": \"No\"}", "1:yes 2:no"},
	{"reasoning left in", "<think>{\"answers\": [{\"id\": 1, \"answer\": \"No\"}]}</think>{\"answers\": [{\"id\": 1, \"answer\": \"Yes\"}]}", "1:yes"},
	{"corrected afterwards", `{"answers": [{"id": 1, "answer": "No"}]} Correction: {"answers": [{"id": 1, "answer": "Yes"}]}`, "1:yes"},
	{"one sentence left out", `{"answers": [{"id": 1, "answer": "Yes"}, {"id": 3, "answer": "No"}]}`, "1:yes 3:no"},
	{"one verdict of the wrong type", `{"answers": [{"id": 1, "answer": "maybe"}, {"id": 2, "answer": 1}, {"id": 3, "answer": "No"}]}`, "3:no"},
	{"byte order mark", "\ufeff{\"answers\": [{\"id\": 1, \"answer\": \"Yes\"}]}", "1:yes"},

	{"id out of range", `{"answers": [{"id": 1, "answer": "Yes"}, {"id": 4, "answer": "No"}]}`, "sentence id"},
	{"id zero", `{"answers": [{"id": 0, "answer": "Yes"}]}`, "sentence id"},
	{"id twice", `{"answers": [{"id": 1, "answer": "Yes"}, {"id": 1, "answer": "Yes"}]}`, "sentence id"},
	{"id missing", `{"answers": [{"answer": "Yes"}]}`, "sentence id"},
	{"id not whole", `{"answers": [{"id": 1.5, "answer": "Yes"}]}`, "sentence id"},
	{"id huge", `{"answers": [{"id": 1e300, "answer": "Yes"}]}`, "sentence id"},
	{"element is no object", `{"answers": [{"id": 1, "answer": "Yes"}, "No"]}`, "unreadable"},
	{"no usable verdict", `{"answers": [{"id": 1, "answer": "unclear"}]}`, "value"},
	{"cut in a string", `{"answers": [{"id": 1, "answer": "Yes"}, {"id": 2, "explanation": "it goes`, "cut off"},
	{"cut between elements", `{"answers": [{"id": 1, "answer": "Yes"},`, "cut off"},
	{"cut before the last brackets", `{"answers": [{"id": 1, "answer": "Yes"}`, "cut off"},
	{"cut bare list", `[{"id": 1, "answer": "Yes"}, {"id": 2, "answer": "N`, "cut off"},
	{"cut in the reasoning", "<think>Sentence 1 says {\"answers\": [{\"id\": 1, \"answer\": \"No\"}]}", "cut off"},
	{"broken in the middle", `{"answers": [{"id": 1, "answer": "Yes"}, {"id": 2 "answer": "No"}]}`, "unreadable"},
	{"empty", "", "empty"},
	{"blank", " \n\t", "empty"},
	{"refusal", "I'm sorry, but I can't help with that.", "refused"},
	{"refusal, other words", "As an AI, I cannot judge these.", "refused"},
	{"prose only", "All of them do, except for the second.", "unreadable"},
	{"another object", `{"verdicts": {"1": "Yes"}}`, "unreadable"},
	{"empty list", `{"answers": []}`, "unreadable"},
	{"answers is no list", `{"answers": "Yes"}`, "unreadable"},
	{"null", "null", "unreadable"},
	{"NaN id", `{"answers": [{"id": NaN, "answer": "Yes"}]}`, "unreadable"},
	{"invalid UTF-8", "{\"answers\": [{\"id\": 1, \"answer\": \"Y\xffs\"}]}", "value"},
	{"deep", strings.Repeat(`{"a":`, 2000), "unreadable"},
	{"deep list", strings.Repeat("[", 100000), "unreadable"},
}

func TestBrokenAnswers(t *testing.T) {
	for _, tc := range broken {
		got, err := ParseAccuracy(tc.content, []int{1, 2, 3})
		text := string(ReasonOf(err))
		if err == nil {
			text = verdictText(got)
		}
		if text != tc.want {
			t.Errorf("%s: got %q (%v), want %q", tc.name, text, err, tc.want)
		}
	}
}

// TestLongAnswers: long answers of any kind are read, and reading gives up
// rather than going over the same text again and again; the budget of values
// bounds the work by a multiple of the length.
func TestLongAnswers(t *testing.T) {
	for _, unit := range []string{
		"{", "[", `{"`, `{"a":`, `{"answers": [`, `"`, "x ", "“", `\u`,
		`[{"id": 1, "answer": "Yes"},`, `{"answers":[{"id":1}]}`, "{'a': 'b' ",
	} {
		content := strings.Repeat(unit, megabyte/4/len(unit))
		for _, k := range kinds[:2] { // the others read as these do
			if got, err := k.show(content); err == nil {
				t.Errorf("%s of many %q gave %v", k.task, unit, got)
			}
		}
	}
	long := `{"answers": [{"id": 1, "explanation": "` + strings.Repeat("wait ", 200000) + `", "answer": "Yes"}]}`
	if got, err := ParseAccuracy(long, []int{1}); err != nil || !got[1].Yes {
		t.Errorf("a megabyte of explanation: %v", err)
	}
}

func TestParseCompleteness(t *testing.T) {
	for _, tc := range []struct{ name, content, want string }{
		{"clean", `{"answers": [{"id": 1, "explanation": "e", "category": "4", "confidence": 8}, {"id": 2, "category": "None", "confidence": 0}]}`, "1:4/8 2:-1/0"},
		{"numbers and names", `{"answers": [{"id": 1, "category": 4, "confidence": "8"}, {"id": 2, "category": "Category 0", "confidence": "10/10"}, {"id": 3, "category": null, "confidence": 0}]}`, "1:4/8 2:0/10 3:-1/0"},
		{"old names", `{"categorizations": [{"sentence_id": 1, "assigned_category": "Category 4", "confidence": 3}]}`, "1:4/3"},
		{"None with a confidence", `{"answers": [{"id": 1, "category": "none", "confidence": 7}]}`, "1:-1/0"},
		{"None without one", `{"answers": [{"id": 1, "category": "NONE"}]}`, "1:-1/0"},
		{"category not offered", `{"answers": [{"id": 1, "category": "5", "confidence": 7}, {"id": 2, "category": "0", "confidence": 1}]}`, "2:0/1"},
		{"minus one is no name of None", `{"answers": [{"id": 1, "category": -1, "confidence": 0}]}`, "value"},
		{"category left out", `{"answers": [{"id": 1, "confidence": 3}, {"id": 2, "category": "0", "confidence": 2}]}`, "2:0/2"},
		{"confidence out of range", `{"answers": [{"id": 1, "category": "4", "confidence": 0}, {"id": 2, "category": "4", "confidence": 11}, {"id": 3, "category": "4", "confidence": 10}]}`, "3:4/10"},
		{"confidence missing", `{"answers": [{"id": 1, "category": "4"}]}`, "value"},
		{"fraction of a point", `{"answers": [{"id": 1, "category": "4", "confidence": 7.5}]}`, "1:4/7.5"},
		{"id twice", `{"answers": [{"id": 1, "category": "4", "confidence": 1}, {"id": 1, "category": "0", "confidence": 1}]}`, "sentence id"},
		{"id out of range", `{"answers": [{"id": 9, "category": "4", "confidence": 1}]}`, "sentence id"},
		{"id twice, in other words", `{"answers": [{"id": 1, "category": "4", "confidence": 1}, {"id": "Sentence 1", "category": "None"}]}`, "sentence id"},
		{"id negative", `{"answers": [{"id": -1, "category": "4", "confidence": 1}]}`, "sentence id"},
		{"id missing", `{"answers": [{"category": "4", "confidence": 1}]}`, "sentence id"},
		{"id of a wrong type", `{"answers": [{"id": [1], "category": "4", "confidence": 1}]}`, "sentence id"},
		{"category of a wrong type", `{"answers": [{"id": 1, "category": ["4"], "confidence": 7}, {"id": 2, "category": true, "confidence": 7}, {"id": 3, "category": {}, "confidence": 7}]}`, "value"},
		{"confidence of a wrong type", `{"answers": [{"id": 1, "category": "4", "confidence": true}, {"id": 2, "category": "4", "confidence": "high"}, {"id": 3, "category": "4", "confidence": [7]}]}`, "value"},
		{"element is no object", `{"answers": [{"id": 1, "category": "4", "confidence": 1}, 2]}`, "unreadable"},
		{"an object for the list", `{"answers": {"id": 1, "category": "4", "confidence": 1}}`, "unreadable"},
		{"a huge category", `{"answers": [{"id": 1, "category": 1e18, "confidence": 1}]}`, "value"},
		{"cut", `{"answers": [{"id": 1, "category": "4", "confi`, "cut off"},
		{"empty", "", "empty"},
	} {
		got, err := ParseCompleteness(tc.content, []int{1, 2, 3}, []int{0, 4})
		text := string(ReasonOf(err))
		if err == nil {
			text = assignmentText(got)
		}
		if text != tc.want {
			t.Errorf("%s: got %q (%v), want %q", tc.name, text, err, tc.want)
		}
	}
}

func TestParseScores(t *testing.T) {
	for _, tc := range []struct {
		content string
		score   float64
		why     string
		reason  Reason
	}{
		{`{"explanation": "same", "score": 7}`, 7, "same", ""},
		{`{"score": "7/10"}`, 7, "", ""},
		{`{"score": 0}`, 0, "", ""},
		{`{"result": {"explanation": "e", "score": 10}}`, 10, "e", ""},
		{`The pair: {"explanation": "e", "score": 2.5,}`, 2.5, "e", ""},
		{`{"similarity_score": 4, "completeness_score": 4, "explanation": "old"}`, 4, "old", ""},
		{`{"score": 11}`, 0, "", BadValue},
		{`{"score": -1}`, 0, "", BadValue},
		{`{"score": "high"}`, 0, "", BadValue},
		{`{"score": true}`, 0, "", BadValue},
		{`{"score": [7]}`, 0, "", BadValue},
		{`{"score": {"of": 10, "is": 7}}`, 0, "", BadValue},
		{`{"score": ""}`, 0, "", BadValue},
		{`{"score": "0x7"}`, 0, "", BadValue},
		{`{"score": "Inf"}`, 0, "", BadValue},
		{`{"score": 10.0001}`, 0, "", BadValue},
		{`{"score": -0.0}`, 0, "", ""},
		{`{"score": 7, "explanation": ["a", "list"]}`, 7, "", ""},
		{`{"a": {"b": {"score": 7}}}`, 0, "", Unreadable},
		{`{"score": null}`, 0, "", Unreadable},
		{`{"score": 1e999}`, 0, "", Unreadable},
		{`7`, 0, "", Unreadable},
		{`{"score": 7`, 0, "", CutOff},
		{`I cannot help with this.`, 0, "", Refused},
		{``, 0, "", Empty},
	} {
		for name, parse := range map[string]func(string) (float64, string, error){"fit": ParseFit, "similarity": ParseSimilarity} {
			score, why, err := parse(tc.content)
			if score != tc.score || why != tc.why || ReasonOf(err) != tc.reason {
				t.Errorf("%s of %q: %g %q %v, want %g %q %q", name, tc.content, score, why, err, tc.score, tc.why, tc.reason)
			}
		}
	}
}

func TestParseTitle(t *testing.T) {
	for _, tc := range []struct {
		content, title, description string
		reason                      Reason
	}{
		{`{"title": "Checking a result", "description": "Goes over it.  Not new."}`, "Checking a result", "Goes over it. Not new.", ""},
		{"```json\n{\"title\": \"T\",\n\"description\": \"D\",\n}\n```", "T", "D", ""},
		{`{"category": {"title": "T", "description": "D"}}`, "T", "D", ""},
		{"Title: Checking\nDescription: It goes over\na result.\n\nAnything else?", "Checking", "It goes over a result.", ""},
		{"**Title:** \"Checking\"\n\n**Description:** It goes over it.", "Checking", "It goes over it.", ""},
		{`{"title": "T"}`, "", "", Unreadable},
		{`{"title": "", "description": "D"}`, "", "", BadValue},
		{`{"title": 3, "description": "D"}`, "", "", BadValue},
		{`{"title": ["T"], "description": "D"}`, "", "", BadValue},
		{`{"title": "T", "description": {"in": "D"}}`, "", "", BadValue},
		{`{"title": " \n", "description": "D"}`, "", "", BadValue},
		{`{"title": null, "description": "D"}`, "", "", Unreadable},
		{`{"title": "T", "description": "D`, "", "", CutOff},
		{"{\n  \"title\": \"T\",\n  \"description\": \"D", "", "", CutOff},
		{"{\n  title: \"T\",\n  description: \"D\"\n}", "", "", Unreadable},
		{"```\nTitle: T\nDescription: D\n```", "T", "D", ""},
		{"## Title: T\r\n\r\n## Description:\r\nD,\r\nand E.\r\n\r\nF", "T", "D, and E.", ""},
		{"Title:\nDescription: D", "", "", Unreadable},
		{"Title: T", "", "", Unreadable},
		{"Description: D\nTitle: T", "", "", Unreadable},
		{"<think>Title: A\nDescription: B</think>Title: T\nDescription: D", "T", "D", ""},
		{"<think>Title: A\nDescription: B", "", "", CutOff},
		{"", "", "", Empty},
	} {
		title, description, err := ParseTitle(tc.content)
		if title != tc.title || description != tc.description || ReasonOf(err) != tc.reason {
			t.Errorf("%q: %q, %q, %v", tc.content, title, description, err)
		}
	}
}

func TestReplyText(t *testing.T) {
	for _, tc := range []struct {
		r    Reply
		want Reason
	}{
		{Reply{Content: "x", FinishReason: "stop"}, ""},
		{Reply{Content: "x"}, ""},
		{Reply{Error: "batch_expired"}, Missing},
		{Reply{Content: "x", Refusal: "no"}, Refused},
		{Reply{Content: `{"title": "T", "description": "D"}`, FinishReason: "length"}, CutOff},
		{Reply{Content: "x", FinishReason: "content_filter"}, Refused},
		{Reply{Content: " "}, Empty},
	} {
		if _, err := tc.r.Text(); ReasonOf(err) != tc.want {
			t.Errorf("%+v: %v, want %q", tc.r, err, tc.want)
		}
	}
}
