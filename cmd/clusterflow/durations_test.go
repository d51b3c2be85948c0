package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clusterflow/cache"
	"clusterflow/tasks"
)

// TestEstimateOnACard: where a worker for a card is installed, a plan estimates
// passes by those that the card ran, and without one says that it is the processor's
// time.
func TestEstimateOnACard(t *testing.T) {
	b := newBench(t)
	b.must(0, `^16 run`, "apply", "--quiet", "--device", "cpu", "study.hcl")
	b.editRecords("extract", func(r *cache.Record) { r.Info[tasks.NotePassWork], r.Info[tasks.NotePassSeconds] = "1e15", "1" })
	plan := []string{"plan", "--force", "tiny/**/extract/*", "study.hcl"}
	if shown := b.must(0, `EXTRACT .* about 1 s`, plan...); strings.Contains(shown.out, "on the processor") {
		t.Errorf("without a worker there is nothing to say of a card:\n%s", shown.out)
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, workerName), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	b.must(0, `EXTRACT .* about 1 s \(on the processor, as no run on the card is known\)`, plan...)
	b.editRecords("extract", func(r *cache.Record) {
		r.Backend = "Card X (compute 9.0)"
		r.Info[tasks.NotePassWork], r.Info[tasks.NotePassSeconds] = "1e7", "3600"
	})
	b.must(0, `EXTRACT .* about [0-9.]+ h \(on the card\)`, plan...)
}

// editRecords changes the records of a kind.
func (b *bench) editRecords(kind string, change func(*cache.Record)) {
	b.t.Helper()
	store, err := cache.Open(b.t.Context(), cache.Options{Dir: filepath.Join(b.dir, ".clusterflow"), Command: "test"})
	if err != nil {
		b.t.Fatal(err)
	}
	known, err := store.Reader()
	if err != nil {
		b.t.Fatal(err)
	}
	n := 0
	for r := range known.Records() {
		if r.Kind == kind {
			change(r)
			err = errors.Join(err, store.Commit(r))
			n++
		}
	}
	if err := errors.Join(err, known.Close(), store.Close()); err != nil || n == 0 {
		b.t.Fatalf("%d records of %s changed: %v", n, kind, err)
	}
}
