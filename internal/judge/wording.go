package judge

import (
	"errors"
	"strings"
	"text/template"
)

// Wording is somebody's own text for the user message of a prompt: a template
// (https://pkg.go.dev/text/template) over Fields. The system message, the schema
// and the limits stay as they are.
type Wording struct{ t *template.Template }

// Fields are what a Wording can say.
type Fields struct {
	// Data is the block of JSON with all that the prompt is about, between its
	// marker lines. A wording has to show it once, on lines of its own.
	Data string
	// Form shows the form in which the answer has to come.
	Form string
	// Examples are the example categories of a title prompt; "" if none are asked
	// for.
	Examples string
	// Title and Description are of the category that an accuracy or fit prompt is
	// about; else "".
	Title, Description string
}

// formLine is the line before the form of the answer in every prompt.
const formLine = "Form of the answer:\n"

// NewWording reads a template and tries it. Its errors say what is wrong in which
// line.
func NewWording(text string) (*Wording, error) {
	t, err := template.New("line").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, plainTemplate(err)
	}
	w := &Wording{t}
	try := AccuracyPrompt(Category{Title: "Title", Description: "Description."}, Numbered([]string{"A sentence."}), true)
	if _, err := w.Reword(try); err != nil {
		return nil, err
	}
	return w, nil
}

// Reword gives a prompt this wording; a nil Wording changes nothing.
func (w *Wording) Reword(p Prompt) (Prompt, error) {
	if w == nil {
		return p, nil
	}
	var f Fields
	begin, end := strings.Index(p.User, beginData+"\n"), strings.Index(p.User, "\n"+endData+"\n")
	_, form, ok := strings.Cut(p.User, formLine)
	if begin < 0 || end < begin || !ok {
		return p, errors.New("the prompt has no data block")
	}
	f.Data, f.Form = p.User[begin:end]+"\n"+endData, form
	d, err := ReadData(p.User)
	if err != nil {
		return p, err
	}
	if d.Category != nil {
		f.Title, f.Description = d.Category.Title, d.Category.Description
	}
	if i := strings.Index(p.User, exampleIntro); i >= 0 && i < begin {
		f.Examples = strings.TrimSpace(p.User[i:begin])
		if j := strings.Index(f.Examples, tracesIntro); j >= 0 {
			f.Examples = strings.TrimSpace(f.Examples[:j])
		}
	}
	var b strings.Builder
	if err := w.t.Execute(&b, f); err != nil {
		return p, plainTemplate(err)
	}
	p.User = b.String()
	switch got, err := ReadData(p.User); {
	case err != nil:
		return p, errors.New("it has to show {{.Data}} once, on lines of its own")
	case len(got.Sentences) != len(d.Sentences) || got.Task != d.Task:
		return p, errors.New("its data block is not the one of {{.Data}}")
	}
	return p, nil
}

// plainTemplate takes the name of our own making out of an error of the template
// library: "line:3: …" is line 3.
func plainTemplate(err error) error {
	text := strings.TrimPrefix(err.Error(), "template: ")
	text = strings.Replace(text, "line:", "line ", 1)
	text = strings.Replace(text, `executing "line" at `, "", 1)
	return errors.New(text)
}
