package batch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	openai "github.com/sashabaranov/go-openai"
)

// inputLine is go-openai's BatchChatCompletionRequest with a body that is
// encoded already.
type inputLine struct {
	CustomID string               `json:"custom_id"`
	Method   string               `json:"method"`
	URL      openai.BatchEndpoint `json:"url"`
	Body     json.RawMessage      `json:"body"`
}

// metadataKey is where an intent's id stands in its batch's metadata.
const metadataKey = "clusterflow_intent"

// send packs what is unsent among reqs, and has a body, into files within the limits, in the
// order given, and creates a batch of each.
func (s *session) send(ctx context.Context, reqs []Request, rows []row) error {
	var todo []int
	for i := range rows {
		if rows[i].State == unsent && len(reqs[i].Body) > 0 {
			todo = append(todo, i)
		}
	}
	for len(todo) > 0 {
		if s.peer.until.After(s.now()) {
			return nil
		}
		limit, alone, err := s.room()
		if err != nil || limit == 0 {
			return err
		}
		in, file, n, err := s.announce(ctx, reqs, rows, todo, limit)
		if stops(ctx, err) || err == nil && in == nil {
			return err
		}
		var budget *BudgetError
		if errors.As(err, &budget) {
			return err
		}
		if err != nil {
			// Longer than any file may be: no later attempt can send it.
			i := todo[0]
			if err := s.put(map[string]any{rowPrefix + reqs[i].Key: row{State: failed, Tries: rows[i].Tries, Reason: err.Error(), history: rows[i].history}}); err != nil {
				return err
			}
			todo = todo[1:]
			continue
		}
		todo = todo[n:]
		if err := s.dispatch(ctx, in, file); err != nil {
			return err
		}
		if alone && len(todo) > 0 {
			s.hold = s.now().Add(s.e.pace().first)
			return nil
		}
	}
	return nil
}

// room says how large the next file may be, 0 for none now, and whether it has
// to be the only one out. Without experience that is the API's limit; after a
// token_limit_exceeded one batch at a time, of the size learned.
func (s *session) room() (limit int64, alone bool, err error) {
	limit = s.e.Limits.bytes()
	var l learned
	known, err := s.get(capKey(s.e.place(), s.e.Model), &l)
	if err != nil || !known {
		return limit, false, err
	}
	if l.Until.After(s.now()) {
		s.hold = l.Until
		s.note("%s holds as many prompt tokens of %s as the account may enqueue; sending more at %s", s.e.Host(), s.e.Model, l.Until.Local().Format(time.TimeOnly))
		return 0, true, nil
	}
	open, err := s.openIntents()
	if err != nil {
		return 0, true, err
	}
	for _, in := range open {
		if in.Place == s.e.place() && in.Model == s.e.Model {
			s.hold = s.now().Add(s.e.pace().most)
			if w, ok := s.waits[in.ID]; ok {
				s.hold = w
			}
			s.note("the enqueued-token limit of %s lets one batch at a time through", s.e.Model)
			return 0, true, nil
		}
	}
	return min(limit, max(l.Bytes, 1)), true, nil
}

// announce packs the next file and writes its intent, so that what it can cost
// counts from then on. It packs none (nil) where the money that is left has to
// wait for batches that are out. An error that is not of the ledger or the
// budget is of the first request: it can never be sent.
func (s *session) announce(ctx context.Context, reqs []Request, rows []row, todo []int, limit int64) (in *intent, file []byte, n int, err error) {
	s.spending.Lock() // evaluators share limits
	defer s.spending.Unlock()
	purse, err := s.purse(ctx)
	if err != nil {
		return nil, nil, 0, err
	}
	if purse.until.After(s.now()) {
		s.hold = purse.until
		s.note("%s takes %d batches in an hour; sending more at %s", s.e.Host(), s.e.Limits.hourly(), purse.until.Local().Format(time.TimeOnly))
		return nil, nil, 0, nil
	}
	file, total, n, err := pack(reqs, todo, s.e.Limits, limit, purse)
	switch {
	case err != nil:
		return nil, nil, 0, err
	case n == 0 && purse.usd(total) > purse.left:
		return nil, nil, 0, s.tooDear(purse, total, len(todo))
	case n == 0:
		s.hold = s.now().Add(s.e.pace().most)
		s.note("max_enqueued_tokens of %s are in batches; more is sent when they are done", s.e.Model)
		return nil, nil, 0, nil
	}
	id, err := s.newID()
	if err != nil {
		return nil, nil, 0, err
	}
	in = &intent{
		ID: id, Provider: s.e.Identity(), Place: s.e.place(), Host: s.e.Host(),
		Evaluator: s.e.Name, Model: s.e.Model, Requests: n, Bytes: int64(len(file)), Created: s.made(),
		Study: s.e.Account.Study, Prompt: total.prompt, Most: total.most, MostUSD: purse.usd(total),
	}
	in.KeyMark = keyMark(in.ID, s.e.APIKey)
	keys, old := make([]string, n), make([]row, n)
	for j, i := range todo[:n] {
		keys[j], old[j] = reqs[i].Key, rows[i]
	}
	return in, file, n, s.bind(in, keys, old, uploading)
}

