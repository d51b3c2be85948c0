package batch

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	openai "github.com/sashabaranov/go-openai"
)

// Evaluator says who answers, and with which settings. Model, Provider (or the
// host of BaseURL), Temperature, ReasoningEffort and MaxCompletionTokens decide
// the answer and are part of every request key; the rest is not.
type Evaluator struct {
	Name     string // label in the study, shown to people
	Provider string // "openai" or "" for any server that speaks the API; "lexical" for the offline judge
	Model    string
	BaseURL  string // ends in the version, as in https://api.openai.com/v1
	APIKey   string `json:"-"` // sent, never stored, shown or logged; "" sends none

	APIKeyEnv           string   // the variable that APIKey came from, for advice in errors
	Temperature         *float64 // nil is 0; left out for reasoning models, which refuse it
	ReasoningEffort     string   // "" leaves it to the server
	MaxCompletionTokens int      // 0 takes PromptParts.MaxTokens

	// Direct sends requests one by one, as chat completions, instead of in
	// batches; it changes neither them nor where their answers are kept.
	Direct      bool
	Concurrency int              // direct requests under way at once; 0 is 8
	Answered    func(key string) `json:"-"` // nil, or told of every direct answer once it is in the ledger

	Limits  Limits
	Account Account `json:"-"`
}

// Limits of one batch file. Zero values are the documented limits of the
// OpenAI Batch API.
type Limits struct {
	Lines int   // requests in one file, at most (50,000)
	Bytes int64 // size of one file, at most (200 MB)
	// Enqueued is how many prompt tokens may be in batches of one model at a time.
	// 0 is no limit that is known: it is learned when a batch is over it.
	Enqueued int64
	Hourly   int // batches created in an hour, at most (2,000)
}

// String names the evaluator without its key, so that no format verb shows it.
func (e Evaluator) String() string {
	return fmt.Sprintf("%s (%s at %s)", e.Name, e.Model, e.Identity())
}

// GoString is String, for %#v.
func (e Evaluator) GoString() string { return e.String() }

func (l Limits) lines() int {
	if l.Lines > 0 && l.Lines < maxLines {
		return l.Lines
	}
	return maxLines
}

func (l Limits) bytes() int64 {
	if l.Bytes > 0 && l.Bytes < maxBytes {
		return l.Bytes
	}
	return maxBytes
}

func (l Limits) hourly() int {
	if l.Hourly > 0 && l.Hourly < maxHourly {
		return l.Hourly
	}
	return maxHourly
}

const (
	maxHourly = 2_000
	maxLines  = 50_000
	maxBytes  = 200_000_000
)

// PromptParts is one question: two messages and the schema that the answer
// should have.
type PromptParts struct {
	System, User string
	SchemaName   string          // name of the schema, [a-zA-Z0-9_-]{1,64}
	Schema       json.RawMessage // JSON schema of the answer; empty asks for free text
	MaxTokens    int             // completion limit where the evaluator sets none; 0 is no limit
	Repetition   int             // tells apart equal questions that are asked several times
}

// Request is one chat completion request under its request key. The key is
// its custom_id in batch files and the name of its answer in the ledger.
type Request struct {
	Key    string          `json:"key"`
	Tokens int             `json:"tokens,omitempty"` // of the prompt; 0 where nobody has counted them
	Body   json.RawMessage `json:"body"`
}

// chatBody is go-openai's request with a temperature that says 0 when it is 0:
// its own field is dropped by omitempty then, and the server would take 1. The
// outer field hides the embedded one of the same JSON name.
type chatBody struct {
	openai.ChatCompletionRequest
	Temperature *float64 `json:"temperature,omitempty"`
}

