package tasks

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/internal/batchd"
	"clusterflow/studies"
)

// lexicalModel is the name under which answers of the offline judge are kept.
// It changes when the judge would answer the same prompt differently.
const lexicalModel = "lexical-1"

// Office is what the await tasks need of their surroundings: the ledger, the
// network and, for lexical evaluators, the embedded Batch API server, started
// when it is first needed. It is safe for concurrent use.
type Office struct {
	store  *cache.Store
	desk   *batch.Desk
	getenv func(string) string

	ceiling *ceiling // nil: none

	mu      sync.Mutex
	lexical string // base URL of the embedded server, "" while it is not running
	stop    func() error
	batches map[string][]batch.BatchState // by group, as last seen
	asked   map[cache.Digest][]string     // request keys by the content of their file
}

// NewOffice returns an office without a cache: graphs can be made with it, and
// run once it is open.
func NewOffice(getenv func(string) string) *Office {
	return &Office{getenv: getenv, batches: map[string][]batch.BatchState{}, asked: map[cache.Digest][]string{}}
}

// Open gives the office its cache. Close stops what it started.
func (o *Office) Open(store *cache.Store, opts batch.DeskOptions) {
	opts.TempDir = cmp.Or(opts.TempDir, filepath.Join(store.Dir(), "scratch"))
	o.store = store
	o.desk = batch.NewDesk(store.Bucket("ledger"), blobFiles{store.Blobs()}, opts)
}

// Close stops the embedded server, if it runs; it is started again when it is
// next needed.
func (o *Office) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stop == nil {
		return nil
	}
	stop := o.stop
	o.stop, o.lexical = nil, ""
	return stop()
}

