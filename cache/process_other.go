//go:build !linux

package cache

import (
	"errors"
	"os"
	"syscall"
)

// processIdentity is empty: without /proc a process is known by its number
// only.
func processIdentity(pid int) string { return "" }

// hostIdentity is the host's name.
func hostIdentity() string {
	host, _ := os.Hostname()
	return host
}

func lookProcess(o Owner) processState {
	if o.Host != hostIdentity() {
		return processUnknown
	}
	p, err := os.FindProcess(o.PID)
	if err != nil {
		return processDead
	}
	if err := p.Signal(syscall.Signal(0)); err == nil || errors.Is(err, syscall.EPERM) {
		return processAlive
	}
	return processDead
}
