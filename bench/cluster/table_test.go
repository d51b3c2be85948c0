package main

import (
	"math"
	"testing"
)

// TestSpread adds up a line and a flat end by hand: 5 and 10 count 2 each, 15
// to 30 lie on the line to 6 (3, 4, 5, 6), and the four after it are 6.
func TestSpread(t *testing.T) {
	near(t, "two sizes", spread([]int{10, 30}, []float64{2, 6}), 2+2+3+4+5+6+4*6)
	near(t, "one size", spread([]int{20}, []float64{1.5}), 15)
}

func TestRowOfSeeds(t *testing.T) {
	one := func(ours, peer float64) cell {
		return cell{Method: "gmm", Starts: 10, Ours: side{Fit: span{Seconds: 3, CPU: 5}, PCA: span{Seconds: 1, CPU: 2}, Iterations: 4, Starts: 10, Gain: ours}, Peer: side{Fit: span{Seconds: 2}, Iterations: 5, Starts: 10, Gain: peer}}
	}
	r := row{starts: 10, cells: []cell{one(99, 100), one(97, 100)}}
	mean, half := r.difference()
	near(t, "mean", mean, -2)
	// A standard deviation of √2 over 2 seeds is an error of 1; t(0.975, 1) = 12.7062.
	if math.Abs(half-12.7062) > 1e-4 {
		t.Errorf("half interval %v", half)
	}
	if !r.failed() {
		t.Error("fewer iterations for less gain did not fail")
	}
	r.cells[0].Ours.Iterations = 7
	if r.failed() {
		t.Error("more iterations failed")
	}
	near(t, "ours", r.ours().Seconds, 4)
	near(t, "processor", r.ours().CPU, 7)
	r.cells[0].Peer.Starts = 1 // whose 2 seconds stand for 20
	near(t, "peer", r.peer().Seconds, 11)
	if n := len(r.pairs().cells); n != 1 {
		t.Errorf("%d pairs, where one has other starts", n)
	}
}
