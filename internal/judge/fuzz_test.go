package judge

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// The fuzz targets read foreign bytes with one parser each. Every target also
// knows a second way to the answer: where the bytes are JSON of the very form
// that was asked for, encoding/json says what has to come out.

// seed adds the corpus of broken answers for a task.
func seed(f *testing.F, task string) {
	for _, k := range kinds {
		for _, d := range damage {
			if content := d.to(k.answer); k.task == task && len(content) < 4096 {
				f.Add(content)
			}
		}
	}
	for _, tc := range broken {
		if task == TaskAccuracy && len(tc.content) < 4096 {
			f.Add(tc.content)
		}
	}
}

// strictly decodes content if it is one JSON object with exactly these keys,
// each once, its texts well-formed and free of what leads a tolerant reader
// elsewhere. A key as in `{"a":1,"a":2}` counts twice, so that is not strict.
func strictly(content string, v any, keys ...string) bool {
	if strings.Contains(content, "think>") {
		return false
	}
	d := json.NewDecoder(strings.NewReader(content))
	d.DisallowUnknownFields()
	if d.Decode(v) != nil || d.More() || !json.Valid([]byte(content)) {
		return false
	}
	for _, k := range keys {
		if strings.Count(content, `"`+k+`"`) != 1 {
			return false
		}
	}
	return strings.ToValidUTF8(content, "") == content && !strings.ContainsAny(content, "\\“”„‟＂‘’‚‛'\u00a0\ufeff")
}

// failed checks that an error of a parser is a failure that can be counted.
func failed(t *testing.T, err error) {
	t.Helper()
	switch ReasonOf(err) {
	case Refused, CutOff, Empty, Unreadable, BadID, BadValue:
	default:
		t.Fatalf("%v has no reason of a parser", err)
	}
	if _, ok := err.(*Failure); !ok {
		t.Fatalf("%T is no *Failure", err)
	}
}

func FuzzParseTitle(f *testing.F) {
	seed(f, TaskTitle)
	f.Add(`{"title": "T", "description": "\ud83d\ude00 \ud83d"}`)
	f.Add("**Title:** a\n\n**Description:** b\n\nc")
	f.Fuzz(func(t *testing.T, content string) {
		title, description, err := ParseTitle(content)
		if err != nil {
			failed(t, err)
			if title != "" || description != "" {
				t.Fatalf("%q, %q with %v", title, description, err)
			}
		} else if title == "" || description == "" || title != tidy(title) || description != tidy(description) {
			t.Fatalf("%q, %q", title, description)
		}
		var in struct{ Title, Description *string }
		if strictly(content, &in, "title", "description") && in.Title != nil && in.Description != nil {
			a, b := tidy(*in.Title), tidy(*in.Description)
			if a != "" && b != "" && (title != a || description != b) {
				t.Fatalf("%q, %q, %v; the JSON says %q, %q", title, description, err, a, b)
			}
		}
	})
}

func FuzzParseAccuracy(f *testing.F) {
	seed(f, TaskAccuracy)
	f.Fuzz(func(t *testing.T, content string) {
		got, err := ParseAccuracy(content, []int{1, 2, 3})
		if (err == nil) == (len(got) == 0) {
			t.Fatalf("%d verdicts with error %v", len(got), err)
		}
		if err != nil {
			failed(t, err)
		}
		for id := range got {
			if id < 1 || id > 3 {
				t.Fatalf("sentence %d was not asked", id)
			}
		}
		var in struct {
			Answers []struct {
				ID     *int
				Answer *string
			}
		}
		if !strictly(content, &in, "answers") || strings.Count(content, `"id"`) != len(in.Answers) || strings.Count(content, `"answer"`) != len(in.Answers) {
			return
		}
		want, usable := map[int]bool{}, len(in.Answers) > 0
		for _, a := range in.Answers {
			if a.ID == nil || a.Answer == nil || *a.Answer != "Yes" && *a.Answer != "No" {
				return
			}
			if _, twice := want[*a.ID]; twice || *a.ID < 1 || *a.ID > 3 {
				usable = false
			}
			want[*a.ID] = *a.Answer == "Yes"
		}
		if usable != (err == nil) || usable && len(got) != len(want) {
			t.Fatalf("%v, %v; the JSON says %v", got, err, want)
		}
		for id, v := range got {
			if v.Yes != want[id] {
				t.Fatalf("%v; the JSON says %v", got, want)
			}
		}
	})
}

