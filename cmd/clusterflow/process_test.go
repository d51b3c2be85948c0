package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"clusterflow/internal/batchd"
)

// patience is how long a test waits for something that has to come. Nothing
// takes that long: it only ends tests that would hang.
const patience = time.Minute

func matches(pattern, text string) bool {
	return regexp.MustCompile(`(?m)` + pattern).MatchString(text)
}

// bench is a folder with the small study in which clusterflow processes run.
type bench struct {
	t   *testing.T
	dir string
	env []string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	if err := copyStudy(dir); err != nil {
		t.Fatal(err)
	}
	return &bench{t, dir, childEnv(dir)}
}

// edit replaces the one place in the study that says old.
func (b *bench) edit(old, now string) {
	b.t.Helper()
	path := filepath.Join(b.dir, "study.hcl")
	raw, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	if n := strings.Count(string(raw), old); n != 1 {
		b.t.Fatalf("study.hcl says %q %d times", old, n)
	}
	b.write("study.hcl", strings.Replace(string(raw), old, now, 1))
}

func (b *bench) write(name, content string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o666); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) read(name string) string {
	b.t.Helper()
	raw, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(raw)
}

// evaluators sends all questions of the study to a server.
func (b *bench) evaluators(base string) {
	b.t.Helper()
	for _, role := range []string{"titler", "judge"} {
		b.edit(fmt.Sprintf("evaluator %q {\n  provider = \"lexical\"", role),
			fmt.Sprintf("evaluator %q {\n  model    = \"some-model\"\n  base_url = %q", role, base))
	}
}

// result is a process that has ended.
type result struct {
	code     int
	out, err string
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\n--- stdout\n%s--- stderr\n%s", r.code, r.out, r.err)
}

// process is a clusterflow that runs.
type process struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err syncBuffer
	ended    chan struct{}
}

// start begins a clusterflow process, which is killed at the end of the test if
// it still runs.
func (b *bench) start(args ...string) *process {
	b.t.Helper()
	p := &process{t: b.t, cmd: exec.Command("clusterflow", args...), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = b.dir, b.env, &p.out, &p.err
	if err := p.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	go func() {
		p.cmd.Wait() //nolint:errcheck // the state says it
		close(p.ended)
	}()
	b.t.Cleanup(func() {
		p.cmd.Process.Kill() //nolint:errcheck // it has ended, as it should
		<-p.ended
	})
	return p
}

// wait waits for a process to end.
func (p *process) wait() result {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("%v does not end\n%s%s", p.cmd.Args, p.out.String(), p.err.String())
	}
	return result{p.cmd.ProcessState.ExitCode(), p.out.String(), p.err.String()}
}

// run runs clusterflow to its end.
func (b *bench) run(args ...string) result {
	b.t.Helper()
	return b.start(args...).wait()
}

// must runs clusterflow; its exit code and its output must be as given.
func (b *bench) must(code int, pattern string, args ...string) result {
	b.t.Helper()
	r := b.run(args...)
	if r.code != code || !matches(pattern, r.out+r.err) {
		b.t.Fatalf("clusterflow %s: want exit code %d and output like %q, got %v", strings.Join(args, " "), code, pattern, r)
	}
	return r
}

// eventually waits for something to become true.
func (b *bench) eventually(what string, is func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	for !is() {
		select {
		case <-ctx.Done():
			b.t.Fatalf("waited in vain: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// syncBuffer is a buffer that can be read while a process writes to it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// gate is a Batch API server in the test whose judge answers only while the
// gate is open.
type gate struct {
	base string // URL ending in /v1
	mu   sync.Mutex
	open chan struct{} // closed when open
	sent []string      // authorization headers
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{open: make(chan struct{})}
	server, err := batchd.New(batchd.Options{Dir: t.TempDir(), Judge: func(ctx context.Context, body []byte) (string, error) {
		g.mu.Lock()
		open := g.open
		g.mu.Unlock()
		select {
		case <-open:
			return batchd.Lexical(ctx, body)
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.sent = append(g.sent, r.Header.Get("Authorization"))
		g.mu.Unlock()
		server.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		front.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	g.base = front.URL + "/v1"
	return g
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		if !open {
			g.open = make(chan struct{})
		}
	default:
		if open {
			close(g.open)
		}
	}
}

// ledger is what a Batch API server was asked for.
type ledger struct {
	batches int
	asked   map[string]int // how often each custom_id stands in a batch
	tasks   map[string]int // requests by the name of their answer's schema
}

// total is the number of requests.
func (l ledger) total() int {
	n := 0
	for _, k := range l.asked {
		n += k
	}
	return n
}

// readLedger lists the batches at a server and reads their input files.
func readLedger(t *testing.T, base string) ledger {
	t.Helper()
	l := ledger{asked: map[string]int{}, tasks: map[string]int{}}
	var list struct {
		Data []struct {
			ID          string `json:"id"`
			InputFileID string `json:"input_file_id"`
		} `json:"data"`
		HasMore bool `json:"has_more"`
	}
	if err := json.Unmarshal(get(t, base+"/batches?limit=100"), &list); err != nil {
		t.Fatal(err)
	}
	if list.HasMore {
		t.Fatal("more than 100 batches")
	}
	l.batches = len(list.Data)
	for _, b := range list.Data {
		for line := range bytes.Lines(get(t, base+"/files/"+b.InputFileID+"/content")) {
			var request struct {
				CustomID string `json:"custom_id"`
				Body     struct {
					ResponseFormat struct {
						JSONSchema struct {
							Name string `json:"name"`
						} `json:"json_schema"`
					} `json:"response_format"`
				} `json:"body"`
			}
			if err := json.Unmarshal(line, &request); err != nil {
				t.Fatal(err)
			}
			l.asked[request.CustomID]++
			l.tasks[request.Body.ResponseFormat.JSONSchema.Name]++
		}
	}
	return l
}

// once fails if a request was asked for twice.
func (l ledger) once(t *testing.T) {
	t.Helper()
	for id, n := range l.asked {
		if n != 1 {
			t.Errorf("request %s stands in %d batches", id, n)
		}
	}
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	reply, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(reply.Body); err != nil {
		t.Fatal(err)
	}
	if reply.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s", url, reply.Status, b.String())
	}
	return b.Bytes()
}

// tree is the content of every file below a folder, by its path there.
func (b *bench) tree(dir string) map[string]string {
	b.t.Helper()
	out := map[string]string{}
	root := filepath.Join(b.dir, dir)
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		rel, relErr := filepath.Rel(root, path)
		out[rel] = string(raw)
		return errors.Join(err, relErr)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}
