package tasks

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"clusterflow/graph"
	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
	"clusterflow/studies"
)

// MethodSpecs describes the clustering methods to the study language.
func MethodSpecs() []studies.MethodSpec {
	specs := make([]studies.MethodSpec, len(cluster.Methods))
	for i, m := range cluster.Methods {
		specs[i] = studies.MethodSpec{Name: m.Name, Available: m.Fit != nil, Null: m.Null}
		if m.Fit == nil {
			specs[i].Why = "This release does not train it yet."
		}
		for _, o := range m.Options {
			specs[i].Options = append(specs[i].Options, studies.OptionSpec{
				Name: o.Name, Kind: o.Kind, Default: o.Default, Min: o.Min, Max: o.Max, Doc: o.Doc,
			})
		}
	}
	return specs
}

// material is what the files behind one model or activations block hold: all
// that the graph's shape and a plan's estimates depend on.
type material struct {
	label       string
	model       *studies.Model       // or
	activations *studies.Activations // one of the two
	id          string               // model_id of result files
	layers      []int
	hidden      int
	random      bool
	builtin     string
	from        *checkpoint
	weights     []graph.Source // files of the checkpoint
	tokenizer   []string
	survey      func() survey // of a model
	work        func(tokens, squares float64, blocks int) float64
	responses   int
	cutOff      int // responses whose thinking was not closed
	leftOut     int // of them, those that truncated = "drop" leaves out
	sentences   int // before sentences without tokens of their own are skipped
	chars       int
	wording     wording
	longest     int   // characters of the longest response
	memory      int64 // bytes that a forward pass takes
	least       int64 // bytes that it takes with its states in files
}

// Check adds to a decoded study what only its files can tell: responses and
// sentences that can be read, checkpoints that are supported and deep enough,
// cluster sizes that the data can fill. Diagnostics are in the order of blocks.
//
// Of a model on the hub that the local Hugging Face cache does not hold, it
// downloads what describes it, but not its weights.
func Check(ctx context.Context, study *studies.Study) studies.Diagnostics {
	_, _, diags := inspect(ctx, study)
	return diags
}

// inspect opens every file that a study names. The lock is the study's with what
// was found out.
func inspect(ctx context.Context, study *studies.Study) ([]*material, *Lock, studies.Diagnostics) {
	var diags studies.Diagnostics
	var out []*material
	lock, err := readLock(study)
	if err != nil {
		return nil, nil, append(diags, study.Errorf(study.Range, "Lock file cannot be read", sentence(err)))
	}
	datasets := map[*studies.Dataset][]Response{}
	for _, d := range study.Datasets {
		all, err := ReadResponses(d.File.V)
		if err != nil {
			if fileExists(d.File.V) { // else the decoder has said so
				diags = append(diags, study.Errorf(d.File.Range, "Dataset cannot be read", sentence(err)))
			}
			continue
		}
		datasets[d] = all
		if n := d.NExamples.V; d.NExamples.Set && n > len(all) {
			diags = append(diags, study.Warningf(d.NExamples.Range, "Fewer responses than asked for",
				fmt.Sprintf("%s holds %d responses; all of them are used.", filepath.Base(d.File.V), len(all))))
		}
	}
	for _, m := range study.Models {
		mat, ds := inspectModel(ctx, study, m, lock, datasets)
		diags = append(diags, ds...)
		if mat != nil {
			out = append(out, mat)
		}
	}
	for _, a := range study.Activations {
		mat, ds := inspectActivations(study, a)
		diags = append(diags, ds...)
		if mat != nil {
			out = append(out, mat)
		}
	}
	nameModels(out)
	diags = append(diags, checkGrids(study, out)...)
	diags = append(diags, checkWordings(study)...)
	diags = append(diags, checkFixedTitles(study)...)
	return out, lock, diags
}

