package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"testing"

	"clusterflow/cache"
)

// remake puts another result of a clustering into the cache: its model with the
// last number times by, as made by the given backend.
func (b *bench) remake(by float32, backend string) {
	b.t.Helper()
	store, err := cache.Open(b.t.Context(), cache.Options{Dir: filepath.Join(b.dir, ".clusterflow"), Command: "test"})
	if err != nil {
		b.t.Fatal(err)
	}
	known, err := store.Reader()
	if err != nil {
		b.t.Fatal(err)
	}
	err = fmt.Errorf("no such record")
	for r := range known.Records() {
		if r.Address != "tiny/1/spherical_kmeans/2/train" {
			continue
		}
		for i, o := range r.Outputs {
			if o.Name != "model" {
				continue
			}
			raw := o.Inline
			if raw == nil {
				if raw, err = store.Blobs().ReadAll(o.Digest); err != nil {
					b.t.Fatal(err)
				}
			}
			last := raw[len(raw)-4:]
			binary.LittleEndian.PutUint32(last, math.Float32bits(by*math.Float32frombits(binary.LittleEndian.Uint32(last))))
			r.Outputs[i].Digest = cache.Sum(raw)
			if o.Inline == nil {
				_, err = store.Blobs().Put(raw)
			} else {
				r.Outputs[i].Inline, err = raw, nil
			}
		}
		r.Backend = backend
		err = errors.Join(err, store.Commit(r))
		break
	}
	if err := errors.Join(err, known.Close(), store.Close()); err != nil {
		b.t.Fatal(err)
	}
}

// TestVerifyTolerance: results that the backend at hand made must be the same to
// the bit; those of another one, near.
func TestVerifyTolerance(t *testing.T) {
	b := newBench(t)
	b.must(0, `^16 run`, "apply", "--quiet", "study.hcl")
	verify := []string{"verify", "--sample", "100%", "study.hcl"}
	shown := b.must(0, `, cpu float32, `, "show", "study.hcl", "tiny/1/spherical_kmeans/2/train")
	here := regexp.MustCompile(`(?m), (cpu float32, .*)$`).FindStringSubmatch(shown.out)[1]
	const address = `tiny/1/spherical_kmeans/2/train`
	b.remake(1, "cpu float32, slide rule")
	b.must(0, `^1\d the same to the bit · 0 not · 0 failed$`, verify...)
	b.remake(1.0001, "cpu float32, slide rule")
	b.must(0, `near +`+address+`: made by cpu float32, slide rule, and now by .*\n( +info: .*\n)? +model: \w+ off by .*, of 0.01 that are allowed$`, verify...)
	b.must(0, `the same to the bit · 1 near, as another backend may be · 0 not · 0 failed$`, verify...)
	b.remake(1, here)
	b.must(exitFailed, `differs +`+address+`\n +model from byte \d+ on: `, verify...)
	b.must(exitFailed, `· 1 not · 0 failed$`, verify...)
	b.remake(1e6, "cpu float32, slide rule")
	b.must(exitFailed, `differs +`+address+`: made by .*\n +model: \w+ off by .*, more than the 0.01 that are allowed$`, verify...)
}

// TestVerifyOtherLibrary compares what gonum and OpenBLAS make of the same.
func TestVerifyOtherLibrary(t *testing.T) {
	b := newBench(t)
	here := b.env
	b.env = append(b.env, "CLUSTERFLOW_BLAS=gonum")
	b.must(0, `^16 run`, "apply", "--quiet", "study.hcl")
	b.env = append(here, "CLUSTERFLOW_BLAS=")
	if r := b.run("doctor"); !matches(`OpenBLAS \d`, r.out) {
		t.Skip("needs OpenBLAS")
	}
	b.must(0, `[1-9]\d* near, as another backend may be · 0 not · 0 failed$`, "verify", "--sample", "100%", "study.hcl")
}
