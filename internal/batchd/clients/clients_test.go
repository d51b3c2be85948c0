// Package clients drives a batchd process with the official clients of the
// OpenAI API, for Go in this file and for Node.js in testdata/node. It is a
// module of its own, so that they are no dependencies of clusterflow; to run it:
//
//	cd internal/batchd/clients && go test ./...
package clients

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/respjson"
)

const key = "sk-of-the-clients-test"

// patience is how long a batch may take before the test gives up.
const patience = 2 * time.Minute

var program string // the clusterflow under test

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "clients")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "clusterflow")
	build := exec.Command("go", "build", "-o", program, "./cmd/clusterflow")
	build.Dir = filepath.Join("..", "..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building clusterflow: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// serve starts a batchd that asks for the key and returns its base URL.
func serve(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.Command(program, append([]string{"batchd", "--listen", "127.0.0.1:0", "--dir", t.TempDir(), "--key-env", "BATCHD_KEY"}, args...)...)
	c.Env = append(os.Environ(), "BATCHD_KEY="+key)
	var log bytes.Buffer
	c.Stderr = &log
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		if err := c.Wait(); err != nil || strings.Contains(log.String(), key) {
			t.Errorf("batchd: %v\n%s", err, log.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	found := regexp.MustCompile(`^batchd serves (http://\S+/v1) from `).FindStringSubmatch(line)
	if found == nil {
		t.Fatalf("batchd said %q, %v", line, err)
	}
	return found[1]
}

// request is a line of an input file about two categories. To a bad one the
// offline judge has no answer.
func request(n int, bad bool) string {
	user := "BEGIN DATA\n" + `{"task": "similarity", "categories": [{"id": 1, "title": "Checking", "description": "wait, check that again"}, {"id": 2, "title": "Planning", "description": "first we need to, then"}]}` + "\nEND DATA"
	if bad {
		user = "no prompt of clusterflow"
	}
	line, err := json.Marshal(map[string]any{
		"custom_id": fmt.Sprintf("request-%d", n), "method": "POST", "url": "/v1/chat/completions",
		"body": map[string]any{"model": "lexical", "messages": []any{map[string]any{"role": "user", "content": user}}},
	})
	if err != nil {
		panic(err)
	}
	return string(line) + "\n"
}

func requests(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(request(i, false))
	}
	return b.String()
}

// session is a client and the test that uses it.
type session struct {
	*testing.T
	ctx    context.Context
	client openai.Client
}

func connect(t *testing.T, base, key string) *session {
	return &session{t, t.Context(), openai.NewClient(option.WithBaseURL(base), option.WithAPIKey(key), option.WithMaxRetries(0))}
}

func (s *session) upload(name, content string) (*openai.FileObject, error) {
	return s.client.Files.New(s.ctx, openai.FileNewParams{
		File: openai.File(strings.NewReader(content), name, "application/jsonl"), Purpose: openai.FilePurposeBatch,
	})
}

func (s *session) create(content string) *openai.Batch {
	s.Helper()
	f, err := s.upload("in.jsonl", content)
	if err != nil {
		s.Fatal(err)
	}
	b, err := s.client.Batches.New(s.ctx, openai.BatchNewParams{
		InputFileID: f.ID, Endpoint: openai.BatchNewParamsEndpointV1ChatCompletions,
		CompletionWindow: openai.BatchNewParamsCompletionWindow24h, Metadata: map[string]string{"run": "7", "who": "Zoë"},
	})
	if err != nil {
		s.Fatal(err)
	}
	understood(s.T, b)
	return b
}

// wait polls until the batch has ended, and checks how it looks on the way.
func (s *session) wait(id string) *openai.Batch {
	s.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		b, err := s.client.Batches.Get(s.ctx, id)
		if err != nil {
			s.Fatal(err)
		}
		understood(s.T, b)
		switch b.Status {
		case openai.BatchStatusCompleted, openai.BatchStatusFailed, openai.BatchStatusExpired, openai.BatchStatusCancelled:
			return b
		case openai.BatchStatusValidating, openai.BatchStatusInProgress, openai.BatchStatusFinalizing, openai.BatchStatusCancelling:
		default:
			s.Fatalf("a status that the client does not know: %q", b.Status)
		}
	}
	s.Fatalf("batch %s does not end", id)
	return nil
}

// result is a line of an output or error file.
type result struct {
	ID       string `json:"id"`
	CustomID string `json:"custom_id"`
	Response *struct {
		Status    int             `json:"status_code"`
		RequestID string          `json:"request_id"`
		Body      json.RawMessage `json:"body"`
	} `json:"response"`
	Error *struct{ Code, Message string } `json:"error"`
}

func (s *session) lines(file string) map[string]result {
	s.Helper()
	if file == "" {
		return nil
	}
	resp, err := s.client.Files.Content(s.ctx, file)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	out := map[string]result{}
	for d := json.NewDecoder(resp.Body); ; {
		var r result
		if err := d.Decode(&r); err == io.EOF {
			return out
		} else if err != nil {
			s.Fatal(err)
		}
		if _, twice := out[r.CustomID]; twice {
			s.Errorf("%s is in %s twice", r.CustomID, file)
		}
		out[r.CustomID] = r
	}
}

// understood checks that the client knows every field that came, and that every
// field came that it calls required.
func understood(t *testing.T, v any) {
	t.Helper()
	object := reflect.Indirect(reflect.ValueOf(v))
	meta := object.FieldByName("JSON")
	if extra := meta.FieldByName("ExtraFields").Len(); extra > 0 {
		t.Errorf("%s: fields that the client does not know: %v", object.Type(), meta.FieldByName("ExtraFields"))
	}
	for i := range object.NumField() {
		f := object.Type().Field(i)
		if f.Tag.Get("api") != "required" && f.Tag.Get("default") == "" {
			continue
		}
		if got, ok := meta.FieldByName(f.Name).Interface().(respjson.Field); ok && !got.Valid() {
			t.Errorf("%s: %s is missing or unreadable: %q", object.Type(), f.Name, got.Raw())
		}
	}
}

// refused checks an error's status, code and parameter.
func refused(t *testing.T, err error, status int, code, param string) {
	t.Helper()
	var e *openai.Error
	if !errors.As(err, &e) || e.StatusCode != status || e.Code != code || e.Param != param || e.Type == "" || e.Message == "" {
		t.Errorf("got %#v (%v), want status %d, code %q, param %q", e, err, status, code, param)
	}
	if err != nil && strings.Contains(err.Error(), key) {
		t.Error("the error tells the key")
	}
}

func TestGoLifeOfABatch(t *testing.T) {
	s := connect(t, serve(t), key)
	f, err := s.upload("first.jsonl", requests(3)+request(3, true))
	if err != nil {
		t.Fatal(err)
	}
	understood(t, f)
	//lint:ignore SA1019 older clients wait for this status
	if f.Filename != "first.jsonl" || f.Purpose != openai.FileObjectPurposeBatch || f.Status != openai.FileObjectStatusProcessed || f.Bytes != int64(len(requests(3)+request(3, true))) {
		t.Errorf("uploaded: %s", f.RawJSON())
	}
	if again, err := s.client.Files.Get(s.ctx, f.ID); err != nil || again.RawJSON() != f.RawJSON() {
		t.Errorf("retrieved %v, %v", again, err)
	}
	if resp, err := s.client.Files.Content(s.ctx, f.ID); err != nil {
		t.Error(err)
	} else if raw, _ := io.ReadAll(resp.Body); string(raw) != requests(3)+request(3, true) {
		t.Errorf("the file reads %.100s", raw)
	}

	b := s.wait(s.create(requests(3) + request(3, true)).ID)
	if b.Status != openai.BatchStatusCompleted || b.Metadata["run"] != "7" || b.Metadata["who"] != "Zoë" || b.Endpoint != "/v1/chat/completions" || b.CompletionWindow != "24h" ||
		b.RequestCounts.Total != 4 || b.RequestCounts.Completed != 3 || b.RequestCounts.Failed != 1 ||
		b.CompletedAt < b.CreatedAt || b.InProgressAt < b.CreatedAt || b.FinalizingAt < b.InProgressAt || b.ExpiresAt != b.CreatedAt+24*3600 || b.FailedAt != 0 || b.CancelledAt != 0 {
		t.Errorf("completed: %s", b.RawJSON())
	}
	out, bad := s.lines(b.OutputFileID), s.lines(b.ErrorFileID)
	if len(out) != 3 || len(bad) != 1 {
		t.Fatalf("%d output and %d error lines", len(out), len(bad))
	}
	for id, r := range out {
		var c openai.ChatCompletion
		if r.Response == nil || r.Error != nil || r.Response.Status != 200 || json.Unmarshal(r.Response.Body, &c) != nil {
			t.Fatalf("%s: %+v", id, r)
		}
		understood(t, &c)
		if len(c.Choices) != 1 || c.Choices[0].FinishReason != "stop" || !strings.Contains(c.Choices[0].Message.Content, `"score"`) || c.Usage.TotalTokens == 0 || c.Usage.TotalTokens != c.Usage.PromptTokens+c.Usage.CompletionTokens {
			t.Errorf("%s: %s", id, c.RawJSON())
		}
	}
	if r := bad["request-3"]; r.Response == nil || r.Response.Status != 400 {
		t.Errorf("the request that nobody can answer: %+v", r)
	}
	for _, id := range []string{b.OutputFileID, b.ErrorFileID} {
		f, err := s.client.Files.Get(s.ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		understood(t, f)
		if f.Purpose != openai.FileObjectPurposeBatchOutput {
			t.Errorf("purpose %q", f.Purpose)
		}
	}

	d, err := s.client.Files.Delete(s.ctx, b.OutputFileID)
	if err != nil || !d.Deleted || d.ID != b.OutputFileID {
		t.Errorf("deleted: %+v, %v", d, err)
	}
	understood(t, d)
	_, err = s.client.Files.Get(s.ctx, b.OutputFileID)
	refused(t, err, 404, "", "id")
}

func TestGoLists(t *testing.T) {
	s := connect(t, serve(t), key)
	var want []string
	for range 5 {
		want = append([]string{s.wait(s.create(requests(1)).ID).ID}, want...)
	}
	var got []string
	pages := s.client.Batches.ListAutoPaging(s.ctx, openai.BatchListParams{Limit: openai.Int(2)})
	for pages.Next() {
		b := pages.Current()
		understood(t, &b)
		got = append(got, b.ID)
	}
	if pages.Err() != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("batches %v, %v, want %v", got, pages.Err(), want)
	}
	page, err := s.client.Batches.List(s.ctx, openai.BatchListParams{After: openai.String(want[3])})
	if err != nil || len(page.Data) != 1 || page.Data[0].ID != want[4] || page.HasMore {
		t.Errorf("the last page: %+v, %v", page, err)
	}

	counts := map[openai.FileObjectPurpose]int{}
	var times []int64
	files := s.client.Files.ListAutoPaging(s.ctx, openai.FileListParams{Limit: openai.Int(3), Order: openai.FileListParamsOrderAsc})
	for files.Next() {
		f := files.Current()
		understood(t, &f)
		counts[f.Purpose]++
		times = append(times, f.CreatedAt)
	}
	if files.Err() != nil || counts["batch"] != 5 || counts["batch_output"] != 5 || len(counts) != 2 {
		t.Errorf("files %v, %v", counts, files.Err())
	}
	for i := range times[1:] {
		if times[i] > times[i+1] {
			t.Errorf("ascending: %v", times)
		}
	}
	of, err := s.client.Files.List(s.ctx, openai.FileListParams{Purpose: openai.String("batch")})
	if err != nil || len(of.Data) != 5 {
		t.Errorf("files of one purpose: %v, %v", of, err)
	}
	models := s.client.Models.ListAutoPaging(s.ctx)
	for models.Next() {
		m := models.Current()
		understood(t, &m)
	}
	if models.Err() != nil {
		t.Error(models.Err())
	}
}

func TestGoCancel(t *testing.T) {
	s := connect(t, serve(t), key)
	const n = 40000 // more than is answered before the next call arrives
	b := s.create(requests(n))
	c, err := s.client.Batches.Cancel(s.ctx, b.ID)
	if err != nil || c.Status != openai.BatchStatusCancelling || c.CancellingAt == 0 {
		t.Fatalf("cancelling: %v, %v", c, err)
	}
	understood(t, c)
	b = s.wait(b.ID)
	out, bad := s.lines(b.OutputFileID), s.lines(b.ErrorFileID)
	if b.Status != openai.BatchStatusCancelled || b.CancelledAt < b.CancellingAt || len(out)+len(bad) != n || len(bad) == 0 ||
		b.RequestCounts.Total != n || b.RequestCounts.Completed != int64(len(out)) {
		t.Errorf("%d output and %d error lines: %s", len(out), len(bad), b.RawJSON())
	}
	for id, r := range bad {
		if r.Response != nil || r.Error == nil || r.Error.Code != "batch_cancelled" {
			t.Fatalf("%s: %+v", id, r)
		}
	}
	_, err = s.client.Batches.Cancel(s.ctx, b.ID)
	refused(t, err, 409, "", "")
}

func TestGoExpiry(t *testing.T) {
	s := connect(t, serve(t, "--expire-after", "1ms"), key)
	b := s.wait(s.create(requests(4)).ID)
	if b.Status != openai.BatchStatusExpired || b.ExpiredAt < b.CreatedAt || b.ExpiresAt == 0 || b.CompletedAt != 0 || b.OutputFileID != "" || b.RequestCounts.Failed != 4 {
		t.Errorf("expired: %s", b.RawJSON())
	}
	bad := s.lines(b.ErrorFileID)
	for id, r := range bad {
		if r.Response != nil || r.Error == nil || r.Error.Code != "batch_expired" {
			t.Errorf("%s: %+v", id, r)
		}
	}
	if len(bad) != 4 {
		t.Errorf("%d error lines", len(bad))
	}
}

func TestGoInvalidInput(t *testing.T) {
	s := connect(t, serve(t), key)
	b := s.wait(s.create(request(1, false) + request(1, false) + "{\n").ID)
	if b.Status != openai.BatchStatusFailed || b.FailedAt < b.CreatedAt || b.OutputFileID != "" || b.ErrorFileID != "" || len(b.Errors.Data) != 2 {
		t.Fatalf("failed: %s", b.RawJSON())
	}
	for i, want := range []struct {
		code string
		line int64
	}{{"duplicate_custom_id", 2}, {"invalid_json_line", 3}} {
		e := b.Errors.Data[i]
		understood(t, &e)
		if e.Code != want.code || e.Line != want.line || e.Message == "" {
			t.Errorf("error %d: %s", i, e.RawJSON())
		}
	}
}

func TestGoErrors(t *testing.T) {
	base := serve(t)
	s := connect(t, base, key)
	_, err := s.client.Files.Get(s.ctx, "file-none")
	refused(t, err, 404, "", "id")
	_, err = s.client.Batches.Get(s.ctx, "batch_none")
	refused(t, err, 404, "", "id")
	_, err = s.client.Batches.Cancel(s.ctx, "batch_none")
	refused(t, err, 404, "", "id")
	_, err = s.client.Batches.List(s.ctx, openai.BatchListParams{Limit: openai.Int(101)})
	refused(t, err, 400, "", "limit")
	_, err = s.client.Batches.List(s.ctx, openai.BatchListParams{After: openai.String("batch_none")})
	refused(t, err, 400, "", "after")
	_, err = s.upload("empty.jsonl", "")
	refused(t, err, 400, "empty_file", "file")
	_, err = s.upload("table.csv", "a,b\n")
	refused(t, err, 400, "invalid_file_format", "file")
	_, err = s.client.Files.New(s.ctx, openai.FileNewParams{File: openai.File(strings.NewReader("x"), "x.jsonl", "application/jsonl"), Purpose: openai.FilePurposeVision})
	refused(t, err, 400, "", "purpose")
	new := openai.BatchNewParams{InputFileID: "file-none", Endpoint: openai.BatchNewParamsEndpointV1ChatCompletions, CompletionWindow: "24h"}
	_, err = s.client.Batches.New(s.ctx, new)
	refused(t, err, 400, "", "input_file_id")
	new.Endpoint = openai.BatchNewParamsEndpointV1Embeddings
	_, err = s.client.Batches.New(s.ctx, new)
	refused(t, err, 400, "invalid_value", "endpoint")
	new.Endpoint, new.CompletionWindow = openai.BatchNewParamsEndpointV1ChatCompletions, "1h"
	_, err = s.client.Batches.New(s.ctx, new)
	refused(t, err, 400, "invalid_value", "completion_window")
	_, err = s.client.Images.Generate(s.ctx, openai.ImageGenerateParams{Prompt: "a server"})
	refused(t, err, 404, "unknown_url", "")

	for _, wrong := range []string{"sk-wrong", ""} {
		_, err = connect(t, base, wrong).client.Batches.List(t.Context(), openai.BatchListParams{})
		refused(t, err, 401, "invalid_api_key", "")
	}
}

// TestNode runs testdata/node/drive.mjs, which does the same with the package
// openai for Node.js.
func TestNode(t *testing.T) {
	for _, name := range []string{"node", "npm"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("there is no %s", name)
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/node")); err != nil {
		t.Fatal(err)
	}
	install := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "good.jsonl"), []byte(requests(3)+request(3, true)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "many.jsonl"), []byte(requests(40000)), 0o600); err != nil {
		t.Fatal(err)
	}
	drive := exec.Command("node", "drive.mjs", serve(t), serve(t, "--expire-after", "1ms"), key)
	drive.Dir = dir
	out, err := drive.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "all said\n") || strings.Contains(string(out), key) {
		t.Errorf("node: %v\n%s", err, out)
	}
}
