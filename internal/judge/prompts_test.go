package judge

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// samplePrompts renders every prompt of the set on fixed inputs.
func samplePrompts() map[string]Prompt {
	s := Numbered([]string{"Wait, that can't be right.", "So 3 < 5 & \"x\" > 2.\nEND DATA", "Let me check — again."})
	cs := []Category{
		{ID: 0, Title: "Checking a result", Description: "The sentence goes back over a result. A new calculation is not included."},
		{ID: 4, Title: "Recalling a rule", Description: "The sentence brings a known rule in."},
	}
	p := map[string]Prompt{
		"accuracy":     AccuracyPrompt(cs[1], s, true),
		"completeness": CompletenessPrompt(cs, s, true),
		"fit":          FitPrompt(cs[1], s[2], true),
		"similarity":   SimilarityPrompt(cs[0], cs[1]),

		"accuracy, unexplained":     AccuracyPrompt(cs[1], s, false),
		"completeness, unexplained": CompletenessPrompt(cs, s, false),
		"fit, unexplained":          FitPrompt(cs[1], s[2], false),

		"title/traces": TitlePrompt(TitleInput{Sentences: s, Traces: []string{"First.\n\nSecond.", "Third."}}),
	}
	for n := range 6 {
		p[fmt.Sprintf("title/%d", n)] = TitlePrompt(TitleInput{Sentences: s, ExampleCategories: n})
	}
	return p
}

// TestPromptsAreFrozen holds the digests of prompt set v1: paid answers belong
// to exactly this wording. A new wording is a new PromptVersion, never a new
// digest here.
func TestPromptsAreFrozen(t *testing.T) {
	if PromptVersion != "v1" {
		t.Fatalf("PromptVersion is %q: keep the digests of v1 and add those of the new set", PromptVersion)
	}
	want := map[string]string{
		"accuracy":                  "feef630881a6cd542411e91d2b741a9d",
		"completeness":              "6707c5103949b2f90b1e5c5152f0a145",
		"fit":                       "0d807db7b7109fa6e92eefe7c3496455",
		"similarity":                "1a9e447c78b7b2b230045f887ce64de0",
		"accuracy, unexplained":     "149f22ed38e9526866cf58843571b948",
		"completeness, unexplained": "21abcbaee052f64b9381c0a121294753",
		"fit, unexplained":          "6bed29773bfb5e77dece67d78e5748a5",

		"title/0":      "5308d6776995a300e8da7ff883de0187",
		"title/1":      "5b2c9fdc7b9acbe9c6fb5a2d06a09e6c",
		"title/2":      "2901ee9d5eaed65413024f27ad296370",
		"title/3":      "df444474f5466f352dddec5a60b3d8b9",
		"title/4":      "0014420291af17f730a816d0a3f303de",
		"title/5":      "40224ef17368c2dc48cddfb606180249",
		"title/traces": "22ef00a407d28fe1f3840878feebe8d0",
	}
	for name, p := range samplePrompts() {
		h := sha256.New()
		for _, part := range []string{p.System, p.User, p.SchemaName, string(p.Schema), fmt.Sprint(p.MaxTokens)} {
			fmt.Fprintf(h, "%q\n", part)
		}
		if got := hex.EncodeToString(h.Sum(nil))[:32]; got != want[name] {
			t.Errorf("prompt %q changed: digest %s, want %s\n%s", name, got, want[name], p.User)
		}
	}
}

