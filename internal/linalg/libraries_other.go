//go:build !((linux || darwin || freebsd) && (amd64 || arm64))

package linalg

import (
	"errors"
	"runtime"
)

func libraries() []library { return nil }

func coreSetHere() bool { return false }

func loadBLAS(string) (loadedBackend, error) {
	return loadedBackend{}, errors.New("libraries cannot be loaded at run time on " + runtime.GOOS + "/" + runtime.GOARCH)
}
