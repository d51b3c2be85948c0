package studies

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// method reads options that differ from a method's defaults.
func (d *decoder) method(b *hclsyntax.Block) {
	m := &Method{Name: b.Labels[0], Range: b.DefRange(), Options: map[string]Value[any]{}}
	r := d.reader(b, "method."+m.Name)
	spec, ok := d.methodNamed(m.Name, b.LabelRanges[0])
	if spec == nil {
		return
	}
	if ok {
		d.study.Methods = append(d.study.Methods, m)
	}
	for _, o := range spec.Options {
		if v := getShown(r, o.Name, o.Default, show(o.Default), option(o)); v.Set {
			m.Options[o.Name] = v
		}
	}
	r.notYet("seeds", "Give seeds to a grid.")
	r.done()
}

// option takes a value of an option's kind and range.
func option(o OptionSpec) conv[any] {
	lo, hi := o.Min, o.Max
	switch {
	case lo == 0 && hi == 0:
		lo, hi = math.Inf(-1), math.Inf(1)
	case hi < lo: // only a lower bound
		hi = math.Inf(1)
	}
	return func(v cty.Value) (any, *problem) {
		switch o.Kind {
		case "int":
			return boxed(whole(int64(max(lo, math.MinInt64)), int64(min(hi, math.MaxInt32))))(v)
		case "float":
			return boxed(decimal(lo, hi))(v)
		case "bool":
			return boxed(boolean)(v)
		default:
			return boxed(text)(v)
		}
	}
}

func boxed[T any](c conv[T]) conv[any] {
	return func(v cty.Value) (any, *problem) { return c(v) }
}

// grid reads one grid block.
func (d *decoder) grid(i int, b *hclsyntax.Block) {
	g := &Grid{Range: b.DefRange()}
	d.study.Grids = append(d.study.Grids, g)
	r := d.reader(b, fmt.Sprintf("grid[%d]", i))

	models := getList(r, "models", nil, false, d.reference("model", "activations"))
	for _, m := range models.V {
		g.Models = append(g.Models, m.label)
	}
	if r.absent("models") {
		g.Models = slices.Concat(d.scope.names["model"], d.scope.names["activations"])
	}

	layers := getList(r, "layers", nil, false, whole(0, maxLayer))
	g.Layers = layers.Value
	if layers.Set {
		d.gridLayers(r, g, layers, models)
	}

	g.Methods = d.gridMethods(r)
	g.Clusters = getList(r, "clusters", defaultClusters(), false, whole(2, math.MaxInt32)).Value
	g.Seeds = getList(r, "seeds", nil, false, whole(0, int64(math.MaxInt64))).Value
	r.done()
}

// gridMethods reads a grid's methods; the protocol's where it names none.
func (d *decoder) gridMethods(r *reader) Value[[]string] {
	def := d.proto.methods
	if def == nil {
		for _, m := range d.opt.Methods {
			if !m.Null {
				def = append(def, m.Name)
			}
		}
	}
	if r.absent("methods") {
		var missing []string
		for _, name := range def {
			if !slices.ContainsFunc(d.opt.Methods, func(m MethodSpec) bool { return m.Name == name && m.Available }) {
				missing = append(missing, name)
			}
		}
		if len(missing) > 0 {
			now := d.availableMethods()
			r.errorf(r.at, "methods is missing", "Without it the grid takes the methods of protocol %q, of which this release lacks %s.%s",
				d.proto.name, strings.Join(missing, ", "), listing("Available now:", now, "%s"))
			getList(r, "methods", nil, false, text)
			return Value[[]string]{Range: r.at}
		}
	}
	list := getList(r, "methods", def, false, text)
	if len(list.Places) > 0 {
		good := []string{}
		for i, name := range list.V {
			if _, ok := d.methodNamed(name, list.Places[i]); ok {
				good = append(good, name)
			}
		}
		list.V = good
	}
	return list.Value
}

func (d *decoder) availableMethods() []string {
	var names []string
	for _, m := range d.opt.Methods {
		if m.Available {
			names = append(names, m.Name)
		}
	}
	return names
}

// gridLayers holds a grid's layers to those that its models have: one that
// none of them has, and a model named here that has none of them, would
// silently be nothing.
func (d *decoder) gridLayers(r *reader, g *Grid, layers items[int], models items[ref]) {
	have := map[string][]int{} // by label
	for _, m := range d.study.Models {
		if m.Layers.Set {
			have[m.Name] = m.Layers.V
		}
	}
	for _, a := range d.study.Activations {
		for _, f := range a.Files {
			have[a.Name] = append(have[a.Name], f.Layer)
		}
	}
	var all []int
	for _, name := range g.Models {
		if have[name] == nil {
			return // in error already
		}
		all = append(all, have[name]...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) == 0 {
		return
	}
	for i, layer := range layers.V {
		if !slices.Contains(all, layer) {
			r.errorf(layers.Places[i], fmt.Sprintf("No model of this grid has layer %d", layer),
				"A grid chooses from the layers that its models list: %s. Add %d to the model's layers too.", show(all), layer)
		}
	}
	for i, m := range models.V {
		if !slices.ContainsFunc(layers.V, func(l int) bool { return slices.Contains(have[m.label], l) }) {
			r.errorf(models.Places[i], fmt.Sprintf("%s has none of this grid's layers", m), "It has %s. The grid would do nothing for it.", show(have[m.label]))
		}
	}
}

// methodNamed finds a method, or reports that there is none, or not yet.
func (d *decoder) methodNamed(name string, at Range) (spec *MethodSpec, ok bool) {
	var names, now []string
	for i := range d.opt.Methods {
		m := &d.opt.Methods[i]
		names = append(names, m.Name)
		if m.Available {
			now = append(now, m.Name)
		}
		if m.Name == name {
			spec = m
		}
	}
	switch {
	case spec == nil:
		advice := didYouMean(name, names, "%q")
		if advice == "" {
			advice = listing("There are", names, "%s")
		}
		d.errorf(at, fmt.Sprintf("Unknown method %q", name), "%s", "There is no clustering method of this name."+advice)
	case !spec.Available:
		why := strings.TrimSpace(spec.Why)
		if why != "" && !strings.HasSuffix(why, ".") {
			why += "."
		}
		d.errorf(at, fmt.Sprintf("Method %q is not in this release", name), "%s", strings.TrimSpace(why+listing("Available now:", now, "%s")))
	}
	return spec, spec != nil && spec.Available
}
