package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// largeRun has nodes that need a file of their own.
func largeRun(id, note string) *Run {
	r := &Run{StudyID: id, State: "done", Settled: Sum([]byte(note)), Nodes: map[string]*NodeState{}}
	for i := range 2000 {
		r.Nodes[fmt.Sprintf("m/%d/train", i)] = &NodeState{Key: Sum(fmt.Append(nil, i)), State: "done", Note: note}
	}
	return r
}

func nodesFiles(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "runs", "*.nodes-*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The nodes of a large run are written when they change and not otherwise, one
// file of them is kept, and other studies' are left alone.
func TestNodesFile(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "runs"), 0o755))
	save := func(r *Run) { t.Helper(); must(t, saveRun(dir, r, Owner{}, time.Now())) }
	save(largeRun("s.nodes", "other"))
	save(largeRun("s", "one"))
	before := nodesFiles(t, dir)
	if len(before) != 2 {
		t.Fatalf("files of nodes: %q, want one a study", before)
	}
	stamp := func() os.FileInfo {
		t.Helper()
		for _, f := range nodesFiles(t, dir) {
			if strings.HasPrefix(filepath.Base(f), "s.nodes-") {
				st, err := os.Stat(f)
				must(t, err)
				return st
			}
		}
		t.Fatal("no file of nodes")
		return nil
	}
	first := stamp()
	last, err := readRun(dir, "s")
	must(t, err)
	if last.Nodes != nil || last.NodesFile == "" {
		t.Fatalf("%d nodes were read before they were asked for", len(last.Nodes))
	}
	next := Run{StudyID: "s", State: "done"}
	if !next.KeepNodes(last) {
		t.Fatal("nodes that nobody has read could not be kept")
	}
	save(&next)
	if !os.SameFile(first, stamp()) {
		t.Error("the nodes were written again though kept")
	}
	got, err := loadRun(dir, "s")
	must(t, err)
	if len(got.Nodes) != 2000 || got.Node("m/7/train").Note != "one" || got.NodesFile != "" {
		t.Errorf("%d nodes, m/7/train %+v", len(got.Nodes), got.Node("m/7/train"))
	}
	save(got)
	if !os.SameFile(first, stamp()) {
		t.Error("the same nodes were written again")
	}
	got.Nodes["m/7/train"].Note = "two"
	save(got)
	if os.SameFile(first, stamp()) || len(nodesFiles(t, dir)) != 2 {
		t.Errorf("after a change: %q", nodesFiles(t, dir))
	}
	if n := last.Node("m/7/train"); n == nil || n.Note != "one" { // opened before it was replaced
		t.Errorf("the earlier run has %+v", n)
	}
	small := &Run{StudyID: "s", State: "done", Nodes: map[string]*NodeState{"a": {State: "done"}}}
	save(small)
	if left := nodesFiles(t, dir); len(left) != 1 || !strings.Contains(left[0], "s.nodes.nodes-") {
		t.Errorf("left of a study that became small, and of another: %q", left)
	}
}

// A damaged or missing file of nodes is told to who needs it, and never taken
// for a run without nodes that could be kept.
func TestNodesFileDamaged(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"flipped": func(path string) error {
			text, err := os.ReadFile(path)
			if err == nil {
				text[len(text)/2] ^= 1
				err = os.WriteFile(path, text, 0o644)
			}
			return err
		},
		"truncated": func(path string) error { return os.Truncate(path, 100) },
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"missing":   os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.MkdirAll(filepath.Join(dir, "runs"), 0o755))
			must(t, saveRun(dir, largeRun("s", "one"), Owner{}, time.Now()))
			must(t, harm(nodesFiles(t, dir)[0]))
			if _, err := loadRun(dir, "s"); err == nil || !strings.Contains(err.Error(), "s.json is damaged") {
				t.Errorf("loaded with %v", err)
			}
			r, err := readRun(dir, "s")
			if name == "missing" {
				if err == nil {
					t.Error("a missing file of nodes was not noticed")
				}
				return
			}
			must(t, err)
			if r.Node("m/7/train") != nil || !r.Settled.IsZero() || (&Run{}).KeepNodes(r) {
				t.Error("damaged nodes were used")
			}
		})
	}
}

// Readers see whole runs while a writer replaces them.
func TestNodesFileBesideWriter(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "runs"), 0o755))
	must(t, saveRun(dir, largeRun("s", "0"), Owner{}, time.Now()))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
				if err := saveRun(dir, largeRun("s", fmt.Sprint(i)), Owner{}, time.Now()); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 100 {
		r, err := loadRun(dir, "s")
		if err != nil || len(r.Nodes) != 2000 || r.Settled != Sum([]byte(r.Nodes["m/0/train"].Note)) {
			t.Errorf("read %v with %v", r != nil, err)
			break
		}
	}
	close(stop)
	wg.Wait()
}
