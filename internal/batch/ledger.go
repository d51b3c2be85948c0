package batch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Names in the ledger:
//
//	request/KEY         row of one request
//	intent/ID           record of one batch file; kept, as a history
//	open/ID             marks an intent that is not done or dropped
//	keys/ID/NNNN        request keys of an intent, one a line
//	lines/ID/NNNNNNNN   results of direct requests, until they are in a file
//	cap/HASH            what was learned about a model's enqueued-token cap
const (
	rowPrefix    = "request/"
	intentPrefix = "intent/"
	openPrefix   = "open/"
	keysPrefix   = "keys/"
	linesPrefix  = "lines/"
	capPrefix    = "cap/"
)

// rowsPerWrite is how many rows are written together: what one atomic write of
// a small store takes without complaint.
const rowsPerWrite = 1000

// maxTries is how many batches may give a request back before it has failed
// for good.
const maxTries = 3

// Row states.
const (
	unsent   = "unsent"
	inBatch  = "batch"
	answered = "answered"
	failed   = "failed"
)

// row is where one request stands. A row in a batch whose intent was dropped
// counts as unsent: dropping needs one write, however many rows there are.
type row struct {
	State  string `json:"s"`
	Intent string `json:"i,omitempty"` // the last one that it was bound to; none where an answer was imported
	Tries  int    `json:"t,omitempty"` // batches that gave it back
	Blob   string `json:"b,omitempty"` // result file that holds its line …
	Offset int64  `json:"o,omitempty"` // … from this byte …
	Length int    `json:"n,omitempty"` // … this long
	Reason string `json:"r,omitempty"` // of failure, or why it was given back last

	history
}

// history is what a row keeps through all states.
type history struct {
	Forgot time.Time `json:"f,omitzero"`  // when its answer was last thrown away; see Forget
	Again  int       `json:"a,omitempty"` // how often that was because it could not be used; see AskAgain
}

// Intent states; the package comment says what they mean.
const (
	packing   = "packing"
	uploading = "uploading"
	uploaded  = "uploaded"
	creating  = "creating"
	sent      = "sent"
	asking    = "asking"
	fetched   = "fetched"
	done      = "done"
	dropped   = "dropped"
)

// intent is the record of one batch file.
type intent struct {
	ID        string    `json:"id"`
	State     string    `json:"state"`
	Provider  string    `json:"provider"`
	Place     string    `json:"place"`
	Host      string    `json:"host"`
	Evaluator string    `json:"evaluator"`
	Model     string    `json:"model"`
	KeyMark   string    `json:"key_mark,omitempty"` // tells whether the API key changed; not the key
	Requests  int       `json:"requests"`
	Bytes     int64     `json:"bytes"`
	Chunks    int       `json:"chunks"` // records under keys/ID/
	Created   time.Time `json:"created"`

	FileID string    `json:"file_id,omitempty"`
	Asked  time.Time `json:"asked,omitzero"`  // when the server was last asked to create the batch
	Looked time.Time `json:"looked,omitzero"` // first fruitless look for it since then

	BatchID   string `json:"batch_id,omitempty"`
	Cancelled bool   `json:"cancelled,omitempty"` // by a person; see Cancel

	Direct    bool      `json:"direct,omitempty"` // its requests are sent one by one
	Lines     int       `json:"lines,omitempty"`  // records under lines/ID/
	Lost      int       `json:"lost,omitempty"`   // requests that got no reply
	Status    string    `json:"status,omitempty"`
	Total     int       `json:"total,omitempty"`
	Completed int       `json:"completed,omitempty"`
	Failed    int       `json:"failed,omitempty"`
	Expires   time.Time `json:"expires,omitzero"`
	OutputID  string    `json:"output_id,omitempty"`
	ErrorID   string    `json:"error_id,omitempty"`
	Output    string    `json:"output,omitempty"` // digests of the stored files
	Error     string    `json:"error,omitempty"`
	Reason    string    `json:"reason,omitempty"` // why it failed or was dropped

	// What it costs; see Account. Used is of the answers that came back.
	Study    string  `json:"study,omitempty"`
	Prompt   int64   `json:"prompt_tokens,omitempty"` // counted before it was sent
	Most     int64   `json:"most_tokens,omitempty"`   // that its answers may have
	MostUSD  float64 `json:"most_usd,omitempty"`
	Settled  bool    `json:"settled,omitempty"` // Used is known
	Answered int     `json:"answered,omitempty"`
	Used     Usage   `json:"used,omitzero"`
	UsedUSD  float64 `json:"used_usd,omitempty"`
}

