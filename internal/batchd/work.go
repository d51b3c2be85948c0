package batchd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"sync"
	"time"
)

// start works on b until it has ended or the server stops. s.mu is held.
func (s *Server) start(b *batch) {
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		if err := s.run(b); err != nil && s.ctx.Err() == nil {
			s.opts.Log.Error("batch stands still until the server is started again", "id", b.ID, "error", err)
		}
	}()
}

// run takes a batch from wherever its record says it is to its end.
func (s *Server) run(b *batch) error {
	s.mu.Lock()
	status := b.Status
	s.mu.Unlock()
	if status == validating {
		if err := s.validate(b); err != nil {
			return err
		}
	}
	s.mu.Lock()
	ended, end := b.ended(), b.End
	s.mu.Unlock()
	if ended {
		return nil
	}
	if end == "" {
		if err := s.answerAll(b); err != nil {
			return err
		}
	}
	return s.finalize(b)
}

// validate checks the input file. A batch that is cancelled meanwhile stays so.
func (s *Server) validate(b *batch) error {
	in, err := os.Open(s.fileData(b.InputFileID))
	if err != nil {
		return err
	}
	defer in.Close()
	total, errs, err := validate(in, b.Endpoint)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(errs) > 0 {
		b.Errors = errs
		return s.become(b, failed)
	}
	b.Total = total
	if b.Status == validating {
		return s.become(b, inProgress)
	}
	return nil
}

// answerAll answers every request that has no result line yet, until all have
// one, the batch is cancelled, or its time is up. Requests that were not run
// then get an error line.
func (s *Server) answerAll(b *batch) error {
	out, err := s.results(b)
	if err != nil {
		return err
	}
	defer out.close()
	s.mu.Lock()
	b.Completed, b.Failed = out.completed, out.failed
	deadline := time.Unix(b.Times["expires"], 0)
	s.mu.Unlock()

	in, err := os.Open(s.fileData(b.InputFileID))
	if err != nil {
		return err
	}
	defer in.Close()
	end, n, skipped := completed, 0, false
	var tasks sync.WaitGroup
	err = lines(in, func(line []byte) error {
		var l inputLine
		if err := json.Unmarshal(line, &l); err != nil {
			return err
		}
		if out.has(l.CustomID) {
			return nil
		}
		if n++; s.opts.Faults.expires(n-1, l.CustomID) {
			skipped = true
			return out.write(s, b, notRun(l.CustomID, expired))
		}
		if end == completed {
			select {
			case s.slots <- struct{}{}:
			case <-s.ctx.Done():
				return s.ctx.Err()
			}
			end = s.verdict(b, deadline)
			if end != completed {
				<-s.slots
			}
		}
		if end != completed {
			tasks.Wait()
			return out.write(s, b, notRun(l.CustomID, end))
		}
		l.Body = bytes.Clone(l.Body)
		tasks.Add(1)
		go func() {
			defer tasks.Done()
			defer func() { <-s.slots }()
			r := s.answer(s.ctx, l)
			if s.ctx.Err() != nil {
				return // not this request's fault: it is answered after the restart
			}
			out.fail(out.write(s, b, r))
		}()
		return nil
	})
	tasks.Wait()
	if err == nil {
		err = out.err()
	}
	if err == nil {
		err = s.ctx.Err()
	}
	if err != nil {
		return err
	}
	if err := out.sync(); err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if end == completed && b.Status == cancelling { // too late to spare any
		end = cancelled
	}
	if b.End = end; skipped && end == completed {
		b.End = expired
	}
	if b.Completed > 0 {
		b.OutputID = newID("file-")
	}
	if b.Failed > 0 {
		b.ErrorID = newID("file-")
	}
	if b.Status == cancelling {
		return writeJSON(s.batchRecord(b.ID), b)
	}
	return s.become(b, finalizing)
}

