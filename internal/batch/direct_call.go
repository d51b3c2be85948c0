package batch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// maxReply is the longest reply to a direct request that is read, in bytes.
const maxReply = 16 << 20

// reply is what came back for one direct request.
type reply struct {
	i     int // place in turn.reqs
	block *block
	epoch int // of the turn when it was sent
	x     exchange
	body  []byte
	err   error // why there is no whole reply

	line []byte // its line in a result file
	good bool
}

// launch sends a request that the ledger knows to be under way.
func (t *turn) launch(i int) {
	r := reply{i: i, block: t.flying[i], epoch: t.epoch}
	t.callers.Go(func() {
		r.body, r.err = t.converse(&r.x, t.reqs[i].Body)
		t.replies <- r // has room for all that are under way
	})
}

// converse makes one call. Generating an answer takes longer than the calls that
// Timeout is meant for.
func (t *turn) converse(x *exchange, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.WithValue(t.calls, exchangeKey{}, x), 10*t.opts.Timeout)
	defer cancel()
	address := strings.TrimRight(t.e.BaseURL, "/") + "/chat/completions"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if t.e.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+t.e.APIKey)
	}
	resp, err := doer{t.opts.HTTPClient}.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err == nil && len(b) > maxReply {
		err = errTooLong
	}
	return b, err
}

var errTooLong = fmt.Errorf("the reply has more than %d MB", maxReply>>20)

// take decides what a reply means for its request: a result, which is kept;
// back among those to be sent; or nothing, when it may have been answered and
// nobody can tell. Such a request stays bound to its block, which gives it back
// when it is sealed.
func (t *turn) take(r reply) {
	delete(t.flying, r.i)
	r.block.flying--
	if r.x.status != 0 {
		t.peer.reached = true
	}
	if r.x.status == http.StatusOK && r.err == nil {
		if r.line = resultOf(t.reqs[r.i].Key, r.x.status, r.body); r.line != nil {
			r.good = true
			t.answers++
			t.peer.misses = 0
			t.finished = append(t.finished, r)
			return
		}
		r.err = new(json.SyntaxError) // of another program than a model's server
	}
	if t.calls.Err() != nil {
		return // hung up
	}
	if errors.Is(r.err, errTooLong) {
		t.refuse(r, r.err.Error())
		return
	}
	e := t.explain("asking a model", &r.x, t.failure(r))
	switch st := e.Status; {
	case st == 0 && e.Refused: // no connection
		t.release(r)
		if !t.patient(r, e) {
			t.err = e
		}
	case st < 400: // lost on its way, or not to be read
		t.patient(r, e)
		if !e.Later && t.answers == 0 {
			t.err = e
		}
	case e.Later && st != http.StatusTooManyRequests:
		if r.epoch == t.epoch && (t.peer.misses == 0 || t.e.pace().delay(t.peer.misses+1, 0) >= t.e.pace().most/2) {
			t.trouble[r.i]++
		}
		t.patient(r, e)
		if t.trouble[r.i] < maxTrouble {
			t.release(r)
		} else {
			t.refuse(r, "")
		}
	case e.Later:
		t.release(r)
		t.patient(r, e)
	case stopsAll(e):
		t.release(r)
		t.err = e
	default:
		t.peer.misses = 0
		t.refuse(r, "")
	}
}

// stopsAll reports whether a refusal is of every request alike: the key, the
// credit, the address, the model.
func stopsAll(e *APIError) bool {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return e.Status == http.StatusTooManyRequests // not to be met with patience: no credit
}

// failure is the error of a reply that is no answer, as go-openai has it.
func (t *turn) failure(r reply) error {
	if r.err != nil {
		return r.err
	}
	return refusal(r.x.status, r.body)
}

// patient puts calls off. Of the replies to what was sent before the last pause
// only the first is counted, but each can ask for a longer one. It is false
// where waiting is of no use.
func (t *turn) patient(r reply, e *APIError) bool {
	if !e.Later {
		return false
	}
	t.last = e
	wait := e.After
	if r.epoch == t.epoch {
		t.epoch++
		t.peer.misses++
		wait = max(wait, t.e.pace().delay(t.peer.misses, t.opts.Jitter()))
	}
	if until := t.now().Add(wait); until.After(t.peer.until) {
		t.peer.until = until
	}
	t.opts.Log.Info(e.Error(), "evaluator", t.e.Name, "again", t.peer.until)
	return true
}

// release gives a request back that was certainly not answered. Others go
// first: if it is the cause of the trouble, they show it.
func (t *turn) release(r reply) {
	t.released = append(t.released, r)
	t.todo = slices.Insert(t.todo, min(len(t.todo), t.e.concurrency()), r.i)
}

// refuse makes a refusal the result of a request, in the server's words if
// reason is "".
func (t *turn) refuse(r reply, reason string) {
	body := []byte(t.hide(string(r.body)))
	r.line = resultOf(t.reqs[r.i].Key, r.x.status, body)
	if r.line == nil || reason != "" {
		if reason == "" {
			reason = short(string(body))
		}
		status := r.x.status
		if status == http.StatusOK {
			status = 0
		}
		body, _ := json.Marshal(map[string]any{"error": map[string]string{"message": reason}}) // strings always encode
		r.line = resultOf(t.reqs[r.i].Key, status, body)
	}
	t.finished = append(t.finished, r)
}

// resultOf is a line of a result file, as a batch has them; nil if body is no
// JSON object.
func resultOf(key string, status int, body []byte) []byte {
	if text := bytes.TrimSpace(body); len(text) == 0 || text[0] != '{' {
		return nil
	}
	type response struct {
		Status int             `json:"status_code"`
		Body   json.RawMessage `json:"body"`
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		CustomID string   `json:"custom_id"`
		Response response `json:"response"`
		Error    any      `json:"error"`
	}{key, response{status, body}, nil})
	if err != nil {
		return nil
	}
	return b.Bytes()
}
