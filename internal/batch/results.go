package batch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
)

// maxResultLine is the longest line of a result file that is read, in bytes.
// A longer one is malformed.
const maxResultLine = 64 << 20

// result is one line of an output or error file, and where it lies.
type result struct {
	good   bool // the server answered with status 200
	status int
	code   string
	reason string
	blob   string
	offset int64
	length int
	usage  Usage // of a good one; zero where the server does not say
	lost   bool  // perhaps answered and paid for, but not delivered
}

// resultLine is the part of a result line that decides about it.
type resultLine struct {
	CustomID string `json:"custom_id"`
	Response *struct {
		Status json.RawMessage `json:"status_code"`
		Body   json.RawMessage `json:"body"`
	} `json:"response"`
	Error *lineError `json:"error"`
}

type lineError struct {
	Code    json.RawMessage `json:"code"`
	Type    string          `json:"type"`
	Message string          `json:"message"`
}

// parseLine reads one line of a result file. A line is good by status 200, not
// by the absence of an error: some servers write an empty error object.
func parseLine(line []byte) (customID string, r result, err error) {
	var l resultLine
	if err := json.Unmarshal(line, &l); err != nil {
		return "", result{}, err
	}
	if l.CustomID == "" {
		return "", result{}, errors.New("no custom_id")
	}
	e := l.Error
	if l.Response != nil {
		text := strings.Trim(string(l.Response.Status), `"`)
		if _, err := fmt.Sscanf(text, "%d", &r.status); err != nil {
			r.status = 0
		}
		r.good = r.status == http.StatusOK
		if !r.good && (e == nil || e.Message == "" && len(e.Code) == 0) {
			var body struct {
				Error *lineError `json:"error"`
			}
			if json.Unmarshal(l.Response.Body, &body) == nil && body.Error != nil {
				e = body.Error
			}
		}
	}
	if r.good {
		r.usage = usageOf(l.Response.Body)
		return l.CustomID, r, nil
	}
	if e != nil {
		if json.Unmarshal(e.Code, &r.code) != nil { // numbers occur
			r.code = string(e.Code)
		}
		if r.code == "null" {
			r.code = ""
		}
	}
	var parts []string
	if r.status != 0 {
		parts = append(parts, fmt.Sprintf("%d %s", r.status, http.StatusText(r.status)))
	}
	if r.code != "" {
		parts = append(parts, short(r.code))
	}
	if e != nil && e.Message != "" {
		parts = append(parts, short(e.Message))
	}
	if len(parts) == 0 {
		parts = append(parts, "the result line gives no reason")
	}
	r.reason = strings.Join(parts, ": ")
	return l.CustomID, r, nil
}

// counts are the tokens that a chat completion names.
type counts struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
}

func (c counts) usage() Usage {
	return Usage{Prompt: max(c.Prompt, 0), Completion: max(c.Completion, 0)}
}

// usageOf is what a chat completion says about its tokens.
func usageOf(body []byte) Usage {
	var c struct {
		Usage counts `json:"usage"`
	}
	if json.Unmarshal(body, &c) != nil {
		return Usage{}
	}
	return c.Usage.usage()
}

// passing reports whether asking again may help, and costs nothing that was
// paid for: the request was never run, or the server had trouble.
func (r result) passing() bool {
	switch r.code {
	case "batch_expired", "batch_cancelled", "batch_canceled", "request_timeout", "rate_limit_exceeded", "server_error":
		return true
	}
	return r.status == http.StatusTooManyRequests || r.status == http.StatusRequestTimeout || r.status >= 500
}

var named = regexp.MustCompile(`"custom_id"\s*:\s*"([0-9a-f]{64})"`)

// nameOf is the request of a result line that cannot be read, if that much can: its
// answer was perhaps paid for.
func nameOf(line []byte) string {
	if m := named.FindSubmatch(line[:min(len(line), 4096)]); m != nil {
		return string(m[1])
	}
	return ""
}

