package batchd

import (
	"fmt"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	ok := line("a", "m", "x")
	for _, tc := range []struct {
		name, in string
		total    int
		want     string // code:line of every mistake
	}{
		{"good", ok + line("b", "m", "y"), 2, ""},
		{"no newline at the end, blank lines", ok + "\n\r\n" + strings.TrimSpace(line("b", "m", "y")), 2, ""},
		{"empty", "", 0, "empty_file:-"},
		{"blank", "\n\n", 0, "empty_file:-"},
		{"not JSON", ok + "{\n", 2, "invalid_json_line:2"},
		{"no id", strings.Replace(ok, `"custom_id":"a",`, "", 1), 1, "missing_required_parameter:1"},
		{"same id", ok + ok, 2, "duplicate_custom_id:2"},
		{"method", strings.Replace(ok, "POST", "GET", 1), 1, "invalid_method:1"},
		{"url", strings.Replace(ok, "/v1/chat/completions", "/v1/embeddings", 1), 1, "invalid_url:1"},
		{"two models", ok + line("b", "n", "x"), 2, "mismatched_model:2"},
		{"no body", `{"custom_id":"a","method":"POST","url":"/v1/chat/completions"}`, 1, "invalid_request:1"},
		{"no messages", `{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}`, 1, "missing_required_parameter:1"},
		{"stream", strings.Replace(ok, `"model"`, `"stream":true,"model"`, 1), 1, "invalid_request:1"},
		{"number as id", strings.Replace(ok, `"a"`, `7`, 1), 1, "invalid_json_line:1"},
		{"body no object", strings.Replace(ok, `"body":{`, `"body":[],"x":{`, 1), 1, "invalid_request:1"},
		{"50,000", input(50_000), 50_000, ""},
		{"50,001", input(50_001), 50_001, "too_many_requests:-"},
	} {
		total, errs, err := validate(strings.NewReader(tc.in), endpoint)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		var got []string
		for _, e := range errs {
			at := "-"
			if e.Line != nil {
				at = fmt.Sprint(*e.Line)
			}
			got = append(got, e.Code+":"+at)
		}
		if g := strings.Join(got, " "); g != tc.want || total != tc.total {
			t.Errorf("%s: %d lines, mistakes %q; want %d, %q", tc.name, total, g, tc.total, tc.want)
		}
	}
	if _, errs, _ := validate(strings.NewReader(strings.Repeat("{\n", 200)), endpoint); len(errs) != maxErrors {
		t.Errorf("%d mistakes told, want %d", len(errs), maxErrors)
	}
}

// TestInputHasItsPurpose takes no result file for an input file.
func TestInputHasItsPurpose(t *testing.T) {
	c := serveWith(t, Options{Judge: echoed}, nil)
	b := c.wait(c.create(input(1)), "completed")
	e := c.call(400, "POST", "/v1/batches", fmt.Sprintf(
		`{"input_file_id":%q,"endpoint":"/v1/chat/completions","completion_window":"24h"}`, b["output_file_id"]))["error"].(map[string]any)
	if e["code"] != "invalid_purpose" || e["param"] != "input_file_id" {
		t.Errorf("%v", e)
	}
}

func FuzzValidate(f *testing.F) {
	f.Add([]byte(input(3)))
	f.Add([]byte("{\n"))
	f.Add([]byte(`{"custom_id":1}`))
	f.Add([]byte(`{"custom_id":"a","body":[]}` + "\n\n\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		total, errs, err := validate(strings.NewReader(string(in)), endpoint)
		if err != nil {
			t.Fatalf("reading memory failed: %v", err)
		}
		if total == 0 && len(errs) == 0 {
			t.Error("an empty file is valid")
		}
		if len(errs) > maxErrors || total > maxLines+1 {
			t.Errorf("%d lines, %d mistakes", total, len(errs))
		}
	})
}
