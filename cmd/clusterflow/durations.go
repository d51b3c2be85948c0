package main

import (
	"context"
	"encoding/json"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/linalg"
	"clusterflow/tasks"
)

// durations estimate how long the steps of a plan take, from earlier runs. The
// records of the cache are read when an estimate is first asked for.
type durations struct {
	past   func() *past
	shares func() map[*graph.Node]float64
	steps  func() map[*graph.Node]*graph.Step
	record func(cache.Digest) (*cache.Record, bool)
	speed  func() float64 // of products of matrices on all processors, operations a second
	card   func() bool    // a worker for a card is installed, and may be used
}

// past is what earlier runs took.
type past struct {
	means map[string]*meanTime // by kind and method
	rates map[string]*rate     // on this machine, of passes through a model by passRate, and of linkages
}

type meanTime struct {
	sum time.Duration
	n   int
}

// linkageRate is the key of the speed at which trees were made.
const linkageRate = "linkage"

// passRate is the key of the speed of passes in a precision.
func passRate(precision string, card bool) string {
	if card {
		return precision + " on the card"
	}
	return precision
}

// longWork are operations that may take minutes.
const longWork = 1e13

// rate is how many floating-point operations passes did in how many seconds.
type rate struct{ work, seconds float64 }

func durationKey(kind, method string) string { return kind + " " + method }

// measure gives the durations of a plan, of models on a card where one can be used
// unless they are to run on the processor.
func measure(known *cache.Reader, p *graph.Plan, processor bool) *durations {
	return &durations{
		record: known.Record,
		card: sync.OnceValue(func() bool {
			_, err := findWorker()
			return err == nil && !processor
		}),
		speed: sync.OnceValue(func() float64 {
			return linalg.MeasureGFLOPS(context.Background()) * 1e9 * float64(runtime.NumCPU())
		}),
		past:   sync.OnceValue(func() *past { return lookBack(known) }),
		shares: sync.OnceValue(func() map[*graph.Node]float64 { return passShares(p) }),
		steps: sync.OnceValue(func() map[*graph.Node]*graph.Step {
			at := make(map[*graph.Node]*graph.Step, len(p.Steps))
			for _, s := range p.Steps {
				at[s.Node] = s
			}
			return at
		}),
	}
}

// lookBack reads the times of all earlier runs in the cache.
func lookBack(known *cache.Reader) *past {
	p := &past{means: map[string]*meanTime{}, rates: map[string]*rate{}}
	host, _ := os.Hostname()
	for r := range known.Records() {
		method, precision := "", ""
		for _, l := range r.Lines {
			switch l.Label {
			case "param method":
				method = l.Value
			case "param precision":
				precision = l.Value
			}
		}
		key := durationKey(r.Kind, method)
		if p.means[key] == nil {
			p.means[key] = &meanTime{}
		}
		p.means[key].sum += r.Finished.Sub(r.Started)
		p.means[key].n++
		speed := passRate(precision, !strings.HasPrefix(r.Backend, "cpu "))
		if r.Kind == linkageRate {
			speed = linkageRate
		}
		work, err1 := strconv.ParseFloat(r.Info[tasks.NotePassWork], 64)
		seconds, err2 := strconv.ParseFloat(r.Info[tasks.NotePassSeconds], 64)
		if err1 != nil || err2 != nil || r.Host != host || seconds <= 0 {
			continue
		}
		if p.rates[speed] == nil {
			p.rates[speed] = &rate{}
		}
		p.rates[speed].work += work
		p.rates[speed].seconds += seconds
	}
	return p
}

// passShares are the operations of the extract steps that will run: those of a
// shard run through the blocks once, to the deepest of their layers.
func passShares(p *graph.Plan) map[*graph.Node]float64 {
	most, n := map[string]float64{}, map[string]int{}
	for _, s := range p.Steps {
		if shard, work := tasks.PassWork(s.Node); work > 0 && s.State != graph.Cached {
			most[shard] = max(most[shard], work)
			n[shard]++
		}
	}
	out := map[*graph.Node]float64{}
	for _, s := range p.Steps {
		if shard, work := tasks.PassWork(s.Node); work > 0 && s.State != graph.Cached {
			out[s.Node] = most[shard] / float64(n[shard])
		}
	}
	return out
}

