package main

import "testing"

// TestPilot buys a sample first, then the rest, each request once.
func TestPilot(t *testing.T) {
	b := newBench(t)
	_, base := b.startBatchd("--listen", "127.0.0.1:0", "--dir", "served")
	b.evaluators(base)
	const priced = "\n  price {\n    input = 1000\n    output = 4000\n  }\n"
	b.edit("evaluator \"titler\" {\n", "evaluator \"titler\" {"+priced)
	b.edit("evaluator \"judge\" {\n", "evaluator \"judge\" {"+priced)
	for _, c := range []struct{ flags, says string }{
		{"--pilot=-1", `--pilot -1: at least 1`}, {"--detach", `leave out --detach`}, {"--only=train", `leave out --target, --only`},
	} {
		b.must(1, c.says, "apply", "--pilot", "1", c.flags, "study.hcl")
	}

	// Without a yes nothing is sent; with one, what was announced.
	b.must(1, `up to 7 requests to `+base, "apply", "--pilot", "1", "study.hcl") // 4 titles, 1 each of accuracy, completeness, similarity
	r := b.must(0, `^Pilot of tiny/1/spherical_kmeans/2/auto/judge|^Pilot of tiny/1/spherical_kmeans/2/auto, tiny/1/spherical_kmeans/2/auto/judge$`, "apply", "--yes", "--pilot", "1", "study.hcl")
	for _, want := range []string{
		`^title +titler \(some-model\): 4 of 4 answers usable · \S+ \+ \S+ tokens each · \$\d`,
		`^accuracy +judge \(some-model\): 1 of 1 answer usable`,
		`^completeness +judge \(some-model\): 1 of 1 answer usable`,
		`^similarity +judge \(some-model\): 1 of 1 answer usable`,
		`^The rest, if its answers are like these:\n  title .* 6 requests .*\$`,
		`^  expected cost \$`,
	} {
		if !matches(want, r.out) {
			t.Errorf("no %q in %s", want, r.out)
		}
	}
	first := readLedger(t, base)
	first.once(t)
	if first.tasks["title"] != 4 || first.tasks["accuracy"] != 1 || first.tasks["completeness"] != 1 || first.tasks["similarity"] != 1 {
		t.Errorf("%+v", first)
	}
	b.must(0, `not reached|pending`, "status", "study.hcl")

	// A larger sample buys what is new of it.
	b.must(0, `^accuracy .* usable`, "apply", "--yes", "--pilot", "2", "study.hcl")
	second := readLedger(t, base)
	second.once(t)
	if second.tasks["title"] != 4 || second.tasks["accuracy"] != 3 {
		t.Errorf("%+v", second)
	}

	// The rest is bought once, and no answer of the pilot again.
	b.must(0, `Report: `, "apply", "--yes", "--quiet", "study.hcl")
	all := readLedger(t, base)
	all.once(t)
	if all.tasks["title"] != 10 || all.tasks["accuracy"] != 10 {
		t.Errorf("%+v", all)
	}
	b.must(0, `Nobody outside is left to be asked`, "apply", "--pilot", "3", "study.hcl")
}
