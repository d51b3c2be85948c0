package tasks

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"clusterflow/graph"
	"clusterflow/internal/cluster"
	"clusterflow/studies"
)

// Compiled is a study as a graph.
type Compiled struct {
	Study *studies.Study
	Graph *graph.Graph

	materials []*material
	Downloads []Download // what models still lack
	Lock      *Lock      // to be saved once the study is applied
}

// Compile checks a study against its files and makes its graph. office may be
// nil for a graph that is only looked at. The graph is nil if any diagnostic is
// an error.
func Compile(ctx context.Context, study *studies.Study, office *Office) (*Compiled, studies.Diagnostics) {
	mats, lock, diags := inspect(ctx, study)
	if diags.HasErrors() {
		return nil, diags
	}
	b := &builder{
		study: study, office: office, layers: map[string]*layerNodes{}, made: map[string]*graph.Node{},
		shared: map[any]graph.Task{}, demands: map[any]map[string]int{}, methods: map[string]*chosen{},
	}
	c := &Compiled{Study: study, Lock: lock, materials: mats}
	for _, m := range mats {
		b.material(m)
		if m.from != nil {
			if d, ok := m.from.download(m.label); ok {
				c.Downloads = append(c.Downloads, d)
			}
		}
	}
	diags = append(diags, b.clusterings(mats)...)
	diags = append(diags, b.evaluations()...)
	if diags.HasErrors() {
		return nil, diags
	}
	b.report(mats)
	g, err := graph.Build(b.nodes)
	if err != nil {
		return nil, append(diags, study.Errorf(study.Range, "Study makes no graph", sentence(err)))
	}
	c.Graph = g
	return c, diags
}

// builder makes the nodes of a study.
type builder struct {
	study  *studies.Study
	office *Office
	nodes  []*graph.Node
	layers map[string]*layerNodes // by "label/layer"
	cells  []*cell
	scores []scored
	made   map[string]*graph.Node // titles, shared by judges, by address

	// Most nodes differ only in what they read: nodes whose tasks would be the
	// same have one, so that its lines are written and hashed once.
	shared  map[any]graph.Task
	demands map[any]map[string]int
	methods map[string]*chosen // by name
}

// share returns the task of an id, made when it is first asked for. The id must
// tell apart all tasks that are not the same.
func (b *builder) share(id any, task func() graph.Task) graph.Task {
	t, ok := b.shared[id]
	if !ok {
		t = task()
		b.shared[id] = t
	}
	return t
}

// demanded is share for requests.
func (b *builder) demanded(id any, demand func() map[string]int) map[string]int {
	d, ok := b.demands[id]
	if !ok {
		d = demand()
		b.demands[id] = d
	}
	return d
}

// layerNodes are the nodes that every clustering of a layer reads.
type layerNodes struct {
	mat       *material
	layer     int
	prep      preparation
	sentences *graph.Node
	rows      *graph.Node
	shared    map[string]*graph.Node // pca and linkage nodes by name; made when a method asks
	attrs     []graph.Attr
}

// cell is one clustering.
type cell struct {
	*layerNodes
	method string
	k      int
	train  *graph.Node
	again  []*graph.Node // the same with other seeds
}

// scored is one clustering as one judge graded it.
type scored struct {
	*cell
	titles *studies.Titles
	eval   *studies.Evaluation
	judge  *studies.Evaluator
	node   *graph.Node
}

func (b *builder) add(n *graph.Node) *graph.Node {
	b.nodes = append(b.nodes, n)
	return n
}

