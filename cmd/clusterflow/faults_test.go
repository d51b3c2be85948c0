package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// faultSets are what batchd does wrong while applies are killed. The real grace
// before a batch is created again is a minute, here 250 ms: a list that is late
// by 30 s is late by half of that.
var faultSets = []string{
	"lose-create=0.7",
	"lose-create=0.7,late-list=125ms",
	"twice-lines",
	"half-expired",
	"storm=0.3",
	"lose-create=0.5,late-list=125ms,twice-lines,half-expired,storm=0.2",
	"no-list",
}

// outcome is what became of each request at a Batch API server.
type outcome struct {
	in     map[string]int // batches that it stands in
	good   map[string]int // answers
	notRun map[string]int // times that its batch expired before it
}

func readOutcome(t *testing.T, base string) outcome {
	t.Helper()
	o := outcome{in: readLedger(t, base).asked, good: map[string]int{}, notRun: map[string]int{}}
	var list struct {
		Data []struct {
			Output string `json:"output_file_id"`
			Errors string `json:"error_file_id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(get(t, base+"/batches?limit=100"), &list); err != nil {
		t.Fatal(err)
	}
	for _, b := range list.Data {
		for _, f := range []struct {
			id string
			n  map[string]int
		}{{b.Output, o.good}, {b.Errors, o.notRun}} {
			if f.id == "" {
				continue
			}
			for line := range bytes.Lines(get(t, base+"/files/"+f.id+"/content")) {
				var l struct {
					CustomID string `json:"custom_id"`
				}
				if err := json.Unmarshal(line, &l); err != nil {
					t.Fatal(err)
				}
				f.n[l.CustomID]++
			}
		}
	}
	return o
}

// TestKillUnderFaults kills applies at random moments while the server has
// faults. In the end each request is answered exactly once, and stands in one
// batch more than it was not run in: so no batch was created twice.
func TestKillUnderFaults(t *testing.T) {
	args := []string{"apply", "--yes", "--quiet", "study.hcl"}
	whole := newBench(t)
	begin := time.Now()
	whole.must(0, `^16 run`, args...)
	span := time.Since(begin)
	killed := 0
	for round := 0; killed < killsWanted(t) || round < len(faultSets); round++ {
		if round > 10*killsWanted(t) {
			t.Fatalf("%d rounds, and only %d processes were hit", round, killed)
		}
		faults := faultSets[round%len(faultSets)]
		t.Run(fmt.Sprintf("round %d %s", round, faults), func(t *testing.T) {
			random := rand.New(rand.NewPCG(20251127, uint64(round)))
			b := newBench(t)
			server, base := b.startBatchd("--listen", "127.0.0.1:0", "--dir", "served", "--faults", faults)
			b.evaluators(base)
			unsure := false
			for range 4 {
				p := b.start(args...)
				select {
				case <-p.ended:
				case <-time.After(time.Duration((0.2 + 1.3*random.Float64()) * float64(span))):
				}
				p.cmd.Process.Kill() //nolint:errcheck // it may have ended
				r := p.wait()
				if r.code == 0 {
					break
				}
				if r.code != -1 { // not by our hand
					unsure = strings.Contains(faults, "no-list") && matches(`may or may not have been sent`, r.out+r.err)
					if !unsure {
						t.Fatalf("apply failed: %v", r)
					}
					break
				}
				killed++
			}
			if !strings.Contains(faults, "no-list") {
				b.must(0, `^\d+ run`, args...)
			} else if r := b.run(args...); r.code != 0 {
				// Nobody can tell what was sent: nothing is, until a person has
				// looked, or the server lists again.
				if !matches(`may or may not have been sent`, r.out+r.err) {
					t.Fatalf("apply failed: %v", r)
				}
			}
			server.kill()
			_, base = b.startBatchd("--listen", strings.TrimSuffix(strings.TrimPrefix(base, "http://"), "/v1"), "--dir", "served")
			b.must(0, `^\d+ run`, args...)
			b.must(0, `^0 run · 16 cached`, args...)
			o := readOutcome(t, base)
			if len(o.in) != 28 {
				t.Errorf("%d requests, want 28", len(o.in))
			}
			for id, n := range o.in {
				if o.good[id] != 1 || n != 1+o.notRun[id] {
					t.Errorf("request %s stands in %d batches, was answered %d times and not run %d times", id, n, o.good[id], o.notRun[id])
				}
			}
			if got, want := b.read("results/small/scores.csv"), whole.read("results/small/scores.csv"); got != want {
				t.Error("the scores differ from those of an undisturbed run")
			}
		})
	}
	t.Logf("%d processes killed", killed)
}