func FuzzParseCompleteness(f *testing.F) {
	seed(f, TaskCompleteness)
	f.Fuzz(func(t *testing.T, content string) {
		got, err := ParseCompleteness(content, []int{1, 2, 3}, []int{0, 4})
		if (err == nil) == (len(got) == 0) {
			t.Fatalf("%d assignments with error %v", len(got), err)
		}
		if err != nil {
			failed(t, err)
		}
		for id, a := range got {
			ok := a.Category == None && a.Confidence == 0 ||
				(a.Category == 0 || a.Category == 4) && a.Confidence >= 1 && a.Confidence <= 10
			if !ok || id < 1 || id > 3 {
				t.Fatalf("sentence %d: %+v", id, a)
			}
		}
		var in struct {
			Answers []struct {
				ID, Confidence *int
				Category       *string
			}
		}
		if !strictly(content, &in, "answers") {
			return
		}
		for _, key := range []string{"id", "category", "confidence"} {
			if strings.Count(content, `"`+key+`"`) != len(in.Answers) {
				return
			}
		}
		given, want, usable := map[int]bool{}, map[int]int{}, true
		for _, a := range in.Answers {
			if a.ID == nil || a.Category == nil || a.Confidence == nil {
				return
			}
			if given[*a.ID] || *a.ID < 1 || *a.ID > 3 {
				usable = false
			}
			given[*a.ID] = true
			switch c := *a.Confidence; {
			case *a.Category == "None":
				want[*a.ID] = None
			case *a.Category == "0" && c >= 1 && c <= 10:
				want[*a.ID] = 0
			case *a.Category == "4" && c >= 1 && c <= 10:
				want[*a.ID] = 4
			case *a.Category == "0" || *a.Category == "4" || *a.Category == "7":
			default:
				return // spelt in another way
			}
		}
		usable = usable && len(want) > 0
		if usable != (err == nil) || usable && len(got) != len(want) {
			t.Fatalf("%v, %v; the JSON says %v", got, err, want)
		}
		for id, a := range got {
			if a.Category != want[id] {
				t.Fatalf("%v; the JSON says %v", got, want)
			}
		}
	})
}

func FuzzParseFit(f *testing.F)        { fuzzScore(f, TaskFit, ParseFit) }
func FuzzParseSimilarity(f *testing.F) { fuzzScore(f, TaskSimilarity, ParseSimilarity) }

func fuzzScore(f *testing.F, task string, parse func(string) (float64, string, error)) {
	seed(f, task)
	f.Add(`{"score": "7/10"}`)
	f.Add(`{"score": 1e-400, "explanation": "tiny"}`)
	f.Fuzz(func(t *testing.T, content string) {
		score, why, err := parse(content)
		if err != nil {
			failed(t, err)
			if score != 0 || why != "" {
				t.Fatalf("%g, %q with %v", score, why, err)
			}
		} else if !(score >= 0 && score <= 10) || !strings.ContainsAny(content, "0123456789") {
			t.Fatalf("score %g", score)
		}
		var in struct {
			Score       *float64
			Explanation string
		}
		if !strictly(content, &in, "score", "explanation") || in.Score == nil {
			return
		}
		if usable := *in.Score >= 0 && *in.Score <= 10; usable != (err == nil) || usable && (score != *in.Score || why != strings.TrimSpace(in.Explanation)) {
			t.Fatalf("%g, %q, %v; the JSON says %g, %q", score, why, err, *in.Score, in.Explanation)
		}
	})
}

