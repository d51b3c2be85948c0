package tasks

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/judge"
	"clusterflow/internal/price"
)

// Saving is a change of a study and what it would save of the expected cost.
type Saving struct {
	Change string // as it would stand in the study
	USD    float64
}

// tersePart is how much shorter answers without explanations are, by their
// completion limits for 50 sentences.
const tersePart = 0.63

// Savings are changes that make what a plan asks cheaper, those first that save
// most. They do not add up: each is meant alone.
func (c *Compiled) Savings(p *graph.Plan, asks []Ask, record func(cache.Digest) (*cache.Record, bool), past Answered) []Saving {
	var out []Saving
	add := func(usd float64, format string, args ...any) {
		if usd > 0 {
			out = append(out, Saving{fmt.Sprintf(format, args...), usd})
		}
	}
	usd := func(asks []Ask, of func(Ask) bool) float64 {
		sum := 0.0
		for _, a := range asks {
			if of(a) {
				e, _, _ := a.USD()
				sum += e
			}
		}
		return sum
	}
	for _, e := range c.Study.Evaluators {
		model, cheaper := cheaperModel(e.Model.V)
		if model == "" || e.Price.Given() {
			continue
		}
		now, then := 0.0, 0.0
		for _, a := range asks {
			if a.Evaluator == e {
				x, _, _ := a.USD()
				now, then = now+x, then+cheaper.Of(a.Prompt, a.Expected, InBatches(e))
			}
		}
		add(now-then, `evaluator %q { model = %q }`, e.Name, model)
	}
	for _, ev := range c.Study.Evaluations {
		judged := func(task string) float64 {
			return usd(asks, func(a Ask) bool { return a.Task == task && slices.Contains(ev.Judges, a.Evaluator) })
		}
		if ev.Accuracy.Explanations.V == "all" {
			cost := 0.0
			for _, a := range asks {
				if a.Task == judge.TaskAccuracy && slices.Contains(ev.Judges, a.Evaluator) {
					p, _ := PriceOf(a.Evaluator)
					cost += p.Of(0, a.Expected, InBatches(a.Evaluator))
				}
			}
			add(cost*tersePart, "evaluation %q { accuracy { explanations = \"none\" } }", ev.Name)
		}
		if n := ev.Accuracy.Inside.V; n >= 20 {
			add(judged(judge.TaskAccuracy)/2, "evaluation %q { accuracy { examples = %d } }", ev.Name, n/2)
		}
		if n := ev.Completeness.Examples.V; n > 200 || n < 0 {
			all := float64(n)
			if n < 0 {
				all = 0
				for _, m := range c.materials {
					all += float64(m.sentences) / float64(len(c.materials))
				}
			}
			cost := judged(judge.TaskCompleteness) + judged(judge.TaskFit)
			add(cost*(1-200/all), "evaluation %q { completeness { examples = 200 } }", ev.Name)
		}
	}
	for _, t := range c.Study.Titles {
		if n := t.Repetitions.V; n > 3 {
			cost := usd(asks, func(a Ask) bool { return a.Task != judge.TaskSimilarity }) / float64(len(c.Study.Titles))
			add(cost*(1-3/float64(n)), "titles %q { repetitions = 3 }", t.Name)
		}
	}
	if sizes := fewerSizes(c.Graph.Nodes); sizes != nil {
		rest := &graph.Plan{Graph: p.Graph}
		for _, s := range p.Steps {
			if k, err := strconv.Atoi(s.Node.Attr("clusters")); s.State == graph.Cached || err == nil && slices.Contains(sizes, k) {
				rest.Steps = append(rest.Steps, s)
			}
		}
		whole := usd(asks, func(Ask) bool { return true })
		fewer, _ := c.Asks(rest, record, past)
		left := usd(fewer, func(Ask) bool { return true })
		texts := make([]string, len(sizes))
		for i, k := range sizes {
			texts[i] = strconv.Itoa(k)
		}
		add(whole-left, "clusters = [%s]", strings.Join(texts, ", "))
	}
	slices.SortStableFunc(out, func(a, b Saving) int {
		switch {
		case a.USD > b.USD:
			return -1
		case a.USD < b.USD:
			return 1
		}
		return 0
	})
	return out
}

// cheaperModel is a smaller model of the same family, with its price; "" where
// none is listed.
func cheaperModel(model string) (string, price.Price) {
	now, ok := price.Of(model)
	if !ok {
		return "", price.Price{}
	}
	for _, small := range []string{"gpt-4.1-mini", "gpt-5-mini", "o4-mini"} {
		p, _ := price.Of(small)
		family := small[:strings.LastIndex(small, "-")]
		if p.Input < now.Input && p.Output < now.Output && (strings.HasPrefix(model, family) || small == "gpt-4.1-mini" && strings.HasPrefix(model, "gpt-4") || small == "o4-mini" && strings.HasPrefix(model, "o")) {
			return small, p
		}
	}
	return "", price.Price{}
}

// fewerSizes are about a third of the numbers of clusters of a study, nil if
// there are few.
func fewerSizes(nodes []*graph.Node) []int {
	var all []int
	for _, n := range nodes {
		if k, err := strconv.Atoi(n.Attr("clusters")); err == nil && !slices.Contains(all, k) {
			all = append(all, k)
		}
	}
	if len(all) < 4 {
		return nil
	}
	slices.Sort(all)
	var out []int
	for i := 1; i < len(all) && len(out) < 3; i += max(2, len(all)/5) {
		out = append(out, all[i])
	}
	return out
}
