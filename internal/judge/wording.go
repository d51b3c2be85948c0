package judge

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"text/template"
	"text/template/parse"
)

// Wording is somebody's own text for the user message of a prompt: a template
// (https://pkg.go.dev/text/template) that shows Fields, or asks by if whether
// they are there, and can do nothing else. The system message, the schema and the
// limits stay as they are.
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

// NewWording reads a template and tries it on every kind of question. Its errors
// begin with "line 3: " where a line is to blame.
func NewWording(text string) (*Wording, error) {
	t, err := template.New("line").Parse(text)
	if err != nil {
		return nil, plainTemplate(err)
	}
	if len(t.Templates()) > 1 {
		return nil, errors.New("it defines a template of its own, which no question shows")
	}
	if t.Tree != nil {
		if err := plainNode(t.Tree, t.Root); err != nil {
			return nil, err
		}
	}
	w := &Wording{t}
	c, s := Category{Title: "Title", Description: "Description."}, Numbered([]string{"A sentence."})
	for _, try := range []Prompt{
		AccuracyPrompt(c, s, true), CompletenessPrompt([]Category{c}, s, true), FitPrompt(c, s[0], true), SimilarityPrompt(c, c),
		TitlePrompt(TitleInput{Sentences: s}), TitlePrompt(TitleInput{Sentences: s, ExampleCategories: 1}),
	} {
		if _, err := w.Reword(try); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// plainNode refuses whatever could loop, grow or call: a study, and its wording
// with it, may be somebody else's.
func plainNode(t *parse.Tree, n parse.Node) error {
	switch n := n.(type) {
	case nil, *parse.TextNode:
		return nil
	case *parse.ListNode:
		if n == nil {
			return nil // no else
		}
		for _, one := range n.Nodes {
			if err := plainNode(t, one); err != nil {
				return err
			}
		}
		return nil
	case *parse.ActionNode:
		return plainPipe(t, n, n.Pipe)
	case *parse.IfNode:
		return cmp.Or(plainPipe(t, n, n.Pipe), plainNode(t, n.List), plainNode(t, n.ElseList))
	}
	return notPlain(t, n)
}

// plainPipe takes a single field.
func plainPipe(t *parse.Tree, n parse.Node, p *parse.PipeNode) error {
	if len(p.Decl) > 0 || len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 1 {
		return notPlain(t, n)
	}
	f, ok := p.Cmds[0].Args[0].(*parse.FieldNode)
	if !ok || len(f.Ident) != 1 {
		return notPlain(t, n)
	}
	if _, ok := reflect.TypeFor[Fields]().FieldByName(f.Ident[0]); !ok {
		return fmt.Errorf("line %d: there is no {{%s}}", lineOf(t, n), f)
	}
	return nil
}

func notPlain(t *parse.Tree, n parse.Node) error {
	text, _, _ := strings.Cut(n.String(), "}}")
	return fmt.Errorf("line %d: %s}} is not for prompts, which show fields or ask for them by {{if .Examples}} … {{else}} … {{end}}", lineOf(t, n), text)
}

// lineOf is the line that a node stands in, from 1.
func lineOf(t *parse.Tree, n parse.Node) int {
	at, _ := t.ErrorContext(n) // "line:3:14"
	var line int
	fmt.Sscanf(at, "line:%d:", &line)
	return line
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
	return errors.New(strings.Replace(text, "line:", "line ", 1))
}