// FuzzAccuracyList makes answers rather than bytes: any ids and verdicts, told
// in any layout, of which it is known what must come out.
func FuzzAccuracyList(f *testing.F) {
	f.Add([]byte{1, 0, 2, 1, 3, 0}, uint64(0))
	f.Add([]byte{1, 0, 1, 1}, uint64(1))
	f.Add([]byte{9, 0}, uint64(2))
	f.Add([]byte{2, 2, 3, 3}, uint64(3))
	f.Fuzz(func(t *testing.T, raw []byte, layout uint64) {
		rng := rand.New(rand.NewPCG(layout, 1))
		pick := func(from ...string) string { return from[rng.IntN(len(from))] }
		want, bad := map[int]bool{}, len(raw) < 2
		given := map[int]bool{}
		var elements []string
		for ; len(raw) >= 2; raw = raw[2:] {
			id, verdict := int(raw[0]%8)-1, raw[1]%4
			bad = bad || given[id] || id < 1 || id > 3
			given[id] = true
			if verdict < 2 {
				want[id] = verdict == 0
			}
			elements = append(elements, fmt.Sprintf(`{%s: %s, "explanation": "%s", "answer": %s%s}`,
				pick(`"id"`, `"ID"`, `"sentence_id"`, `'id'`, `“id”`),
				fmt.Sprintf(pick("%d", `"%d"`, "%d.0", `"#%d"`, `"Sentence %d"`, `'%d'`), id),
				pick("", "so", "a “word”, it's", `{1} [2`, "x: y, z", `\"q\"`, "\n"),
				[]string{pick(`"Yes"`, `"yes."`, "true", "‘YES’"), pick(`"No"`, `"NO"`, "False", `"**no**"`), `"maybe"`, "null"}[verdict],
				pick("", ",", ", \"x\": [1, {}]")))
		}
		list := "[" + strings.Join(elements, pick(",", ", ", ",\n  ")) + pick("", ",") + "]"
		content := pick("", "```json\n", "Of {a} and [b]:\n", "<think>{\"answers\": [{\"id\": 1, \"answer\": \"No\"}]}</think>", "\ufeff") +
			pick(list, `{"answers": `+list+`}`, `{"Answers": `+list+`,}`, `{"data": {"answers": `+list+`}}`) +
			pick("", "\n```", "\nThat {is} all [of it].")
		got, err := ParseAccuracy(content, []int{1, 2, 3})
		if ok := !bad && len(want) > 0; ok != (err == nil) || ok && len(got) != len(want) {
			t.Fatalf("%v, %v, want %v from %s", got, err, want, content)
		}
		for id, v := range got {
			if v.Yes != want[id] {
				t.Fatalf("%v, want %v from %s", got, want, content)
			}
		}
	})
}

// FuzzValues holds the reader to its contract: its work is bounded by the
// length, and what encoding/json reads it reads as well.
func FuzzValues(f *testing.F) {
	for _, d := range damage {
		if content := d.to(kinds[2].answer); len(content) < 4096 {
			f.Add(content, uint8(1))
		}
	}
	f.Add("[", uint8(255))
	f.Add(`{"`, uint8(200))
	nested := regexp.MustCompile(`[\[{]`)
	f.Fuzz(func(t *testing.T, content string, times uint8) {
		content = strings.Repeat(content, int(times)*int(times))
		if len(content) > 1<<16 {
			content = content[:1<<16]
		}
		found, _ := values(content)
		if len(found) > len(content)/2 {
			t.Fatalf("%d values in %d bytes", len(found), len(content))
		}
		var v any
		trimmed := strings.TrimSpace(content)
		if json.Unmarshal([]byte(trimmed), &v) != nil || strings.ToValidUTF8(content, "") != content || len(nested.FindAllString(content, -1)) > maxDepth {
			return
		}
		switch v.(type) {
		case map[string]any, []any:
			if len(found) != 1 || fmt.Sprint(found[0]) != fmt.Sprint(v) {
				t.Fatalf("%v; encoding/json reads %v", found, v)
			}
		}
	})
}
