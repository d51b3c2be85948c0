package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// call is a system call of a traced process.
type call struct {
	name       string
	args       string // as strace writes them, with the paths of file descriptors
	result     string
	begin, end int // order: lines of the trace
}

// trace runs clusterflow under strace and returns its calls, as they ended.
func (b *bench) trace(calls string, args ...string) []call {
	b.t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		b.t.Skip("needs strace")
	}
	out := filepath.Join(b.t.TempDir(), "trace")
	c := exec.Command(path, append([]string{"-f", "-y", "-qq", "-s", "1000000", "-e", "signal=none", "-e", "trace=" + calls, "-o", out, "clusterflow"}, args...)...)
	c.Dir, c.Env = b.dir, b.env
	text, err := c.CombinedOutput()
	if strings.Contains(string(text), "PTRACE") {
		b.t.Skipf("strace cannot trace here: %s", text)
	}
	if err != nil {
		b.t.Fatalf("%v: %s", err, text)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		b.t.Fatal(err)
	}
	return readTrace(string(raw))
}

var (
	traceLine    = regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	traceResumed = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
	traceResult  = regexp.MustCompile(`^(.*)\) += (.+)$`)
)

// readTrace puts the halves of interrupted lines together.
func readTrace(text string) []call {
	var out []call
	open := map[string]call{} // by thread
	for i, line := range strings.Split(text, "\n") {
		pid, rest := "", ""
		var now call
		if m := traceResumed.FindStringSubmatch(line); m != nil {
			pid, rest = m[1], m[3]
			now = open[pid]
		} else if m := traceLine.FindStringSubmatch(line); m != nil {
			pid, rest = m[1], m[3]
			now = call{name: m[2], begin: i}
			if before, unfinished := strings.CutSuffix(rest, "<unfinished ...>"); unfinished {
				now.args = before
				open[pid] = now
				continue
			}
		} else {
			continue
		}
		if m := traceResult.FindStringSubmatch(rest); m != nil {
			now.args, now.result, now.end = now.args+m[1], m[2], i
			out = append(out, now)
		}
	}
	return out
}

// TestSyncs looks at the order of the system calls of a run, as far as a power
// cut could come between them: what a later step relies on was synced before.
//
//   - a file that is renamed to its name was synced, and so is its folder after;
//   - a record goes to the journal, where readers see it, when the database has
//     been synced since the record before, and every blob that it names has a
//     durable name;
//   - a batch is created when the database has been synced, with the intent,
//     since the server was last written to.
func TestSyncs(t *testing.T) {
	b, g := newBench(t), newGate(t)
	b.evaluators(g.base)
	g.set(true)
	calls := b.trace("mmap,msync,fsync,fdatasync,rename,renameat,renameat2,write,pwrite64,sendto", "apply", "--yes", "--quiet", "study.hcl")
	quoted := regexp.MustCompile(`"([^"]*)"`)
	descriptor := regexp.MustCompile(`^\d+<([^>]*)>`)
	digests := regexp.MustCompile(`\\"n\\":\\"[^"]*\\",\\"d\\":\\"([0-9a-f]{64})\\",\\"s\\":\d+\}`) // of outputs that are not in the record
	var (
		logs    = map[string]bool{} // addresses of the database's logs in memory
		synced  = map[string]int{}  // files and folders: when last
		durable = map[string]int{}  // blobs: when their names were synced
		named   = map[string]string{}
		// when the database's last sync began and ended, and the others ended
		syncing, database, record, sent                    = -1, -1, -1, -1
		renames, records, batches, databaseSyncs, lookedAt int
	)
	for _, c := range calls {
		switch c.name {
		case "mmap":
			if strings.Contains(c.args, "/.clusterflow/db/") && strings.Contains(c.args, ".mem>") {
				logs[c.result] = true
			}
		case "msync":
			address, _, _ := strings.Cut(c.args, ",")
			if logs[address] && strings.Contains(c.args, "MS_SYNC") && c.result == "0" {
				syncing, database = c.begin, c.end
				databaseSyncs++
			}
		case "fsync", "fdatasync":
			m := descriptor.FindStringSubmatch(c.args)
			if m == nil || c.result != "0" {
				t.Errorf("%s(%s) = %s", c.name, c.args, c.result)
				continue
			}
			synced[m[1]] = c.end
			for digest, folder := range named {
				if folder == m[1] {
					durable[digest] = c.end
					delete(named, digest)
				}
			}
		case "rename", "renameat", "renameat2":
			m := quoted.FindAllStringSubmatch(c.args, -1)
			if len(m) != 2 || !strings.Contains(m[1][1], "/.clusterflow/") || strings.Contains(m[1][1], "/.clusterflow/db/") {
				continue // Badger's own, and the report, which is made again from blobs
			}
			renames++
			from, to := m[0][1], m[1][1]
			if at, ok := synced[from]; !ok || at > c.begin {
				t.Errorf("%s was renamed to %s before it was synced", from, to)
			}
			if folder := filepath.Dir(to); strings.Contains(to, "/blobs/") {
				named[filepath.Base(folder)+filepath.Base(to)] = folder
			}
		case "write", "pwrite64", "sendto":
			m := descriptor.FindStringSubmatch(c.args)
			switch {
			case m != nil && strings.HasSuffix(m[1], "/runs/records.jsonl"):
				records += strings.Count(c.args, `{\"k\":`)
				if syncing <= record || database > c.begin {
					t.Errorf("a record went to the journal, and the database was not synced since the one before: %.200s", c.args)
				}
				for _, d := range digests.FindAllStringSubmatch(c.args, -1) {
					lookedAt++
					if at, ok := durable[d[1]]; !ok || at > c.begin {
						t.Errorf("a record names the blob %s, whose name was not synced: %.100s", d[1], c.args)
					}
				}
				record = c.end
			case strings.Contains(c.args, `"POST /v1/batches HTTP`):
				batches++
				if syncing <= sent || database > c.begin {
					t.Error("a batch was created, and the ledger was not synced since the server was last written to")
				}
				sent = c.end
			case strings.Contains(c.args, `"POST /v1/files HTTP`):
				sent = c.end
			}
		}
	}
	for digest := range named {
		t.Errorf("the name of the blob %s was never synced", digest)
	}
	t.Logf("%d renames, %d records, %d batches, %d syncs of the database", renames, records, batches, databaseSyncs)
	if renames < 16 || records != 16 || batches != 2 || lookedAt < 10 || databaseSyncs < 2 || len(logs) != 1 {
		t.Errorf("the trace is not that of a whole run: %d renames, %d records naming %d blobs, %d batches, %d syncs of %d logs, %d calls",
			renames, records, lookedAt, batches, databaseSyncs, len(logs), len(calls))
	}
}