// pack encodes as many of the requests todo as fit into one file of limit bytes
// and into the purse, with what they weigh. It takes none where the first costs
// more than is left, and returns what that one weighs. It fails if the first
// alone is longer than any file may be.
func pack(reqs []Request, todo []int, l Limits, limit int64, purse *purse) (file []byte, total load, n int, err error) {
	var b bytes.Buffer
	room := int64(0) // once and for all: growing would copy a large file
	for _, i := range todo[:min(len(todo), l.lines())] {
		if room += int64(len(reqs[i].Body)) + 256; room >= limit {
			break
		}
	}
	b.Grow(int(min(room, limit)))
	for _, i := range todo {
		line, err := json.Marshal(inputLine{
			CustomID: reqs[i].Key, Method: http.MethodPost, URL: openai.BatchEndpointChatCompletions, Body: reqs[i].Body,
		})
		var more load
		if err == nil {
			more, err = purse.weigh(reqs[i])
		}
		if err != nil {
			if n == 0 {
				return nil, total, 0, fmt.Errorf("the request is not valid JSON: %w", err)
			}
			break
		}
		size := int64(len(line) + 1)
		if n == 0 && size > l.bytes() {
			return nil, total, 0, fmt.Errorf("the request has %d bytes, a batch file may have %d", size, l.bytes())
		}
		if n == l.lines() || n > 0 && int64(b.Len())+size > limit {
			break
		}
		sum := load{total.prompt + more.prompt, total.most + more.most}
		full := purse.capped && sum.prompt > purse.tokens && (n > 0 || purse.enqueued) // one alone is for the server to judge
		if full || purse.usd(sum) > purse.left {
			if n == 0 {
				return nil, more, 0, nil
			}
			break
		}
		total = sum
		b.Write(line)
		b.WriteByte('\n')
		n++
	}
	return b.Bytes(), total, n, nil
}

// dispatch uploads the file of an intent and creates its batch.
func (s *session) dispatch(ctx context.Context, in *intent, file []byte) error {
	var up openai.File
	err := s.call(ctx, "uploading a batch file", 15*s.opts.Timeout, func(ctx context.Context) error {
		var err error
		up, err = s.upload(ctx, in.fileName(), file)
		return soft(err, up.ID != "")
	})
	if err == nil && up.ID == "" {
		err = &APIError{Doing: "uploading a batch file", Host: s.e.Host(), Err: errors.New("the reply names no file")}
	}
	var refused *APIError
	if errors.As(err, &refused) && refused.Refused {
		// Nothing is there: no need to look for it.
		if err := s.finish(in, dropped, err.Error()); err != nil {
			return err
		}
	}
	if e := later(err); e != nil && ctx.Err() == nil {
		s.patience(e)
		return nil
	}
	if err != nil {
		return err
	}
	in.State, in.FileID = uploaded, up.ID // on disk with the next state, before the create call
	return s.step(ctx, in, true)
}

// create asks for the batch of an uploaded file. The intent says so on disk
// before the call, and stays in that state unless the reply is certain.
func (s *session) create(ctx context.Context, in *intent) error {
	in.State, in.Asked, in.Looked = creating, s.now(), time.Time{}
	in.KeyMark = keyMark(in.ID, s.e.APIKey)
	if err := s.save(in); err != nil {
		return err
	}
	const doing = "creating a batch"
	var b openai.BatchResponse
	err := s.call(ctx, doing, s.opts.Timeout, func(ctx context.Context) error {
		var err error
		b, err = s.client(s.e).CreateBatch(ctx, openai.CreateBatchRequest{
			InputFileID:      in.FileID,
			Endpoint:         openai.BatchEndpointChatCompletions,
			CompletionWindow: "24h",
			Metadata:         map[string]any{metadataKey: in.ID},
		})
		return soft(err, b.ID != "")
	})
	if err == nil && b.ID == "" {
		err = &APIError{Doing: doing, Host: s.e.Host(), Err: errors.New("the reply names no batch")}
	}
	if err == nil {
		s.opts.Log.Info("batch created", "batch", b.ID, "intent", in.ID, "requests", in.Requests)
		return s.adopt(in, b.Batch)
	}
	var e *APIError
	if !errors.As(err, &e) || !e.Refused {
		return err
	}
	if e.Later || e.Status == 0 || e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden || e.Code == "insufficient_quota" || e.Code == "billing_hard_limit_reached" {
		in.State = uploaded // the file is good, only the moment or the key was not
		if err := s.save(in); err != nil {
			return err
		}
		return err
	}
	if err := s.finish(in, dropped, e.Error()); err != nil {
		return err
	}
	s.deleteFile(ctx, in.FileID)
	return err
}

// adopt records the batch of an intent.
func (s *session) adopt(in *intent, b openai.Batch) error {
	in.State, in.BatchID = sent, b.ID
	in.observe(b)
	if err := s.save(in); err != nil {
		return err
	}
	first := s.e.pace().first
	s.peer.polls[in.ID] = &poll{next: s.now().Add(first), wait: first}
	return nil
}

// deleteFile removes an input file that no batch will use. That it stays is no
// harm, so a failure is only logged.
func (s *session) deleteFile(ctx context.Context, id string) {
	if id == "" {
		return
	}
	err := s.call(ctx, "deleting an unused batch file", s.opts.Timeout, func(ctx context.Context) error {
		return s.client(s.e).DeleteFile(ctx, id)
	})
	if err != nil {
		s.opts.Log.Info("an unused batch file stays at the server", "file", id, "error", err)
	}
}
