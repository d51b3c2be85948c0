// Package batch sends requests through the OpenAI Batch API and keeps the
// ledger of what was sent, so that every request is paid for once.
//
// The ledger is a small durable key/value space. Each request has a row that
// says whether it is unsent, in a batch, answered (and where the answer lies)
// or failed for good. Each batch file has an intent: a record that is on disk
// before the network call that it announces. The intent's id goes into the
// file's name and the batch's metadata, so that a process that was killed, or
// never saw the reply, can ask the server what became of it:
//
//	packing     rows are being bound to the intent; nothing was sent
//	uploading   the input file may be at the server, no batch was asked for
//	uploaded    the input file is there, no batch was asked for, or it was refused
//	creating    the batch may exist: look for it before anything else
//	sent        the batch exists
//	asking      no batch: its requests are sent one by one
//	fetched     it has ended, and its result files are stored here
//	done        every row has its result
//	dropped     nothing was bought; its rows count as unsent
//
// See https://platform.openai.com/docs/guides/batch for the API.
//
// # Direct requests
//
// An evaluator can be asked directly instead, one chat completion per request.
// Keys, rows and answers are the same, so an answer serves whichever way it came.
//
// Nobody can be asked what became of a direct request whose reply was not seen,
// and nobody keeps its answer. So the ledger says that a request is under way
// before it is sent, and has its result before another takes its place: a
// process that is killed leaves at most as many requests without a result as
// were allowed to be under way at once. Those may have been paid for. They are
// asked again on their own, because the alternative is a study that stops after
// every crash for a few cents, but not for free and not for ever: each counts
// against the budget as if it had come to all it could, is named in a note, and
// has failed for good after three such attempts.
//
// Results are kept in the ledger while they come in, and moved to a result file,
// in the format of a batch's, a few thousand at a time.
package batch

import (
	"io"
	"log/slog"
	"net/http"
	"time"
)

// KV is the durable small key/value space that holds the ledger. Put is atomic
// and on disk when it returns; Scan calls fn in the order of keys.
type KV interface {
	Get(key string) ([]byte, bool, error)
	Put(map[string][]byte) error
	Delete(keys ...string) error
	Scan(prefix string, fn func(key string, value []byte) error) error
}

// Files keeps result files by content. Import takes a copy of the file at path
// and is on disk when it returns.
type Files interface {
	Import(path string) (digest string, size int64, err error)
	Open(digest string) (io.ReadSeekCloser, error)
}

// DeskOptions are what a Desk takes from its surroundings; zero values are the
// ones for real use.
type DeskOptions struct {
	Clock      func() time.Time // time.Now
	HTTPClient *http.Client     // a client of its own
	Log        *slog.Logger     // nowhere
	Random     io.Reader        // crypto/rand: ids of intents
	Jitter     func() float64   // uniform in [0, 1): spreads retries
	TempDir    string           // os.TempDir(): files on their way
	// Grace is how long after a first fruitless look the server is asked again
	// for a batch that may exist, before it is created: lists lag. 0 is a
	// minute, 250 ms for servers on this machine.
	Grace time.Duration
	// Timeout bounds every call but transfers, which get fifteen times as
	// long. 0 is a minute.
	Timeout time.Duration
}

// Progress is where a set of requests stands.
type Progress struct {
	Total    int
	Answered int
	Failed   int // for good: no answer will come
	InBatch  int // sent, or possibly sent
	Unsent   int
	// Uncertain is the part of InBatch that may or may not have been sent and
	// that the server cannot be asked about.
	Uncertain int
	Reasons   []Reason     // why requests failed for good, most frequent first
	Batches   []BatchState // the batches that hold these requests now
	Intents   []string     // the same by intent, from Status
	Notes     []string     // what a person should know: unknown statuses, refusals, waits
	// Next is when to call Advance again; zero when nothing is outstanding.
	Next time.Time
}

// Reason is one cause of failure and how many requests it hit.
type Reason struct {
	Text  string `json:"text"`
	Count int    `json:"count"`
}

// BatchState is one batch as last seen.
type BatchState struct {
	ID        string    `json:"id"` // the server's id; "" while it is not known
	Intent    string    `json:"intent"`
	Evaluator string    `json:"evaluator"`
	Model     string    `json:"model"`
	Host      string    `json:"host"`
	Status    string    `json:"status"` // the server's, in lower case; before there is one, the intent's
	Requests  int       `json:"requests"`
	Completed int       `json:"completed"`
	Failed    int       `json:"failed"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires,omitzero"`
	Reason    string    `json:"reason,omitempty"` // why it failed
	Lost      int       `json:"lost,omitempty"`   // direct requests that got no reply

	MostUSD float64 `json:"most_usd,omitempty"` // what it can come to, in US dollars
	UsedUSD float64 `json:"used_usd,omitempty"` // what it came to …
	Settled bool    `json:"settled,omitempty"`  // … once that is known
}

// Answer is what came back for one request. A refusal or an answer that was
// cut off is an answer: it was paid for, and FinishReason and Refusal say so.
type Answer struct {
	Key          string `json:"key"`
	Status       string `json:"status"` // "ok" or "failed"
	Content      string `json:"content,omitempty"`
	FinishReason string `json:"finish_reason,omitempty"`
	Refusal      string `json:"refusal,omitempty"`
	Model        string `json:"model,omitempty"` // as the server named it
	Usage        Usage  `json:"usage,omitzero"`
	Error        string `json:"error,omitempty"` // why there is no answer
}

// Values of Answer.Status.
const (
	StatusOK     = "ok"
	StatusFailed = "failed"
)

// Usage is what the server counted for one answer, in tokens.
type Usage struct {
	Prompt     int `json:"prompt,omitempty"`
	Completion int `json:"completion,omitempty"`
}
