package cache

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// processIdentity names the process behind pid so that a later process of the
// same number is told apart: boot, PID namespace, start time in clock ticks
// since boot (proc(5), field 22 of /proc/PID/stat). It is empty when there is
// no such process or /proc is not mounted.
func processIdentity(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// The command name, field 2, may hold blanks and parentheses.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 || fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return "" // a zombie works no more
	}
	return hostIdentity() + "/" + string(fields[19])
}

// hostIdentity names the running kernel and the PID namespace: numbers of
// processes mean the same only where both agree.
func hostIdentity() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + "/" + strings.Trim(strings.TrimPrefix(ns, "pid:"), "[]")
}

func lookProcess(o Owner) processState {
	host, _, ok := cutLast(o.Start, "/")
	if !ok || host == "" || host != hostIdentity() {
		return processUnknown
	}
	if processIdentity(o.PID) == o.Start {
		return processAlive
	}
	return processDead
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
