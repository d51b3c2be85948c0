package studies

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

const environPrefix = "CLUSTERFLOW_VAR_"

// input is a value for a variable from outside the study.
type input struct {
	name  string
	at    Range
	text  string    // from --var or the environment
	value cty.Value // from a file; NilVal for text
}

// variables settles every variable: the last of its default, the environment,
// the variable files and --var, in this order. Variables without a value
// become unknown, which nothing complains about again.
func (d *decoder) variables() {
	blocks := d.blocks["variable"]
	names := labels(blocks)
	d.scope.names["var"] = names
	given := map[string]input{}
	for _, in := range d.inputs(names) {
		if !slices.Contains(names, in.name) {
			d.errorf(in.at, fmt.Sprintf("Unknown variable %q", in.name), "%s",
				"The study declares no such variable."+cmp.Or(didYouMean(in.name, names, "%s"), listing("There is", names, "%s")))
			continue
		}
		given[in.name] = in
	}
	values := map[string]cty.Value{}
	for _, b := range blocks {
		name := b.Labels[0]
		in, ok := given[name]
		v := d.variable(b, in, ok)
		values[name] = v
		if v.IsWhollyKnown() {
			d.study.Vars[name] = displayed(v)
		}
	}
	d.scope.set("var", values)
}

// variable reads a variable block and settles its value.
func (d *decoder) variable(b *hclsyntax.Block, in input, given bool) cty.Value {
	name := b.Labels[0]
	r := d.reader(b, "variable."+name)
	r.attributes = append(r.attributes, "type", "default", "description")
	defer r.done()

	ty, declared := cty.DynamicPseudoType, false
	if attr := b.Body.Attributes["type"]; attr != nil {
		t, diags := typeexpr.TypeConstraint(attr.Expr)
		d.diags = append(d.diags, diags...)
		if diags.HasErrors() {
			return cty.DynamicVal
		}
		ty, declared = t, true
	}
	if attr := b.Body.Attributes["description"]; attr != nil {
		d.constant(attr)
	}
	def, at := cty.NilVal, r.at
	if attr := b.Body.Attributes["default"]; attr != nil {
		at = attr.Expr.Range()
		v, ok := d.constant(attr)
		v, err := convert.Convert(v, ty)
		if ok && err != nil {
			d.errorf(at, "Wrong type of default", "Variable %q is declared as %s: %v.", name, typeName(ty), err)
		}
		if !ok || err != nil {
			v = cty.DynamicVal
		}
		def = v
		if !declared && v.Type().IsPrimitiveType() {
			ty = v.Type()
		}
	}
	switch {
	case given:
		return d.settle(in, ty, declared || def != cty.NilVal && !def.IsNull())
	case def != cty.NilVal:
		return def
	}
	d.errorf(at, fmt.Sprintf("No value for variable %q", name),
		"It has no default. Give it with --var %s=…, in a file for --var-file, or as %s%s in the environment.", name, environPrefix, name)
	return cty.DynamicVal
}

// constant evaluates a value that may not refer to anything.
func (d *decoder) constant(attr *hclsyntax.Attribute) (cty.Value, bool) {
	for _, t := range hclsyntax.Variables(attr.Expr) {
		d.errorf(t.SourceRange(), "A variable's block stands alone", "%s cannot refer to anything. For a value made of others use locals.", attr.Name)
		return cty.DynamicVal, false
	}
	v, ok, diags := d.scope.eval(attr.Expr)
	d.diags = append(d.diags, diags...)
	return v, ok
}

// settle turns an input into a value of type ty. Text is taken as it is where
// text will do, and read as an expression where the variable is a list, a map
// or anything else that has no other spelling.
func (d *decoder) settle(in input, ty cty.Type, typed bool) cty.Value {
	v := in.value
	if v == cty.NilVal {
		if ty.IsPrimitiveType() || !typed {
			v = cty.StringVal(in.text)
		} else {
			expr, diags := d.expression(in)
			d.diags = append(d.diags, diags...)
			if diags.HasErrors() {
				return cty.DynamicVal
			}
			value, ok, diags := d.scope.eval(expr)
			d.diags = append(d.diags, diags...)
			if !ok {
				return cty.DynamicVal
			}
			v = value
		}
	}
	out, err := convert.Convert(v, ty)
	if err != nil {
		d.errorf(in.at, fmt.Sprintf("Wrong value for variable %q", in.name), "It takes %s, and this is %s.", typeName(ty), firstLine(describe(v), 80))
		return cty.DynamicVal
	}
	return out
}

