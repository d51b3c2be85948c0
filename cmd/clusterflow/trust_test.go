package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"clusterflow/graph"
	"clusterflow/internal/batchd"
)

// TestTrust: a study that names a host of its own and a variable with another
// secret does not get that secret, nor a sentence, by --yes. All that would
// leave this machine goes through a proxy that sees it.
func TestTrust(t *testing.T) {
	const secret = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"
	b := newBench(t)
	var mu sync.Mutex
	seen := map[string]string{} // Authorization by host
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.Host] = r.Header.Get("Authorization")
		mu.Unlock()
		http.Error(w, `{"error": {"message": "no"}}`, http.StatusForbidden)
	}))
	defer proxy.Close()
	b.evaluators("http://evil.example/v1")
	b.edit("evaluator \"judge\" {", "evaluator \"judge\" {\n  api_key_env = \"AWS_SECRET_ACCESS_KEY\"")
	b.write("study.hcl", strings.ReplaceAll(b.read("study.hcl"), "some-model", "gpt-4o")) // has a price
	b.env = append(b.env, "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "OPENAI_API_KEY=sk-another-key-0123456789", "AWS_SECRET_ACCESS_KEY="+secret)
	b.must(1, `never approved`, "apply", "--yes", "study.hcl")
	b.must(1, `never approved`, "apply", "--yes", "--json", "study.hcl")
	b.must(0, `approved`, "trust", "http://evil.example", "OPENAI_API_KEY")
	b.must(1, `never approved`, "apply", "--yes", "study.hcl")
	if len(seen) > 0 {
		t.Fatalf("sent without approval: %v", seen)
	}
	// With the user's word the same study does send: the proxy sees all of it.
	b.must(1, `failed`, "apply", "--yes", "--trust", "http://evil.example", "study.hcl")
	if len(seen) != 1 || seen["evil.example"] == "" {
		t.Fatalf("the proxy saw %v", seen)
	}
}

func TestPairs(t *testing.T) {
	known := &approvals{pairs: map[pair]bool{openAI: true}}
	for url, free := range map[string]bool{
		"https://api.openai.com/v1":         true,
		"https://API.openai.com:443/v1/x":   true,
		"http://api.openai.com/v1":          false,
		"https://api.openai.com:8443/v1":    false,
		"https://api.openai.com.evil.eu/v1": false,
		"https://api.openai.com@evil.eu/v1": false,
		"http://127.0.0.1:8000/v1":          true,
		"http://127.255.0.9/v1":             true,
		"http://[::1]:8000/v1":              true,
		"http://localhost:8000/v1":          true,
		"http://127.0.0.1.evil.eu/v1":       false,
		"http://127.evil.eu/v1":             false,
		"http://localhost.evil.eu/v1":       false,
		"http://localhost@evil.eu/v1":       false,
		"http://0.0.0.0/v1":                 false,
		"http://10.0.0.1/v1":                false,
	} {
		if got := known.has(graph.Destination{URL: url, KeyEnv: "OPENAI_API_KEY"}); got != free {
			t.Errorf("%s: %t, want %t", url, got, free)
		}
		if !strings.Contains(url, "/127.0.0.1:") && !strings.Contains(url, "/127.255.") && !strings.Contains(url, "[::1]") && !strings.Contains(url, "/localhost:") &&
			known.has(graph.Destination{URL: url, KeyEnv: "AWS_SECRET_ACCESS_KEY"}) {
			t.Errorf("%s may get any key", url)
		}
	}
}

// TestKeyEchoed: a server that quotes the key in its errors, its answers and its
// output files brings it neither to a screen nor into a file.
func TestKeyEchoed(t *testing.T) {
	const secret = "sk-do-not-show-this-0123456789"
	for _, mode := range []string{"batch", "direct"} {
		b := newBench(t)
		server, err := batchd.New(batchd.Options{Dir: t.TempDir(), Judge: batchd.Lexical})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		var refuse atomic.Bool
		var echoes atomic.Int64
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			header := r.Header.Get("Authorization")
			if refuse.Load() {
				echoes.Add(1)
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = w.Write([]byte(`{"error": {"message": "` + strings.Repeat("x", 280) + ` the header ` + header + ` is odd", "type": "invalid_request_error", "code": "odd"}}`))
				return
			}
			said := httptest.NewRecorder()
			server.Handler().ServeHTTP(said, r)
			text := said.Body.String()
			switch {
			case strings.HasSuffix(r.URL.Path, "/content"):
				echoes.Add(1)
				text += `{"id": "x", "custom_id": "nobody's", "response": null, "error": {"code": "odd", "message": "` + header + `"}}` + "\n"
			case strings.HasSuffix(r.URL.Path, "/chat/completions"):
				echoes.Add(1)
				text = strings.Replace(text, `"object"`, `"sent": "`+header+`", "object"`, 1)
			}
			w.Header().Set("Content-Type", said.Header().Get("Content-Type"))
			w.WriteHeader(said.Code)
			_, _ = w.Write([]byte(text))
		}))
		defer front.Close()
		b.evaluators(front.URL + "/v1")
		b.write("study.hcl", strings.ReplaceAll(b.read("study.hcl"), `"some-model"`, "\"some-model\"\n  mode = \""+mode+"\""))
		b.env = append(b.env, "OPENAI_API_KEY="+secret)
		look := func(code int, args ...string) {
			t.Helper()
			if r := b.run(args...); r.code != code || strings.Contains(r.out+r.err, secret[:20]) {
				t.Errorf("%s, %s: want exit code %d without the key, got %v", mode, args, code, r)
			}
		}
		all := func() {
			t.Helper()
			for _, args := range [][]string{
				{"plan", "study.hcl"}, {"plan", "--json", "study.hcl"}, {"status", "study.hcl"}, {"status", "--json", "study.hcl"},
				{"history", "study.hcl"}, {"batches", "list", "study.hcl"}, {"doctor"}, {"trust"},
			} {
				look(0, args...)
			}
			for name, content := range b.tree(".") {
				if strings.Contains(content, secret[:20]) {
					t.Errorf("%s: %s holds the key", mode, name)
				}
			}
		}
		refuse.Store(true)
		look(1, "apply", "--yes", "study.hcl")
		look(1, "apply", "--yes", "--json", "study.hcl")
		if echoes.Load() == 0 {
			t.Errorf("%s: no error was sent", mode)
		}
		look(1, "explain", "tiny/1/spherical_kmeans/2/auto/await-titles", "study.hcl")
		all()
		refuse.Store(false)
		echoes.Store(0)
		look(0, "apply", "--yes", "study.hcl")
		if echoes.Load() == 0 {
			t.Errorf("%s: no answer held the key", mode)
		}
		all()
	}
}
