package main

import (
	"context"
	"math/rand/v2"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"clusterflow/internal/batchd"
)

// TestKillDirect kills applies at random while they ask directly. Nobody can say
// what became of a request whose reply was not seen, so those under way are asked
// again, and no others: at most as many as may be under way for each kill. In the
// end every answer is there, and the scores are those of an undisturbed run.
func TestKillDirect(t *testing.T) {
	const concurrency = 2
	whole := newBench(t)
	whole.must(0, `^16 run`, "apply", "--quiet", "study.hcl")
	killed := 0
	for round := 0; killed < min(killsWanted(t), 50); round++ {
		if round > 100 {
			t.Fatalf("%d rounds, and only %d processes were hit", round, killed)
		}
		random := rand.New(rand.NewPCG(20251127, uint64(round)))
		b := newBench(t)
		var mu sync.Mutex
		asked := map[string]int{}
		server, err := batchd.New(batchd.Options{Dir: t.TempDir(), Judge: func(ctx context.Context, body []byte) (string, error) {
			mu.Lock()
			asked[string(body)]++
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			return batchd.Lexical(ctx, body)
		}})
		if err != nil {
			t.Fatal(err)
		}
		front := httptest.NewServer(server.Handler())
		b.evaluators(front.URL + "/v1")
		for _, role := range []string{"titler", "judge"} {
			b.edit("evaluator \""+role+"\" {\n", "evaluator \""+role+"\" {\n  mode = \"direct\"\n  concurrency = 2\n")
		}
		kills := 0
		for range 6 {
			p := b.start("apply", "--yes", "--quiet", "study.hcl")
			select {
			case <-p.ended:
			case <-time.After(time.Duration(100+random.IntN(250)) * time.Millisecond):
			}
			p.cmd.Process.Kill() //nolint:errcheck // it may have ended
			r := p.wait()
			if r.code == 0 {
				break
			}
			if r.code != -1 {
				t.Fatalf("apply failed: %v", r)
			}
			kills++
		}
		killed += kills
		b.must(0, `^\d+ run`, "apply", "--yes", "--quiet", "study.hcl")
		b.must(0, `^0 run · 16 cached`, "apply", "--yes", "--quiet", "study.hcl")
		b.must(0, `16 records, .*: all whole$`, "cache", "verify")
		if b.read("results/small/scores.csv") != whole.read("results/small/scores.csv") {
			t.Errorf("round %d: the scores differ from those of an undisturbed run", round)
		}
		mu.Lock()
		total := 0
		for _, n := range asked {
			total += n
		}
		mu.Unlock()
		if most := 28 + kills*concurrency; total < 28 || total > most {
			t.Errorf("round %d: %d requests after %d kills, want 28 to %d", round, total, kills, most)
		}
		front.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d processes killed", killed)
}
