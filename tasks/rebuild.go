package tasks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"clusterflow/graph"
	"clusterflow/internal/cluster"
	"clusterflow/internal/llm"
	"clusterflow/studies"
)

// rebuilders make a task from its parameters, by kind. Mistakes in single
// parameters are collected in the given ones.
var rebuilders = map[string]func(*given) (graph.Task, error){
	kindSentences.Name:    rebuildSentences,
	kindImport.Name:       rebuildImport,
	kindExtract.Name:      rebuildExtract,
	kindRows.Name:         rebuildRows,
	kindPCA.Name:          rebuildPCA,
	kindLinkage.Name:      rebuildLinkage,
	kindTrain.Name:        rebuildTrain,
	kindTitles.Name:       rebuildTitles,
	kindSubmitTitles.Name: rebuildSubmitTitles,
	kindSubmitEval.Name:   rebuildSubmitEval,
	kindScore.Name:        rebuildScore,
}

// needApply says why some kinds run only inside apply.
var needApply = map[string]string{
	kindAwaitTitles.Name: "it sends requests, which only apply may do: it keeps the ledger of what was sent and paid for",
	kindAwaitEval.Name:   "it sends requests, which only apply may do: it keeps the ledger of what was sent and paid for",
	kindReport.Name:      "it shows the whole study, which only apply has",
}

func rebuilder(kind string) (func(*given) (graph.Task, error), error) {
	if make, ok := rebuilders[kind]; ok {
		return make, nil
	}
	why := needApply[kind]
	if why == "" {
		why = "this release does not know how; kinds that can be are " + strings.Join(sortedKeys(rebuilders), ", ")
	}
	return nil, fmt.Errorf("a task of the kind %q cannot be run by itself: %s", kind, why)
}

// given is what a task is made from.
type given struct {
	spec   *Spec
	params map[string]string
	errs   []error
}

func (g *given) wrong(name string, err error) {
	g.errs = append(g.errs, fmt.Errorf("parameter %s: %w", name, err))
}

// word is a parameter that must be there.
func (g *given) word(name string) studies.Value[string] {
	v, ok := g.params[name]
	if !ok {
		g.wrong(name, errors.New("missing"))
	}
	return value(v)
}

// perhaps is a parameter that may be missing.
func (g *given) perhaps(name string) studies.Value[string] { return value(g.params[name]) }

func (g *given) whole(name string) studies.Value[int] { return number(g, name, strconv.Atoi) }

func (g *given) wholePerhaps(name string) studies.Value[int] {
	if _, ok := g.params[name]; !ok {
		return value(0)
	}
	return g.whole(name)
}

func (g *given) seed() studies.Value[int64] {
	return number(g, "seed", func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })
}