// verdict is how the batch ends if it is stopped now; completed to go on.
func (s *Server) verdict(b *batch, deadline time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case b.Status == cancelling:
		return cancelled
	case !s.opts.Clock().Before(deadline):
		return expired
	}
	return completed
}

// finalize moves the result lines to their files and ends the batch.
func (s *Server) finalize(b *batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range []struct{ id, kind, name string }{{b.OutputID, "out", "output"}, {b.ErrorID, "err", "error"}} {
		if f.id == "" || s.files[f.id] != nil {
			continue
		}
		err := os.Rename(s.partial(b.ID, f.kind), s.fileData(f.id))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // absent: moved before a restart
			return err
		}
		info, err := os.Stat(s.fileData(f.id))
		if err != nil {
			return err
		}
		err = s.addFile(&file{ID: f.id, Bytes: info.Size(), Filename: b.ID + "_" + f.name + ".jsonl", Purpose: "batch_output"})
		if err != nil {
			return err
		}
	}
	if err := s.become(b, b.End); err != nil {
		return err
	}
	for _, kind := range []string{"out", "err"} { // an empty one was not moved
		if err := os.Remove(s.partial(b.ID, kind)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// resultLine is one line of an output or error file.
type resultLine struct {
	ID       string         `json:"id"`
	CustomID string         `json:"custom_id"`
	Response *response      `json:"response"`
	Error    map[string]any `json:"error"`
}

type response struct {
	Status    int    `json:"status_code"`
	RequestID string `json:"request_id"`
	Body      any    `json:"body"`
}

func notRun(customID, end string) resultLine {
	r := resultLine{ID: newID("batch_req_"), CustomID: customID}
	r.Error = map[string]any{"code": "batch_expired", "message": "This request could not be executed before the completion window expired."}
	if end == cancelled {
		r.Error = map[string]any{"code": "batch_cancelled", "message": "This request was not executed because the batch was cancelled."}
	}
	return r
}

// answer asks the upstream server or the judge one request. A judge that panics
// fails that request.
func (s *Server) answer(ctx context.Context, l inputLine) (r resultLine) {
	r = resultLine{ID: newID("batch_req_"), CustomID: l.CustomID, Response: &response{RequestID: newID("req_")}}
	defer func() {
		if p := recover(); p != nil {
			r.Response.Status = http.StatusInternalServerError
			r.Response.Body = map[string]any{"error": (&Error{Type: "server_error", Message: fmt.Sprintf("the judge broke down: %v", p)}).body()}
		}
	}()
	if s.opts.Upstream != nil {
		body, failure := s.opts.Upstream.ask(ctx, l.Body)
		if r.Response.Status, r.Response.Body = http.StatusOK, body; failure != nil {
			r.Response.Status, r.Response.Body = failure.Status, map[string]any{"error": failure.body()}
		}
		return r
	}
	content, err := s.opts.Judge(ctx, l.Body)
	if err != nil {
		e := new(Error)
		if !errors.As(err, &e) {
			e = &Error{Status: http.StatusBadRequest, Message: err.Error()}
		}
		r.Response.Status = e.Status
		if e.Status < 400 { // an error is never a good line
			r.Response.Status = http.StatusInternalServerError
		}
		r.Response.Body = map[string]any{"error": e.body()}
		return r
	}
	var body struct {
		Model string `json:"model"`
	}
	_ = json.Unmarshal(l.Body, &body) // validated
	// No tokenizer here: usage counts four bytes as one token.
	prompt, completion := (len(l.Body)+3)/4, (len(content)+3)/4
	r.Response.Status = http.StatusOK
	r.Response.Body = map[string]any{
		"id": newID("chatcmpl-"), "object": "chat.completion", "created": s.opts.Clock().Unix(), "model": body.Model,
		"choices": []any{map[string]any{
			"index": 0, "logprobs": nil, "finish_reason": "stop",
			"message": map[string]any{"role": "assistant", "content": content, "refusal": nil},
		}},
		"usage": map[string]int{"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
	}
	return r
}
