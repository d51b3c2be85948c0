package batch

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// Lines after the Batch API guide, and what compatible servers were seen to
// make of them.
func TestParseLine(t *testing.T) {
	for _, tc := range []struct {
		name, line string
		id, reason string
		good, pass bool
	}{
		{name: "good", line: `{"id":"r","custom_id":"a","response":{"status_code":200,"request_id":"q","body":{}},"error":null}`, id: "a", good: true},
		{name: "empty error object", line: `{"custom_id":"a","response":{"status_code":200,"body":{}},"error":{"code":"","message":""}}`, id: "a", good: true},
		{name: "status as text", line: `{"custom_id":"a","response":{"status_code":"200","body":{}}}`, id: "a", good: true},
		{name: "refused", line: `{"custom_id":"a","response":{"status_code":400,"body":{"error":{"message":"bad  schema","type":"invalid_request_error","param":null,"code":"invalid_schema"}}},"error":null}`,
			id: "a", reason: "400 Bad Request: invalid_schema: bad schema"},
		{name: "server trouble", line: `{"custom_id":"a","response":{"status_code":500,"body":null},"error":null}`, id: "a", reason: "500 Internal Server Error", pass: true},
		{name: "expired", line: `{"custom_id":"a","response":null,"error":{"code":"batch_expired","message":"not run"}}`, id: "a", reason: "batch_expired: not run", pass: true},
		{name: "number as code", line: `{"custom_id":"a","error":{"code":17,"message":"odd"}}`, id: "a", reason: "17: odd"},
		{name: "nothing", line: `{"custom_id":"a"}`, id: "a", reason: "the result line gives no reason"},
		{name: "no id", line: `{"response":{"status_code":200}}`},
		{name: "torn", line: `{"custom_id":"a","resp`},
		{name: "array", line: `[]`},
	} {
		id, r, err := parseLine([]byte(tc.line))
		if (err != nil) != (tc.id == "") {
			t.Errorf("%s: error %v", tc.name, err)
		}
		if id != tc.id || r.good != tc.good || r.reason != tc.reason || r.passing() != tc.pass {
			t.Errorf("%s: id %q good %v passing %v reason %q", tc.name, id, r.good, r.passing(), r.reason)
		}
	}
}

func TestReadResults(t *testing.T) {
	good := func(id, text string) string {
		return fmt.Sprintf(`{"custom_id":%q,"response":{"status_code":200,"body":{"choices":[{"message":{"content":%q}}]}}}`, id, text)
	}
	bad := `{"custom_id":"a","error":{"code":"batch_expired"}}`
	long := good("long", strings.Repeat("x", 1<<17)) // longer than the reader's buffer
	file := "\n" + bad + "\n" + good("a", "first") + "\r\n" + good("a", "second") + "\nnot json\n" + bad + "\n" + long + "\n" + good("last", "no newline")
	results := make(map[string]result)
	malformed, err := readResults(t.Context(), strings.NewReader(file), "blob", results)
	if err != nil || malformed != 1 {
		t.Fatalf("malformed %d, error %v", malformed, err)
	}
	if len(results) != 3 {
		t.Fatalf("%d results, want 3", len(results))
	}
	for id, want := range map[string]string{"a": "first", "long": strings.Repeat("x", 1<<17), "last": "no newline"} {
		r := results[id]
		a := decodeAnswer(id, []byte(file[r.offset:r.offset+int64(r.length)]))
		if a.Status != StatusOK || a.Content != want {
			t.Errorf("%s: %.80v", id, a)
		}
	}
}

func TestDecodeAnswer(t *testing.T) {
	line := func(body string) []byte {
		return []byte(`{"custom_id":"a","response":{"status_code":200,"body":` + body + `}}`)
	}
	for _, tc := range []struct {
		name string
		line []byte
		want Answer
	}{
		{"answer", line(`{"model":"gpt-4o-2024-08-06","choices":[{"finish_reason":"stop","message":{"content":"yes","refusal":null}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}`),
			Answer{Status: "ok", Content: "yes", FinishReason: "stop", Model: "gpt-4o-2024-08-06", Usage: Usage{7, 3}}},
		{"refusal", line(`{"choices":[{"finish_reason":"stop","message":{"content":null,"refusal":"I cannot."}}]}`), Answer{Status: "ok", FinishReason: "stop", Refusal: "I cannot."}},
		{"cut off", line(`{"choices":[{"finish_reason":"length","message":{"content":"ye"}}]}`), Answer{Status: "ok", FinishReason: "length", Content: "ye"}},
		{"parts", line(`{"choices":[{"message":{"content":[{"type":"text","text":"y"},{"type":"text","text":"es"}]}}]}`), Answer{Status: "ok", Content: "yes"}},
		{"odd usage", line(`{"choices":[{"message":{"content":"yes"}}],"usage":"none"}`), Answer{Status: "ok", Content: "yes"}},
		{"no choice", line(`{"choices":[]}`), Answer{Status: "failed", Error: "the answer holds no choice"}},
		{"no completion", line(`"text"`), Answer{Status: "failed", Error: "the answer is no chat completion: json: cannot unmarshal string into Go value of type map[string]json.RawMessage"}},
		{"another's", []byte(`{"custom_id":"b","response":{}}`), Answer{Status: "failed", Error: "the stored result line is not this request's"}},
	} {
		tc.want.Key = "a"
		if got := decodeAnswer("a", tc.line); got != tc.want {
			t.Errorf("%s: %+v\nwant %+v", tc.name, got, tc.want)
		}
	}
}

func FuzzResults(f *testing.F) {
	f.Add([]byte(`{"custom_id":"a","response":{"status_code":200,"body":{"choices":[{"message":{"content":"x"}}]}}}` + "\n"))
	f.Add([]byte(`{"custom_id":"a","error":{"code":"batch_expired","message":"m"}}` + "\n{\n"))
	f.Add([]byte(`{"custom_id":"a","response":{"status_code":500,"body":{"error":{"code":5}}}}`))
	f.Add([]byte("\n\r\n[]\n\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		results := make(map[string]result)
		if _, err := readResults(t.Context(), strings.NewReader(string(data)), "b", results); err != nil {
			t.Fatalf("reading memory failed: %v", err)
		}
		for id, r := range results {
			line := data[r.offset : r.offset+int64(r.length)]
			var l resultLine
			if err := json.Unmarshal(line, &l); err != nil || l.CustomID != id {
				t.Fatalf("result of %q points at %q", id, line)
			}
			if !r.good && r.reason == "" {
				t.Errorf("%q failed without a reason", id)
			}
			if a := decodeAnswer(id, line); a.Status != StatusOK && a.Error == "" {
				t.Errorf("answer of %q failed without a reason", id)
			}
		}
	})
}
