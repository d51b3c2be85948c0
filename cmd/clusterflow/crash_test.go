package main

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func (p *process) interrupt() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	p.wait()
}

// batchesOut waits until a server holds so many batches and apply waits.
func (b *bench) batchesOut(base string, n int) {
	b.t.Helper()
	b.eventually("the batches are out", func() bool {
		return readLedger(b.t, base).batches == n && matches(`^  waiting `, b.run("status", "study.hcl").out)
	})
}

// TestStatusBesideApply looks at a run that waits, from other processes.
func TestStatusBesideApply(t *testing.T) {
	b, g := newBench(t), newGate(t)
	b.evaluators(g.base)
	p := b.start("apply", "--yes", "study.hcl")
	b.batchesOut(g.base, 1)
	b.must(0, `^small  study.hcl  (running|waiting)  since .* \(process \d+ on `, "status", "study.hcl")
	b.must(0, `^16 nodes: 2 waiting · 7 pending · 7 done`, "status", "study.hcl")
	b.must(0, `^  waiting +tiny/1/spherical_kmeans/2/auto/await-titles +0 of 4 answered, 4 in a batch`, "status", "study.hcl")
	b.must(0, `^  batch +batch_\w+ +(validating|in_progress) +0 of 10 answered.*\(titler\)`, "status", "study.hcl")
	b.must(0, `^16 nodes: 7 new · 2 waiting · 7 cached`, "plan", "study.hcl")

	// A second apply says whose turn it is, and does nothing.
	r := b.must(1, `is in use by process \d+ on .*clusterflow apply study.hcl.* since .*kill \d+`, "apply", "--yes", "study.hcl")
	if matches(`nodes:`, r.out) {
		t.Errorf("a locked-out apply planned: %v", r)
	}

	watch := b.start("status", "--watch", "study.hcl")
	b.eventually("status --watch shows something", func() bool { return matches(`waiting`, watch.out.String()) })
	g.set(true)
	if r := p.wait(); r.code != 0 || !matches(`^16 run · 0 cached`, r.out) {
		t.Errorf("apply: %v", r)
	}
	if r := watch.wait(); r.code != 0 || !matches(`^16 nodes: 16 done`, r.out) {
		t.Errorf("status --watch: %v", r)
	}
	readLedger(t, g.base).once(t)
}

// TestDetach leaves batches to themselves; the next run collects them.
func TestDetach(t *testing.T) {
	b, g := newBench(t), newGate(t)
	b.evaluators(g.base)
	b.must(exitWaiting, `^7 run · 0 cached · 2 waiting · 7 not reached in .*\n(.*\n)*Batches are out; apply again`, "apply", "--yes", "--detach", "study.hcl")
	if _, err := os.Stat(filepath.Join(b.dir, "results")); err == nil {
		t.Error("there is a report of an unfinished run")
	}
	b.must(0, `^small  study.hcl  detached`, "status", "study.hcl")
	b.must(0, `^  waiting +tiny/1/spherical_kmeans/2/auto/await-titles `, "status", "study.hcl")
	b.must(0, `^  batch +batch_\w+ +\w+ +0 of 10 answered`, "status", "study.hcl")
	b.must(0, `^16 nodes: 7 new · 2 waiting · 7 cached`, "plan", "study.hcl")
	b.must(0, `^ +2 nodes wait for batches that are out, not counted here`, "plan", "study.hcl")
	b.must(exitWaiting, `^0 run · 7 cached · 2 waiting · 7 not reached in `, "apply", "--yes", "--detach", "study.hcl")
	g.set(true)
	b.must(0, `^9 run · 7 cached`, "apply", "--yes", "--quiet", "study.hcl")
	readLedger(t, g.base).once(t)
}

// TestInterrupt stops a run that waits; the next goes on with the same batch.
func TestInterrupt(t *testing.T) {
	b, g := newBench(t), newGate(t)
	b.evaluators(g.base)
	p := b.start("apply", "--yes", "study.hcl")
	b.batchesOut(g.base, 1)
	p.interrupt()
	if r := p.wait(); r.code != exitInterrupted || !matches(`stopping: .*interrupt again`, r.err) || !matches(`apply again`, r.err) {
		t.Errorf("interrupted apply: %v", r)
	}
	b.must(0, `^small  study.hcl  interrupted`, "status", "study.hcl")
	b.must(0, `2 waiting`, "status", "study.hcl")
	b.must(3, `^0 run · 7 cached · 2 waiting · 7 not reached`, "apply", "--yes", "--quiet", "--detach", "study.hcl")
	g.set(true)
	b.must(0, `^9 run · 7 cached`, "apply", "--yes", "--quiet", "study.hcl")
	l := readLedger(t, g.base)
	l.once(t)
	if l.batches != 2 || l.total() != 28 {
		t.Errorf("%d batches with %d requests, want 2 with 28", l.batches, l.total())
	}
}

