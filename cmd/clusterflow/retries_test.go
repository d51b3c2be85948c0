package main

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"clusterflow/internal/batchd"
)

// TestRetries asks again for answers that cannot be used, and only for those, as
// often as the study says.
func TestRetries(t *testing.T) {
	b := newBench(t)
	var mu sync.Mutex
	asked, bad := map[string]int{}, 2 // how often each prompt was asked; how often it is answered badly
	server, err := batchd.New(batchd.Options{Dir: t.TempDir(), Judge: func(ctx context.Context, body []byte) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		text := string(body)
		asked[text]++
		if strings.Contains(text, `\"task\": \"similarity\"`) && asked[text] <= bad {
			return "I would rather not say.", nil
		}
		return batchd.Lexical(ctx, body)
	}})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server.Handler())
	t.Cleanup(func() {
		front.Close()
		server.Close()
	})
	b.evaluators(front.URL + "/v1")
	count := func() (most, total int) {
		mu.Lock()
		defer mu.Unlock()
		for _, n := range asked {
			most, total = max(most, n), total+n
		}
		return most, total
	}

	b.must(0, `Report: `, "apply", "--quiet", "--yes", "study.hcl")
	if _, total := count(); total != 28 {
		t.Fatalf("%d requests without retries, want 28", total)
	}
	b.must(0, `4 unreadable`, "answers", "list", "study.hcl", "tiny", "--metric", "similarity")

	// A change of retries is no reason to ask; a later request is retried.
	b.edit("evaluator \"judge\" {\n", "evaluator \"judge\" {\n  retries  = 3\n")
	b.must(0, `^0 run · 16 cached`, "apply", "--quiet", "study.hcl")
	b.edit("seed = 7", "seed = 8")
	b.must(0, `Report: `, "apply", "--quiet", "--yes", "study.hcl")
	b.must(0, `\d+ answered$`, "answers", "list", "study.hcl", "tiny", "--metric", "similarity")
	if most, _ := count(); most != bad+1 {
		t.Errorf("a prompt was asked %d times, want %d", most, bad+1)
	}

	// What stays bad is given up, counted and left out.
	mu.Lock()
	bad = 100
	clear(asked)
	mu.Unlock()
	b.edit("retries  = 3", "retries  = 1")
	b.edit("seed = 8", "seed = 9")
	b.must(0, `Report: `, "apply", "--quiet", "--yes", "study.hcl")
	b.must(0, `\d unreadable`, "answers", "list", "study.hcl", "tiny", "--metric", "similarity")
	if most, _ := count(); most != 2 {
		t.Errorf("a prompt was asked %d times, want once and once again", most)
	}
	b.must(0, `^0 run · 16 cached`, "apply", "--quiet", "--yes", "study.hcl")
}
