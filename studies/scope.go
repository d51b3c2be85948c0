package studies

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// ref is what dataset.responses or evaluator.judge evaluates to: a block, by
// type and label.
type ref struct{ kind, label string }

func (r ref) String() string { return r.kind + "." + r.label }

// refType carries a ref through expressions, so that lists, conditions and
// `for` work on references as on anything else.
var refType = cty.Capsule("reference", reflect.TypeOf(ref{}))

// scope is what expressions can see.
type scope struct {
	names map[string][]string // "var", "local", block types → declared names, in file order
	ctx   *hcl.EvalContext
}

func newScope(dir string) *scope {
	return &scope{
		names: map[string][]string{"var": nil, "local": nil},
		ctx:   &hcl.EvalContext{Variables: map[string]cty.Value{}, Functions: functions(dir)},
	}
}

// set gives a namespace its values.
func (s *scope) set(namespace string, values map[string]cty.Value) {
	s.ctx.Variables[namespace] = cty.ObjectVal(values)
}

// refer makes the blocks of one type known as TYPE.LABEL.
func (s *scope) refer(kind string, labels []string) {
	s.names[kind] = labels
	values := map[string]cty.Value{}
	for _, label := range labels {
		values[label] = cty.CapsuleVal(refType, &ref{kind, label})
	}
	s.set(kind, values)
}

// eval evaluates expr. ok is false if that failed (then diags say why), or if
// the value hangs on something that was reported elsewhere (then diags is
// empty and the caller says nothing more).
func (s *scope) eval(expr hclsyntax.Expression) (v cty.Value, ok bool, diags hcl.Diagnostics) {
	if diags := s.check(expr); diags.HasErrors() {
		return cty.DynamicVal, false, diags
	}
	v, diags = expr.Value(s.ctx)
	explainCalls(diags, s.ctx.Functions)
	return v, !diags.HasErrors() && v.IsWhollyKnown(), diags
}

// check looks up every name that expr mentions, because HCL's own errors do
// not know what else there is.
func (s *scope) check(expr hclsyntax.Expression) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, t := range hclsyntax.Variables(expr) {
		if d := s.checkName(t); d != nil {
			diags = append(diags, d)
		}
	}
	return diags
}

func (s *scope) checkName(t hcl.Traversal) *hcl.Diagnostic {
	root := t.RootName()
	at := t.SourceRange()
	known, ok := s.names[root]
	if !ok {
		return s.unknownRoot(root, at)
	}
	isBlock := root != "var" && root != "local"
	if len(t) == 1 {
		if isBlock {
			return nil // an object with every block of that type
		}
		return &hcl.Diagnostic{
			Severity: hcl.DiagError, Subject: &at,
			Summary: fmt.Sprintf("%q alone means nothing", root),
			Detail:  fmt.Sprintf("Write %s.NAME.%s", root, listing("There is", known, root+".%s")),
		}
	}
	name, ok := stepName(t[1])
	if !ok {
		if isBlock {
			return nil // model[count] and the like: HCL's own error is good
		}
		return &hcl.Diagnostic{
			Severity: hcl.DiagError, Subject: &at,
			Summary: fmt.Sprintf("%q needs a name", root),
			Detail:  fmt.Sprintf("Write %s.NAME.", root),
		}
	}
	if !slices.Contains(known, name) {
		return s.unknownName(root, name, known, at)
	}
	if isBlock && len(t) > 2 {
		at := hcl.RangeBetween(t[2].SourceRange(), t[len(t)-1].SourceRange())
		return &hcl.Diagnostic{
			Severity: hcl.DiagError, Subject: &at, Context: t.SourceRange().Ptr(),
			Summary: "A reference has no attributes",
			Detail:  fmt.Sprintf("%s.%s only names the block. To use one of its values in two places, put the value into locals and refer to it from both.", root, name),
		}
	}
	return nil
}

// stepName is the name in .name or ["name"].
func stepName(step hcl.Traverser) (string, bool) {
	switch step := step.(type) {
	case hcl.TraverseAttr:
		return step.Name, true
	case hcl.TraverseIndex:
		if step.Key.Type() == cty.String && step.Key.IsKnown() && !step.Key.IsNull() {
			return step.Key.AsString(), true
		}
	}
	return "", false
}

func (s *scope) unknownName(root, name string, known []string, at Range) *hcl.Diagnostic {
	what, declare := root, fmt.Sprintf("Declare it with a block %s %q { … }.", root, name)
	switch root {
	case "var":
		what, declare = "variable", fmt.Sprintf("Declare it with a block variable %q { … }.", name)
	case "local":
		what, declare = "local value", "Declare it in a locals block."
	}
	advice := didYouMean(name, known, root+".%s")
	if advice == "" {
		advice = listing("There is", known, root+".%s") + " " + declare
	}
	return &hcl.Diagnostic{
		Severity: hcl.DiagError, Subject: &at,
		Summary: fmt.Sprintf("Unknown name %s.%s", root, name),
		Detail:  fmt.Sprintf("This study has no %s %q.%s", what, name, advice),
	}
}

func (s *scope) unknownRoot(root string, at Range) *hcl.Diagnostic {
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Subject: &at, Summary: fmt.Sprintf("Unknown name %q", root)}
	var namespaces []string
	for ns, names := range s.names {
		namespaces = append(namespaces, ns)
		if slices.Contains(names, root) {
			d.Detail = fmt.Sprintf("Did you mean %s.%s?", ns, root)
		}
	}
	slices.Sort(namespaces)
	switch suggestion := Suggest(root, namespaces); {
	case root == "method":
		d.Detail = `Methods are named as text, e.g. methods = ["pca_kmeans"].`
	case d.Detail != "":
	case suggestion != "":
		d.Detail = fmt.Sprintf("Did you mean %s.NAME?", suggestion)
	default:
		d.Detail = fmt.Sprintf("Text stands in quotes: %q. A variable is var.NAME, a local value local.NAME, a block TYPE.LABEL.", root)
	}
	return d
}
