package judge

import (
	"strings"
	"testing"
)

func TestWording(t *testing.T) {
	s := Numbered([]string{"One {{.Form}} is text.", "Two."})
	c := Category{ID: 3, Title: "Counting", Description: "It counts."}
	w, err := NewWording("Is this {{.Title}} ({{.Description}})?\n{{.Data}}\nAnswer so: {{.Form}}")
	if err != nil {
		t.Fatal(err)
	}
	plain := AccuracyPrompt(c, s, true)
	p, err := w.Reword(plain)
	if err != nil {
		t.Fatal(err)
	}
	if want := "Is this Counting (It counts.)?\nBEGIN DATA\n"; !strings.HasPrefix(p.User, want) || !strings.HasSuffix(p.User, "END DATA\nAnswer so: "+`{"answers": [{"id": 1, "explanation": "…", "answer": "Yes"}, {"id": 2, "explanation": "…", "answer": "No"}, …]}`) {
		t.Errorf("%q", p.User)
	}
	d, err := ReadData(p.User)
	if err != nil || len(d.Sentences) != 2 || d.Sentences[0].Text != s[0].Text {
		t.Errorf("%+v, %v", d, err)
	}
	if p.System != plain.System || string(p.Schema) != string(plain.Schema) || p.MaxTokens != plain.MaxTokens {
		t.Error("more than the user message changed")
	}

	title, err := NewWording("{{.Examples}}|\n{{.Data}}\n{{.Form}}")
	if err != nil {
		t.Fatal(err)
	}
	p, err = title.Reword(TitlePrompt(TitleInput{Sentences: s, Traces: []string{"A trace."}, ExampleCategories: 1}))
	if err != nil || !strings.HasPrefix(p.User, exampleIntro) || strings.Contains(p.User, tracesIntro) || !strings.Contains(p.User, "Title: Hypothesis generation") {
		t.Errorf("%q, %v", p.User, err)
	}
	if p, err = title.Reword(TitlePrompt(TitleInput{Sentences: s})); err != nil || !strings.HasPrefix(p.User, "|\n") {
		t.Errorf("%q, %v", p.User, err)
	}
	choice, err := NewWording("{{/* ours */}}{{if .Title}}Of {{.Title -}} : {{else}}Of all: {{end}}\n{{.Data}}\n{{.Form}}")
	if err != nil {
		t.Fatal(err)
	}
	for want, q := range map[string]Prompt{"Of Counting: \nBEGIN": plain, "Of all: \nBEGIN": CompletenessPrompt([]Category{c}, s, true)} {
		if p, err := choice.Reword(q); err != nil || !strings.HasPrefix(p.User, want) {
			t.Errorf("%q, %v; want %q first", p.User, err, want)
		}
	}
	if p, err := (*Wording)(nil).Reword(plain); err != nil || p.User != plain.User {
		t.Error("no wording changed the prompt")
	}
}

func TestWordingIsTriedAtOnce(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "has to show {{.Data}} once",
		"Hello.":                        "has to show {{.Data}} once",
		"{{.Data}}\n{{.Data}}":          "has to show {{.Data}} once",
		"Here: {{.Data}}":               "has to show {{.Data}} once",
		"{{.Data}}\n\n{{.Dta}}":         "line 3:",
		"one\n{{if}}\n{{.Data}}":        "line 2:",
		"{{.Data}}\n{{env \"SECRET\"}}": "line 2:",
		"{{range $x := .Data}}{{end}}":  "line 1:",

		"{{if .Title}}\n{{.Data}}\n{{end}}":                                        "has to show {{.Data}} once", // not in a title prompt
		"{{if .Examples}}x{{else}}\n{{.Data}}\n{{end}}":                            "has to show {{.Data}} once",
		"{{.Data}}\n\n{{printf \"%9999999d\" 1}}":                                  "line 3: {{printf \"%9999999d\" 1}} is not for prompts",
		"{{.Data}}\n{{range 1000000000}}x{{end}}":                                  "line 2: {{range 1000000000}} is not for prompts",
		"{{.Data}}\n{{with .Title}}{{.}}{{end}}":                                   "line 2: {{with .Title}} is not for prompts",
		"{{.Data}}\n{{if .Title}}\n{{len .Data}}{{end}}":                           "line 3: {{len .Data}} is not for prompts",
		"{{.Data}}\n{{if .Title}}{{else}}{{$.Form}}{{end}}":                        "line 2: {{$.Form}} is not for prompts",
		"{{.Data}}\n{{.Title | html}}":                                             "line 2:",
		"{{.Data}}\n{{.Data.Sentences}}":                                           "line 2:",
		"{{define \"x\"}}{{template \"x\"}}{{end}}\n{{.Data}}\n{{template \"x\"}}": "defines a template",
	} {
		if _, err := NewWording(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
