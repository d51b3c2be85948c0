package studies

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// maxLayer is far beyond every model: a typing error, not a layer.
const maxLayer = 9999

func (d *decoder) dataset(b *hclsyntax.Block) {
	ds := &Dataset{Name: b.Labels[0], Range: b.DefRange()}
	d.study.Datasets = append(d.study.Datasets, ds)
	r := d.reader(b, "dataset."+ds.Name)
	ds.File = d.existing(r, "file", need(r, "file", `"data/responses.json"`, text))
	allText := func(n int) string {
		if n == 0 {
			return `"all"`
		}
		return show(n)
	}
	ds.NExamples = getShown(r, "n_examples", d.proto.examples, allText(d.proto.examples), countOr(1, "all", 0))
	ds.MinWords = get(r, "min_words", defaultMinWords, count(1))
	ds.Truncated = get(r, "truncated", "keep", oneOf("keep", "drop"))
	r.done()
}

func (d *decoder) model(b *hclsyntax.Block) {
	m := &Model{Name: b.Labels[0], Range: b.DefRange()}
	d.study.Models = append(d.study.Models, m)
	r := d.reader(b, "model."+m.Name)
	m.Source = need(r, "source", `"deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"`, text)
	if m.Source.Set {
		m.Source.V, m.local = d.source(r, m.Source)
	}
	if m.FromHub() || !r.absent("revision") {
		m.Revision = get(r, "revision", "main", text)
	}
	switch rev := m.Revision; {
	case rev.Set && m.Source.Set && !m.FromHub():
		r.errorf(rev.Range, "revision without a hub", "%s is not on the Hugging Face hub, so it has no revisions. Leave this out.", m.Source.V)
	case rev.Set && !revision(rev.V):
		r.errorf(rev.Range, fmt.Sprintf("Not a revision: %q", rev.V), `A revision is a branch, a tag or a commit of the model's repository, such as "main" or "ad9f0ae0864d7fbcd1cd905e3c6c5b069cc8b562".`)
	}
	m.Dataset = d.datasetOf(r)
	m.Layers = needList(r, "layers", "[4, 8, 12]", whole(0, maxLayer)).Value
	m.Precision = get(r, "precision", "f32", oneOf("f32", "bf16", "f16", "int8"))
	m.Span = get(r, "span", "with_previous", oneOf("with_previous", "exact"))
	m.AddBOS = get(r, "add_bos", "auto", oneOf("auto", "true", "false"))
	m.MaxTokens = get(r, "max_tokens", 0, count(0))
	m.Center = get(r, "center", true, boolean)
	m.Normalize = get(r, "normalize", true, boolean)
	r.done()
}

// datasetOf reads a model's dataset; the only one of a study goes without saying.
func (d *decoder) datasetOf(r *reader) *Dataset {
	all := d.study.Datasets
	only := ""
	if len(all) == 1 {
		only = ref{"dataset", all[0].Name}.String()
	}
	v := getShown(r, "dataset", ref{}, only, d.reference("dataset"))
	if v.Set {
		for _, ds := range all {
			if ds.Name == v.V.label {
				return ds
			}
		}
	}
	if !r.absent("dataset") {
		return nil
	}
	switch len(all) {
	case 1:
		return all[0]
	case 0:
		if len(d.blocks["dataset"]) == 0 {
			r.errorf(r.at, "The model has no dataset", "Responses to read come from a block\n  dataset \"responses\" {\n    file = \"responses.json\"\n  }")
		}
	default:
		r.errorf(r.at, "dataset is missing", "This study has several: say which one this model reads.%s",
			listing("There is", d.scope.names["dataset"], "dataset.%s"))
	}
	return nil
}

// isHubID reports whether s reads NAME or OWNER/NAME.
func isHubID(s string) bool {
	part := func(s string) bool { return spelled(s, letters+digits, letters+digits+"._-") }
	owner, name, two := strings.Cut(s, "/")
	return part(owner) && (!two || part(name))
}

// revision reports whether s can be a branch, tag or commit.
func revision(s string) bool {
	return !slices.ContainsFunc(strings.Split(s, "/"), func(part string) bool {
		return !spelled(part, letters+digits, letters+digits+"._-")
	})
}

// source checks a model's source, and resolves a local directory.
func (d *decoder) source(r *reader, v Value[string]) (source string, local bool) {
	const advice = `A source is a hub id ("org/name"), a local directory ("./checkpoints/llama" or an absolute path) or "builtin:tiny".`
	s := v.V
	if name, ok := strings.CutPrefix(s, "builtin:"); ok {
		if name != "tiny" {
			r.errorf(v.Range, fmt.Sprintf("Unknown model %q", s), `The only model that is built in is "builtin:tiny".`)
		}
		return s, false
	}
	local = filepath.IsAbs(s) || s == "." || s == ".." || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../")
	path := d.resolve(s)
	info, err := os.Stat(path)
	switch {
	case local && err != nil:
		r.errorf(v.Range, "The model's directory is missing", "%s. Paths are relative to the study file.", notThere(path))
	case local && !info.IsDir():
		r.errorf(v.Range, "The model is no directory", "%s is a file. Name the folder that holds config.json and the weights.", path)
	case local:
		return path, true
	case err == nil && info.IsDir():
		r.errorf(v.Range, "Hub id or directory?", "There is a directory of this name. Write %q to read it.", "./"+s)
	case !isHubID(s):
		r.errorf(v.Range, fmt.Sprintf("Not the name of a model: %q", s), "%s", advice)
	}
	return s, local
}

