package main

import (
	"os"
	"strconv"
	"strings"
)

// peak is the most resident memory that this process had, in bytes, as Linux
// counts it; 0 elsewhere. What a parent is told of its child would not do: it
// begins with the parent's own.
func peak() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			if err != nil {
				return 0
			}
			return kib * 1024
		}
	}
	return 0
}