func inspectModel(ctx context.Context, study *studies.Study, m *studies.Model, lock *Lock, datasets map[*studies.Dataset][]Response) (*material, studies.Diagnostics) {
	var diags studies.Diagnostics
	from, err := findCheckpoint(ctx, m, lock)
	if err != nil {
		return nil, append(diags, study.Errorf(m.Source.Range, "Model cannot be found", sentence(err)))
	}
	open := from.outline
	if len(from.missing) == 0 {
		open = func() (*llm.Checkpoint, error) { return from.open(ctx) }
	}
	ckpt, err := open()
	if err != nil {
		return nil, append(diags, study.Errorf(m.Source.Range, "Model cannot be read", sentence(err)))
	}
	defer ckpt.Close()
	lock.pin(m, from)
	for _, l := range m.Layers.V {
		if l >= ckpt.Layers() {
			diags = append(diags, study.Errorf(m.Layers.Range, "Layer beyond the model's depth",
				fmt.Sprintf("%s has %d blocks: layers go from 0 to %d; layer %d does not exist.", m.Source.V, ckpt.Layers(), ckpt.Layers()-1, l)))
		}
	}
	tok, err := from.tokenizer()
	if err == nil {
		err = ckpt.Fits(tok)
	}
	if err != nil {
		diags = append(diags, study.Errorf(m.Source.Range, "Tokenizer cannot be read", sentence(err)))
	}
	mat := &material{
		label: m.Name, model: m, id: modelID(m.Source.V), layers: m.Layers.V, hidden: ckpt.Hidden(), random: ckpt.Random(),
		builtin: ckpt.BuiltinID(), from: from, tokenizer: ckpt.TokenizerFiles(),
	}
	if mat.weights, err = from.sources(); err != nil {
		diags = append(diags, study.Errorf(m.Source.Range, "Model cannot be read", sentence(err)))
	}
	all, ok := datasets[m.Dataset]
	if !ok {
		return nil, diags // said above, or by the decoder
	}
	ranked := selected(all, m.Dataset, study.Seed.V)
	mat.survey, mat.work = surveyor(m, from, ranked), ckpt.Work
	mat.leftOut = cutOff(all, m.Dataset)
	for _, r := range ranked {
		mat.responses++
		if !r.Closed {
			mat.cutOff++
		}
		mat.chars += len(r.Text)
		mat.longest = max(mat.longest, len(r.Text))
		spans := llm.Sentences(r.Text, r.Think.Start, r.Think.End, m.Dataset.MinWords.V)
		mat.sentences += len(spans)
		mat.wording.traces += r.Think.End - r.Think.Start
		for i, s := range spans {
			mat.wording.see(r.Text[s.Start:s.End], i == len(spans)/2) // responses are in random order
		}
	}
	if mat.sentences == 0 {
		diags = append(diags, study.Errorf(m.Dataset.File.Range, "No sentences",
			fmt.Sprintf("The %d responses have no sentence of at least %d words inside their thinking.", mat.responses, m.Dataset.MinWords.V)))
		return nil, diags
	}
	precision := llm.Precision(m.Precision.V)
	mat.memory = ckpt.ForwardMemory(mat.chars/3, mat.longest/3, precision) // text has three to five characters a token
	mat.least = min(mat.memory, ckpt.ForwardLeast(mat.longest/3, precision))
	return mat, diags
}

func inspectActivations(study *studies.Study, a *studies.Activations) (*material, studies.Diagnostics) {
	var diags studies.Diagnostics
	all, err := ReadSentences(a.Sentences.V)
	if err != nil {
		if fileExists(a.Sentences.V) {
			diags = append(diags, study.Errorf(a.Sentences.Range, "Sentences cannot be read", sentence(err)))
		}
		return nil, diags
	}
	mat := &material{label: a.Name, activations: a, id: modelID(a.Model.V), sentences: len(all), responses: len(tracesOf(all))}
	for i, s := range all {
		mat.wording.see(s.Text, i%(len(all)/sampleSentences+1) == 0)
	}
	mat.wording.traces = mat.wording.bytes
	for _, f := range a.Files {
		mat.layers = append(mat.layers, f.Layer)
		rows, cols, err := linalg.MatrixFileShape(f.File.V)
		switch {
		case err != nil && fileExists(f.File.V):
			diags = append(diags, study.Errorf(f.File.Range, "Activations cannot be read", sentence(err)))
		case err == nil && rows != len(all):
			diags = append(diags, study.Errorf(f.File.Range, "Rows and sentences differ in number",
				fmt.Sprintf("The file holds %d rows, %s holds %d sentences. Row i must be the activation of sentence i.", rows, filepath.Base(a.Sentences.V), len(all))))
		default:
			mat.hidden = max(mat.hidden, cols)
		}
	}
	return mat, diags
}

// checkGrids finds grids that the data cannot fill.
func checkGrids(study *studies.Study, mats []*material) studies.Diagnostics {
	var diags studies.Diagnostics
	for _, g := range study.Grids {
		for _, l := range g.Layers.V {
			if !slices.ContainsFunc(mats, func(m *material) bool {
				return (len(g.Models) == 0 || slices.Contains(g.Models, m.label)) && slices.Contains(m.layers, l)
			}) && len(mats) == len(study.Models)+len(study.Activations) {
				diags = append(diags, study.Errorf(g.Layers.Range, "Layer is not extracted",
					fmt.Sprintf("None of the grid's models lists layer %d. Add it to the model's layers, or leave it out here.", l)))
			}
		}
		for _, m := range mats {
			if len(g.Models) > 0 && !slices.Contains(g.Models, m.label) {
				continue
			}
			for _, k := range g.Clusters.V {
				if k > m.sentences {
					diags = append(diags, study.Errorf(g.Clusters.Range, "More clusters than sentences",
						fmt.Sprintf("%s has %d sentences: they cannot be put into %d clusters.", m.label, m.sentences, k)))
				}
			}
		}
	}
	return diags
}

// modelID is the name of a model in result files: the last part of its source,
// in lower case.
func modelID(source string) string {
	_, name, ok := strings.Cut(source, ":")
	if !ok || strings.ContainsAny(source, `/\`) {
		name = path.Base(filepath.ToSlash(filepath.Clean(source)))
	}
	return strings.ToLower(name)
}

// nameModels gives models that would share result files their labels as ids.
func nameModels(mats []*material) {
	count := map[string]int{}
	for _, m := range mats {
		count[m.id]++
	}
	for _, m := range mats {
		if count[m.id] > 1 {
			m.id = strings.ToLower(m.label)
		}
	}
}
