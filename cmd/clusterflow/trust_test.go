package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"clusterflow/graph"
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
