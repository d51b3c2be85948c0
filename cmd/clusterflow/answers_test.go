package main

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"clusterflow/internal/batchd"
)

// serveJudge is a Batch API server with a judge of its own.
func serveJudge(t *testing.T, judge batchd.Judge) (base string) {
	t.Helper()
	server, err := batchd.New(batchd.Options{Dir: t.TempDir(), Judge: judge})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server.Handler())
	t.Cleanup(func() {
		front.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return front.URL + "/v1"
}

// TestRetryAnswers asks again for answers that cannot be read, and for no other.
func TestRetryAnswers(t *testing.T) {
	var sober atomic.Bool
	base := serveJudge(t, func(ctx context.Context, body []byte) (string, error) {
		if !sober.Load() && strings.Contains(string(body), `"name":"accuracy"`) {
			return "That depends.", nil
		}
		return batchd.Lexical(ctx, body)
	})
	b := newBench(t)
	b.evaluators(base)
	b.must(0, `Report: `, "apply", "--quiet", "--yes", "study.hcl")
	first := readLedger(t, base)
	first.once(t)

	const at = "tiny/1/spherical_kmeans/3"
	b.must(0, `^6 requests: 6 unreadable$`, "answers", "list", "study.hcl", at, "--failed")
	b.must(0, ` requests: \d+ answered · 6 unreadable$`, "answers", "list", "study.hcl", at)
	b.must(1, `would throw away 6 answers, 6 of them paid for`, "answers", "retry", "study.hcl", at)
	b.must(0, `^dropped 2 answers; the next apply asks again$`, "answers", "retry", "study.hcl", at, "--cluster", "1", "--yes")
	b.must(0, `answers in it were dropped.* 1 await-eval$`, "plan", "study.hcl")
	b.must(1, `^  2 requests to `+base, "apply", "study.hcl")
	sober.Store(true)
	b.must(0, `Report: `, "apply", "--quiet", "--yes", "study.hcl")
	second := readLedger(t, base)
	if second.batches != first.batches+1 || second.total() != first.total()+2 {
		t.Errorf("%d requests in %d batches were sent, before %d in %d", second.total(), second.batches, first.total(), first.batches)
	}
	b.must(0, `^4 requests: 4 unreadable$`, "answers", "list", "study.hcl", at, "--failed")
	b.must(0, `^16 nodes: 16 cached$`, "plan", "study.hcl")
	b.must(0, `dropped 4 answers`, "answers", "retry", "study.hcl", at, "--yes")
	b.must(0, `nothing to ask again`, "answers", "retry", "study.hcl", at, "--yes")
}
