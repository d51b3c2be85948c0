package studies

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Load reads a study and everything that it can be held to without opening
// its data: the diagnostics name every mistake at once. The Study is never
// nil; with errors it is partial.
func Load(path string, opt Options) (*Study, Diagnostics) {
	src, err := os.ReadFile(path)
	if err != nil {
		s := &Study{File: path, Dir: filepath.Dir(path), Report: &Report{}}
		return s, Diagnostics{unreadable(path, err)}
	}
	return Parse(path, src, opt)
}

// Parse is Load for a source at hand. Paths in the study are relative to the
// folder of filename.
//
// It goes over the file twice: first the headers of all blocks, so that names
// are known, then their contents, so that references may point anywhere.
func Parse(filename string, src []byte, opt Options) (*Study, Diagnostics) {
	d := &decoder{
		opt:    opt,
		scope:  newScope(filepath.Dir(filename)),
		blocks: map[string][]*hclsyntax.Block{},
		study: &Study{
			File:   filename,
			Dir:    filepath.Dir(filename),
			Source: src,
			Vars:   map[string]string{},
			Report: &Report{},
			files:  map[string]*hcl.File{},
		},
	}
	file, diags := parse(filename, src)
	d.study.files[filename] = file
	body := file.Body.(*hclsyntax.Body)
	d.headers(body)
	d.contents(body)
	if diags.HasErrors() {
		// What a half-read block lacks is no mistake of the user's: report
		// those of syntax alone.
		return d.study, sorted(diags, filename)
	}
	return d.study, sorted(append(diags, d.diags...), filename)
}

// decoder is the state of one Parse.
type decoder struct {
	opt    Options
	study  *Study
	diags  hcl.Diagnostics
	scope  *scope
	blocks map[string][]*hclsyntax.Block // with valid headers, by type, in file order
	proto  protocol
}

// block describes a type of top-level block.
type block struct {
	name    string
	label   string // what its label names; "" for blocks without one
	once    bool
	refers  bool // TYPE.LABEL is a reference
	example string
}

// blockTypes are the blocks of a study.
var blockTypes = []block{
	{name: "study", once: true, example: "study { … }"},
	{name: "variable", label: "variable", example: `variable "judge" { … }`},
	{name: "locals", example: "locals { … }"},
	{name: "dataset", label: "dataset", refers: true, example: `dataset "responses" { … }`},
	{name: "model", label: "model", refers: true, example: `model "r1-qwen" { … }`},
	{name: "activations", label: "activations", refers: true, example: `activations "mine" { … }`},
	{name: "method", label: "method", example: `method "pca_kmeans" { … }`},
	{name: "grid", example: "grid { … }"},
	{name: "evaluator", label: "evaluator", refers: true, example: `evaluator "judge" { … }`},
	{name: "titles", label: "titles", refers: true, example: `titles "auto" { … }`},
	{name: "evaluation", label: "evaluation", example: `evaluation "main" { … }`},
	{name: "report", once: true, example: "report { … }"},
}

func blockType(name string) *block {
	for i := range blockTypes {
		if blockTypes[i].name == name {
			return &blockTypes[i]
		}
	}
	return nil
}

// reserved labels would give two nodes of the graph one address: there a
// model, a titles block and an evaluator are named by their labels alone.
var reserved = map[string][]string{
	"model":       {"report"},
	"activations": {"report"},
	"titles":      {"train"},
	"evaluator":   {"submit-titles", "await-titles", "titles"},
}

