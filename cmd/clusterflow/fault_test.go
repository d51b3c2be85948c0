package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// number is the first group of a pattern in a text, as a number.
func number(t *testing.T, pattern, text string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)` + pattern).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// cachedNodes is how many nodes of the study a plan finds cached.
func cachedNodes(b *bench) int {
	b.t.Helper()
	return number(b.t, `^16 nodes: .*?(\d+) cached$`, b.must(0, `^16 nodes: `, "plan", "study.hcl").out)
}

// ranNodes is how many nodes an apply ran.
func ranNodes(t *testing.T, r result) int {
	t.Helper()
	return number(t, `^(\d+) run · `, r.out)
}

// TestDamagedBlobs damages every blob in one way after the other.
func TestDamagedBlobs(t *testing.T) {
	b := newBench(t)
	b.must(0, `^16 run`, "apply", "--quiet", "study.hcl")
	want := b.read("results/small/scores.csv")
	ways := []struct {
		name   string
		damage func(path string, content []byte) error
		found  string
	}{
		{"truncated", func(p string, c []byte) error { return os.WriteFile(p, c[:len(c)/2], 0o644) }, `holds other bytes`},
		{"emptied", func(p string, c []byte) error { return os.WriteFile(p, nil, 0o644) }, `holds other bytes`},
		{"flipped", func(p string, c []byte) error {
			c[len(c)-1] ^= 0x80
			return os.WriteFile(p, c, 0o644)
		}, `holds other bytes`},
		{"deleted", func(p string, c []byte) error { return os.Remove(p) }, `is missing`},
		{"folder", func(p string, c []byte) error {
			if err := os.Remove(p); err != nil {
				return err
			}
			return os.MkdirAll(filepath.Join(p, "sub"), 0o755)
		}, `is not a file but a folder`},
		{"link", func(p string, c []byte) error {
			if err := os.Rename(p, p+".moved"); err != nil {
				return err
			}
			return os.Symlink(p+".moved", p)
		}, `is not a file but a symbolic link`},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			b.t = t
			blobs, err := filepath.Glob(filepath.Join(b.dir, ".clusterflow/blobs/[0-9a-f][0-9a-f]/*"))
			if err != nil || len(blobs) < 10 {
				t.Fatalf("%d blobs, %v", len(blobs), err)
			}
			for _, p := range blobs {
				st, err := os.Lstat(p)
				if err != nil || !st.Mode().IsRegular() || strings.HasSuffix(p, ".moved") {
					continue
				}
				c, err := os.ReadFile(p)
				if err != nil || len(c) == 0 {
					t.Fatal(p, err)
				}
				if err := os.Chmod(p, 0o644); err != nil {
					t.Fatal(err)
				}
				if err := way.damage(p, c); err != nil {
					t.Fatal(err)
				}
			}
			b.must(exitFailed, way.found, "cache", "verify")
			b.must(exitWork, `output \S+ is (damaged in|missing from) the cache`, "plan", "--detailed-exitcode", "study.hcl")
			b.must(0, `^1\d run`, "apply", "--quiet", "study.hcl")
			if got := b.read("results/small/scores.csv"); got != want {
				t.Errorf("scores differ:\n%s\nwant\n%s", got, want)
			}
			b.must(0, `^0 run · 16 cached`, "apply", "--quiet", "study.hcl")
			b.must(0, `all whole|repaired`, "cache", "verify", "--repair") // answers in files that nothing reads any more
			b.must(0, `all whole`, "cache", "verify")
		})
	}
}

// TestDamagedDatabase: nothing is run or bought on a database that cannot be
// trusted, plans go on, and without it the records come back from their copy.
func TestDamagedDatabase(t *testing.T) {
	b := newBench(t)
	b.must(0, `^16 run`, "apply", "--quiet", "study.hcl")
	db := filepath.Join(b.dir, ".clusterflow/db")
	manifest := filepath.Join(db, "MANIFEST")
	whole, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	set := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(manifest, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	newer := bytes.Clone(whole)
	newer[7]++ // magic, external magic, then the version, of which this is the last byte
	for _, c := range []struct {
		name, says string
		content    []byte
	}{
		{"newer", `another version of clusterflow wrote it`, newer},
		{"cut", `MANIFEST.*cut short or changed|MANIFEST: `, whole[:len(whole)-3]},
		{"empty", `MANIFEST`, nil},
	} {
		set(c.content)
		for _, args := range [][]string{{"apply", "study.hcl"}, {"cache", "verify"}, {"cache", "gc"}} {
			r := b.must(exitFailed, c.says, args...)
			if !matches(`ledger of batches and paid answers`, r.err) {
				t.Errorf("%s: %v", c.name, r)
			}
		}
		b.must(0, `^16 nodes: 16 cached$`, "plan", "study.hcl")
	}
	set(whole)
	b.must(0, `^0 run · 16 cached`, "apply", "--quiet", "study.hcl")
	b.must(0, `all whole`, "cache", "verify")
	if err := os.Rename(db, db+".damaged"); err != nil {
		t.Fatal(err)
	}
	b.must(0, `note: .*16 records were taken from`, "apply", "--quiet", "study.hcl")
	b.must(0, `16 records.*all whole`, "cache", "verify")
}

// TestEditWhileApplying edits the study and the data of a run that waits: it
// ends as it was planned, and the next plan sees the edits.
func TestEditWhileApplying(t *testing.T) {
	b, g := newBench(t), newGate(t)
	b.evaluators(g.base)
	p := b.start("apply", "--yes", "--quiet", "study.hcl")
	b.batchesOut(g.base, 1)
	b.edit("clusters = [2, 3]", "clusters = [2, 3, 4]")
	b.write("traces.json", strings.Replace(b.read("traces.json"), "the", "The", 1))
	g.set(true)
	if r := p.wait(); r.code != 0 || !matches(`^16 run`, r.out) {
		t.Fatalf("apply: %v", r)
	}
	b.must(0, `^responses changed \(traces.json\) +1 stale`, "plan", "study.hcl")
	b.must(0, `^2\d nodes: .*new`, "plan", "study.hcl")
	b.must(0, `run`, "apply", "--yes", "--quiet", "study.hcl")
	b.must(0, `cached$`, "plan", "study.hcl")
	readLedger(t, g.base).once(t)
}

// TestClock: results do not depend on what file times say.
func TestClock(t *testing.T) {
	b := newBench(t)
	source := filepath.Join(b.dir, "traces.json")
	future := time.Now().Add(365 * 24 * time.Hour)
	if err := os.Chtimes(source, future, future); err != nil {
		t.Fatal(err)
	}
	b.must(0, `^16 run`, "apply", "--quiet", "study.hcl")
	err := filepath.WalkDir(filepath.Join(b.dir, ".clusterflow"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = os.Chtimes(path, future, future) // made before the clock was set back
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.must(0, `^16 nodes: 16 cached$`, "plan", "study.hcl")
	b.must(0, `^0 run · 16 cached`, "apply", "--quiet", "study.hcl")
	b.must(0, `^dropped 0 blobs`, "cache", "gc", "--keep-days", "0")
	b.must(0, `all whole`, "cache", "verify")

	// An edit of the same size that takes the old time over.
	text := b.read("traces.json")
	edited := strings.Replace(text, "the", "teh", 1)
	b.write("traces.json", edited)
	if err := os.Chtimes(source, future, future); err != nil || edited == text {
		t.Fatal(err)
	}
	b.must(0, `^responses changed \(traces.json\) +1 stale`, "plan", "study.hcl")
}

// TestReportStaysInside: a link in the output directory leads nothing out of it.
func TestReportStaysInside(t *testing.T) {
	b := newBench(t)
	for _, dir := range []string{"results/small", "outside"} {
		if err := os.MkdirAll(filepath.Join(b.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(b.dir, "results/small/figures")
	if err := os.Symlink("../../outside", link); err != nil {
		t.Fatal(err)
	}
	b.must(exitFailed, `publishing figures/.* to .*results/small`, "apply", "--quiet", "study.hcl")
	if out := b.tree("outside"); len(out) > 0 {
		t.Errorf("written outside: %v", out)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	b.must(0, `^0 run · 16 cached`, "apply", "--quiet", "study.hcl")
}

// TestOddSources reads files that cannot be data: without bytes, and with 5 GB
// of them that take no room.
func TestOddSources(t *testing.T) {
	for name, size := range map[string]int64{"empty": 0, "huge": 5 << 30} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.write("traces.json", "")
			if err := os.Truncate(filepath.Join(b.dir, "traces.json"), size); err != nil {
				t.Skipf("needs sparse files: %v", err)
			}
			for _, args := range [][]string{{"plan", "study.hcl"}, {"apply", "study.hcl"}} {
				r := b.must(exitFailed, `traces.json`, args...)
				if matches(`panic|goroutine|out of memory`, r.err) {
					t.Error(r)
				}
			}
			if _, err := os.Stat(filepath.Join(b.dir, ".clusterflow")); err == nil {
				t.Error("a cache was made for nothing")
			}
		})
	}
}

// TestHugeActivations plans from a matrix of 5 GB, which is hashed but not held
// in memory, and refuses one of which the end is missing.
func TestHugeActivations(t *testing.T) {
	if testing.Short() {
		t.Skip("hashes 5 GB")
	}
	b := newBench(t)
	const rows, cols = 40, 33 << 20
	header := fmt.Sprintf(`{"activations":{"dtype":"F32","shape":[%d,%d],"data_offsets":[0,%d]}}`, rows, cols, 4*rows*cols)
	head := string(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) + header
	b.write("huge.safetensors", head)
	if err := os.Truncate(filepath.Join(b.dir, "huge.safetensors"), int64(8+len(header)+4*rows*cols)); err != nil {
		t.Skipf("needs sparse files: %v", err)
	}
	b.write("sentences.jsonl", strings.Repeat("{\"text\": \"One.\", \"response\": 0}\n", rows))
	b.write("study.hcl", fmt.Sprintf(activationsStudy, "huge.safetensors"))
	r := b.must(0, `^16 nodes: 16 new`, "plan", "study.hcl")
	if matches(`panic|goroutine|out of memory|PiB`, r.out+r.err) {
		t.Error(r)
	}
	b.write("study.hcl", fmt.Sprintf(activationsStudy, "short.safetensors"))
	b.write("short.safetensors", head+strings.Repeat("\x00", 1<<20))
	b.must(exitFailed, `short.safetensors`, "validate", "study.hcl")
}

// TestLockOfTheDead: the text of a process that is gone locks nobody out.
func TestLockOfTheDead(t *testing.T) {
	b := newBench(t)
	b.must(0, `^16 run`, "apply", "--quiet", "study.hcl")
	b.write(".clusterflow/lock", `{"pid":4194303,"host":"gone","command":"clusterflow apply study.hcl","since":"2025-07-10T10:00:00Z"}`)
	b.must(0, `^0 run · 16 cached`, "apply", "--quiet", "study.hcl")
	b.must(0, `all whole`, "cache", "verify")
}
