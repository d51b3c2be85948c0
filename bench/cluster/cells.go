package main

import (
	"fmt"
	"time"
)

// cell is one fit of both sides.
type cell struct {
	Method  string  `json:"method"`
	K       int     `json:"k"`
	Seed    int64   `json:"seed"`
	Starts  int     `json:"starts"`           // asked for
	Paired  bool    `json:"paired,omitempty"` // from the same first centres
	Ours    side    `json:"ours"`
	Peer    side    `json:"peer"`
	Heights float64 `json:"heights,omitempty"` // agglomerative: the largest difference of a merge height
	Moved   int     `json:"moved,omitempty"`   // agglomerative: rows in another cluster
}

// span is how long something took.
type span struct {
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu"` // processor seconds of all threads
}

// stopwatch measures a span of this process.
func stopwatch() func() span {
	begin, cpu := time.Now(), processorTime()
	return func() span { return span{time.Since(begin).Seconds(), processorTime() - cpu} }
}

// side is what one program did.
type side struct {
	Fit        span    `json:"fit"` // without what sizes can share
	PCA        span    `json:"pca"`
	Linkage    span    `json:"linkage"`    // ours; the peer's is in its fit
	Iterations float64 `json:"iterations"` // of the start that was kept, or epochs
	Starts     int     `json:"starts"`
	Gain       float64 `json:"gain"`
	Peak       int64   `json:"peak"`              // bytes of memory
	Stopped    bool    `json:"stopped,omitempty"` // unfinished
}

// alone is what one size takes if nothing is shared, with as many starts as
// were asked for.
func (s side) alone(starts int) span {
	times := float64(starts) / float64(s.Starts)
	return span{s.PCA.Seconds + s.Linkage.Seconds + s.Fit.Seconds*times, s.PCA.CPU + s.Linkage.CPU + s.Fit.CPU*times}
}

// comparable says whether the gains may be set side by side.
func (c cell) comparable() bool { return !c.Peer.Stopped && c.Peer.Starts == c.Ours.Starts }

func (c cell) String() string {
	return fmt.Sprintf("%s k=%d seed %d: %.2f s, peer %.2f s; iterations %g, %g; gain %.6g, %.6g",
		c.Method, c.K, c.Seed, c.Ours.alone(c.Starts).Seconds, c.Peer.alone(c.Starts).Seconds, c.Ours.Iterations, c.Peer.Iterations, c.Ours.Gain, c.Peer.Gain)
}

// in says whether the cell has been measured.
func (c cell) in(cells []cell) bool {
	for _, o := range cells {
		if o.Method == c.Method && o.K == c.K && o.Seed == c.Seed && o.Starts == c.Starts && o.Paired == c.Paired {
			return true
		}
	}
	return false
}
