//go:build !unix

package main

import (
	"fmt"
	"runtime"
)

// freeSpace is not known here.
func freeSpace(path string) (uint64, error) {
	return 0, fmt.Errorf("not measured on %s (%s)", runtime.GOOS, existing(path))
}
