package studies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// locals settles the values of all locals blocks, which may use one another in
// any order.
func (d *decoder) locals() {
	l := &localValues{d: d, attrs: map[string]*hclsyntax.Attribute{}, values: map[string]cty.Value{}}
	for _, b := range d.blocks["locals"] {
		for _, nested := range b.Body.Blocks {
			d.errorf(nested.TypeRange, fmt.Sprintf("Unknown block %q", nested.Type), "locals contains only NAME = VALUE. Is an equals sign missing?")
		}
		for _, attr := range inOrder(b.Body.Attributes) {
			if first := l.attrs[attr.Name]; first != nil {
				d.errorf(attr.NameRange, fmt.Sprintf("A second local value %q", attr.Name), "local.%s stands in line %d already.", attr.Name, first.NameRange.Start.Line)
				continue
			}
			l.attrs[attr.Name] = attr
			l.names = append(l.names, attr.Name)
		}
	}
	d.scope.names["local"] = l.names
	for _, name := range l.names {
		l.value(name)
	}
	d.scope.set("local", l.values)
}

// inOrder sorts attributes by position: their map has none.
func inOrder(attrs hclsyntax.Attributes) []*hclsyntax.Attribute {
	var list []*hclsyntax.Attribute
	for _, attr := range attrs {
		list = append(list, attr)
	}
	slices.SortFunc(list, func(a, b *hclsyntax.Attribute) int { return a.SrcRange.Start.Byte - b.SrcRange.Start.Byte })
	return list
}

type localValues struct {
	d      *decoder
	attrs  map[string]*hclsyntax.Attribute
	names  []string
	values map[string]cty.Value // settled
	path   []string             // being settled, outermost first
}

// value settles a local value after those that it uses. What fails, or stands
// in a circle, becomes unknown.
func (l *localValues) value(name string) {
	if _, ok := l.values[name]; ok {
		return
	}
	attr := l.attrs[name]
	if i := slices.Index(l.path, name); i >= 0 {
		circle := append(slices.Clone(l.path[i:]), name)
		for i := range circle {
			circle[i] = "local." + circle[i]
		}
		l.d.errorf(attr.NameRange, "Local values in a circle", "%s. One of them has to stand without the others.", strings.Join(circle, " → "))
		for _, n := range l.path[i:] {
			l.values[n] = cty.DynamicVal
		}
		return
	}
	l.path = append(l.path, name)
	visible := map[string]cty.Value{}
	for _, t := range hclsyntax.Variables(attr.Expr) {
		if t.RootName() != "local" || len(t) < 2 {
			continue
		}
		if used, ok := stepName(t[1]); ok && l.attrs[used] != nil {
			l.value(used)
			visible[used] = l.values[used]
		}
	}
	l.path = l.path[:len(l.path)-1]

	l.d.scope.set("local", visible)
	v, ok, diags := l.d.scope.eval(attr.Expr)
	l.d.diags = append(l.d.diags, diags...)
	if _, circular := l.values[name]; circular || !ok {
		v = cty.DynamicVal
	}
	l.values[name] = v
}