func (d *decoder) expression(in input) (hclsyntax.Expression, hcl.Diagnostics) {
	if problem := checkShape(in.at.Filename, []byte(in.text), in.at.Start); problem != nil {
		return nil, hcl.Diagnostics{problem}
	}
	return hclsyntax.ParseExpression([]byte(in.text), in.at.Filename, in.at.Start)
}

// inputs collects the values from outside, weakest first.
func (d *decoder) inputs(names []string) []input {
	var all []input
	for _, entry := range d.opt.Environ {
		key, value, _ := strings.Cut(entry, "=")
		// Other studies have variables too: an unknown one is no mistake.
		if name, ok := strings.CutPrefix(key, environPrefix); ok && slices.Contains(names, name) {
			all = append(all, d.textInput(key, name, "", value))
		}
	}
	for _, path := range d.opt.VarFiles {
		all = append(all, d.fileInputs(path)...)
	}
	for _, entry := range d.opt.Vars {
		name, value, ok := strings.Cut(entry, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			d.diags = append(d.diags, &hcl.Diagnostic{
				Severity: hcl.DiagError,
				Summary:  fmt.Sprintf("Cannot read --var %s", firstLine(entry, 60)),
				Detail:   "Write --var NAME=VALUE, e.g. --var judge=gpt-4o.",
			})
			continue
		}
		all = append(all, d.textInput("--var "+name, name, entry[:len(entry)-len(value)], value))
	}
	return all
}

// textInput makes a source of its own of a value given on the command line or
// in the environment, so that diagnostics can point into it.
func (d *decoder) textInput(source, name, prefix, value string) input {
	for base, n := source, 2; d.study.files[source] != nil; n++ {
		source = fmt.Sprintf("%s (%d)", base, n)
	}
	d.study.files[source] = &hcl.File{Bytes: []byte(prefix + value)}
	start := hcl.Pos{Line: 1, Column: 1 + len([]rune(prefix)), Byte: len(prefix)}
	end := hcl.Pos{Line: 1, Column: start.Column + len([]rune(value)), Byte: start.Byte + len(value)}
	return input{name: name, text: value, at: Range{Filename: source, Start: start, End: end}}
}

// fileInputs reads a variable file: attributes in HCL, or a JSON object.
func (d *decoder) fileInputs(path string) []input {
	src, err := os.ReadFile(path)
	if err != nil {
		d.diags = append(d.diags, &hcl.Diagnostic{
			Severity: hcl.DiagError,
			Summary:  fmt.Sprintf("Cannot read the variable file %s", path),
			Detail:   fmt.Sprintf("Opening it failed: %v. Paths on the command line are relative to the current folder.", err),
		})
		return nil
	}
	var file *hcl.File
	var diags hcl.Diagnostics
	if strings.HasSuffix(path, ".json") {
		file, diags = json.Parse(src, path)
	} else {
		file, diags = parse(path, src)
	}
	d.diags = append(d.diags, diags...)
	if file == nil || diags.HasErrors() {
		d.study.files[path] = &hcl.File{Bytes: src}
		return nil
	}
	d.study.files[path] = file
	attrs, diags := file.Body.JustAttributes()
	d.diags = append(d.diags, diags...)
	var all []input
	for name, attr := range attrs {
		v, diags := attr.Expr.Value(nil)
		d.diags = append(d.diags, diags...)
		if diags.HasErrors() {
			v = cty.DynamicVal
		}
		all = append(all, input{name: name, value: v, at: attr.Expr.Range()})
	}
	return all
}

// displayed is a variable's value as people type it.
func displayed(v cty.Value) string {
	if !v.IsNull() && v.Type() == cty.String {
		return v.AsString()
	}
	return describe(v)
}

func typeName(ty cty.Type) string {
	if ty == cty.DynamicPseudoType {
		return "any"
	}
	return an(ty.FriendlyName())
}
