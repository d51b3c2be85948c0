package studies

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

const openAI = "https://api.openai.com/v1"

func (d *decoder) evaluator(b *hclsyntax.Block) {
	e := &Evaluator{Name: b.Labels[0], Range: b.DefRange()}
	d.study.Evaluators = append(d.study.Evaluators, e)
	r := d.reader(b, "evaluator."+e.Name)
	e.Provider = get(r, "provider", "openai", oneOf("openai", "lexical"))
	if e.Provider.V == "lexical" {
		for _, name := range []string{"model", "base_url", "api_key_env", "temperature", "reasoning_effort", "max_completion_tokens"} {
			r.attributes = append(r.attributes, name)
			if !r.absent(name) {
				r.errorf(r.body.Attributes[name].NameRange, fmt.Sprintf("The lexical judge takes no %s", name),
					"It works offline, and gives the same answer to the same prompt. Remove the attribute.")
			}
		}
		e.Model = Value[string]{V: "lexical", Range: r.at}
		e.BaseURL.Range, e.APIKeyEnv.Range, e.Temperature.Range, e.ReasoningEffort.Range, e.MaxCompletionTokens.Range = r.at, r.at, r.at, r.at, r.at
	} else {
		example := fmt.Sprintf("%q (protocol %q titles with %s and judges with %s)", d.proto.judge, d.proto.name, d.proto.titler, d.proto.judge)
		e.Model = need(r, "model", example, text)
		e.BaseURL = get(r, "base_url", openAI, webAddress)
		e.APIKeyEnv = get(r, "api_key_env", "OPENAI_API_KEY", environmentName)
		e.Temperature = getShown(r, "temperature", 0, "0, unless the model reasons", decimal(0, 2))
		e.HasTemperature = e.Temperature.Set
		e.ReasoningEffort = get(r, "reasoning_effort", "", oneOf("none", "minimal", "low", "medium", "high", "xhigh"))
		e.MaxCompletionTokens = getShown(r, "max_completion_tokens", 0, "by prompt", count(1))
	}
	d.mode(r, e)
	d.money(r, e)
	r.done()
}

// mode reads how requests are sent, which changes neither them nor the answers.
func (d *decoder) mode(r *reader, e *Evaluator) {
	e.Mode = get(r, "mode", "batch", oneOf("batch", "direct"))
	// Of use in direct mode alone, but whoever switches to and fro keeps it.
	e.Concurrency = get(r, "concurrency", defaultConcurrency, whole(1, 1000))
}

// money reads what an evaluator costs, may cost and may be sent at a time.
func (d *decoder) money(r *reader, e *Evaluator) {
	e.Retries = get(r, "retries", 0, whole(0, 10))
	e.MaxEnqueued = getShown(r, "max_enqueued_tokens", 0, "", whole(1, math.MaxInt64))
	e.MaxCostUSD = getShown(r, "max_cost_usd", 0, "", decimal(0, math.Inf(1)))
	given := r.blockNamed("price")
	p := r.child("price")
	if given == nil {
		return
	}
	if e.Provider.V == "lexical" {
		r.errorf(given.DefRange(), "The lexical judge costs nothing", "Remove the price block.")
	}
	e.Price.Input = need(p, "input", "2.50 (US dollars per million prompt tokens)", decimal(0, math.Inf(1)))
	e.Price.Output = need(p, "output", "10 (US dollars per million completion tokens)", decimal(0, math.Inf(1)))
	e.Price.BatchDiscount = get(p, "batch_discount", 0.5, decimal(0, 1))
	p.done()
}

func (d *decoder) titles(b *hclsyntax.Block) {
	t := &Titles{Name: b.Labels[0], Range: b.DefRange()}
	d.study.Titles = append(d.study.Titles, t)
	r := d.reader(b, "titles."+t.Name)
	t.Repetitions = get(r, "repetitions", defaultRepetitions, whole(1, 1000))
	if !r.absent("file") {
		d.fixedTitles(r, t)
		return
	}
	if v := need(r, "evaluator", "evaluator.titler (or file = \"titles.jsonl\", for titles that there are already)", d.reference("evaluator")); v.Set {
		t.Evaluator = d.evaluatorNamed(v.V.label)
	}
	t.DescriptionExamples = get(r, "description_examples", defaultDescriptionExamples, count(1))
	t.TraceExamples = get(r, "n_trace_examples", defaultTraceExamples, count(0))
	t.ExampleCategories = get(r, "example_categories", 0, whole(0, maxExampleCategories))
	r.prompts()
	t.Prompt = r.wording()
	r.attributes = append(r.attributes, "file")
	r.done()
}