// headers is the first pass: it sorts the blocks by type, checks their labels
// and makes them known to expressions.
func (d *decoder) headers(body *hclsyntax.Body) {
	var known []string
	for _, t := range blockTypes {
		known = append(known, t.name)
	}
	for name, attr := range body.Attributes {
		detail := " Values used in several places stand in a locals block."
		if t := blockType(name); t != nil {
			detail = fmt.Sprintf(" Write %s, without an equals sign.", t.example)
		}
		d.errorf(attr.NameRange, fmt.Sprintf("Attribute %q outside of a block", name), "%s", "At the top of a study there are only blocks."+detail)
	}
	for _, b := range body.Blocks {
		t := blockType(b.Type)
		if t == nil {
			advice := didYouMean(b.Type, known, "%s")
			if advice == "" {
				advice = listing("There are", known, "%s")
			}
			d.errorf(b.TypeRange, fmt.Sprintf("Unknown block %q", b.Type), "%s", "A study has no such block."+advice)
			continue
		}
		if d.header(b, t) {
			d.blocks[b.Type] = append(d.blocks[b.Type], b)
		}
	}
	for _, t := range blockTypes {
		if t.refers {
			d.scope.refer(t.name, labels(d.blocks[t.name]))
		}
	}
}

// header checks one block's labels, and that it does not come twice.
func (d *decoder) header(b *hclsyntax.Block, t *block) bool {
	switch {
	case t.label == "" && len(b.Labels) > 0:
		d.errorf(b.LabelRanges[0], fmt.Sprintf("%s takes no label", t.name), "Write %s", t.example)
		return false
	case t.label != "" && len(b.Labels) == 0:
		d.errorf(b.TypeRange, fmt.Sprintf("%s needs a label", t.name), "Write %s", t.example)
		return false
	case len(b.Labels) > 1:
		d.errorf(b.LabelRanges[1], fmt.Sprintf("%s takes one label", t.name), "Write %s", t.example)
		return false
	}
	if t.once && len(d.blocks[t.name]) > 0 {
		first := d.blocks[t.name][0]
		d.errorf(b.DefRange(), fmt.Sprintf("A second %s block", t.name), "The first is in line %d. Put both into one.", first.TypeRange.Start.Line)
		return false
	}
	if t.label == "" {
		return true
	}
	label, at := b.Labels[0], b.LabelRanges[0]
	if !spelled(label, letters+"_", letters+digits+"_-") {
		d.errorf(at, fmt.Sprintf("Label %q cannot be referred to", label), "A label has letters, digits, - and _, and begins with a letter.")
		return false
	}
	if slices.Contains(reserved[t.name], label) {
		d.errorf(at, fmt.Sprintf("Label %q is taken", label), "Addresses of the graph use this word already. Choose another label.")
		return false
	}
	rivals := []string{t.name}
	if t.name == "model" || t.name == "activations" {
		rivals = []string{"model", "activations"} // both begin addresses
	}
	for _, kind := range rivals {
		for _, other := range d.blocks[kind] {
			if other.Labels[0] == label {
				d.errorf(at, fmt.Sprintf("Label %q comes twice", label), "%s %q stands in line %d. Choose another label.", kind, label, other.TypeRange.Start.Line)
				return true // its content may hold further mistakes
			}
		}
	}
	return true
}

func labels(blocks []*hclsyntax.Block) []string {
	var names []string
	for _, b := range blocks {
		names = append(names, b.Labels[0])
	}
	return names
}

// contents is the second pass.
func (d *decoder) contents(body *hclsyntax.Body) {
	d.variables()
	d.locals()
	d.studyBlock(body)
	for _, b := range d.blocks["dataset"] {
		d.dataset(b)
	}
	for _, b := range d.blocks["model"] {
		d.model(b)
	}
	for _, b := range d.blocks["activations"] {
		d.activations(b)
	}
	for _, b := range d.blocks["method"] {
		d.method(b)
	}
	for i, b := range d.blocks["grid"] {
		d.grid(i, b)
	}
	for _, b := range d.blocks["evaluator"] {
		d.evaluator(b)
	}
	for _, b := range d.blocks["titles"] {
		d.titles(b)
	}
	for _, b := range d.blocks["evaluation"] {
		d.evaluation(b)
	}
	d.report()
	d.complete()
}

