package main

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// mount puts a file system of the given size at a folder of the bench.
func (b *bench) mount(dir, size string) {
	b.t.Helper()
	path := filepath.Join(b.dir, dir)
	if err := os.MkdirAll(path, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size="+size); err != nil {
		b.t.Skipf("needs to mount a small file system: %v", err)
	}
	b.t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) }) //nolint:errcheck // nothing to be done
}

// makeRoom gives that file system another size.
func (b *bench) makeRoom(dir, size string) {
	b.t.Helper()
	if err := unix.Mount("", filepath.Join(b.dir, dir), "", unix.MS_REMOUNT, "size="+size); err != nil {
		b.t.Fatal(err)
	}
}

// TestFullDisk lets the disk run full in the middle of a blob, of a record and
// of the report. Apply says so, keeps what is finished, and goes on when there
// is room.
func TestFullDisk(t *testing.T) {
	whole := newBench(t)
	whole.must(0, `^16 run`, "apply", "--quiet", "study.hcl")
	want := whole.tree("results/small")
	tests := []struct {
		name, dir, size string
		says            string
		args            []string
	}{
		{"blob", ".clusterflow/blobs", "160k", `the file system is full .*nothing that was finished is lost: make room`, nil},
		{"record", "state", "4180k", `the file system is full .*nothing that was finished is lost: make room`, []string{"--state-dir", "state"}},
		{"report", "results", "40k", `publishing .* no space left on device`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.mount(tt.dir, tt.size)
			args := append([]string{"apply", "--quiet", "study.hcl"}, tt.args...)
			b.must(exitFailed, tt.says, args...)
			before := cachedNodes(b)
			b.makeRoom(tt.dir, "200m")
			r := b.must(0, `^(\d+) run · (\d+) cached`, args...)
			if ran := ranNodes(t, r); ran != 16-before {
				t.Errorf("%d nodes were finished before, and %d ran after", before, ran)
			}
			b.must(0, `^0 run · 16 cached`, args...)
			if got := b.tree("results/small"); len(got) != len(want) || got["scores.csv"] != want["scores.csv"] {
				t.Errorf("the report differs: %d files, want %d", len(got), len(want))
			}
			b.must(0, `: all whole$`, append([]string{"cache", "verify"}, tt.args...)...)
		})
	}
}

// TestReadOnlyCache reads a cache that cannot be written.
func TestReadOnlyCache(t *testing.T) {
	b := newBench(t)
	b.must(0, `^16 run`, "apply", "--quiet", "study.hcl")
	dir := filepath.Join(b.dir, ".clusterflow")
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("needs to mount: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) }) //nolint:errcheck // nothing to be done
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	b.must(0, `^16 nodes: 16 cached$`, "plan", "study.hcl")
	b.must(0, `16 done`, "status", "study.hcl")
	b.must(0, `^  blobs `, "cache", "stats")
	b.must(0, `· 0 not · 0 failed$`, "verify", "study.hcl")
	for _, args := range [][]string{{"apply", "study.hcl"}, {"cache", "gc"}, {"cache", "verify", "--repair"}} {
		b.must(exitFailed, `read-only file system; the cache must be writable for this command`, args...)
	}
}