// Batches lists the batches that the run has seen, by id.
func (o *Office) Batches() []cache.BatchState {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []cache.BatchState
	for _, bs := range o.batches {
		for _, b := range bs {
			out = append(out, cache.BatchState{
				ID: cmp.Or(b.ID, b.Intent), Evaluator: b.Evaluator, Status: b.Status, Requests: b.Requests,
				Completed: b.Completed, Failed: b.Failed, Created: b.Created, Expires: b.Expires,
			})
		}
	}
	slices.SortFunc(out, func(a, b cache.BatchState) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return out
}

// saw remembers the batches of a group, and brings those that it has seen
// before up to date: they may have ended.
func (o *Office) saw(ctx context.Context, group string, now []batch.BatchState) {
	all, err := o.desk.Batches(ctx)
	if err != nil {
		all = now // what was seen this time is better than nothing
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	intents := map[string]bool{}
	for _, b := range slices.Concat(o.batches[group], now) {
		intents[b.Intent] = true
	}
	o.batches[group] = slices.DeleteFunc(all, func(b batch.BatchState) bool { return !intents[b.Intent] })
}

// keys are the request keys of a job's request file.
func (o *Office) keys(job *graph.Job) ([]string, error) {
	d, err := job.Digest("requests")
	if err != nil {
		return nil, err
	}
	return o.keysOf(d, func() (io.ReadCloser, error) { return job.Open("requests") })
}

// keysOf are the request keys of a request file, by its content: it is opened
// only the first time.
func (o *Office) keysOf(d cache.Digest, open func() (io.ReadCloser, error)) ([]string, error) {
	o.mu.Lock()
	known, ok := o.asked[d]
	o.mu.Unlock()
	if ok {
		return known, nil
	}
	in, err := open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	type head struct {
		Key string `json:"key"`
	}
	heads, err := readJSONL[head](in)
	if err != nil {
		return nil, fmt.Errorf("reading the request file %s: %w", d.Short(), err)
	}
	keys := make([]string, len(heads))
	for i, h := range heads {
		keys[i] = h.Key
	}
	o.mu.Lock()
	o.asked[d] = keys
	o.mu.Unlock()
	return keys, nil
}

// Bill counts what a plan's await nodes would have sent, by destination: exactly
// where the requests are written already, else at most. exact is false if any
// count is an upper bound.
func (o *Office) Bill(ctx context.Context, p *graph.Plan) (requests map[graph.Destination]int, exact bool, err error) {
	requests, exact = map[graph.Destination]int{}, true
	files := map[*graph.Node]*cache.Record{}
	for _, s := range p.Steps {
		if s.State == graph.Cached {
			files[s.Node] = s.Record
		}
	}
	counted := map[string]bool{} // a request that two nodes ask is paid once
	for _, s := range p.Steps {
		if s.Node.Dest == (graph.Destination{}) || s.State == graph.Cached {
			continue
		}
		var keys []string
		written := files[s.Node.Inputs[0].From]
		if written != nil {
			keys, err = o.written(written, s.Node.Inputs[0].Output)
		}
		if written == nil || err != nil { // a damaged file is written again
			exact = false
			for _, n := range s.Node.Demand {
				requests[s.Node.Dest] += n
			}
			continue
		}
		unsent, err := o.desk.Unsent(ctx, keys)
		if err != nil {
			return nil, false, err
		}
		for k := range unsent {
			if !counted[k] {
				counted[k] = true
				requests[s.Node.Dest]++
			}
		}
	}
	return requests, exact, nil
}

// written are the request keys of a recorded request file.
func (o *Office) written(r *cache.Record, output string) ([]string, error) {
	out, ok := r.Output(output)
	if !ok {
		return nil, fmt.Errorf("%s has no output %q", r.Address, output)
	}
	if out.Absent { // of a brief record
		whole, err := o.store.Record(r.Key)
		if err != nil || whole == nil {
			return nil, cmp.Or(err, fmt.Errorf("%s: its record is gone", r.Address))
		}
		out, _ = whole.Output(output)
	}
	return o.keysOf(out.Digest, func() (io.ReadCloser, error) {
		if out.Inline != nil {
			return io.NopCloser(bytes.NewReader(out.Inline)), nil
		}
		return o.store.Blobs().Open(out.Digest)
	})
}

// Resend gives up a batch, by its intent or its id: what it holds unanswered is
// sent again by the next apply, though it may have been paid for.
func (o *Office) Resend(ctx context.Context, id string) error {
	all, err := o.desk.Batches(ctx)
	if err != nil {
		return err
	}
	for _, b := range all {
		if b.ID == id || b.Intent == id {
			return o.desk.Resend(ctx, b.Intent)
		}
	}
	return fmt.Errorf("the ledger knows no batch %q; clusterflow batches list shows those of a study", id)
}

// connect returns the evaluator ready to be asked: with its key, or with the
// address of the embedded server.
func (o *Office) connect(ctx context.Context, e *studies.Evaluator) (batch.Evaluator, error) {
	be := settings(e)
	if e.Provider.V == "lexical" {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.lexical == "" {
			base, stop, err := batchd.Start(context.WithoutCancel(ctx), filepath.Join(o.store.Dir(), "batchd"), batchd.Lexical)
			if err != nil {
				return be, fmt.Errorf("starting the offline judge: %w", err)
			}
			o.lexical, o.stop = base, stop
		}
		be.BaseURL = o.lexical
		return be, nil
	}
	be.APIKeyEnv = e.APIKeyEnv.V
	be.APIKey = o.getenv(be.APIKeyEnv)
	if be.APIKey == "" && !be.Loopback() {
		return be, fmt.Errorf("evaluator %q needs an API key for %s: set the environment variable %s", e.Name, be.BaseURL, be.APIKeyEnv)
	}
	return be, nil
}

// settings is an evaluator without its secrets and without a running server:
// all that requests are made of.
func settings(e *studies.Evaluator) batch.Evaluator {
	be := batch.Evaluator{
		Name: e.Name, Provider: e.Provider.V, Model: e.Model.V, BaseURL: e.BaseURL.V,
		ReasoningEffort: e.ReasoningEffort.V, MaxCompletionTokens: e.MaxCompletionTokens.V,
	}
	if e.HasTemperature {
		t := e.Temperature.V
		be.Temperature = &t
	}
	if e.Provider.V == "lexical" {
		be.Model, be.BaseURL = lexicalModel, ""
	}
	return be
}

// destination is where an evaluator's text goes; none for the offline judge,
// whose text stays in this process.
func destination(e *studies.Evaluator) graph.Destination {
	if e.Provider.V == "lexical" {
		return graph.Destination{}
	}
	return graph.Destination{URL: e.BaseURL.V, KeyEnv: e.APIKeyEnv.V}
}

// evaluatorParams are the settings that can change an answer.
func evaluatorParams(p *params, e *studies.Evaluator) {
	be := settings(e)
	p.add("evaluator model", be.Model, e.Model.Origin())
	p.add("evaluator provider", be.Identity(), e.BaseURL.Origin())
	if be.Temperature != nil {
		p.add("evaluator temperature", *be.Temperature, e.Temperature.Origin())
	}
	if be.ReasoningEffort != "" {
		p.add("evaluator reasoning_effort", be.ReasoningEffort, e.ReasoningEffort.Origin())
	}
	if be.MaxCompletionTokens != 0 {
		p.add("evaluator max_completion_tokens", be.MaxCompletionTokens, e.MaxCompletionTokens.Origin())
	}
}

// blobFiles lets the desk keep result files as blobs.
type blobFiles struct{ blobs *cache.Blobs }

func (b blobFiles) Import(path string) (string, int64, error) {
	d, n, err := b.blobs.ImportFile(path)
	return d.String(), n, err
}

func (b blobFiles) Open(digest string) (io.ReadSeekCloser, error) {
	d, err := cache.ParseDigest(digest)
	if err != nil {
		return nil, err
	}
	return b.blobs.Open(d)
}
