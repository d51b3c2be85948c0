package linalg

import "testing"

func TestSpeed(t *testing.T) {
	if s := Speed(); !(s > 1e6 && s < 1e16) {
		t.Errorf("products run at %v operations a second", s)
	}
}