// NewRequest makes the request that asks p of e, and its key: the SHA-256 over
// one labelled line for everything that can change the answer. The base URL's
// path, the API key, limits and the study's labels are not among them.
func NewRequest(e Evaluator, p PromptParts) Request {
	limit := e.MaxCompletionTokens
	if limit == 0 {
		limit = p.MaxTokens
	}
	body := chatBody{ChatCompletionRequest: openai.ChatCompletionRequest{
		Model:               e.Model,
		MaxCompletionTokens: limit,
		ReasoningEffort:     e.ReasoningEffort,
	}}
	if p.System != "" {
		body.Messages = append(body.Messages, openai.ChatCompletionMessage{Role: openai.ChatMessageRoleSystem, Content: p.System})
	}
	body.Messages = append(body.Messages, openai.ChatCompletionMessage{Role: openai.ChatMessageRoleUser, Content: p.User})

	temperature := "omitted"
	if !Reasoning(e.Model) {
		t := 0.0
		if e.Temperature != nil {
			t = *e.Temperature
		}
		body.Temperature = &t
		temperature = strconv.FormatFloat(t, 'g', -1, 64)
	}

	schema := compact(p.Schema)
	if len(schema) > 0 {
		body.ResponseFormat = &openai.ChatCompletionResponseFormat{
			Type: openai.ChatCompletionResponseFormatTypeJSONSchema,
			JSONSchema: &openai.ChatCompletionResponseFormatJSONSchema{
				Name:   p.SchemaName,
				Schema: schema,
				Strict: true,
			},
		}
	}

	// %+q writes ASCII alone: %q follows the Unicode tables of the Go release,
	// and a new release must not lose answers that were paid for.
	h := sha256.New()
	line := func(label, value string) { fmt.Fprintf(h, "%s %+q\n", label, value) }
	line("model", e.Model)
	line("provider", e.Identity())
	line("temperature", temperature)
	line("reasoning_effort", e.ReasoningEffort)
	line("max_completion_tokens", strconv.Itoa(limit))
	line("schema_name", p.SchemaName)
	line("schema", string(schema))
	for _, m := range body.Messages {
		line("message "+m.Role, m.Content)
	}
	line("repetition", strconv.Itoa(p.Repetition))

	// Strings, numbers and a schema that compact accepted always encode.
	b, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("batch: encoding a request for model %q: %v", e.Model, err))
	}
	return Request{Key: hex.EncodeToString(h.Sum(nil)), Body: b}
}

// compact drops insignificant white space, so that the layout of a schema is
// no part of the key. It panics on invalid JSON: schemas are the program's own.
func compact(schema json.RawMessage) json.RawMessage {
	if len(schema) == 0 {
		return nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, schema); err != nil {
		panic(fmt.Sprintf("batch: response schema is not JSON: %v", err))
	}
	return b.Bytes()
}

// Reasoning reports whether model refuses a temperature: OpenAI's o1, o3, o4
// and gpt-5 families, also behind a vendor prefix such as "openai/o3-mini".
func Reasoning(model string) bool {
	name := strings.ToLower(model[strings.LastIndex(model, "/")+1:])
	for _, family := range []string{"o1", "o3", "o4", "gpt-5"} {
		if strings.HasPrefix(name, family) {
			return true
		}
	}
	return false
}

// Identity is the name under which answers of this evaluator are kept: the
// host of its base URL, or the provider as set.
func (e Evaluator) Identity() string {
	if e.Provider != "" && e.Provider != "openai" {
		return e.Provider
	}
	return e.Host()
}

// Host is the host (and port) of the base URL in lower case.
func (e Evaluator) Host() string {
	u, err := url.Parse(e.BaseURL)
	if err != nil || u.Host == "" {
		return e.BaseURL
	}
	return strings.ToLower(u.Host)
}

// place names where this evaluator's batches live. The embedded server of a
// provider listens on another port at every start, so there the provider is
// the place; otherwise it is the base URL.
func (e Evaluator) place() string {
	if e.free() {
		return e.Provider
	}
	u, err := url.Parse(e.BaseURL)
	if err != nil {
		return e.BaseURL
	}
	return strings.ToLower(u.Scheme+"://"+u.Host) + strings.TrimRight(u.Path, "/")
}

// free reports whether answers cost nothing, so that a batch that its server
// has forgotten may be sent again without asking.
func (e Evaluator) free() bool { return e.Provider == "lexical" }

// Loopback reports whether the server is on this machine.
func (e Evaluator) Loopback() bool {
	u, err := url.Parse(e.BaseURL)
	if err != nil {
		return false
	}
	h := u.Hostname()
	return h == "localhost" || net.ParseIP(h).IsLoopback()
}