// TestKillWhileBatchesAreOut kills a run that waits. Status says so, and the
// next run takes on the batch that is out.
func TestKillWhileBatchesAreOut(t *testing.T) {
	b, g := newBench(t), newGate(t)
	b.evaluators(g.base)
	p := b.start("apply", "--yes", "study.hcl")
	b.batchesOut(g.base, 1)
	p.kill()
	b.must(0, `^small  study.hcl  killed: process \d+ on .* ended without a word.*apply goes on from there`, "status", "study.hcl")
	b.must(0, `"state": "killed"`, "status", "--json", "study.hcl")
	b.must(0, `^16 nodes: .*7 cached`, "plan", "study.hcl")
	g.set(true)
	b.must(0, `^9 run · 7 cached`, "apply", "--yes", "--quiet", "study.hcl")
	l := readLedger(t, g.base)
	l.once(t)
	if l.batches != 2 || l.total() != 28 {
		t.Errorf("%d batches with %d requests, want 2 with 28", l.batches, l.total())
	}
}

// killsWanted is how many processes TestKillAnywhere kills at least, KILLS of
// the environment or 20.
func killsWanted(t *testing.T) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("KILLS"), "20"))
	if err != nil || n < 1 {
		t.Fatalf("KILLS=%s: give a number of processes to kill", os.Getenv("KILLS"))
	}
	return n
}

// TestKillAnywhere kills runs at random moments, until one ends by itself: with
// the judge in a process that goes on, with the embedded one, and with the judge
// in a process that is killed as well, half of the time before the run. Whatever was cut
// off, nothing that was finished runs again, nothing is asked twice, the cache
// is whole and the report is that of an undisturbed run.
func TestKillAnywhere(t *testing.T) {
	args := []string{"apply", "--yes", "--quiet", "study.hcl"}
	whole := newBench(t)
	begin := time.Now()
	whole.must(0, `^16 run`, args...)
	span := time.Since(begin) // how long it takes here, now, undisturbed
	killed := 0
	for round := 0; killed < killsWanted(t); round++ {
		if round > 10*killsWanted(t) {
			t.Fatalf("%d rounds, and only %d processes were hit", round, killed)
		}
		t.Run(fmt.Sprintf("round %d", round), func(t *testing.T) {
			random := rand.New(rand.NewPCG(20250710, uint64(round)))
			b := newBench(t)
			base := ""
			var server *process
			switch round % 3 {
			case 0:
				g := newGate(t)
				g.set(true)
				base = g.base
				b.evaluators(base)
			case 2:
				server, base = b.startBatchd("--listen", "127.0.0.1:0", "--dir", "served")
				b.evaluators(base)
			}
			kills, finished := 0, 0
			for range 10 {
				p := b.start(args...)
				select {
				case <-p.ended:
				case <-time.After(time.Duration((0.1 + 0.5*random.Float64()) * float64(span))):
				}
				first := server != nil && random.IntN(2) == 0
				if first {
					server.kill()
					time.Sleep(time.Duration(0.1 * random.Float64() * float64(span))) // apply meets a host that is gone
				}
				p.cmd.Process.Kill() //nolint:errcheck // it may have ended
				r := p.wait()
				if server != nil {
					if !first {
						server.kill()
					}
					server, _ = b.startBatchd("--listen", strings.TrimSuffix(strings.TrimPrefix(base, "http://"), "/v1"), "--dir", "served")
				}
				if r.code == 0 {
					break
				}
				if r.code != -1 { // not by our hand
					t.Fatalf("after %d kills apply failed: %v", kills, r)
				}
				kills++
				b.must(0, `killed|has not been applied|done`, "status", "study.hcl")
				now := cachedNodes(b)
				if now < finished {
					t.Errorf("%d nodes were finished, and after kill %d only %d are", finished, kills, now)
				}
				finished = now
			}
			killed += kills
			t.Logf("%d kills", kills)
			finished = cachedNodes(b)
			if r := b.must(0, `^\d+ run`, args...); ranNodes(t, r) != 16-finished {
				t.Errorf("%d of 16 nodes were finished; the last apply: %v", finished, r)
			}
			b.must(0, `^0 run · 16 cached`, args...)
			b.must(0, `16 records, .*: all whole$`, "cache", "verify")
			if base != "" {
				l := readLedger(t, base)
				l.once(t)
				if l.total() != 28 {
					t.Errorf("%d requests in %d batches, want 28", l.total(), l.batches)
				}
			}
			got, want := b.tree("results/small"), whole.tree("results/small")
			if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
				t.Errorf("report files: %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
			for name := range want {
				// The page names the evaluators.
				if got[name] != want[name] && (base == "" || name != "index.html") {
					t.Errorf("%s differs from that of an undisturbed run", name)
				}
			}
		})
	}
}
