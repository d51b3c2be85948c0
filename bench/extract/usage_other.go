//go:build !unix

package main

// processorTime and peakMemory are not measured here.
func processorTime() float64 { return 0 }

func peakMemory() int64 { return 0 }

func threadTime() float64 { return 0 }