func (in *intent) open() bool { return in.State != done && in.State != dropped }

// bought reports whether a batch was asked for, so that dropping the intent
// could buy an answer twice.
func (in *intent) bought() bool {
	return in.State == creating || in.State == sent || in.State == asking || in.State == fetched
}

// name is how people know it: by the server's id, if it has one.
func (in *intent) name() string { return cmp.Or(in.BatchID, in.ID) }

func (in *intent) fileName() string { return "clusterflow-" + in.ID + ".jsonl" }

func (in *intent) batchState() BatchState {
	s := BatchState{
		ID: in.BatchID, Intent: in.ID, Evaluator: in.Evaluator, Model: in.Model, Host: in.Host, Status: in.Status,
		Requests: in.Requests, Completed: in.Completed, Failed: in.Failed,
		Created: in.Created, Expires: in.Expires, Reason: in.Reason,
		MostUSD: in.MostUSD, UsedUSD: in.UsedUSD, Settled: in.Settled, Lost: in.Lost,
	}
	if s.Status == "" {
		s.Status = in.State
	}
	return s
}

// learned is what token_limit_exceeded has taught about one model.
type learned struct {
	Bytes    int64     `json:"bytes"`    // largest file worth trying; one at a time
	Refusals int       `json:"refusals"` // since the last batch that went through
	Until    time.Time `json:"until,omitzero"`
}

func capKey(place, model string) string {
	h := sha256.Sum256(fmt.Appendf(nil, "place %q\nmodel %q\n", place, model))
	return capPrefix + hex.EncodeToString(h[:12])
}

// keyMark lets a later process see that it has another API key, whose lists
// need not show this intent's batch. 32 bits salted with the intent's id say
// nothing about the key.
func keyMark(id, apiKey string) string {
	h := sha256.Sum256(fmt.Appendf(nil, "intent %q\nkey %q\n", id, apiKey))
	return hex.EncodeToString(h[:4])
}

// get decodes the value at key into v.
func (d *Desk) get(key string, v any) (bool, error) {
	b, ok, err := d.kv.Get(key)
	if err != nil {
		return false, &ledgerError{fmt.Errorf("reading the batch ledger: %s: %w", key, err)}
	}
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, &ledgerError{fmt.Errorf("reading the batch ledger: %s is damaged: %w", key, err)}
	}
	return true, nil
}

// intent reads an intent that a person has named.
func (d *Desk) intent(id string) (*intent, error) {
	in := new(intent)
	ok, err := d.get(intentPrefix+id, in)
	if err == nil && !ok {
		err = fmt.Errorf("there is no batch file %q in the ledger", id)
	}
	return in, err
}

func (d *Desk) put(values map[string]any) error {
	enc := make(map[string][]byte, len(values))
	for k, v := range values {
		if s, ok := v.(string); ok {
			enc[k] = []byte(s)
			continue
		}
		b, err := json.Marshal(v)
		if err != nil {
			return &ledgerError{fmt.Errorf("writing the batch ledger: %s: %w", k, err)}
		}
		enc[k] = b
	}
	if err := d.kv.Put(enc); err != nil {
		return &ledgerError{fmt.Errorf("writing the batch ledger: %w", err)}
	}
	return nil
}

func (d *Desk) save(in *intent) error {
	return d.put(map[string]any{intentPrefix + in.ID: in})
}

// ledgerError is a failure of this machine's storage. Nothing may be sent
// after one.
type ledgerError struct{ err error }

func (e *ledgerError) Error() string { return e.err.Error() }
func (e *ledgerError) Unwrap() error { return e.err }

// IsStorage reports whether err is a failure of this machine's storage, such as
// a full disk: asking again later does not mend it.
func IsStorage(err error) bool {
	var l *ledgerError
	return errors.As(err, &l)
}

