package tasks

import (
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

// lexical is the provider of the offline judge.
const lexical = "lexical"

// Office is what the await tasks need of their surroundings: the ledger, the
// network and, for lexical evaluators, the embedded Batch API server, started
// when it is first needed. It is safe for concurrent use.
type Office struct {
	store  *cache.Store
	desk   *batch.Desk
	getenv func(string) string

	ceiling *ceiling                     // nil: none
	trust   func(graph.Destination) bool // nil: none

	mu      sync.Mutex
	lexical string // base URL of the embedded server, "" while it is not running
	stop    func() error
	batches map[string][]batch.BatchState // by group, as last seen
	bills   []cache.Bill                  // as last seen
	payer   Payer
	pilot   *pilot                      // nil: everything is sent
	files   map[cache.Digest]*askedFile // request files by their content
}

// NewOffice returns an office without a cache: graphs can be made with it, and
// run once it is open.
func NewOffice(getenv func(string) string) *Office {
	return &Office{getenv: getenv, batches: map[string][]batch.BatchState{}, files: map[cache.Digest]*askedFile{}}
}

// SetTrust says which destinations may get text and the key in their variable.
// Without it only servers on this machine may.
func (o *Office) SetTrust(trust func(graph.Destination) bool) { o.trust = trust }

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
				MostUSD: b.MostUSD, UsedUSD: b.UsedUSD,
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
	bills := o.readBills(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	if bills != nil {
		o.bills = bills
	}
	intents := map[string]bool{}
	for _, b := range slices.Concat(o.batches[group], now) {
		intents[b.Intent] = true
	}
	o.batches[group] = slices.DeleteFunc(all, func(b batch.BatchState) bool { return !intents[b.Intent] })
}

// Resend gives up a batch, by its intent or its id: what it holds unanswered is
// sent again by the next apply, though it may have been paid for.
func (o *Office) Resend(ctx context.Context, id string) error {
	intent, err := o.desk.Find(ctx, id)
	if err != nil {
		return err
	}
	return o.desk.Resend(ctx, intent)
}

// Batch is what the ledger knows of a batch, named by its intent or its id.
func (o *Office) Batch(ctx context.Context, id string) (*batch.BatchFile, error) {
	intent, err := o.desk.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	return o.desk.Show(ctx, intent)
}

// Cancel asks the server of a batch to stop it; see batch.Desk.Cancel. It is one
// that an evaluator of the study was sent.
func (o *Office) Cancel(ctx context.Context, s *studies.Study, b *batch.BatchFile) (batch.BatchState, error) {
	var at *studies.Evaluator
	for _, e := range s.Evaluators {
		if b.Of(settings(e)) && (at == nil || e.Name == b.Evaluator) {
			at = e
		}
	}
	if at != nil {
		be, err := o.connect(ctx, at)
		if err != nil {
			return batch.BatchState{}, err
		}
		return o.desk.Cancel(ctx, be, b.Intent)
	}
	return batch.BatchState{}, fmt.Errorf("batch %s was sent to evaluator %q, model %q, at %s; the study has no such evaluator now: put it back to cancel that batch", cmp.Or(b.ID, b.Intent), b.Evaluator, b.Model, b.Host)
}

// connect returns the evaluator ready to be asked: with its key, or with the
// address of the embedded server.
func (o *Office) connect(ctx context.Context, e *studies.Evaluator) (batch.Evaluator, error) {
	be := settings(e)
	be.Account = o.account(e)
	if e.Provider.V == lexical {
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
	if to := destination(e); !be.Loopback() && (o.trust == nil || !o.trust(to)) {
		return be, fmt.Errorf("evaluator %q: you have never approved that %s gets text and the key in $%s; if you trust it with them: clusterflow trust %s %s",
			e.Name, to.URL, to.KeyEnv, to.URL, to.KeyEnv)
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
		Direct: e.Mode.V == "direct", Concurrency: e.Concurrency.V,
		Limits: batch.Limits{Enqueued: int64(e.MaxEnqueued.V)},
	}
	if e.HasTemperature {
		t := e.Temperature.V
		be.Temperature = &t
	}
	if e.Provider.V == lexical {
		be.Model, be.BaseURL = lexicalModel, ""
	}
	return be
}

// destination is where an evaluator's text goes; none for the offline judge,
// whose text stays in this process.
func destination(e *studies.Evaluator) graph.Destination {
	if e.Provider.V == lexical {
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