func TestReadDataReadsBackWhatPromptsCarry(t *testing.T) {
	// Marker lines, quotes, line separators and angle brackets inside the data
	// must survive; invalid UTF-8 becomes U+FFFD.
	texts := []string{"BEGIN DATA\nEND DATA", `a "quoted" \ one`, "x < 5 && y > 3\u2028\r\n", "bad \xff byte", ""}
	s := Numbered(texts)
	c := Category{ID: 7, Title: "BEGIN DATA", Description: "END DATA\n"}
	cs := []Category{c, {ID: 9, Title: "t", Description: "d"}}
	wantText := Numbered(append(append([]string{}, texts[:3]...), "bad \ufffd byte", ""))
	one := Category{ID: 1, Title: c.Title, Description: c.Description}
	for _, tc := range []struct {
		p    Prompt
		want Data
	}{
		{TitlePrompt(TitleInput{Sentences: s, Traces: texts[:2], ExampleCategories: 5}), Data{Task: TaskTitle, Sentences: wantText, Traces: texts[:2]}},
		{AccuracyPrompt(c, s, true), Data{Task: TaskAccuracy, Category: &one, Sentences: wantText}},
		{CompletenessPrompt(cs, s, true), Data{Task: TaskCompleteness, Categories: cs, Sentences: wantText}},
		{FitPrompt(c, s[1], true), Data{Task: TaskFit, Category: &one, Sentences: []Sentence{{1, texts[1]}}}},
		{SimilarityPrompt(cs[0], cs[1]), Data{Task: TaskSimilarity, Categories: []Category{one, {2, "t", "d"}}}},
	} {
		got, err := ReadData(tc.p.User)
		if err != nil {
			t.Fatalf("%s: %v", tc.want.Task, err)
		}
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.want.Task, got, tc.want)
		}
		if strings.Contains(tc.p.User, `\u003c`) {
			t.Errorf("%s: the data is escaped for HTML", tc.want.Task)
		}
	}
}

func TestReadDataRejects(t *testing.T) {
	for _, user := range []string{
		"", "no block", "BEGIN DATA\n{\"task\":\"title\"}", "END DATA\nBEGIN DATA\n{}\nEND DATA",
		"BEGIN DATA\n{}\nEND DATA", "BEGIN DATA\n{\"task\":\"other\"}\nEND DATA", "BEGIN DATA\nnot json\nEND DATA",
		"BEGIN DATA\n{\"task\":\"title\"}\nEND DATA\nBEGIN DATA\n{\"task\":\"title\"}\nEND DATA",
	} {
		if d, err := ReadData(user); err == nil {
			t.Errorf("%q gave %+v, want an error", user, d)
		}
	}
}

// TestSchemasAreStrict checks what OpenAI's strict mode asks of a schema: every
// object lists all its properties as required and allows no others
// (platform.openai.com/docs/guides/structured-outputs, "Supported schemas").
func TestSchemasAreStrict(t *testing.T) {
	var walk func(name string, v any)
	walk = func(name string, v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(name, e)
			}
		case map[string]any:
			if v["type"] == "object" {
				props, _ := v["properties"].(map[string]any)
				required, _ := v["required"].([]any)
				if v["additionalProperties"] != false || len(props) == 0 || len(required) != len(props) {
					t.Errorf("%s: not strict: %v", name, v)
				}
				for _, r := range required {
					if props[r.(string)] == nil {
						t.Errorf("%s: required property %v is not declared", name, r)
					}
				}
			}
			for _, e := range v {
				walk(name, e)
			}
		}
	}
	for name, p := range samplePrompts() {
		var v any
		if err := json.Unmarshal(p.Schema, &v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		walk(name, v)
		if p.SchemaName == "" || p.MaxTokens < 100 || p.System == "" {
			t.Errorf("%s: schema name %q, limit %d", name, p.SchemaName, p.MaxTokens)
		}
	}
	if got := AccuracyPrompt(Category{}, make([]Sentence, 50), true).MaxTokens; got < 50*100 || got > 16384 {
		t.Errorf("limit for 50 explained answers is %d: too small for them, or above the 16,384 tokens that gpt-4o can write", got)
	}
}

func TestExampleCategories(t *testing.T) {
	titles := []string{
		"Hypothesis generation", "Explicit acknowledgement of uncertainty", "Declaration of a stepwise plan",
		"Articulation of an assumption", "Recall of a definition", // reference.md §4
	}
	for n := -1; n <= 7; n++ {
		user := TitlePrompt(TitleInput{Sentences: Numbered([]string{"a b c"}), ExampleCategories: n}).User
		for i, title := range titles {
			if got, want := strings.Contains(user, "Title: "+title), i < n; got != want {
				t.Errorf("%d example categories: %q shown is %v, want %v", n, title, got, want)
			}
		}
	}
}
