package batchd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// client calls a server the way any HTTP client would.
type client struct {
	t   *testing.T
	url string
	key string
}

func (c client) do(method, path string, body io.Reader, contentType string) (int, []byte) {
	c.t.Helper()
	req, err := http.NewRequest(method, c.url+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, b
}

// call decodes a JSON reply and fails the test on another status than want.
func (c client) call(want int, method, path, body string) map[string]any {
	c.t.Helper()
	status, b := c.do(method, path, strings.NewReader(body), "application/json")
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		c.t.Fatalf("%s %s: reply is not JSON: %s", method, path, b)
	}
	if status != want {
		c.t.Fatalf("%s %s: status %d, want %d: %s", method, path, status, want, b)
	}
	return v
}

func (c client) upload(want int, purpose, name, content string) map[string]any {
	c.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if purpose != "" {
		w.WriteField("purpose", purpose)
	}
	if name != "" {
		f, _ := w.CreateFormFile("file", name)
		io.WriteString(f, content)
	}
	w.Close()
	status, reply := c.do("POST", "/v1/files", &b, w.FormDataContentType())
	var v map[string]any
	if err := json.Unmarshal(reply, &v); err != nil || status != want {
		c.t.Fatalf("upload: status %d, want %d: %s", status, want, reply)
	}
	return v
}

func (c client) create(input string) string {
	c.t.Helper()
	file := c.upload(200, "batch", "in.jsonl", input)
	b := c.call(200, "POST", "/v1/batches", fmt.Sprintf(
		`{"input_file_id":%q,"endpoint":"/v1/chat/completions","completion_window":"24h","metadata":{"k":"v"}}`, file["id"]))
	return b["id"].(string)
}

// wait polls until the batch has one of the statuses.
func (c client) wait(id string, statuses ...string) map[string]any {
	c.t.Helper()
	for range 2000 {
		b := c.call(200, "GET", "/v1/batches/"+id, "")
		for _, s := range statuses {
			if b["status"] == s {
				return b
			}
		}
		time.Sleep(time.Millisecond)
	}
	c.t.Fatalf("batch %s never became %v", id, statuses)
	return nil
}

// lines downloads a result file and indexes its lines by custom_id.
func (c client) lines(id any) map[string]map[string]any {
	c.t.Helper()
	out := make(map[string]map[string]any)
	if id == nil {
		return out
	}
	status, b := c.do("GET", "/v1/files/"+id.(string)+"/content", nil, "")
	if status != 200 {
		c.t.Fatalf("content of %v: status %d: %s", id, status, b)
	}
	for line := range bytes.Lines(b) {
		var v map[string]any
		if err := json.Unmarshal(line, &v); err != nil {
			c.t.Fatalf("result line %q: %v", line, err)
		}
		key := v["custom_id"].(string)
		if out[key] != nil {
			c.t.Errorf("%s has two result lines", key)
		}
		out[key] = v
	}
	return out
}

func line(id, model, text string) string {
	return fmt.Sprintf(`{"custom_id":%q,"method":"POST","url":"/v1/chat/completions","body":{"model":%q,"messages":[{"role":"user","content":%q}]}}`+"\n", id, model, text)
}

func input(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(line(fmt.Sprintf("r%d", i), "m", fmt.Sprintf("question %d", i)))
	}
	return b.String()
}

// question is the last message of a request body.
func question(body []byte) string {
	var b struct{ Messages []struct{ Content string } }
	json.Unmarshal(body, &b)
	return b.Messages[len(b.Messages)-1].Content
}

func echo(_ context.Context, body []byte) (string, error) { return "re: " + question(body), nil }

