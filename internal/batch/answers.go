package batch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrNoAnswer is in the error that Answers returns for a request which is
// neither answered nor failed for good.
var ErrNoAnswer = errors.New("there is no answer yet")

// Answers reads the answers of keys from the stored result files and hands
// them to fn in the order of keys, one at a time; i counts keys. A request
// that failed for good has an Answer that says so. It stops at the first error
// of fn.
func (d *Desk) Answers(ctx context.Context, e Evaluator, keys []string, fn func(i int, a Answer) error) error {
	var open openFiles
	defer open.close()
	for i, key := range keys {
		if err := ctx.Err(); err != nil {
			return err
		}
		var r row
		if _, err := d.get(rowPrefix+key, &r); err != nil {
			return err
		}
		a := Answer{Key: key, Status: StatusFailed, Error: r.Reason}
		switch r.State {
		case answered:
			line, err := open.read(d.files, r)
			if err != nil && r.Intent == "" {
				return fmt.Errorf("reading the answer to request %s of evaluator %q: %w; it was imported: import its file again, or drop it (clusterflow answers drop) to buy it", key, e.Name, err)
			}
			if err != nil {
				return fmt.Errorf("reading the answer to request %s of evaluator %q: %w", key, e.Name, err)
			}
			a = decodeAnswer(key, line)
		case failed:
		default:
			return fmt.Errorf("request %s of evaluator %q: %w", key, e.Name, ErrNoAnswer)
		}
		if err := fn(i, a); err != nil {
			return err
		}
	}
	return nil
}

// completion is the part of a chat completion that is kept. Its fields are
// read one by one, so that an odd one spoils no other.
type completion struct {
	Model   string
	Choices []struct {
		FinishReason string `json:"finish_reason"`
		Message      struct {
			Content json.RawMessage `json:"content"`
			Refusal string          `json:"refusal"`
		} `json:"message"`
	}
	Usage counts
}

// decodeAnswer reads a good result line.
func decodeAnswer(key string, line []byte) Answer {
	a := Answer{Key: key, Status: StatusFailed}
	var l resultLine
	if err := json.Unmarshal(line, &l); err != nil || l.Response == nil || l.CustomID != key {
		a.Error = "the stored result line is not this request's"
		return a
	}
	var fields map[string]json.RawMessage
	var c completion
	if err := json.Unmarshal(l.Response.Body, &fields); err != nil {
		a.Error = "the answer is no chat completion: " + short(err.Error())
		return a
	}
	for name, into := range map[string]any{"model": &c.Model, "choices": &c.Choices, "usage": &c.Usage} {
		if raw, ok := fields[name]; ok {
			if err := json.Unmarshal(raw, into); err != nil && name == "choices" {
				a.Error = "the answer is no chat completion: " + short(err.Error())
				return a
			}
		}
	}
	a.Model = c.Model
	a.Usage = c.Usage.usage()
	if len(c.Choices) == 0 {
		a.Error = "the answer holds no choice"
		return a
	}
	first := c.Choices[0]
	a.Status, a.FinishReason, a.Refusal = StatusOK, first.FinishReason, first.Message.Refusal
	a.Content = text(first.Message.Content)
	return a
}

// text reads a message's content, a string or a list of text parts.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(raw, &parts) != nil {
		return ""
	}
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.Text)
	}
	return b.String()
}

// openFiles keeps the last few result files open: the answers of one study
// mostly lie in a few files.
type openFiles struct {
	names []string // most recently used last
	files map[string]io.ReadSeekCloser
}

const maxOpen = 16

func (o *openFiles) read(files Files, r row) ([]byte, error) {
	f, ok := o.files[r.Blob]
	if !ok {
		var err error
		if f, err = files.Open(r.Blob); err != nil {
			return nil, err
		}
		if o.files == nil {
			o.files = make(map[string]io.ReadSeekCloser)
		}
		o.files[r.Blob] = f
		if len(o.names) == maxOpen {
			o.files[o.names[0]].Close()
			delete(o.files, o.names[0])
			o.names = o.names[1:]
		}
	} else {
		i := slices.Index(o.names, r.Blob)
		o.names = slices.Delete(o.names, i, i+1)
	}
	o.names = append(o.names, r.Blob)
	if _, err := f.Seek(r.Offset, io.SeekStart); err != nil {
		return nil, err
	}
	line := make([]byte, r.Length)
	if _, err := io.ReadFull(f, line); err != nil {
		return nil, err
	}
	return line, nil
}

func (o *openFiles) close() {
	for _, f := range o.files {
		f.Close()
	}
}
