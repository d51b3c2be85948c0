package studies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// reader takes one block apart. Every attribute that is asked for is part of
// the language; done reports what nobody asked for. So the decoder of a block
// is its schema too.
type reader struct {
	d    *decoder
	body *hclsyntax.Body
	at   Range  // the block's header
	what string // "model", for messages
	path string // "model.r1-qwen", for settings

	attributes []string // asked for
	blocks     []string
	later      []string // known, but of a later release

	quiet bool // record no settings
}

func (d *decoder) reader(b *hclsyntax.Block, path string) *reader {
	return &reader{d: d, body: b.Body, at: b.DefRange(), what: b.Type, path: path}
}

func (r *reader) errorf(at Range, summary, detail string, args ...any) {
	r.d.errorf(at, summary, detail, args...)
}

// eval evaluates an attribute. attr is nil where it is absent, or null, which
// means the same; ok is false where it is there but came to nothing, which is
// then reported already.
func (r *reader) eval(name string) (v cty.Value, attr *hclsyntax.Attribute, ok bool) {
	r.attributes = append(r.attributes, name)
	attr = r.body.Attributes[name]
	if attr == nil {
		if b := r.blockNamed(name); b != nil {
			r.errorf(b.TypeRange, fmt.Sprintf("%s is an attribute", name), "Write %s = … instead of a block.", name)
			r.blocks = append(r.blocks, name)
		}
		return cty.NilVal, nil, false
	}
	v, ok, diags := r.d.scope.eval(attr.Expr)
	r.d.diags = append(r.d.diags, diags...)
	if ok && v.IsNull() {
		return cty.NilVal, nil, false
	}
	return v, attr, ok
}

func (r *reader) blockNamed(name string) *hclsyntax.Block {
	for _, b := range r.body.Blocks {
		if b.Type == name {
			return b
		}
	}
	return nil
}

// get reads an optional attribute.
func get[T any](r *reader, name string, def T, c conv[T]) Value[T] {
	return getShown(r, name, def, show(def), c)
}

// getShown is get for a default that settings show in other words.
func getShown[T any](r *reader, name string, def T, defText string, c conv[T]) Value[T] {
	out := Value[T]{V: def, Range: r.at}
	v, attr, ok := r.eval(name)
	if attr == nil {
		r.setting(name, defText, defText, "")
		return out
	}
	out.Range = attr.Expr.Range()
	if !ok {
		return out
	}
	t, p := c(v)
	if p != nil {
		r.problem(out.Range, name, p)
		return out
	}
	out.V, out.Set = t, true
	r.setting(name, describe(v), defText, out.Origin())
	return out
}

// need reads a required attribute; example shows one.
func need[T any](r *reader, name, example string, c conv[T]) Value[T] {
	var none T
	out := Value[T]{V: none, Range: r.at}
	v, attr, ok := r.eval(name)
	if attr == nil {
		r.missing(name, example)
		return out
	}
	out.Range = attr.Expr.Range()
	if !ok {
		return out
	}
	t, p := c(v)
	if p != nil {
		r.problem(out.Range, name, p)
		return out
	}
	out.V, out.Set = t, true
	r.setting(name, describe(v), "", out.Origin())
	return out
}

// items is a list attribute with the place of each element.
type items[T any] struct {
	Value[[]T]
	Places []Range // of the elements that are right, also where others are not
}

// getList reads an optional list whose elements differ. empty says that []
// has a meaning.
func getList[T comparable](r *reader, name string, def []T, empty bool, c conv[T]) items[T] {
	out := items[T]{Value: Value[[]T]{V: def, Range: r.at}}
	v, attr, ok := r.eval(name)
	defText := ""
	if def != nil {
		defText = show(def)
	}
	if attr == nil {
		if def != nil {
			r.setting(name, defText, defText, "")
		}
		return out
	}
	out.Range = attr.Expr.Range()
	if !ok {
		return out
	}
	if ty := v.Type(); !ty.IsListType() && !ty.IsTupleType() && !ty.IsSetType() {
		r.problem(out.Range, name, &problem{want: "a list", got: v, advice: fmt.Sprintf("Write %s = [ … ].", name)})
		return out
	}
	if v.LengthInt() == 0 && !empty {
		r.errorf(out.Range, fmt.Sprintf("%s is empty", name), "Name at least one.")
		return out
	}
	places := elementRanges(attr.Expr, v.LengthInt())
	good := true
	var list []T
	for i, e := range v.AsValueSlice() {
		if e.IsNull() {
			r.element(places[i], name, &problem{want: "a value", got: e})
			good = false
			continue
		}
		t, p := c(e)
		switch {
		case p != nil:
			r.element(places[i], name, p)
			good = false
		case slices.Contains(list, t):
			r.errorf(places[i], fmt.Sprintf("%s stands in %s twice", describe(e), name), "Remove one of the two.")
			good = false
		default:
			list = append(list, t)
			out.Places = append(out.Places, places[i])
		}
	}
	out.V, out.Set = list, good
	r.setting(name, describe(v), defText, out.Origin())
	return out
}

// needList is getList for a required list.
func needList[T comparable](r *reader, name, example string, c conv[T]) items[T] {
	out := getList(r, name, nil, false, c)
	if r.absent(name) {
		r.missing(name, example)
	}
	return out
}