func (d *decoder) activations(b *hclsyntax.Block) {
	a := &Activations{Name: b.Labels[0], Range: b.DefRange()}
	d.study.Activations = append(d.study.Activations, a)
	r := d.reader(b, "activations."+a.Name)
	a.Model = get(r, "model", a.Name, text)
	a.Sentences = d.existing(r, "sentences", need(r, "sentences", `"sentences.jsonl"`, text))
	files := d.layerFiles(r, "files", true)
	means := d.layerFiles(r, "mean", false)
	for layer, file := range files {
		mean := means[layer]
		if !mean.Set {
			mean.Range = file.Range
		}
		a.Files = append(a.Files, LayerFile{Layer: layer, File: file, Mean: mean})
	}
	slices.SortFunc(a.Files, func(x, y LayerFile) int { return x.Layer - y.Layer })
	if len(files) > 0 {
		for layer, mean := range means {
			if _, ok := files[layer]; !ok {
				r.errorf(mean.Range, fmt.Sprintf("A mean for layer %d, which has no rows", layer), "files names no matrix for this layer. Add it there, or remove this entry.")
			}
		}
	}
	a.Centered = get(r, "centered", false, boolean)
	a.Normalized = get(r, "normalized", false, boolean)
	a.Center = get(r, "center", true, boolean)
	a.Normalize = get(r, "normalize", true, boolean)
	r.done()
}

// layerFiles reads a map of layer = path.
func (d *decoder) layerFiles(r *reader, name string, required bool) map[int]Value[string] {
	v, attr, ok := r.eval(name)
	if attr == nil {
		if required {
			r.missing(name, `{ 12 = "layer12.safetensors" }`)
		}
		return nil
	}
	if !ok {
		return nil
	}
	if ty := v.Type(); !ty.IsObjectType() && !ty.IsMapType() {
		r.problem(attr.Expr.Range(), name, &problem{want: "a map of layers to files", got: v, advice: fmt.Sprintf(`Write %s = { 12 = "layer12.npy" }.`, name)})
		return nil
	}
	entries := v.AsValueMap()
	if len(entries) == 0 {
		r.errorf(attr.Expr.Range(), fmt.Sprintf("%s is empty", name), "Name at least one layer.")
	}
	place := entryRanges(attr.Expr, d.scope.ctx)
	out := map[int]Value[string]{}
	for key, entry := range entries {
		at := place(key)
		layer, err := strconv.Atoi(key)
		if err != nil || layer < 0 || layer > maxLayer {
			r.errorf(at, fmt.Sprintf("Not a layer: %q", key), "Layers are counted from 0: write e.g. 12 = \"layer12.npy\".")
			continue
		}
		if entry.IsNull() {
			continue
		}
		file, p := text(entry)
		if p != nil {
			r.problem(at, name, p)
			continue
		}
		if _, twice := out[layer]; twice {
			r.errorf(at, fmt.Sprintf("Layer %d stands in %s twice", layer, name), "Remove one of the two.")
			continue
		}
		out[layer] = d.existing(r, name, Value[string]{V: file, Range: at, Set: true})
		checkMatrixName(r, at, file)
	}
	r.setting(name, describe(v), "", origin(attr.Expr.Range()))
	return out
}

func checkMatrixName(r *reader, at Range, file string) {
	known := []string{".safetensors", ".npy", ".npz"}
	if !slices.Contains(known, strings.ToLower(filepath.Ext(file))) {
		r.errorf(at, fmt.Sprintf("Not a matrix file: %q", file), "A matrix is read from a file that ends in %s.", either(known))
	}
}

// existing resolves a path and complains if there is no file.
func (d *decoder) existing(r *reader, name string, v Value[string]) Value[string] {
	if !v.Set {
		return v
	}
	v.V = d.resolve(v.V)
	switch info, err := os.Stat(v.V); {
	case err != nil:
		r.errorf(v.Range, "The file is missing", "%s. Paths are relative to the study file.", notThere(v.V))
	case info.IsDir():
		r.errorf(v.Range, "A folder where a file belongs", "%s is a folder; %s takes a file.", v.V, name)
	}
	return v
}

// resolve makes a path of the study one of the process.
func (d *decoder) resolve(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(d.study.Dir, path)
}

// notThere says that a path leads nowhere, and what has nearly its name.
func notThere(path string) string {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return fmt.Sprintf("There is no %s, not even its folder", path)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if s := Suggest(filepath.Base(path), names); s != "" {
		return fmt.Sprintf("There is no %s, but there is %s", path, filepath.Join(filepath.Dir(path), s))
	}
	return fmt.Sprintf("There is no %s", path)
}
