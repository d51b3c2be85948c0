package linalg

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
)

// Rand returns the generator of one random draw: ChaCha8, seeded by the
// SHA-256 of the study's seed, the draw's purpose and the parts that tell it
// from other draws of the same purpose, each on a labelled, quoted line. No
// two draws share a stream, so adding one changes no other. The generator is
// not safe for concurrent use.
func Rand(seed int64, purpose string, parts ...string) *rand.Rand {
	h := sha256.New()
	fmt.Fprintf(h, "seed %d\npurpose %q\n", seed, purpose)
	for _, p := range parts {
		fmt.Fprintf(h, "part %q\n", p)
	}
	return rand.New(rand.NewChaCha8([32]byte(h.Sum(nil))))
}
