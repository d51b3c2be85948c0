//go:build !amd64

package main

// fmaLoop has no loop for this kind of processor: shares of the ceiling are not
// shown.
func fmaLoop() (loop func(n int), operations float64, name string) { return nil, 0, "" }
