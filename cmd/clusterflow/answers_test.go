package main

import (
	"context"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clusterflow/cache"
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

// lend makes the last run one of this process that is in a state and has lent
// the cache; the function that it returns ends it.
func (b *bench) lend(state string) (end func()) {
	b.t.Helper()
	save := func(change func(*cache.Run)) {
		b.t.Helper()
		store, err := cache.Open(b.t.Context(), cache.Options{Dir: filepath.Join(b.dir, ".clusterflow"), Command: "test"})
		if err != nil {
			b.t.Fatal(err)
		}
		defer store.Close()
		known, err := store.Reader()
		if err != nil {
			b.t.Fatal(err)
		}
		runs, err := known.Runs()
		if err != nil || len(runs) != 1 {
			b.t.Fatalf("%d runs, %v", len(runs), err)
		}
		change(runs[0])
		if err := store.SaveRun(runs[0]); err != nil {
			b.t.Fatal(err)
		}
	}
	var was cache.Run
	save(func(r *cache.Run) {
		was = *r
		r.State, r.Finished, r.Owner = state, time.Time{}, cache.Owner{}
	})
	return func() { save(func(r *cache.Run) { r.State, r.Finished, r.Owner = was.State, was.Finished, was.Owner }) }
}

// TestCancelBatch keeps what a cancelled batch has answered, and sends the rest
// again only when it is agreed to.
func TestCancelBatch(t *testing.T) {
	var left atomic.Int64
	left.Store(4)
	open := make(chan struct{})
	base := serveJudge(t, func(ctx context.Context, body []byte) (string, error) {
		if left.Add(-1) < 0 {
			select {
			case <-open:
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		return batchd.Lexical(ctx, body)
	})
	b := newBench(t)
	b.evaluators(base)
	b.must(3, `Batches are out`, "apply", "--quiet", "--yes", "--detach", "study.hcl")
	id := regexp.MustCompile(`batch_\w+`).FindString(b.must(0, ` of 10 answered`, "batches", "list", "study.hcl").out)
	if id == "" {
		t.Fatal("no batch is listed")
	}
	shown := b.must(0, `^batch +`+id, "batches", "show", "study.hcl", id).out
	for _, want := range []string{`^evaluator +titler, model some-model at 127\.0\.0\.1`, `^ +10 title$`, `^asked +20\d\d-`, `\(ledger: sent\)`} {
		if !matches(want, shown) {
			t.Errorf("no %q in\n%s", want, shown)
		}
	}
	b.eventually("4 titles are answered", func() bool {
		return strings.Contains(string(get(t, base+"/batches/"+id)), `"completed":4`)
	})

	// An apply that has lent the cache between two looks would send the rest at once.
	done := b.lend("waiting")
	for _, args := range [][]string{{"batches", "cancel", "study.hcl", id}, {"answers", "drop", "study.hcl", "tiny", "--yes"}} {
		b.must(1, `interrupt that one first`, args...)
	}
	done()

	b.must(1, `up to 18 requests to `+base, "apply", "study.hcl")
	b.must(0, `^batch `+id+` is cancelling, with 4 of 10 answered`, "batches", "cancel", "study.hcl", id)
	b.must(1, `up to 28 requests to `+base, "apply", "study.hcl") // 10 of them titles, though some will be answered
	close(open)
	b.must(0, `Report: `, "apply", "--quiet", "--yes", "study.hcl")
	b.must(0, `cancelled, cancelled by you \(ledger: done\)(.|\n)*^results +[0-9a-f]{64}$`, "batches", "show", "study.hcl", id)
	b.must(1, `there is nothing to cancel`, "batches", "cancel", "study.hcl", id)
	again := 0
	for _, n := range readLedger(t, base).asked {
		again += n - 1
	}
	if again < 1 || again > 6 {
		t.Errorf("%d titles were sent again; 10 were in the batch, and at least 4 answered", again)
	}
}

// TestAnswersForAColleague hands a study's answers to an empty cache, whose apply
// then sends nothing to the server.
func TestAnswersForAColleague(t *testing.T) {
	one, two := newBench(t), newBench(t)
	_, base := one.startBatchd("--listen", "127.0.0.1:0", "--dir", "served")
	for _, b := range []*bench{one, two} {
		b.evaluators(base)
	}
	one.must(0, `Report: `, "apply", "--quiet", "--yes", "study.hcl")
	before := readLedger(t, base)
	file := filepath.Join(one.dir, "answers.jsonl")
	one.must(0, `^28 answers written`, "answers", "export", "study.hcl", file)
	two.must(0, `^28 answers taken`, "answers", "import", "study.hcl", file)
	two.must(0, `^16 run · 0 cached`, "apply", "--quiet", "--yes", "study.hcl")
	if after := readLedger(t, base); after.batches != before.batches || after.total() != before.total() {
		t.Errorf("%d requests in %d batches were sent, before %d in %d", after.total(), after.batches, before.total(), before.batches)
	}
	if got, want := two.read("results/small/scores.csv"), one.read("results/small/scores.csv"); got != want {
		t.Errorf("the scores are\n%s\nand not\n%s", got, want)
	}
	two.must(0, `^16 nodes: 16 cached$`, "plan", "study.hcl")

	// A larger grid asks for what is new of it, and for nothing that was imported.
	two.edit("repetitions          = 2", "repetitions          = 3")
	two.must(0, `Report: `, "apply", "--quiet", "--yes", "study.hcl")
	readLedger(t, base).once(t)
}