// absent says that an attribute is not there, or null.
func (r *reader) absent(name string) bool {
	attr := r.body.Attributes[name]
	if attr == nil {
		return true
	}
	v, ok, _ := r.d.scope.eval(attr.Expr)
	return ok && v.IsNull()
}

func (r *reader) missing(name, example string) {
	at := r.at
	if attr := r.body.Attributes[name]; attr != nil {
		at = attr.Expr.Range()
	}
	r.errorf(at, fmt.Sprintf("%s is missing", name), "This %s block needs the attribute %s, e.g. %s = %s", r.what, name, name, example)
}

// problem reports that a value is not what its attribute takes.
func (r *reader) problem(at Range, name string, p *problem) {
	if p.summary != "" {
		r.errorf(at, p.summary, "%s", p.advice)
		return
	}
	r.wrong(at, fmt.Sprintf("Wrong value for %s", name), name+" takes", p)
}

// element is problem for one element of a list.
func (r *reader) element(at Range, name string, p *problem) {
	r.wrong(at, fmt.Sprintf("Wrong value in %s", name), fmt.Sprintf("Each of %s has to be", name), p)
}

func (r *reader) wrong(at Range, summary, intro string, p *problem) {
	detail := fmt.Sprintf("%s %s, and this is %s.", intro, p.want, firstLine(describe(p.got), 80))
	if p.advice != "" {
		detail += " " + p.advice
	}
	r.errorf(at, summary, "%s", detail)
}

// name is "a model block", at the beginning of a sentence.
func (r *reader) name() string {
	s := an(r.what) + " block"
	return strings.ToUpper(s[:1]) + s[1:]
}

// notYet refuses an attribute of a later release, whatever its value:
// consequence says what would silently not happen.
func (r *reader) notYet(name, consequence string) {
	r.later = append(r.later, name)
	if attr := r.body.Attributes[name]; attr != nil {
		r.errorf(attr.NameRange, fmt.Sprintf("%s is not in this release", name), "%s Remove the attribute to run the study without it.", consequence)
	} else if b := r.blockNamed(name); b != nil {
		r.errorf(b.TypeRange, fmt.Sprintf("%s is not in this release", name), "%s Remove the block to run the study without it.", consequence)
	}
}

// child opens a nested block, nil where there is none.
func (r *reader) child(name string) *reader {
	r.blocks = append(r.blocks, name)
	var found *reader
	for _, b := range r.body.Blocks {
		if b.Type != name {
			continue
		}
		if len(b.Labels) > 0 {
			r.errorf(b.LabelRanges[0], fmt.Sprintf("%s takes no label", name), "Write %s { … }.", name)
		}
		if found != nil {
			r.errorf(b.DefRange(), fmt.Sprintf("A second %s block", name), "The first is in line %d. Put both into one.", found.at.Start.Line)
			continue
		}
		found = r.d.reader(b, r.path+"."+name)
	}
	if attr := r.body.Attributes[name]; attr != nil {
		r.attributes = append(r.attributes, name)
		r.errorf(attr.NameRange, fmt.Sprintf("%s is a block", name), "Write %s { … }, without an equals sign.", name)
	}
	if found == nil {
		// Asked of nothing, a block answers with its defaults.
		return &reader{d: r.d, body: &hclsyntax.Body{}, at: r.at, what: name, path: r.path + "." + name}
	}
	return found
}

// done reports attributes and blocks that the language has not got.
func (r *reader) done() {
	for name, attr := range r.body.Attributes {
		if slices.Contains(r.attributes, name) || slices.Contains(r.later, name) {
			continue
		}
		known := slices.Concat(r.attributes, r.blocks)
		advice := didYouMean(name, known, "%s")
		if advice == "" {
			advice = listing("It takes", known, "%s")
		}
		r.errorf(attr.NameRange, fmt.Sprintf("Unknown attribute %q", name), "%s", fmt.Sprintf("%s has no such attribute.%s", r.name(), advice))
	}
	for _, b := range r.body.Blocks {
		if slices.Contains(r.blocks, b.Type) || slices.Contains(r.later, b.Type) {
			continue
		}
		advice := didYouMean(b.Type, slices.Concat(r.blocks, r.attributes), "%s")
		if d := blockType(b.Type); advice == "" && d != nil {
			advice = fmt.Sprintf(" It stands on its own, outside of the %s block: is a closing brace missing before it?", r.what)
		}
		r.errorf(b.TypeRange, fmt.Sprintf("Unknown block %q", b.Type), "%s", fmt.Sprintf("%s contains no such block.%s", r.name(), advice))
	}
}

// errorf adds an error about a place; detail is a format.
func (d *decoder) errorf(at Range, summary, detail string, args ...any) {
	d.diags = append(d.diags, &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  summary,
		Detail:   fmt.Sprintf(detail, args...),
		Subject:  &at,
	})
}

// setting records an attribute for the list of settings.
func (r *reader) setting(name, value, def, origin string) {
	if !r.quiet {
		r.d.study.Settings = append(r.d.study.Settings, Setting{r.path + "." + name, value, def, origin})
	}
}

// amend changes the value of a setting that another attribute decides.
func (r *reader) amend(name, value, origin string) {
	for i := range r.d.study.Settings {
		if s := &r.d.study.Settings[i]; s.Name == r.path+"."+name {
			s.Value, s.Origin = value, origin
		}
	}
}
