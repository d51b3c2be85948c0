package batchd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Upstream answers requests by another server's chat completions: vLLM,
// llama.cpp, Ollama, or any other that speaks OpenAI's API. It is safe for
// concurrent use; zero values of what can be left out are for real use.
type Upstream struct {
	URL     string        // as in http://127.0.0.1:8000/v1
	Key     string        // sent as a bearer token; "" sends none
	Client  *http.Client  // a client of its own
	Tries   int           // calls for one request, at most; 10
	First   time.Duration // first wait between two of them, doubled each time; half a second
	Most    time.Duration // longest wait; half a minute
	Timeout time.Duration // of one call; ten minutes, because models are slow

	mu    sync.Mutex
	until time.Time // no call before: the server asked for a pause
}

// maxUpstreamReply is the longest reply that is taken, in bytes.
const maxUpstreamReply = 16 << 20

// Codes of errors that are not the upstream server's own.
const (
	unreachable = "upstream_unreachable"
	garbled     = "upstream_garbled"
)

// ask hands a request on until it is answered or refused. Rate limits, server
// trouble and lost connections are met with patience, for a while; then they are
// the request's error.
func (u *Upstream) ask(ctx context.Context, body []byte) (json.RawMessage, *Error) {
	tries, wait, most := u.Tries, u.First, u.Most
	if tries <= 0 {
		tries = 10
	}
	if wait <= 0 {
		wait = time.Second / 2
	}
	if most <= 0 {
		most = 30 * time.Second
	}
	for {
		if err := u.pause(ctx); err != nil {
			return nil, &Error{Status: http.StatusServiceUnavailable, Type: "server_error", Message: "The request was cut off."}
		}
		answer, after, failure := u.call(ctx, body)
		tries--
		if failure == nil || !passing(failure.Status) || failure.Code == garbled || tries == 0 || ctx.Err() != nil {
			return answer, failure
		}
		d := wait/2 + time.Duration(rand.Float64()*float64(wait/2))
		wait = min(2*wait, most)
		u.rest(max(d, min(after, 10*time.Minute)))
	}
}

// passing reports whether a status is of trouble that passes.
func passing(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusTooEarly:
		return true
	}
	return status >= 500 && status != http.StatusNotImplemented
}

// rest puts the next call of everybody off.
func (u *Upstream) rest(d time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if t := time.Now().Add(d); t.After(u.until) {
		u.until = t
	}
}

func (u *Upstream) pause(ctx context.Context) error {
	for {
		u.mu.Lock()
		wait := time.Until(u.until)
		u.mu.Unlock()
		if wait <= 0 {
			return ctx.Err()
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// call makes one call. after is how long the server wants to be left alone.
func (u *Upstream) call(ctx context.Context, body []byte) (answer json.RawMessage, after time.Duration, failure *Error) {
	limit := u.Timeout
	if limit <= 0 {
		limit = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	bad := func(code string, err error) *Error {
		return &Error{Status: http.StatusBadGateway, Type: "server_error", Code: code, Message: u.hide(fmt.Sprintf("No answer from the upstream server: %v", err))}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(u.URL, "/")+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, 0, bad(unreachable, err)
	}
	req.Header.Set("Content-Type", "application/json")
	if u.Key != "" {
		req.Header.Set("Authorization", "Bearer "+u.Key)
	}
	client := u.Client
	if client == nil {
		client = upstreamClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, bad(unreachable, err)
	}
	defer resp.Body.Close()
	if n, err := strconv.ParseFloat(resp.Header.Get("Retry-After"), 64); err == nil && n > 0 {
		after = time.Duration(min(n, 3600) * float64(time.Second))
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxUpstreamReply+1))
	if err != nil {
		return nil, after, bad(unreachable, err)
	}
	if len(text) > maxUpstreamReply {
		return nil, after, bad(garbled, errors.New("the reply is too long"))
	}
	object := json.Valid(text) && bytes.HasPrefix(bytes.TrimSpace(text), []byte("{"))
	if resp.StatusCode == http.StatusOK {
		if !object {
			return nil, after, bad(garbled, errors.New("the reply is no JSON object; check that the address is that of an OpenAI-compatible server"))
		}
		return text, after, nil
	}
	return nil, after, u.refusal(resp.StatusCode, text)
}

// upstreamClient keeps as many connections as there can be calls.
var upstreamClient = func() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 1000
	return &http.Client{Transport: t}
}()

// refusal is an upstream error in OpenAI's shape, whatever shape it came in.
func (u *Upstream) refusal(status int, text []byte) *Error {
	if status < 400 {
		status = http.StatusBadGateway
	}
	e := &Error{Status: status}
	if status >= 500 {
		e.Type = "server_error"
	}
	var in struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	var object struct {
		Message string          `json:"message"`
		Type    string          `json:"type"`
		Code    json.RawMessage `json:"code"`
		Param   string          `json:"param"`
	}
	if json.Unmarshal(text, &in) == nil {
		e.Message = in.Message
		switch {
		case json.Unmarshal(in.Error, &object) == nil:
			e.Message, e.Type, e.Param = object.Message, object.Type, object.Param
			if json.Unmarshal(object.Code, &e.Code) != nil { // numbers occur
				e.Code = strings.Trim(string(object.Code), "\"")
			}
		case json.Unmarshal(in.Error, &e.Message) == nil: // Ollama
		case e.Message == "" && len(in.Detail) > 0: // FastAPI
			e.Message = string(in.Detail)
		}
	}
	if e.Code == "null" {
		e.Code = ""
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("The upstream server says %d %s: %.300s", status, http.StatusText(status), strings.ToValidUTF8(string(text), "�"))
	}
	e.Message = u.hide(e.Message)
	return e
}

// hide takes the key out of a message: some servers quote it.
func (u *Upstream) hide(text string) string {
	if u.Key == "" {
		return text
	}
	return strings.ReplaceAll(text, u.Key, "(key)")
}
