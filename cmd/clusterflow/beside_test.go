package main

import "testing"

// TestReadersBesideApply runs every reading command beside an apply that waits
// for batches and holds the cache, after it was killed, and after it was
// interrupted: they take no lock, and the history tells what became of it.
func TestReadersBesideApply(t *testing.T) {
	b, g := newBench(t), newGate(t)
	b.evaluators(g.base)
	readers := func() {
		t.Helper()
		b.must(0, `^waiting: `, "explain", "study.hcl", "tiny/1/spherical_kmeans/2/auto/await-titles")
		b.must(0, `runs anyway +report`, "explain", "--downstream", "study.hcl", "tiny/1/rows")
		b.must(0, `^  model.safetensors `, "show", "study.hcl", "tiny/1/spherical_kmeans/2/train")
		b.must(0, `^2 sentences of 38`, "show", "study.hcl", "tiny/sentences", "--sample", "2")
		b.must(0, `^labels.safetensors `, "show", "study.hcl", "tiny/1/spherical_kmeans/2/train", "--export", "out")
		b.must(0, `2 waiting`, "graph", "study.hcl")
		b.must(0, `^B  study +study.hcl, 0 clusterings scored of 2`, "diff", "study.hcl")
	}
	p := b.start("apply", "--yes", "study.hcl")
	b.batchesOut(g.base, 1)
	readers()
	b.must(0, `^\d{4}-.*  waiting +process \d+$`, "history", "study.hcl")
	p.kill()
	readers()
	b.must(0, `^\d{4}-.*  killed +process \d+$`, "history", "study.hcl")

	p = b.start("apply", "--yes", "study.hcl")
	b.eventually("it waits again", func() bool { return matches(`  waiting +process`, b.run("history", "study.hcl").out) })
	b.must(0, `  killed +\n    process \d+ ended without a word\n`, "history", "study.hcl")
	p.interrupt()
	p.wait()
	b.must(0, `^\d{4}-.*  interrupted +0 ran · 7 cached · 2 waiting · 7 pending`, "history", "study.hcl")
	b.must(exitWaiting, ``, "apply", "--yes", "--quiet", "--detach", "study.hcl")
	b.must(0, `  batches out +0 ran · 7 cached · 2 waiting`, "history", "study.hcl")
	g.set(true)
	b.must(0, `^9 run`, "apply", "--yes", "--quiet", "study.hcl")
	b.must(0, `  done +9 ran · 7 cached`, "history", "study.hcl")
}
