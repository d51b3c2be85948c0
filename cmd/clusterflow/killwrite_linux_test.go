package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// durable are the calls by which clusterflow makes something last: each of them is
// a moment at which a killed process leaves another state behind.
const durable = "fsync,fdatasync,msync,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,truncate,ftruncate"

// TestKillAtEveryWrite kills an apply (SIGKILL) when it is about to make its n-th
// durable write, for every n that a run has, while its judge is in a process that
// goes on. Whatever it was about to write, the next apply ends with each request
// answered once and no batch created twice. Without KILLS it is about 20 of them.
func TestKillAtEveryWrite(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace")
	}
	args := []string{"apply", "--yes", "--quiet", "study.hcl"}
	// killed reports whether apply was killed at its n-th durable write. One
	// thread runs at a time, so that a count of one thread is nearly one of all.
	killed := func(b *bench, n int) bool {
		b.t.Helper()
		c := exec.Command(strace, append([]string{"-f", "-qq", "-o", os.DevNull, "-e", "signal=none", "-e", "trace=" + durable,
			"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", durable, n), "clusterflow"}, args...)...)
		c.Dir, c.Env = b.dir, append(b.env, "GOMAXPROCS=1")
		out, err := c.CombinedOutput()
		if text := string(out); strings.Contains(text, "PTRACE") || strings.Contains(text, "invalid") {
			b.t.Skipf("strace cannot do this here: %s", text)
		}
		if err == nil {
			return false
		}
		if code := exitCode(err); code != -1 && code != 128+9 {
			b.t.Fatalf("apply, killed at write %d, ended with %d: %s", n, code, out)
		}
		return true
	}
	step := 1
	if os.Getenv("KILLS") == "" {
		step = 4
	}
	hits := 0
	for n := 1; ; n += step {
		more := true
		t.Run(fmt.Sprintf("write %d", n), func(t *testing.T) {
			b, g := newBench(t), newGate(t)
			g.set(true)
			b.evaluators(g.base)
			if more = killed(b, n); !more {
				return
			}
			hits++
			b.must(0, `killed|has not been applied|done`, "status", "study.hcl")
			b.must(0, ``, "plan", "study.hcl")
			b.must(0, `^\d+ run`, args...)
			b.must(0, `^0 run · 16 cached`, args...)
			l := readLedger(t, g.base)
			l.once(t)
			if l.total() != 28 || l.batches != 2 {
				t.Errorf("%d batches with %d requests, want 2 with 28", l.batches, l.total())
			}
			b.must(0, `16 records, .*: all whole$`, "cache", "verify")
		})
		if !more || t.Failed() {
			break
		}
	}
	t.Logf("killed at %d writes", hits)
	if hits < 10 && !t.Failed() {
		t.Errorf("only %d writes were hit", hits)
	}
}
