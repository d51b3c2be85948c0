package main

import (
	"math"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// peak is the most resident memory that this process had, in bytes, as Linux
// counts it; 0 elsewhere.
func peak() float64 { return status("VmHWM:") }

// status reads a field of /proc/self/status, in bytes.
func status(name string) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			if err != nil {
				return 0
			}
			return kib * 1024
		}
	}
	return 0
}

// watch is the most memory of its own that this process was seen to have. The
// ledger's tables are mapped: their pages are counted as resident memory, and
// given up when others need it.
type watch struct{ bits atomic.Uint64 }

func (w *watch) Load() float64 { return math.Float64frombits(w.bits.Load()) }

func (w *watch) look() {
	for {
		w.bits.Store(math.Float64bits(max(w.Load(), status("RssAnon:"))))
		time.Sleep(100 * time.Millisecond)
	}
}