// fixedTitles reads a titles block whose titles are in a file.
func (d *decoder) fixedTitles(r *reader, t *Titles) {
	t.File = d.existing(r, "file", get(r, "file", "", text))
	for _, name := range []string{"evaluator", "description_examples", "n_trace_examples", "example_categories", "prompt", "prompts"} {
		r.attributes = append(r.attributes, name)
		if !r.absent(name) {
			r.errorf(r.body.Attributes[name].NameRange, fmt.Sprintf("Titles from a file take no %s", name), "Nobody is asked for them. Remove this attribute, or file.")
		}
	}
	r.done()
}

func (d *decoder) evaluatorNamed(label string) *Evaluator {
	for _, e := range d.study.Evaluators {
		if e.Name == label {
			return e
		}
	}
	return nil
}

// metrics that an evaluation can ask for, with the block that sets each up.
var metrics = []string{"accuracy", "completeness", "orthogonality"}

func (d *decoder) evaluation(b *hclsyntax.Block) {
	e := &Evaluation{Name: b.Labels[0], Range: b.DefRange()}
	d.study.Evaluations = append(d.study.Evaluations, e)
	r := d.reader(b, "evaluation."+e.Name)

	titles := needList(r, "titles", "[titles.auto]", d.reference("titles"))
	for _, v := range titles.V {
		for _, t := range d.study.Titles {
			if t.Name == v.label {
				e.Titles = append(e.Titles, t)
			}
		}
	}
	judges := needList(r, "judges", "[evaluator.judge]", d.reference("evaluator"))
	for _, v := range judges.V {
		if judge := d.evaluatorNamed(v.label); judge != nil {
			e.Judges = append(e.Judges, judge)
		}
	}
	d.gradedOnce(r, e, judges)

	e.Metrics = getList(r, "metrics", slices.Clone(metrics), false, oneOf(metrics...)).Value
	for _, metric := range metrics {
		if block := r.blockNamed(metric); block != nil && !slices.Contains(e.Metrics.V, metric) {
			r.errorf(block.DefRange(), fmt.Sprintf("%s is set up but not asked for", metric), "metrics does not name it. Add it there, or remove this block.")
		}
	}
	e.Explanations = r.explanations("all")
	d.accuracy(r.child("accuracy"), e)
	d.completeness(r.child("completeness"), e)
	d.orthogonality(r.child("orthogonality"), e)

	e.ChunkSize = get(r, "chunk_size", maxChunk, whole(1, maxChunk))
	e.Labels = d.gradedLabels(r)
	e.HeldOut = get(r, "held_out", false, boolean)
	r.prompts()
	r.later = append(r.later, "prompt")
	if attr := r.body.Attributes["prompt"]; attr != nil {
		r.errorf(attr.NameRange, "prompt stands in another block", "Each metric has a question of its own: write it into accuracy { }, completeness { } or orthogonality { }.")
	}
	r.done()
}

// gradedOnce sees to it that no two evaluations make the same scores.
func (d *decoder) gradedOnce(r *reader, e *Evaluation, judges items[ref]) {
	for _, other := range d.study.Evaluations {
		if other == e {
			continue
		}
		for _, t := range e.Titles {
			for i, j := range judges.V {
				judge := d.evaluatorNamed(j.label)
				if slices.Contains(other.Titles, t) && slices.Contains(other.Judges, judge) {
					r.errorf(judges.Places[i], fmt.Sprintf("evaluator.%s grades titles.%s twice", j.label, t.Name),
						"evaluation %q has the same pair, and their scores would share an address. Give one of them a titles or evaluator block of its own.", other.Name)
				}
			}
		}
	}
}

