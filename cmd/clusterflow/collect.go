package main

import (
	"math"
	"runtime"
	"runtime/debug"
)

// quietHeap is how large the heap may grow before garbage is collected for the
// first time: most commands end before that, and those that only read a study
// and its cache leave little garbage.
const quietHeap = 160 << 20

// collectLate puts the first collection of garbage off until the heap holds
// quietHeap bytes; from then on it is as Go has it. Whoever sets GOGC or
// GOMEMLIMIT decides otherwise.
func collectLate(getenv func(string) string) {
	if getenv("GOGC") != "" || getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(quietHeap)
	// Nothing refers to it: the first collection finds it.
	runtime.AddCleanup(new([16]byte), func(struct{}) { collectAsUsual() }, struct{}{})
}

// collectAsUsual undoes collectLate.
func collectAsUsual() {
	debug.SetMemoryLimit(math.MaxInt64)
	debug.SetGCPercent(100)
}