// material adds the nodes up to the rows of every layer.
func (b *builder) material(m *material) {
	attr := graph.Attr{Name: "model", Value: m.label}
	if m.activations != nil {
		b.imported(m, attr)
		return
	}
	shards := (m.responses + shardSize - 1) / shardSize
	sent := b.add(&graph.Node{
		Addr: m.label + "/sentences", Stage: StageData, Attrs: []graph.Attr{attr},
		Task:    &sentences{study: b.study, model: m.model, from: m.from, builtin: m.builtin, shards: shards},
		Sources: append(sources("tokenizer", m.tokenizer), graph.Source{Name: "responses", Path: m.model.Dataset.File.V}),
		Need:    graph.Need{Threads: 1, Memory: int64(m.chars) * 40},
	})
	for _, l := range m.layers {
		attrs := []graph.Attr{attr, {Name: "layer", Value: strconv.Itoa(l), Origin: m.model.Layers.Origin()}}
		addr := m.label + "/" + strconv.Itoa(l)
		rowBytes := int64(m.sentences) * int64(m.hidden) * 4
		join := &graph.Node{
			Addr: addr + "/rows", Stage: StageExtract, Attrs: attrs, Task: &rows{shards: shards},
			Need: graph.Need{Threads: 1, Memory: 3 * rowBytes}, Disk: rowBytes,
		}
		for s := range shards {
			ex := b.add(&graph.Node{
				Addr: addr + "/extract/" + strconv.Itoa(s), Stage: StageExtract, Attrs: attrs,
				Task:    &extract{model: m.model, from: m.from, builtin: m.builtin, layer: l, mat: m, shard: s},
				Inputs:  []graph.Input{{Name: "shard", From: sent, Output: "shard/" + strconv.Itoa(s)}},
				Sources: m.weights,
				Need:    graph.Need{Threads: 1 << 16, Memory: m.memory + int64(len(m.layers))*rowBytes, Least: m.least + int64(len(m.layers))*rowBytes}, Disk: rowBytes / int64(shards),
			})
			join.Inputs = append(join.Inputs, graph.Input{Name: "shard/" + strconv.Itoa(s), From: ex, Output: "rows"},
				graph.Input{Name: "made/" + strconv.Itoa(s), From: ex, Output: "made"})
		}
		join.Inputs = append(join.Inputs, graph.Input{Name: "order", From: sent, Output: "order"})
		b.layers[addr] = &layerNodes{
			mat: m, layer: l, sentences: sent, rows: b.add(join), attrs: attrs,
			prep: preparation{m.model.Center, m.model.Normalize},
		}
	}
}

// imported adds the nodes of an activations block.
func (b *builder) imported(m *material, attr graph.Attr) {
	a := m.activations
	prep := preparation{a.Center, a.Normalize}
	if a.Centered.V {
		prep.Center.V = false // it has been done
	}
	sent := b.add(&graph.Node{
		Addr: m.label + "/sentences", Stage: StageData, Attrs: []graph.Attr{attr}, Task: &importSentences{a},
		Sources: []graph.Source{{Name: "sentences", Path: a.Sentences.V}}, Need: graph.Need{Threads: 1, Memory: int64(m.sentences) * 2000},
	})
	for _, f := range a.Files {
		attrs := []graph.Attr{attr, {Name: "layer", Value: strconv.Itoa(f.Layer), Origin: f.File.Origin()}}
		addr := m.label + "/" + strconv.Itoa(f.Layer)
		rowBytes := int64(m.sentences) * int64(m.hidden) * 4
		n := &graph.Node{
			Addr: addr + "/rows", Stage: StageData, Attrs: attrs, Task: &importRows{block: a, file: f},
			Inputs:  []graph.Input{{Name: "info", From: sent, Output: "info"}},
			Sources: []graph.Source{{Name: "rows", Path: f.File.V}},
			Need:    graph.Need{Threads: 1, Memory: 3 * rowBytes}, Disk: rowBytes,
		}
		if f.Mean.Set {
			n.Sources = append(n.Sources, graph.Source{Name: "mean", Path: f.Mean.V})
		}
		b.layers[addr] = &layerNodes{
			mat: m, layer: f.Layer, sentences: sent, rows: b.add(n), attrs: attrs,
			prep: prep,
		}
	}
}

