package main

import "testing"

// TestMixedLibraries computes two layers of a model with two libraries for
// products: apply says so once.
func TestMixedLibraries(t *testing.T) {
	b := newBench(t)
	if r := b.run("doctor"); matches(`^BLAS +gonum`, r.out) {
		t.Skip("there is one library here")
	}
	env := b.env
	b.env = append(env, "CLUSTERFLOW_BLAS=gonum")
	if r := b.must(0, `run`, "apply", "--quiet", "--only", "extract", "study.hcl"); matches(`were computed in`, r.err) {
		t.Errorf("one library: %v", r)
	}
	b.edit("layers = [1]", "layers = [1, 2]")
	b.env = env
	b.must(0, `^note: the states of tiny were computed in 2 ways \(cpu float32, .*gonum.*\): small differences`, "apply", "--quiet", "study.hcl")
	if r := b.must(0, `0 run`, "apply", "--quiet", "study.hcl"); matches(`were computed in`, r.err) {
		t.Errorf("nothing has changed: %v", r)
	}
	b.must(0, `note: the states of tiny`, "apply", "--quiet", "--force", "report", "study.hcl")
}