// serve runs a server until the test ends or stop is called.
func serve(t *testing.T, opts Options) (c client, stop func()) {
	t.Helper()
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	stop = sync.OnceFunc(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return client{t, h.URL, opts.Key}, stop
}

// The fields are those of the API reference's batch object, output line and
// error line.
func TestBatch(t *testing.T) {
	c, _ := serve(t, Options{Dir: t.TempDir(), Concurrency: 3, Judge: func(ctx context.Context, body []byte) (string, error) {
		switch q := question(body); q {
		case "question 3":
			return "", errors.New("no data block")
		case "question 4":
			return "", &Error{Status: 429, Code: "rate_limit_exceeded", Message: "slow down"}
		case "question 5":
			panic("out of range")
		default:
			return echo(ctx, body)
		}
	}})
	id := c.create(input(10))
	b := c.wait(id, "completed")
	if got, want := fmt.Sprint(b["request_counts"]), "map[completed:7 failed:3 total:10]"; got != want {
		t.Errorf("request_counts = %s, want %s", got, want)
	}
	if got := fmt.Sprint(b["metadata"]); got != "map[k:v]" {
		t.Errorf("metadata = %s", got)
	}
	for _, at := range []string{"created_at", "in_progress_at", "finalizing_at", "completed_at", "expires_at"} {
		if b[at] == nil {
			t.Errorf("%s is missing", at)
		}
	}
	if b["failed_at"] != nil || b["errors"] != nil {
		t.Errorf("failed_at = %v, errors = %v in a completed batch", b["failed_at"], b["errors"])
	}
	out := c.lines(b["output_file_id"])
	if len(out) != 7 {
		t.Fatalf("%d output lines, want 7", len(out))
	}
	resp := out["r7"]["response"].(map[string]any)
	choice := resp["body"].(map[string]any)["choices"].([]any)[0].(map[string]any)
	if got := choice["message"].(map[string]any)["content"]; resp["status_code"] != 200.0 || got != "re: question 7" || choice["finish_reason"] != "stop" {
		t.Errorf("output line: %v", out["r7"])
	}
	bad := c.lines(b["error_file_id"])
	for id, want := range map[string]string{"r3": "400 no data block", "r4": "429 slow down", "r5": "500 the judge broke down: out of range"} {
		resp := bad[id]["response"].(map[string]any)
		got := fmt.Sprint(resp["status_code"], " ", resp["body"].(map[string]any)["error"].(map[string]any)["message"])
		if got != want {
			t.Errorf("error line of %s: %s, want %s", id, got, want)
		}
	}
	if len(bad) != 3 {
		t.Errorf("%d error lines, want 3", len(bad))
	}
}

func TestAllLinesFailedLeavesNoOutputFile(t *testing.T) {
	c, _ := serve(t, Options{Dir: t.TempDir(), Judge: func(context.Context, []byte) (string, error) { return "", errors.New("no") }})
	b := c.wait(c.create(input(3)), "completed")
	if b["output_file_id"] != nil || len(c.lines(b["error_file_id"])) != 3 {
		t.Errorf("output %v, error lines %d", b["output_file_id"], len(c.lines(b["error_file_id"])))
	}
}

// gate is a judge that lets through as many questions as it is told.
type gate struct {
	open  chan struct{}
	mu    sync.Mutex
	asked map[string]int
}

func newGate(n int) *gate {
	g := &gate{open: make(chan struct{}, 1000), asked: make(map[string]int)}
	for range n {
		g.open <- struct{}{}
	}
	return g
}

func (g *gate) judge(ctx context.Context, body []byte) (string, error) {
	select {
	case <-g.open:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	q := question(body)
	g.mu.Lock()
	g.asked[q]++
	g.mu.Unlock()
	return "re: " + q, nil
}

func TestRestartGoesOn(t *testing.T) {
	dir := t.TempDir()
	first := newGate(4)
	c, stop := serve(t, Options{Dir: dir, Judge: first.judge, Concurrency: 2})
	id := c.create(input(10))
	waitCount(c, id, 4)
	stop()

	// What a kill in the middle of a write leaves behind.
	f, err := os.OpenFile(filepath.Join(dir, "batches", id+".out"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"id":"batch_req_x","custom_id":"r9","resp`)
	f.Close()
	os.WriteFile(filepath.Join(dir, "files", "123.tmp"), []byte("half an upload"), 0o600)

	second := newGate(100)
	c, _ = serve(t, Options{Dir: dir, Judge: second.judge, Concurrency: 2})
	b := c.wait(id, "completed")
	if got := len(c.lines(b["output_file_id"])); got != 10 {
		t.Errorf("%d output lines, want 10", got)
	}
	for q := range first.asked {
		if second.asked[q] > 0 {
			t.Errorf("%q was answered before the restart, and asked again", q)
		}
	}
	if n := len(first.asked) + len(second.asked); n != 10 {
		t.Errorf("%d questions answered, want 10", n)
	}
	if _, err := os.Stat(filepath.Join(dir, "files", "123.tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the unfinished upload is still there")
	}
}

func waitCount(c client, id string, completed int) {
	c.t.Helper()
	for range 2000 {
		b := c.call(200, "GET", "/v1/batches/"+id, "")
		if b["request_counts"].(map[string]any)["completed"] == float64(completed) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	c.t.Fatalf("batch %s never had %d completed", id, completed)
}

// clock is a clock that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func TestExpiryKeepsWhatIsFinished(t *testing.T) {
	ck := &clock{t: time.Unix(1_750_000_000, 0)}
	g := newGate(5)
	c, _ := serve(t, Options{Dir: t.TempDir(), Judge: g.judge, Clock: ck.now, Concurrency: 1})
	id := c.create(input(10))
	waitCount(c, id, 5)
	ck.add(24 * time.Hour)
	g.open <- struct{}{} // the one under way is finished, no other begun
	b := c.wait(id, "expired")
	out, bad := c.lines(b["output_file_id"]), c.lines(b["error_file_id"])
	if len(out) != 6 || len(bad) != 4 {
		t.Fatalf("%d output and %d error lines, want 6 and 4", len(out), len(bad))
	}
	for id, l := range bad {
		if l["response"] != nil || l["error"].(map[string]any)["code"] != "batch_expired" {
			t.Errorf("error line of %s: %v", id, l)
		}
	}
	if b["expired_at"] != float64(ck.now().Unix()) {
		t.Errorf("expired_at = %v, want %d", b["expired_at"], ck.now().Unix())
	}
}

func TestCancel(t *testing.T) {
	g := newGate(2)
	c, _ := serve(t, Options{Dir: t.TempDir(), Judge: g.judge, Concurrency: 1})
	id := c.create(input(6))
	waitCount(c, id, 2)
	if b := c.call(200, "POST", "/v1/batches/"+id+"/cancel", ""); b["status"] != "cancelling" {
		t.Errorf("status %v after cancel, want cancelling", b["status"])
	}
	g.open <- struct{}{}
	b := c.wait(id, "cancelled")
	if out, bad := c.lines(b["output_file_id"]), c.lines(b["error_file_id"]); len(out) != 3 || len(bad) != 3 {
		t.Errorf("%d output and %d error lines, want 3 and 3", len(out), len(bad))
	}
	c.call(409, "POST", "/v1/batches/"+id+"/cancel", "")
	c.call(404, "POST", "/v1/batches/batch_none/cancel", "")
}

func TestInvalidInputFailsTheBatch(t *testing.T) {
	c, _ := serve(t, Options{Dir: t.TempDir(), Judge: echo})
	b := c.wait(c.create(line("a", "m", "x")+line("a", "m", "y")), "failed")
	e := b["errors"].(map[string]any)["data"].([]any)[0].(map[string]any)
	if e["code"] != "duplicate_custom_id" || e["line"] != 2.0 || e["param"] != "custom_id" {
		t.Errorf("errors.data[0] = %v", e)
	}
	if b["failed_at"] == nil || b["output_file_id"] != nil {
		t.Errorf("failed_at %v, output_file_id %v", b["failed_at"], b["output_file_id"])
	}
}

func TestRefusals(t *testing.T) {
	c, _ := serve(t, Options{Dir: t.TempDir(), Judge: echo})
	c.upload(400, "fine-tune", "in.jsonl", input(1))
	c.upload(400, "", "in.jsonl", input(1))
	c.upload(400, "batch", "", "")
	c.upload(400, "batch", "in.jsonl", "")
	c.upload(400, "batch", "in.txt", input(1))
	c.call(400, "POST", "/v1/files", "{}")
	c.call(404, "GET", "/v1/files/file-none", "")
	c.call(404, "GET", "/v1/files/file-none/content", "")
	c.call(404, "DELETE", "/v1/files/file-none", "")
	c.call(404, "GET", "/v1/batches/batch_none", "")
	c.call(404, "GET", "/v1/chat/completions", "")
	e := c.call(400, "POST", "/v1/batches", `{"input_file_id":"file-none","endpoint":"/v1/chat/completions","completion_window":"24h"}`)["error"].(map[string]any)
	if e["type"] != "invalid_request_error" || e["param"] != "input_file_id" || e["message"] == "" {
		t.Errorf("error shape: %v", e)
	}
	id := c.upload(200, "batch", "in.jsonl", input(1))["id"]
	big := make(map[string]string)
	for i := range 17 {
		big[fmt.Sprint(i)] = ""
	}
	for what, meta := range map[string]any{"pairs": big, "key": map[string]string{strings.Repeat("k", 65): ""}, "value": map[string]string{"k": strings.Repeat("v", 513)}} {
		body, _ := json.Marshal(map[string]any{"input_file_id": id, "endpoint": endpoint, "completion_window": "24h", "metadata": meta})
		t.Log(what)
		c.call(400, "POST", "/v1/batches", string(body))
	}
	c.call(400, "POST", "/v1/batches", fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/embeddings","completion_window":"24h"}`, id))
	c.call(400, "POST", "/v1/batches", fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/chat/completions","completion_window":"48h"}`, id))
	c.call(400, "POST", "/v1/batches", `[`)
}

func TestLists(t *testing.T) {
	ck := &clock{t: time.Unix(1_750_000_000, 0)} // all within one second: order is that of creation
	c, _ := serve(t, Options{Dir: t.TempDir(), Judge: echo, Clock: ck.now, Models: []string{"lexical"}})
	var ids []any
	for range 5 {
		ids = append(ids, c.create(input(1)))
	}
	var got []any
	after := ""
	for range 10 {
		p := c.call(200, "GET", "/v1/batches?limit=2"+after, "")
		for _, b := range p["data"].([]any) {
			got = append(got, b.(map[string]any)["id"])
		}
		if p["has_more"] == false {
			break
		}
		after = "&after=" + p["last_id"].(string)
	}
	want := []any{ids[4], ids[3], ids[2], ids[1], ids[0]}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("pages give %v, want %v", got, want)
	}
	c.call(400, "GET", "/v1/batches?limit=101", "")
	c.call(400, "GET", "/v1/batches?after=batch_none", "")
	for _, id := range ids {
		c.wait(id.(string), "completed")
	}
	files := c.call(200, "GET", "/v1/files?purpose=batch&order=asc", "")["data"].([]any)
	if len(files) != 5 {
		t.Fatalf("%d input files, want 5", len(files))
	}
	first := files[0].(map[string]any)["id"].(string)
	c.call(200, "DELETE", "/v1/files/"+first, "")
	c.call(404, "GET", "/v1/files/"+first, "")
	if m := c.call(200, "GET", "/v1/models", "")["data"].([]any)[0].(map[string]any); m["id"] != "lexical" {
		t.Errorf("models: %v", m)
	}
}

func TestFileOfARunningBatchStays(t *testing.T) {
	g := newGate(0)
	c, _ := serve(t, Options{Dir: t.TempDir(), Judge: g.judge})
	b := c.call(200, "GET", "/v1/batches/"+c.create(input(1)), "")
	c.call(409, "DELETE", "/v1/files/"+b["input_file_id"].(string), "")
}

func TestKey(t *testing.T) {
	c, _ := serve(t, Options{Dir: t.TempDir(), Judge: echo, Key: "secret"})
	c.wait(c.create(input(1)), "completed")
	c.key = "other"
	c.call(401, "GET", "/v1/batches", "")
}

func TestOneServerPerDirectory(t *testing.T) {
	dir := t.TempDir()
	_, stop := serve(t, Options{Dir: dir, Judge: echo})
	if _, err := New(Options{Dir: dir, Judge: echo}); err == nil || !strings.Contains(err.Error(), "another batch server") {
		t.Errorf("second server on one directory: %v", err)
	}
	stop()
	serve(t, Options{Dir: dir, Judge: echo})
}

func TestStart(t *testing.T) {
	url, stop, err := Start(t.Context(), t.TempDir(), echo)
	if err != nil {
		t.Fatal(err)
	}
	c := client{t: t, url: strings.TrimSuffix(url, "/v1")}
	c.wait(c.create(input(2)), "completed")
	http.DefaultClient.CloseIdleConnections()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Errorf("second stop: %v", err)
	}
}
