//go:build unix

package main

import (
	"runtime"
	"syscall"
)

// processorTime is the processor seconds that this process has used.
func processorTime() float64 { return seconds(usage(syscall.RUSAGE_SELF)) }

// peakMemory is the most memory that this process has held, in bytes.
func peakMemory() int64 {
	n := int64(usage(syscall.RUSAGE_SELF).Maxrss)
	if runtime.GOOS != "darwin" {
		n *= 1024
	}
	return n
}

// threadTime is the processor seconds of the calling thread, or of the process
// where the system does not tell them apart.
func threadTime() float64 {
	const thread = 1 // RUSAGE_THREAD of Linux
	if runtime.GOOS != "linux" {
		return processorTime()
	}
	return seconds(usage(thread))
}

func seconds(u syscall.Rusage) float64 {
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

func usage(who int) syscall.Rusage {
	var u syscall.Rusage
	syscall.Getrusage(who, &u) // fails for unknown arguments only
	return u
}