// rows reads the rows of keys, in their order. Requests without a row are
// unsent.
func (d *Desk) rows(ctx context.Context, keys []string) ([]row, error) {
	rows := make([]row, 0, len(keys))
	err := d.eachRow(ctx, keys, func(_ int, r row) { rows = append(rows, r) })
	return rows, err
}

// eachRow is rows one by one: a study can have millions.
func (d *Desk) eachRow(ctx context.Context, keys []string, fn func(i int, r row)) error {
	known := make(map[string]*intent)
	for i, key := range keys {
		if i%rowsPerWrite == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		var r row
		if _, err := d.get(rowPrefix+key, &r); err != nil {
			return err
		}
		if r.State == "" {
			r.State = unsent
		}
		if r.State != inBatch {
			fn(i, r)
			continue
		}
		in, ok := known[r.Intent]
		if !ok {
			in = new(intent)
			if ok, err := d.get(intentPrefix+r.Intent, in); err != nil {
				return err
			} else if !ok {
				return &ledgerError{fmt.Errorf("the batch ledger is inconsistent: request %s is in batch file %s, of which there is no record; nothing was sent", key, r.Intent)}
			}
			known[r.Intent] = in
		}
		if in.State == dropped || in.State == packing {
			r.State = unsent
		}
		fn(i, r)
	}
	return nil
}

// openIntents reads the intents that are not finished, oldest first.
func (d *Desk) openIntents() ([]*intent, error) {
	var ids []string
	err := d.kv.Scan(openPrefix, func(_ string, value []byte) error {
		ids = append(ids, string(value))
		return nil
	})
	if err != nil {
		return nil, &ledgerError{fmt.Errorf("reading the batch ledger: %w", err)}
	}
	var open []*intent
	for _, id := range ids {
		in := new(intent)
		if ok, err := d.get(intentPrefix+id, in); err != nil {
			return nil, err
		} else if !ok {
			return nil, &ledgerError{fmt.Errorf("the batch ledger is inconsistent: there is no record of batch file %s; nothing was sent", id)}
		}
		if !in.open() { // killed before the mark was taken off
			if err := d.close(in); err != nil {
				return nil, err
			}
			continue
		}
		open = append(open, in)
	}
	slices.SortFunc(open, byAge)
	return open, nil
}

func byAge(a, b *intent) int {
	if c := a.Created.Compare(b.Created); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

// finish writes in as done or dropped, then takes its mark off.
func (d *Desk) finish(in *intent, state, reason string) error {
	in.State = state
	if reason != "" {
		in.Reason = reason
	}
	if err := d.save(in); err != nil {
		return err
	}
	return d.close(in)
}

func (d *Desk) close(in *intent) error {
	if err := d.kv.Delete(openPrefix + in.ID); err != nil {
		return &ledgerError{fmt.Errorf("writing the batch ledger: %w", err)}
	}
	return nil
}

func keysKey(id string, n int) string { return fmt.Sprintf("%s%s/%04d", keysPrefix, id, n) }

// bind writes the rows and keys of a new intent in chunks. The last chunk
// carries the state that makes them count.
func (d *Desk) bind(in *intent, keys []string, rows []row, state string) error {
	in.State = packing
	for n, part := range slices.Collect(slices.Chunk(keys, d.chunk)) {
		values := map[string]any{keysKey(in.ID, n): strings.Join(part, "\n")}
		for i, key := range part {
			r := rows[n*d.chunk+i]
			values[rowPrefix+key] = r.bound(in.ID)
		}
		in.Chunks = n + 1
		if in.Chunks*d.chunk >= len(keys) {
			in.State = state
		}
		values[intentPrefix+in.ID] = in
		values[openPrefix+in.ID] = in.ID
		if err := d.put(values); err != nil {
			return err
		}
	}
	return nil
}

// intentKeys reads the n-th chunk of an intent's request keys.
func (d *Desk) intentKeys(in *intent, n int) ([]string, error) {
	b, ok, err := d.kv.Get(keysKey(in.ID, n))
	if err != nil {
		return nil, &ledgerError{fmt.Errorf("reading the batch ledger: requests of batch file %s: %w", in.ID, err)}
	}
	if !ok {
		return nil, &ledgerError{fmt.Errorf("the batch ledger is inconsistent: the requests of batch file %s are not listed", in.ID)}
	}
	return strings.Split(string(b), "\n"), nil
}
