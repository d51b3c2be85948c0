package cache

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// changes are the calls that change what is on the disk, by kind: strace counts
// those of each thread, and few of a kind are made by more than one.
var changes = []string{"fsync,fdatasync,msync,sync_file_range", "rename,renameat,renameat2", "unlink,unlinkat", "truncate,ftruncate", "pwrite64"}

// TestKillWhileOpening takes a cache that was killed while it was written, and kills
// what opens it, adds to it and closes it at the n-th call of a kind that changes the
// disk, for every n, and again at one of the recovery from that. Whatever was cut
// off, the cache opens, and what was committed is there.
func TestKillWhileOpening(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace")
	}
	left := t.TempDir() // several logs with entries, and one without
	committed := 0
	for range 3 {
		writer, out, _ := startRole(t, "write", left)
		for out.Scan() && out.Text() != "done 20" {
		}
		must(t, writer.Process.Kill())
		for out.Scan() {
			if i, err := strconv.Atoi(strings.TrimPrefix(out.Text(), "done ")); err == nil {
				committed = max(committed, i)
			}
		}
		writer.Wait() //nolint:errcheck // it was killed
	}
	// killed reports whether a visit to dir was killed at its n-th change of a kind.
	killed := func(t *testing.T, dir, kind string, n int) bool {
		t.Helper()
		cmd := exec.Command(strace, "-f", "-qq", "-o", os.DevNull, "-e", "signal=none", "-e", "trace="+kind,
			"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", kind, n), os.Args[0])
		cmd.Env = append(os.Environ(), "CACHE_TEST_ROLE=visit", "CACHE_TEST_DIR="+dir, "GOMAXPROCS=1")
		text, err := cmd.CombinedOutput()
		if strings.Contains(string(text), "PTRACE") || strings.Contains(string(text), "invalid") {
			t.Skipf("strace cannot do this here: %s", text)
		}
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != -1 && exit.ExitCode() != 128+9) {
			t.Fatalf("a visit, to be killed at change %d: %v: %s", n, err, text)
		}
		return err != nil
	}
	hits := 0
	for _, kind := range changes {
		for n, more := 1, true; more && !t.Failed(); n++ {
			t.Run(fmt.Sprintf("%s %d", kind, n), func(t *testing.T) {
				dir := t.TempDir()
				must(t, os.CopyFS(dir, os.DirFS(left)))
				if more = killed(t, dir, kind, n); !more {
					return
				}
				hits++
				killed(t, dir, changes[hits%len(changes)], 1+n%3)
				s := open(t, dir)
				for i := range committed + 1 {
					if v, ok, err := s.Bucket("ledger").Get(strconv.Itoa(i)); string(v) != "paid" || !ok || err != nil {
						t.Fatalf("entry %d: %q %v %v", i, v, ok, err)
					}
					if r, err := s.Record(testRecord(i).Key); r == nil || err != nil {
						t.Fatalf("record %d: %v %v", i, r, err)
					}
				}
				closeStore(t, s)
			})
		}
	}
	t.Logf("killed at %d changes", hits)
	if hits < 10 && !t.Failed() {
		t.Errorf("only %d changes were hit", hits)
	}
}
