//go:build unix

package main

import (
	"runtime"
	"syscall"
)

// processorTime is the processor seconds that this process has used.
func processorTime() float64 {
	u := usage()
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// peakMemory is the most memory that this process has held, in bytes.
func peakMemory() int64 {
	n := int64(usage().Maxrss)
	if runtime.GOOS != "darwin" {
		n *= 1024
	}
	return n
}

func usage() syscall.Rusage {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u) // fails for other arguments only
	return u
}