// gradedLabels reads which labels are named and graded: as trained, or as the
// model's own predict gives them.
func (d *decoder) gradedLabels(r *reader) Value[string] {
	return get(r, "labels", d.proto.labels, oneOf("trained", "predicted"))
}

// wording reads a text that replaces that of a question; "" keeps ours. Settings
// show a digest of it.
func (r *reader) wording() Value[string] {
	quiet := r.quiet
	r.quiet = true
	v := get(r, "prompt", "", anyText)
	r.quiet = quiet
	shown := ""
	if v.Set {
		shown = fmt.Sprintf("own (SHA-256 %.12x)", sha256.Sum256([]byte(v.V)))
	}
	r.setting("prompt", shown, "", v.Origin())
	return v
}

// explanations reads which verdicts about sentences are explained.
func (r *reader) explanations(def string) Value[string] {
	return get(r, "explanations", def, oneOf("all", "sample", "none"))
}

func (d *decoder) accuracy(r *reader, e *Evaluation) {
	a := &e.Accuracy
	a.Prompt = r.wording()
	if a.Explanations = r.explanations(e.Explanations.V); !a.Explanations.Set {
		a.Explanations = e.Explanations
	}
	atLeast := 1
	if d.proto.inside != d.proto.outside {
		atLeast = (d.proto.inside + d.proto.outside + d.proto.inside - 1) / d.proto.inside // one from inside
	}
	r.quiet = true // what counts are the two numbers below
	examples := get(r, "examples", 0, count(atLeast))
	r.quiet = false
	a.Inside = get(r, "inside", d.proto.inside, count(1))
	a.Outside = get(r, "outside", d.proto.outside, count(1))
	switch {
	case examples.Set && (a.Inside.Set || a.Outside.Set):
		r.errorf(examples.Range, "examples, or inside and outside", "examples sets both numbers by the protocol; inside and outside set them one by one. Remove one or the other.")
	case examples.Set:
		in, out := d.proto.accuracyExamples(examples.V)
		a.Inside = Value[int]{V: in, Range: examples.Range, Set: true}
		a.Outside = Value[int]{V: out, Range: examples.Range, Set: true}
		r.amend("inside", show(in), examples.Origin())
		r.amend("outside", show(out), examples.Origin())
	case a.Inside.Set != a.Outside.Set:
		at := a.Inside.Range
		if a.Outside.Set {
			at = a.Outside.Range
		}
		r.errorf(at, "inside and outside go together", "Give the numbers of sentences from the cluster and from outside of it, or examples for the protocol's proportion.")
	}
	r.done()
}

func (d *decoder) completeness(r *reader, e *Evaluation) {
	c := &e.Completeness
	c.Prompt = r.wording()
	c.Examples = get(r, "examples", d.proto.completeness, countOr(1, "all", -1))
	c.Mode = get(r, "mode", d.proto.completenessMode, oneOf("assign", "fit"))
	r.done()
}

func (d *decoder) orthogonality(r *reader, e *Evaluation) {
	o := &e.Orthogonality
	o.Prompt = r.wording()
	o.Threshold = get(r, "threshold", defaultThreshold, decimal(0, 1))
	o.Repetitions = get(r, "repetitions", d.proto.orthogonalityTitles, oneOf("first", "each"))
	r.done()
}

// report reads the report block, or fills in a report without one.
func (d *decoder) report() {
	out := d.study.Report
	r := &reader{d: d, body: &hclsyntax.Body{}, at: d.study.Range, what: "report", path: "report"}
	if blocks := d.blocks["report"]; len(blocks) > 0 {
		r = d.reader(blocks[0], "report")
	}
	out.Range = r.at
	name := d.study.Name.V
	if name == "" {
		name = "study"
	}
	out.Dir = get(r, "dir", "results/"+name, text)
	out.Dir.V = d.resolve(out.Dir.V)
	out.Figures = getList(r, "figures", []string{"pdf", "svg"}, true, oneOf("pdf", "svg")).Value
	if out.Figures.V == nil {
		out.Figures.V = []string{}
	}
	r.done()
}
