package main

import (
	"math"
	"testing"
)

func TestAdjustedRand(t *testing.T) {
	for _, test := range []struct {
		a, b []int32
		want float64
	}{
		{[]int32{0, 0, 1, 1}, []int32{1, 1, 0, 0}, 1},
		{[]int32{0, 0, 1, 1}, []int32{0, 0, 1, 2}, 4.0 / 7}, // by hand: (1 − 1/3) / (3/2 − 1/3)
		{[]int32{0, 0, 0, 0}, []int32{0, 1, 2, 3}, 0},
		{[]int32{0, 1, 0, 1}, []int32{0, 0, 1, 1}, -0.5},
	} {
		if got := adjustedRand(test.a, test.b); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("%v beside %v: %g, want %g", test.a, test.b, got, test.want)
		}
	}
}