// of estimates a step: by the speed of earlier passes or trees if it is one of
// those, else by its own last time, else by the mean of its kind.
func (d *durations) of(s *graph.Step) (time.Duration, bool) {
	if s.Node.Kind() == "extract" && s.State != graph.Cached {
		if r, _ := d.passes(s.Node); r != nil {
			kept, of := d.kept(s)
			work := d.shares()[s.Node] * float64(of-kept) / float64(max(of, 1))
			return time.Duration(work / r.work * r.seconds * float64(time.Second)), true
		}
	}
	if work := tasks.LinkageWork(s.Node); work > 0 && s.State != graph.Cached {
		rates := d.past().rates
		for _, key := range []string{linkageRate, "f32"} { // products of matrices are most of both
			if r := rates[key]; r != nil && r.work > 0 {
				return time.Duration(work / r.work * r.seconds * float64(time.Second)), true
			}
		}
		if work > longWork { // hours perhaps, so that a guess is worth a measurement
			return time.Duration(work / d.speed() * float64(time.Second)), true
		}
	}
	if s.Last != nil {
		return s.Last.Finished.Sub(s.Last.Started), true
	}
	method := ""
	if s.Node.Kind() == "train" {
		method = s.Node.Attr("method")
	}
	if m := d.past().means[durationKey(s.Node.Kind(), method)]; m != nil {
		return m.sum / time.Duration(m.n), true
	}
	return 0, false
}

// passes is how fast passes in the precision of an extract node were, nil if that
// is not known, and on what, where a card may be used: that of the processor while
// no pass in the precision was run on the card.
func (d *durations) passes(n *graph.Node) (r *rate, on string) {
	rates, precision := d.past().rates, precisionOf(n)
	if !d.card() {
		return rates[passRate(precision, false)], ""
	}
	if r := rates[passRate(precision, true)]; r != nil {
		return r, "on the card"
	}
	return rates[passRate(precision, false)], "on the processor, as no run on the card is known"
}

func precisionOf(n *graph.Node) string {
	for _, l := range n.Task.Params() {
		if l.Label == "precision" {
			return l.Value
		}
	}
	return ""
}

// kept is how many of the responses of an extract step have rows already,
// because only their number in the study changed.
func (d *durations) kept(s *graph.Step) (kept, of int) {
	of = tasks.ShardResponses(s.Node)
	if s.Last == nil || of == 0 || s.State != graph.Unknown {
		return 0, of
	}
	for _, in := range s.Node.Inputs {
		from := d.steps()[in.From]
		if from == nil {
			return 0, of
		}
		for _, r := range from.Reasons {
			if r.Cause != graph.CauseParam || !strings.HasPrefix(r.Text, "n_examples ") {
				return 0, of
			}
		}
	}
	last := s.Last
	if last.Brief {
		if last, _ = d.record(last.Key); last == nil {
			return 0, of
		}
	}
	n, err := strconv.Atoi(last.Info["responses"])
	if err != nil {
		return 0, of
	}
	return min(n, of), of
}

// dataInfo is what a node of sentences found out, nil if that is not known.
func (p *planned) dataInfo(addr string) *tasks.DataInfo {
	n := p.Graph.Node(addr)
	if n == nil {
		return nil
	}
	for _, s := range p.Steps {
		if s.Node != n || s.State != graph.Cached {
			continue
		}
		record, ok := p.known.Record(s.Key)
		if !ok {
			return nil
		}
		var info tasks.DataInfo
		if o, ok := record.Output("info"); !ok || o.Inline == nil || json.Unmarshal(o.Inline, &info) != nil {
			return nil
		}
		return &info
	}
	return nil
}
