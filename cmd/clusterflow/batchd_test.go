package main

import (
	"regexp"
	"strings"
	"testing"
)

// startBatchd starts a batchd process on a free port and returns its base URL.
func (b *bench) startBatchd(args ...string) (*process, string) {
	b.t.Helper()
	p := b.start(append([]string{"batchd"}, args...)...)
	var found []string
	b.eventually("batchd serves", func() bool {
		found = regexp.MustCompile(`(?m)^batchd serves (http://127\.0\.0\.1:\d+/v1) from `).FindStringSubmatch(p.out.String())
		return found != nil
	})
	return p, found[1]
}

// TestBatchd runs a whole study against a Batch API server in another process.
func TestBatchd(t *testing.T) {
	b := newBench(t)
	p, base := b.startBatchd("--listen", "127.0.0.1:0", "--dir", "served")

	// Two servers on one folder would answer twice.
	b.must(1, `served`, "batchd", "--listen", "127.0.0.1:0", "--dir", "served")

	b.evaluators(base)
	b.must(0, `title +`+base+` +10 requests at most`, "plan", "study.hcl")
	b.must(1, `up to 28 requests to `+base, "apply", "study.hcl")
	if l := readLedger(t, base); l.batches != 0 {
		t.Fatalf("%d batches were made without leave", l.batches)
	}
	b.must(0, `^16 run · 0 cached`, "apply", "--quiet", "--yes", "study.hcl")
	first := readLedger(t, base)
	first.once(t)
	if first.batches != 2 || first.tasks["title"] != 10 || first.tasks["accuracy"] != 10 {
		t.Errorf("a study's titles are one batch, its questions another: %+v", first)
	}
	b.must(0, `^0 run · 16 cached`, "apply", "--quiet", "study.hcl") // nothing to send: nothing to agree to

	// The same answers as the offline judge that apply starts by itself.
	scores := b.read("results/small/scores.csv")
	own := newBench(t)
	own.must(0, `^16 run`, "apply", "--quiet", "study.hcl")
	if own.read("results/small/scores.csv") != scores {
		t.Error("the embedded judge gives other scores")
	}

	// Another judge buys no titles again.
	b.edit("titles \"auto\"", "evaluator \"second\" {\n  model    = \"other-model\"\n  base_url = \""+base+"\"\n}\n\ntitles \"auto\"")
	b.edit("judges = [evaluator.judge]", "judges = [evaluator.judge, evaluator.second]")
	b.must(0, `^new: judge second +6 new +2 submit-eval · 2 await-eval · 2 score`, "plan", "study.hcl")
	b.must(0, `^7 run · 15 cached`, "apply", "--quiet", "--yes", "study.hcl")
	agreement := b.read("results/small/judging.csv") // the same judge under two names answers the same
	if !strings.Contains(agreement, `tiny,1,spherical_kmeans,2,auto,judges,"judge, second",accuracy,1,1,`) || !strings.Contains(agreement, `tiny,1,spherical_kmeans,3,auto,repetitions,second,`) {
		t.Errorf("judging.csv:\n%s", agreement)
	}
	if other := b.read("results/small/comparisons.csv"); strings.Count(other, "\n") != 3 || !strings.Contains(other, "tiny,auto,second,final_score,tiny/1/spherical_kmeans/") {
		t.Errorf("comparisons.csv:\n%s", other)
	}
	second := readLedger(t, base)
	second.once(t)
	if second.batches != 3 || second.tasks["title"] != 10 || second.tasks["accuracy"] != 20 {
		t.Errorf("after another judge: %+v", second)
	}

	// A third repetition asks for the third only.
	b.edit("repetitions          = 2", "repetitions          = 3")
	b.must(0, `2 submit-titles in`, "apply", "--quiet", "--yes", "study.hcl")
	third := readLedger(t, base)
	third.once(t)
	if third.tasks["title"] != 15 || third.tasks["accuracy"] != 30 || third.tasks["similarity"] != second.tasks["similarity"] {
		t.Errorf("after another repetition: %+v", third)
	}

	// Lost results are fetched from the server again, not bought again.
	for path := range b.tree(".clusterflow/blobs") {
		b.write(".clusterflow/blobs/"+path, "nothing")
	}
	b.must(0, `Report: `, "apply", "--quiet", "--yes", "study.hcl")
	if l := readLedger(t, base); l.batches != third.batches {
		t.Errorf("damaged results were bought again: %d batches, were %d", l.batches, third.batches)
	}

	// Stopped and started again, the server knows what it knew.
	p.interrupt()
	if r := p.wait(); r.code != 0 {
		t.Errorf("batchd, interrupted: %v", r)
	}
	_, base = b.startBatchd("--listen", "127.0.0.1:0", "--dir", "served")
	if l := readLedger(t, base); l.batches != third.batches || l.total() != third.total() {
		t.Errorf("after a restart the server knows %d batches with %d requests, knew %d with %d", l.batches, l.total(), third.batches, third.total())
	}
}

// TestKey sends the key to the host that the study names, and shows it nowhere.
func TestKey(t *testing.T) {
	const secret = "sk-do-not-show-this"
	b, g := newBench(t), newGate(t)
	g.set(true)
	b.evaluators(g.base)
	b.env = append(b.env, "OPENAI_API_KEY="+secret)
	for _, args := range [][]string{
		{"plan", "--json", "study.hcl"}, {"apply", "--yes", "study.hcl"}, {"status", "--json", "study.hcl"}, {"doctor"},
	} {
		if r := b.run(args...); r.code != 0 || strings.Contains(r.out+r.err, secret) {
			t.Errorf("%s: %v", args[0], r)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.sent) == 0 {
		t.Error("nothing was sent")
	}
	for _, header := range g.sent {
		if header != "Bearer "+secret {
			t.Errorf("Authorization: %q", header)
		}
	}
	for _, dir := range []string{".clusterflow", "results"} {
		for name, content := range b.tree(dir) {
			if strings.Contains(content, secret) {
				t.Errorf("%s/%s holds the key", dir, name)
			}
		}
	}
}
