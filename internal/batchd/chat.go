package batchd

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// maxChatBytes is the longest request that is read at once.
const maxChatBytes = 32 << 20

// chat answers one request at once: the same judge, checks and errors as in a
// batch. Nothing of it is stored.
func (s *Server) chat(w http.ResponseWriter, r *http.Request) error {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxChatBytes))
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return &Error{Status: http.StatusRequestEntityTooLarge, Message: "The request is too long."}
	}
	if err != nil {
		return invalid("", "", "The request broke off: %v.", err)
	}
	if _, problems := checkBody(raw); len(problems) > 0 {
		p := problems[0]
		return invalid(p.param, p.code, "%s", p.message)
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-r.Context().Done():
		return nil // nobody reads the reply
	case <-s.ctx.Done():
		return &Error{Status: http.StatusServiceUnavailable, Type: "server_error", Message: "The server is stopping."}
	}
	ctx, cancel := context.WithCancel(r.Context()) // nobody reads the reply after that
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	line := s.answer(ctx, inputLine{Body: raw})
	return reply(w, line.Response.Status, line.Response.Body)
}

// problem is a mistake in the body of a request; param is within the body.
type problem struct{ code, param, message string }

// checkBody finds what is wrong with the body of a chat completion request, and
// the model that it names.
func checkBody(raw []byte) (model string, problems []problem) {
	var body struct {
		Model    string            `json:"model"`
		Messages []json.RawMessage `json:"messages"`
		Stream   bool              `json:"stream"`
	}
	if err := json.Unmarshal(raw, &body); err != nil || len(raw) == 0 {
		return "", []problem{{"invalid_request", "", "The body is not a chat completion request."}}
	}
	if body.Model == "" {
		problems = append(problems, problem{"missing_required_parameter", "model", "Missing required parameter: 'model'."})
	}
	if len(body.Messages) == 0 {
		problems = append(problems, problem{"missing_required_parameter", "messages", "Missing required parameter: 'messages'."})
	}
	if body.Stream {
		problems = append(problems, problem{"invalid_request", "stream", "This server does not stream."})
	}
	return body.Model, problems
}