func (g *given) real(name string) studies.Value[float64] {
	return number(g, name, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
}

func (g *given) yes(name string) studies.Value[bool] { return number(g, name, strconv.ParseBool) }

func number[T any](g *given, name string, parse func(string) (T, error)) studies.Value[T] {
	v, err := parse(g.word(name).V)
	if err != nil {
		g.wrong(name, err)
	}
	return value(v)
}

// words is a list as text writes it.
func (g *given) words(name string) studies.Value[[]string] {
	s := g.word(name).V
	inner, ok := strings.CutPrefix(s, "[")
	inner, ok2 := strings.CutSuffix(inner, "]")
	if !ok || !ok2 {
		g.wrong(name, fmt.Errorf("%q is no list", s))
		return value([]string(nil))
	}
	return value(strings.Split(inner, ", "))
}

func value[T any](v T) studies.Value[T] { return studies.Value[T]{V: v} }

// source is the path of a source.
func (g *given) source(name string) string {
	for _, f := range g.spec.Sources {
		if f.Name == name {
			return g.spec.path(f.Path)
		}
	}
	g.errs = append(g.errs, fmt.Errorf("the source %q is missing", name))
	return ""
}

// checkpoint is the model behind sources of the given prefix, or the built-in
// one that a parameter names.
func (g *given) checkpoint(prefix, param string) (source, builtin string) {
	if _, ok := g.params[param]; ok {
		ckpt, err := llm.Open(llm.BuiltinTiny)
		if err != nil {
			g.wrong(param, err)
			return "", ""
		}
		defer ckpt.Close()
		return llm.BuiltinTiny, ckpt.BuiltinID() // another id is found by its parameter
	}
	for _, f := range g.spec.Sources {
		if !strings.HasPrefix(f.Name, prefix+" ") {
			continue
		}
		dir := filepath.Dir(g.spec.path(f.Path))
		if source != "" && source != dir {
			g.errs = append(g.errs, fmt.Errorf("the files of the checkpoint must lie in one folder, and these lie in %s and %s", source, dir))
		}
		source = dir
	}
	if source == "" {
		g.errs = append(g.errs, fmt.Errorf("the sources name no checkpoint: %s FILE", prefix))
	}
	return source, ""
}

func (g *given) prep() preparation { return preparation{g.yes("center"), g.yes("normalize")} }

// evaluator is one that makes the same requests. It cannot be asked.
func (g *given) evaluator() *studies.Evaluator {
	e := &studies.Evaluator{Model: g.word("evaluator model"), Provider: value(lexical)}
	if p := g.word("evaluator provider").V; p != "lexical" {
		e.Provider, e.BaseURL = value("openai"), value("https://"+p)
	}
	if _, e.HasTemperature = g.params["evaluator temperature"]; e.HasTemperature {
		e.Temperature = g.real("evaluator temperature")
	}
	e.ReasoningEffort = g.perhaps("evaluator reasoning_effort")
	e.MaxCompletionTokens = g.wholePerhaps("evaluator max_completion_tokens")
	return e
}

func rebuildSentences(g *given) (graph.Task, error) {
	d := &studies.Dataset{
		File: value(g.source("responses")), NExamples: g.whole("n_examples"), MinWords: g.whole("min_words"), Truncated: g.word("truncated"),
	}
	source, builtin := g.checkpoint("tokenizer", "tokenizer")
	t := &sentences{
		study: &studies.Study{Seed: g.seed()}, from: newCheckpoint(source, source), builtin: builtin,
		model: &studies.Model{Source: value(source), Dataset: d, Span: g.word("span"), AddBOS: g.word("add_bos"), MaxTokens: g.whole("max_tokens")},
	}
	if len(g.errs) > 0 {
		return t, nil
	}
	all, err := ReadResponses(d.File.V)
	if err != nil {
		return nil, err
	}
	t.shards = (len(selected(all, d, t.study.Seed.V)) + shardSize - 1) / shardSize
	return t, nil
}

func rebuildImport(g *given) (graph.Task, error) {
	switch what := g.word("what").V; what {
	case "sentences":
		return &importSentences{&studies.Activations{Sentences: value(g.source("sentences"))}}, nil
	case "rows":
		t := &importRows{
			block: &studies.Activations{Sentences: value("the file of sentences"), Centered: g.yes("centered"), Normalized: g.yes("normalized")},
			file:  studies.LayerFile{File: value(g.source("rows"))},
		}
		for _, f := range g.spec.Sources {
			if f.Name == "mean" {
				t.file.Mean = studies.Value[string]{V: g.spec.path(f.Path), Set: true}
			}
		}
		return t, nil
	default:
		return nil, fmt.Errorf("parameter what is %q, and not sentences or rows", what)
	}
}

func rebuildExtract(g *given) (graph.Task, error) {
	source, builtin := g.checkpoint("checkpoint", "model")
	return &extract{
		model: &studies.Model{Source: value(source), Precision: g.word("precision")}, from: newCheckpoint(source, source), builtin: builtin, layer: g.whole("layer").V,
	}, nil
}

func rebuildRows(g *given) (graph.Task, error) {
	t := &rows{}
	for _, in := range g.spec.Inputs {
		if strings.HasPrefix(in.Name, "shard/") {
			t.shards++
		}
	}
	if t.shards == 0 {
		return nil, errors.New("no input is a shard")
	}
	return t, nil
}

func rebuildPCA(g *given) (graph.Task, error) {
	return &pca{components: g.whole("components").V, prep: g.prep()}, nil
}

func rebuildLinkage(g *given) (graph.Task, error) {
	space := g.word("space").V
	if space != "rows" && space != "pca" {
		return nil, fmt.Errorf("space is %q, and not rows or pca", space)
	}
	t := &linkage{space: space}
	if space == "rows" {
		t.prep = g.prep()
	}
	return t, nil
}

func rebuildTrain(g *given) (graph.Task, error) {
	name := g.word("method").V
	m, ok := cluster.ByName(name)
	if !ok || m.Fit == nil {
		return nil, fmt.Errorf("this release has no method %q", name)
	}
	t := &train{method: m, seed: g.seed(), k: g.whole("clusters").V, prep: g.prep()}
	for _, o := range m.Options {
		opt := option{name: o.Name}
		switch o.Kind {
		case "int":
			opt.value = int64(g.whole(o.Name).V)
		case "float":
			opt.value = g.real(o.Name).V
		case "bool":
			opt.value = g.yes(o.Name).V
		default:
			opt.value = g.word(o.Name).V
		}
		t.options = append(t.options, opt)
	}
	return t, nil
}

func rebuildTitles(g *given) (graph.Task, error) {
	return &fixedTitles{
		titles: &studies.Titles{File: value(g.source("titles")), Repetitions: g.whole("repetitions")},
		at:     clusteringID{g.word("model").V, g.whole("layer").V, g.word("method").V, g.whole("clusters").V},
	}, nil
}

func rebuildSubmitTitles(g *given) (graph.Task, error) {
	if g.params["prompt"] != "" {
		return nil, errOwnWording
	}
	return &submitTitles{
		study: &studies.Study{Seed: g.seed()},
		titles: &studies.Titles{
			Evaluator: g.evaluator(), DescriptionExamples: g.whole("description_examples"), Repetitions: g.whole("repetitions"),
			TraceExamples: g.whole("trace_examples"), ExampleCategories: g.whole("example_categories"),
		},
	}, nil
}

// rebuildSubmitEval takes the number of repetitions from the requests for
// titles, which ask about every cluster in each of them.
func rebuildSubmitEval(g *given) (graph.Task, error) {
	ev := &studies.Evaluation{Metrics: g.words("metrics"), ChunkSize: g.whole("chunk_size"), Labels: g.word("labels")}
	ev.Accuracy.Inside, ev.Accuracy.Outside = g.wholePerhaps("accuracy inside"), g.wholePerhaps("accuracy outside")
	ev.Accuracy.Explanations, ev.Explanations = g.perhaps("accuracy explanations"), g.perhaps("completeness explanations")
	ev.HeldOut = g.yes("held_out")
	ev.Completeness.Examples, ev.Completeness.Mode = g.wholePerhaps("completeness examples"), g.perhaps("completeness mode")
	ev.Orthogonality.Repetitions = g.perhaps("orthogonality repetitions")
	for _, name := range []string{"accuracy prompt", "completeness prompt", "orthogonality prompt"} {
		if g.params[name] != "" {
			return nil, errOwnWording
		}
	}
	t := &submitEval{study: &studies.Study{Seed: g.seed()}, eval: ev, judge: g.evaluator()}
	for _, in := range g.spec.Inputs {
		if in.Name != "title-requests" {
			continue
		}
		f, err := os.Open(g.spec.path(in.Path))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		heads, err := readJSONL[struct {
			Rep int `json:"rep"`
		}](f)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", in.Name, err)
		}
		for _, h := range heads {
			t.reps = max(t.reps, h.Rep+1)
		}
	}
	return t, nil
}

func rebuildScore(g *given) (graph.Task, error) {
	ev := &studies.Evaluation{Metrics: g.words("metrics")}
	ev.Completeness.Mode = g.perhaps("completeness mode")
	ev.Orthogonality.Repetitions = g.perhaps("orthogonality repetitions")
	if _, ok := g.params["orthogonality threshold"]; ok {
		ev.Orthogonality.Threshold = g.real("orthogonality threshold")
	}
	return &score{ev, g.whole("repetitions").V}, nil
}