// readResults adds the lines of a result file to results. Of several lines
// with one custom_id the first good one counts, else the first that can be
// read. It returns how many lines could not be read; err is of the file, never
// of its content.
func readResults(ctx context.Context, f io.Reader, blob string, results map[string]result) (malformed int, err error) {
	in := bufio.NewReaderSize(f, 1<<16)
	var line []byte
	var offset int64
	for {
		if ctx.Err() != nil {
			return malformed, ctx.Err()
		}
		line = line[:0]
		start, skipped := offset, false
		var end error
		for {
			var part []byte
			part, end = in.ReadSlice('\n')
			offset += int64(len(part))
			if len(line)+len(part) > maxResultLine {
				skipped = true
			} else {
				line = append(line, part...)
			}
			if end != bufio.ErrBufferFull {
				break
			}
		}
		if end != nil && end != io.EOF {
			return malformed, end
		}
		if text := bytes.TrimSpace(line); len(text) > 0 {
			id, r, err := parseLine(text)
			if skipped || err != nil {
				malformed++
				id, r = nameOf(text), result{lost: true, reason: "an answer came, but its result line cannot be read"}
			}
			if old, ok := results[id]; id != "" && (!ok || !old.good && (r.good || old.lost && !r.lost)) {
				r.blob, r.offset, r.length = blob, start, int(offset-start)
				results[id] = r
			}
		}
		if end == io.EOF {
			return malformed, nil
		}
	}
}

// collect joins the stored result files of a batch to its requests. It may be
// cut off anywhere and run again: rows that have their result are left alone.
func (s *session) collect(ctx context.Context, in *intent) error {
	results := make(map[string]result)
	malformed := 0
	for _, blob := range []string{in.Output, in.Error} {
		if blob == "" {
			continue
		}
		f, err := s.files.Open(blob)
		if err != nil && in.Direct {
			return s.gone(in, err)
		}
		if err != nil { // missing or damaged: the server may still have it
			in.State, in.Output, in.Error = sent, "", ""
			if err := s.save(in); err != nil {
				return err
			}
			return fmt.Errorf("reading the stored results of batch %s: %w; they will be downloaded again", in.BatchID, err)
		}
		n, err := readResults(ctx, f, blob, results)
		f.Close()
		if err != nil {
			return fmt.Errorf("reading the results of batch %s: %w", in.BatchID, err)
		}
		malformed += n
	}
	s.settleMoney(in, results)
	if in.Direct {
		if err := s.dropLines(in); err != nil {
			return err
		}
		s.missing(in, len(results))
	}
	good := in.Answered
	if malformed > 0 {
		s.note("batch %s: %d result lines cannot be read; the files are kept as %s", in.BatchID, malformed, strings.TrimSpace(in.Output+" "+in.Error))
	}
	// The server counts more answers than it delivered. They were paid for,
	// so their requests are not sent again on their own.
	lost := in.Completed > good && !in.Direct

	for n := range in.Chunks {
		if err := ctx.Err(); err != nil {
			return err
		}
		keys, err := s.intentKeys(in, n)
		if err != nil {
			return err
		}
		values := make(map[string]any)
		for _, key := range keys {
			var old row
			if _, err := s.get(rowPrefix+key, &old); err != nil {
				return err
			}
			r, ok := results[key]
			if !ok && lost {
				r.lost, r.reason = true, "the server counts an answer, but its result file has none that can be read"
			} else if !ok {
				r.reason = "no result in batch " + in.Status
				if in.Direct {
					r.reason = "no reply came before the run or the connection ended"
				}
				r.code = "batch_expired" // to be sent again
			}
			if next, changed := settle(in, old, r); changed {
				values[rowPrefix+key] = next
			}
		}
		if len(values) == 0 {
			continue
		}
		if err := s.put(values); err != nil {
			return err
		}
	}
	if in.Status == "completed" {
		if err := s.grow(in); err != nil {
			return err
		}
	}
	s.opts.Log.Info("batch collected", "batch", in.BatchID, "status", in.Status, "requests", in.Requests, "good", good)
	return s.finish(in, done, "")
}

// settle is what a result makes of a row.
func settle(in *intent, old row, r result) (next row, changed bool) {
	if old.State == answered {
		return old, false
	}
	if r.good && old.takes(in) {
		return row{State: answered, Intent: in.ID, Tries: old.Tries, Blob: r.blob, Offset: r.offset, Length: r.length, history: old.history}, true
	}
	if old.State != inBatch || old.Intent != in.ID {
		return old, false
	}
	next = row{State: failed, Intent: in.ID, Tries: old.Tries + 1, Blob: r.blob, Offset: r.offset, Length: r.length, Reason: r.reason, history: old.history}
	if in.Cancelled {
		next.Tries = old.Tries // a person's doing, which says nothing of the request
	}
	if r.passing() || !r.lost && (in.Status == "failed" || in.Status == "cancelled" || in.Status == "canceled") {
		if next.Tries < maxTries {
			return row{State: unsent, Tries: next.Tries, Reason: r.reason, history: old.history}, true
		}
		attempts := "batches"
		if in.Direct {
			attempts = "attempts"
		}
		next.Reason = fmt.Sprintf("given up after %d %s: %s", next.Tries, attempts, r.reason)
	}
	return next, true
}
