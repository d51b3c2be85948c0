package batch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"

	openai "github.com/sashabaranov/go-openai"
)

// post makes a call that go-openai would make with copies of its body, and
// decodes the reply's JSON into v. Errors are those of go-openai.
func (s *session) post(ctx context.Context, path, contentType string, body func() io.Reader, size int64, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(s.e.BaseURL, "/")+path, body())
	if err != nil {
		return err
	}
	req.ContentLength = size
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(body()), nil }
	req.Header.Set("Content-Type", contentType)
	if s.e.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+s.e.APIKey)
	}
	resp, err := doer{s.opts.HTTPClient}.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return refusal(resp.StatusCode, reply)
	}
	return json.Unmarshal(reply, v)
}

// refusal is the error of a reply that is none of what was asked for.
func refusal(status int, reply []byte) error {
	var e openai.ErrorResponse
	if json.Unmarshal(reply, &e) == nil && e.Error != nil {
		e.Error.HTTPStatusCode = status
		return e.Error
	}
	return &openai.RequestError{HTTPStatusCode: status, Body: reply, Err: errors.New(http.StatusText(status))}
}

// upload hands a batch's input file over as it lies in memory.
func (s *session) upload(ctx context.Context, name string, file []byte) (f openai.File, err error) {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	err = w.WriteField("purpose", string(openai.PurposeBatch))
	if err == nil {
		_, err = w.CreateFormFile("file", name)
	}
	if err != nil {
		return f, fmt.Errorf("making the form of an upload: %w", err)
	}
	n := form.Len()
	if err = w.Close(); err != nil {
		return f, fmt.Errorf("making the form of an upload: %w", err)
	}
	head, tail := form.Bytes()[:n], form.Bytes()[n:]
	err = s.post(ctx, "/files", w.FormDataContentType(), func() io.Reader {
		return io.MultiReader(bytes.NewReader(head), bytes.NewReader(file), bytes.NewReader(tail))
	}, int64(form.Len()+len(file)), &f)
	return f, err
}