// sources names the files of a checkpoint by their base names: where the
// checkpoint lies does not matter.
func sources(what string, paths []string) []graph.Source {
	out := make([]graph.Source, len(paths))
	for i, p := range paths {
		out[i] = graph.Source{Name: what + " " + p[strings.LastIndexAny(p, `/\`)+1:], Path: p}
	}
	return out
}

// clusterings adds a train node for every cell of every grid, once.
func (b *builder) clusterings(mats []*material) studies.Diagnostics {
	var diags studies.Diagnostics
	seen := map[string]*cell{}
	for _, g := range b.study.Grids {
		for _, m := range mats {
			if len(g.Models) > 0 && !slices.Contains(g.Models, m.label) {
				continue
			}
			layers := m.layers
			if len(g.Layers.V) > 0 {
				layers = slices.DeleteFunc(slices.Clone(g.Layers.V), func(l int) bool { return !slices.Contains(m.layers, l) })
			}
			for _, l := range layers {
				for _, name := range g.Methods.V {
					for _, k := range g.Clusters.V {
						layer := m.label + "/" + strconv.Itoa(l)
						addr := layer + "/" + name + "/" + strconv.Itoa(k)
						c := seen[addr]
						if c == nil {
							c = &cell{layerNodes: b.layers[layer], method: name, k: k}
							c.train = b.train(addr, c, b.study.Seed, g)
							seen[addr] = c
							b.cells = append(b.cells, c)
						}
						b.again(layer, c, g)
					}
				}
			}
		}
	}
	if len(b.cells) == 0 && len(b.study.Grids) > 0 {
		diags = append(diags, b.study.Errorf(b.study.Grids[0].Range, "Grids ask for nothing",
			"No model has a layer that a grid names. Add layers to a model, or leave the grid's layers out to use all."))
	}
	return diags
}

// again adds a grid's other seeds to a cell: clusterings that nobody grades,
// which show how far the first one is the only one.
func (b *builder) again(layer string, c *cell, g *studies.Grid) {
	if b.method(c.method).Unseeded {
		return
	}
	for _, s := range g.Seeds.V {
		addr := fmt.Sprintf("%s/%s~%d/%d", layer, c.method, s, c.k)
		if s == b.study.Seed.V || slices.ContainsFunc(c.again, func(n *graph.Node) bool { return n.Addr == addr+"/train" }) {
			continue
		}
		seed := studies.Value[int64]{V: s, Set: true, Range: g.Seeds.Range}
		c.again = append(c.again, b.train(addr, c, seed, g))
	}
}

// train adds the node that fits a cell with a seed.
func (b *builder) train(addr string, c *cell, seed studies.Value[int64], g *studies.Grid) *graph.Node {
	ln, name, k := c.layerNodes, c.method, c.k
	m := b.method(name)
	type trainID struct {
		method, at string
		k          int
		seed       studies.Value[int64]
		prep       preparation
	}
	at := g.Clusters.Origin()
	t := b.share(trainID{name, at, k, seed, ln.prep}, func() graph.Task {
		return &train{method: m.Method, seed: seed, k: k, kAt: at, prep: ln.prep, options: m.options}
	})
	matrix := int64(ln.mat.sentences) * int64(ln.mat.hidden) * 4
	attrs := slices.Concat(ln.attrs, []graph.Attr{
		{Name: "method", Value: name, Origin: g.Methods.Origin()},
		{Name: "clusters", Value: strconv.Itoa(k), Origin: g.Clusters.Origin()},
	})
	n := &graph.Node{
		Addr: addr + "/train", Stage: StageTrain, Attrs: attrs, Task: t,
		Inputs: []graph.Input{
			{Name: "activations", From: ln.rows, Output: "activations"},
			{Name: "sentences", From: ln.sentences, Output: "sentences"},
		},
		Need: graph.Need{Threads: 1, Memory: 3 * matrix}, Disk: int64(k) * int64(ln.mat.hidden) * 4,
	}
	if m.Space == "pca" {
		pca := b.pca(ln, m)
		n.Inputs = append(n.Inputs, graph.Input{Name: "coords", From: pca, Output: "coords"}, graph.Input{Name: "pca", From: pca, Output: "pca"})
	}
	if m.Shared == "linkage" {
		n.Inputs = append(n.Inputs, graph.Input{Name: "tree", From: b.linkage(ln, m), Output: "tree"})
	}
	if m.Memory != nil {
		n.Need.Memory += m.Memory(int64(ln.mat.sentences), int64(ln.mat.hidden), int64(k), func(name string) int64 {
			v, _ := m.whole(name)
			return int64(v)
		})
	}
	return b.add(n)
}

// pcaName is "pca", or "pca-50" with another number of components than the
// default.
func pcaName(components int) string {
	if components == cluster.PCAComponents {
		return "pca"
	}
	return "pca-" + strconv.Itoa(components)
}

// share returns the layer's node of that name, made when first asked for.
func (ln *layerNodes) share(name string, make func() *graph.Node) *graph.Node {
	if n := ln.shared[name]; n != nil {
		return n
	}
	if ln.shared == nil {
		ln.shared = map[string]*graph.Node{}
	}
	ln.shared[name] = make()
	return ln.shared[name]
}

// pca is the layer's principal components, as many as a method asks for.
func (b *builder) pca(ln *layerNodes, m *chosen) *graph.Node {
	components, at := m.whole(cluster.ComponentsOption)
	name := pcaName(components)
	return ln.share(name, func() *graph.Node {
		matrix := int64(ln.mat.sentences) * int64(ln.mat.hidden) * 4
		side := int64(min(ln.mat.sentences, ln.mat.hidden)) // of the matrix that is decomposed
		return b.add(&graph.Node{
			Addr: fmt.Sprintf("%s/%d/%s", ln.mat.label, ln.layer, name), Stage: StageShared, Attrs: ln.attrs,
			Task: &pca{components, at, ln.prep},
			Inputs: []graph.Input{
				{Name: "activations", From: ln.rows, Output: "activations"},
				{Name: "sentences", From: ln.sentences, Output: "sentences"},
			},
			Need: graph.Need{Threads: 1 << 16, Memory: 3*matrix + 3*side*side*8},
			Disk: int64(ln.mat.sentences) * int64(components) * 4,
		})
	})
}

// linkage is the tree of the layer's rows or of their coordinates.
func (b *builder) linkage(ln *layerNodes, m *chosen) *graph.Node {
	name := "linkage"
	components, _ := m.whole(cluster.ComponentsOption)
	if m.Space == "pca" {
		name = pcaName(components) + "-linkage"
	}
	return ln.share(name, func() *graph.Node {
		rows, width := int64(ln.mat.sentences), int64(ln.mat.hidden)
		inputs := []graph.Input{
			{Name: "activations", From: ln.rows, Output: "activations"},
			{Name: "sentences", From: ln.sentences, Output: "sentences"},
		}
		if m.Space == "pca" {
			width = min(rows, width, int64(components))
			inputs = []graph.Input{{Name: "coords", From: b.pca(ln, m), Output: "coords"}, inputs[1]}
		}
		return b.add(&graph.Node{
			Addr: fmt.Sprintf("%s/%d/%s", ln.mat.label, ln.layer, name), Stage: StageShared, Attrs: ln.attrs, Inputs: inputs,
			Task: &linkage{m.Space, ln.prep, cluster.LinkageWork(rows, width)}, Need: graph.Need{Threads: 1 << 16, Memory: cluster.LinkageMemory(rows, width)}, Disk: rows * 12,
		})
	})
}

// chosen is a method with all of its options: the study's where it sets them,
// else the defaults.
type chosen struct {
	cluster.Method
	options []option
}

// method is the method of a name, which the decoder has checked.
func (b *builder) method(name string) *chosen {
	if m := b.methods[name]; m != nil {
		return m
	}
	known, _ := cluster.ByName(name)
	m := &chosen{known, make([]option, len(known.Options))}
	for i, o := range m.Options {
		m.options[i] = option{name: o.Name, value: o.Default}
		for _, block := range b.study.Methods {
			if v, ok := block.Options[o.Name]; ok && block.Name == name {
				m.options[i].value, m.options[i].origin = v.V, v.Origin()
			}
		}
	}
	b.methods[name] = m
	return m
}

// whole is an option that is a whole number, and where it stands in the study; 0
// for a method without it.
func (m *chosen) whole(name string) (n int, at string) {
	for _, o := range m.options {
		if v, ok := o.value.(int64); ok && o.name == name {
			return int(v), o.origin
		}
	}
	return 0, ""
}

// report adds the node that everything leads to, if anything is graded.
func (b *builder) report(mats []*material) {
	if len(b.scores) == 0 {
		return
	}
	n := &graph.Node{Addr: "report", Stage: StageReport, Need: graph.Need{Threads: 1, Memory: 256 << 20}}
	// In an order that does not hang on that of the study's blocks.
	mats = slices.SortedFunc(slices.Values(mats), func(x, y *material) int { return strings.Compare(x.label, y.label) })
	slices.SortStableFunc(b.scores, func(x, y scored) int {
		return cmp.Or(strings.Compare(x.mat.label, y.mat.label), x.layer-y.layer, methodIndex(x.method)-methodIndex(y.method), x.k-y.k)
	})
	t := &report{study: b.study, mats: mats, scores: b.scores}
	seen := make(map[*graph.Node]bool, len(b.cells))
	type read struct {
		train  *graph.Node
		output string
	}
	seenLabels := make(map[read]bool, len(b.cells))
	n.Inputs = make([]graph.Input, 0, 3*len(mats)+2*len(b.cells)+len(b.scores))
	for i, s := range b.scores {
		if !seen[s.sentences] {
			seen[s.sentences] = true
			for _, out := range []string{"sentences", "traces", "info"} {
				n.Inputs = append(n.Inputs, graph.Input{Name: s.mat.label + " " + out, From: s.sentences, Output: out})
			}
		}
		if rows := b.layers[s.mat.label+"/"+strconv.Itoa(s.layer)].rows; s.mat.model != nil && !seen[rows] {
			seen[rows] = true
			n.Inputs = append(n.Inputs, graph.Input{Name: rows.Addr + " made", From: rows, Output: "made"})
		}
		if !seen[s.train] {
			seen[s.train] = true
			n.Inputs = append(n.Inputs, graph.Input{Name: s.train.Addr + " info", From: s.train, Output: "info"})
		}
		if out := labelsOutput(s.eval); !seenLabels[read{s.train, out}] {
			seenLabels[read{s.train, out}] = true
			n.Inputs = append(n.Inputs, graph.Input{Name: s.train.Addr + " " + out, From: s.train, Output: out})
		}
		for _, again := range s.again {
			if !seen[again] {
				seen[again] = true
				n.Inputs = append(n.Inputs, graph.Input{Name: again.Addr + " labels", From: again, Output: "labels"})
			}
		}
		n.Inputs = append(n.Inputs, graph.Input{Name: b.scores[i].node.Addr, From: s.node, Output: "score"})
	}
	n.Task = t
	b.add(n)
}

func methodIndex(name string) int {
	return slices.IndexFunc(cluster.Methods, func(m cluster.Method) bool { return m.Name == name })
}

// thousands writes a number with separators.
func thousands(n int) string { return humanize.Comma(int64(n)) }

// sentence is an error as the detail of a diagnostic.
func sentence(err error) string {
	s := err.Error()
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

func fileExists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}