// studyBlock reads the study block, first of all because the others' defaults
// hang on its protocol.
func (d *decoder) studyBlock(body *hclsyntax.Body) {
	s := d.study
	d.proto = protocols[0]
	blocks := d.blocks["study"]
	if len(blocks) == 0 {
		s.Protocol.V, s.Seed.V = d.proto.name, defaultSeed
		at := Range{Filename: s.File, Start: hcl.InitialPos, End: hcl.InitialPos}
		if len(body.Blocks) > 0 {
			at = body.Blocks[0].DefRange()
		}
		if !slices.ContainsFunc(body.Blocks, func(b *hclsyntax.Block) bool { return b.Type == "study" }) {
			d.errorf(at, "The study block is missing", "Begin the file with\n  study {\n    name = \"my-study\"\n  }")
		}
		return
	}
	r := d.reader(blocks[0], "study")
	s.Range = r.at
	s.Name = need(r, "name", `"r1-1.5b"`, folderName)
	s.Protocol = get(r, "protocol", d.proto.name, oneOf(protocolNames()...))
	d.proto = protocolByName(s.Protocol.V)
	s.Seed = get(r, "seed", int64(defaultSeed), whole[int64](0, 1<<63-1))
	s.BudgetUSD = getShown(r, "budget_usd", 0, "", decimal(0, math.Inf(1)))
	s.OnComplete = get(r, "on_complete", "", hookAddress)
	r.notYet("seeds", "Clusterings would be made with the one seed only.")
	r.prompts()
	r.done()
}

// prompts accepts the one set of prompts that there is.
func (r *reader) prompts() {
	get(r, "prompts", "v1", func(v cty.Value) (string, *problem) {
		s, p := text(v)
		if p == nil && s != "v1" {
			p = &problem{
				summary: fmt.Sprintf("Prompts %q are not in this release", s),
				advice:  `Prompts "v1" would be sent instead. Write "v1", or remove the attribute.`,
			}
		}
		return s, p
	})
}

// complete checks what no single block can know.
func (d *decoder) complete() {
	at := d.study.Range
	if len(d.blocks["study"]) == 0 {
		return // reported; one mistake at a time is enough for a file that is no study yet
	}
	if len(d.blocks["model"])+len(d.blocks["activations"]) == 0 {
		d.errorf(at, "The study has no model", "A model block says whose activations to look at, an activations block brings some that exist already, e.g.\n  model \"tiny\" {\n    source = \"builtin:tiny\"\n    layers = [1, 3]\n  }")
	}
	if len(d.blocks["grid"]) == 0 {
		d.errorf(at, "The study has no grid", "A grid block says what to make: methods and numbers of clusters, e.g.\n  grid {\n    methods  = [\"spherical_kmeans\"]\n    clusters = [5, 10]\n  }")
	}
}

// unreadable explains why a study cannot be opened.
func unreadable(path string, err error) *hcl.Diagnostic {
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: fmt.Sprintf("Cannot read the study %s", path)}
	info, statErr := os.Stat(path)
	switch {
	case statErr == nil && info.IsDir():
		d.Detail = "This is a folder. Name the study file in it." + studiesIn(path, "")
	case errors.Is(err, fs.ErrNotExist):
		d.Detail = "There is no such file." + studiesIn(filepath.Dir(path), filepath.Base(path))
	default:
		d.Detail = fmt.Sprintf("Opening it failed: %v.", err)
	}
	return d
}

// studiesIn lists the studies of a folder, or the one that was meant.
func studiesIn(dir, word string) string {
	found, _ := filepath.Glob(filepath.Join(dir, "*.hcl"))
	var names []string
	for _, f := range found {
		names = append(names, filepath.Base(f))
	}
	if s := Suggest(word, names); word != "" && s != "" {
		return fmt.Sprintf(" Did you mean %s?", filepath.Join(dir, s))
	}
	if advice := listing("There is", names, "%s"); advice != "" {
		return advice
	}
	return " `clusterflow init` writes one to begin with."
}
