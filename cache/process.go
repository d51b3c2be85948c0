package cache

import (
	"os"
	"time"
)

// Owner is the process that works, or worked, with a cache.
type Owner struct {
	PID     int       `json:"pid"`
	Start   string    `json:"start,omitempty"` // identity of the process behind PID, against reuse of the number
	Host    string    `json:"host"`
	Command string    `json:"command,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// Self describes this process, at work on command since now.
func Self(command string, now time.Time) Owner {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return Owner{PID: os.Getpid(), Start: processIdentity(os.Getpid()), Host: host, Command: command, Since: now}
}

type processState int

const (
	processUnknown processState = iota // on another host, or behind a container's wall
	processAlive
	processDead
)

// process says whether o's process still runs, as far as this host can tell.
func (o Owner) process() processState {
	if o.PID <= 0 {
		return processUnknown
	}
	return lookProcess(o)
}
