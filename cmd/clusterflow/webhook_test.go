package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// hook is a server that on_complete may name.
type hook struct {
	*httptest.Server
	mu    sync.Mutex
	fail  int // calls to refuse yet
	calls int
	got   []notice
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.calls++
		if h.fail > 0 {
			h.fail--
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		var n notice
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(body, &n) != nil {
			t.Errorf("%s %q: %q", r.Method, r.Header, body)
		}
		h.got = append(h.got, n)
	}))
	t.Cleanup(h.Close)
	return h
}

// last is the newest of n notices.
func (h *hook) last(t *testing.T, n int) notice {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.got) != n {
		t.Fatalf("%d notices, want %d: %+v", len(h.got), n, h.got)
	}
	return h.got[n-1]
}

func TestOnComplete(t *testing.T) {
	b, h := newBench(t), newHook(t)
	h.fail = 1 // asked again
	secret := "/services/T0/very-secret?x=1"
	b.edit("seed = 7", "seed = 7\n  on_complete = \""+h.URL+secret+"\"")
	b.must(0, `^REPORT .*\n +tells 127.0.0.1:\d+ when the study is done`, "plan", "study.hcl")
	b.must(0, `Report: `, "apply", "study.hcl")
	if n := h.last(t, 1); n.State != "done" || n.Study != "small" || n.Ran != 16 || n.Failed != 0 || !strings.HasSuffix(n.Report, "index.html") || !strings.Contains(n.Text, "small is done: 16 nodes run") {
		t.Errorf("%+v", n)
	}

	// Nothing was done: nothing is told. Another address makes nothing stale.
	b.must(0, `^0 run · 16 cached`, "apply", "study.hcl")
	b.edit(secret, secret+"&y=2")
	b.must(0, `^0 run · 16 cached`, "apply", "study.hcl")
	h.last(t, 1)

	// A failure is told, and one of the address changes no exit code.
	b.edit("description_examples = 10", "description_examples = 9")
	b.edit("evaluator \"judge\" {\n  provider = \"lexical\"", "evaluator \"judge\" {\n  model = \"gpt-4o\"\n  base_url = \"https://evaluator.invalid/v1\"\n  api_key_env = \"NO_SUCH_KEY\"")
	b.must(1, `set the environment variable NO_SUCH_KEY`, "apply", "--yes", "--trust", "evaluator.invalid", "study.hcl")
	if n := h.last(t, 2); n.State != "failed" || n.Failed == 0 || len(n.Errors) == 0 {
		t.Errorf("%+v", n)
	}
	b.edit("evaluator \"judge\" {\n  model = \"gpt-4o\"\n  base_url = \"https://evaluator.invalid/v1\"\n  api_key_env = \"NO_SUCH_KEY\"", "evaluator \"judge\" {\n  provider = \"lexical\"")
	h.fail = 100
	r := b.must(0, `note: on_complete \(study.hcl:4\): 127.0.0.1:\d+ could not be told: 503`, "apply", "study.hcl")
	if strings.Contains(r.out+r.err, "very-secret") {
		t.Errorf("the address is shown: %v", r)
	}
	h.last(t, 2)

	// Another host is told once the user has approved it.
	b.edit(h.URL+secret+"&y=2", "https://hooks.invalid/very-secret")
	b.edit("description_examples = 9", "description_examples = 8")
	b.must(0, `would tell hooks.invalid when the study is done, once you have approved it: clusterflow trust hooks.invalid on_complete$`, "plan", "study.hcl")
	b.must(0, `note: on_complete \(study.hcl:4\) names a host that you have never approved, so it is not told: clusterflow trust hooks.invalid on_complete$`, "apply", "study.hcl")
	b.must(0, ``, "trust", "hooks.invalid", "on_complete")
	b.edit("description_examples = 8", "description_examples = 7")
	b.must(0, `tells hooks.invalid when`, "plan", "study.hcl")
	b.must(0, `note: on_complete \(study.hcl:4\): hooks.invalid could not be told`, "apply", "study.hcl")
}
