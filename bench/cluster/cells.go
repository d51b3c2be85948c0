package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
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

// readCells reads one cell a line; no file has none.
func readCells(path string) ([]cell, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var cells []cell
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		var c cell
		if err := dec.Decode(&c); err == io.EOF {
			return cells, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: cell %d: %w", path, len(cells)+1, err)
		}
		cells = append(cells, c)
	}
}

func (c cell) append(path string) error {
	if path == "" {
		return nil
	}
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}
