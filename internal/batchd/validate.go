package batchd

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// lineError says what is wrong with an input file, in OpenAI's shape.
type lineError struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Param   *string `json:"param"`
	Line    *int    `json:"line"`
}

// maxErrors is how many mistakes of one file are told.
const maxErrors = 50

// inputLine is one request of an input file.
type inputLine struct {
	CustomID string          `json:"custom_id"`
	Method   string          `json:"method"`
	URL      string          `json:"url"`
	Body     json.RawMessage `json:"body"`
}

// validate reads an input file and returns how many requests it has, and what
// is wrong with them; err is of reading alone. A file is valid if it has 1 to
// 50,000 lines, each an object with a custom_id of its own, the method POST,
// the endpoint as url, and a body with messages, all for one model.
func validate(r io.Reader, endpoint string) (total int, errs []lineError, err error) {
	seen := make(map[string]bool)
	model := ""
	n := 0
	complain := func(code, param, format string, args ...any) {
		if len(errs) == maxErrors {
			return
		}
		e := lineError{Code: code, Message: fmt.Sprintf(format, args...)}
		if param != "" {
			e.Param = &param
		}
		if n > 0 {
			line := n
			e.Line = &line
		}
		errs = append(errs, e)
	}
	err = lines(r, func(line []byte) error {
		n++
		total++
		if total > maxLines {
			n = 0
			complain("too_many_requests", "", "A batch file has at most %d requests.", maxLines)
			return io.EOF
		}
		var l inputLine
		if err := json.Unmarshal(line, &l); err != nil {
			complain("invalid_json_line", "", "This line is not parseable as valid JSON: %v.", err)
			return nil
		}
		switch {
		case l.CustomID == "":
			complain("missing_required_parameter", "custom_id", "Missing required parameter: 'custom_id'.")
		case seen[l.CustomID]:
			complain("duplicate_custom_id", "custom_id", "The custom_id %q occurs before.", l.CustomID)
		}
		seen[l.CustomID] = true
		if l.Method != "POST" {
			complain("invalid_method", "method", "The method has to be POST, not %q.", l.Method)
		}
		if l.URL != endpoint {
			complain("invalid_url", "url", "The url has to be the batch's endpoint %s, not %q.", endpoint, l.URL)
		}
		named, problems := checkBody(l.Body)
		for _, p := range problems {
			complain(p.code, strings.TrimSuffix("body."+p.param, "."), "%s", p.message)
		}
		switch {
		case model == "":
			model = named
		case named != "" && named != model:
			complain("mismatched_model", "body.model", "The model %q differs from %q of an earlier line: a file is for one model.", named, model)
		}
		return nil
	})
	if err == io.EOF {
		err = nil
	}
	if n == 0 && total == 0 && err == nil {
		complain("empty_file", "", "The input file is empty.")
	}
	return total, errs, err
}

// lines calls fn for every line that is not blank, without its end. The slice
// is valid during the call.
func lines(r io.Reader, fn func(line []byte) error) error {
	in := bufio.NewReaderSize(r, 1<<16)
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if line = append(line, part...); err == bufio.ErrBufferFull {
			continue
		}
		if err != nil && err != io.EOF {
			return err
		}
		if text := bytes.TrimSpace(line); len(text) > 0 {
			if err := fn(text); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		line = line[:0]
	}
}
