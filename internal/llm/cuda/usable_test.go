package cuda

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"clusterflow/internal/llm/kernels"
)

func TestUsable(t *testing.T) {
	for _, test := range []struct {
		major, minor, driver int
		says                 string // "": it can be used
	}{
		{8, 0, 11080, ""},
		{8, 9, 13010, ""},
		{10, 0, 12080, ""},
		{9, 0, -1, ""}, // the driver did not say
		{7, 5, 12000, "compute capability 7.5; the kernels need 8.0"},
		{6, 1, 11020, "compute capability 6.1"},
		{8, 6, 11070, "CUDA 11.7, and the kernels need one of CUDA 11.8 or newer"},
		{8, 0, 10020, "update NVIDIA's driver"},
	} {
		err := usable("Card X", test.major, test.minor, test.driver)
		switch {
		case test.says == "" && err != nil:
			t.Errorf("%+v: %v", test, err)
		case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "Card X")):
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// What is asked of card and driver is what the PTX was made for: PTX 7.x came with
// CUDA 11.x, and its target is the least capability.
func TestUsableIsWhatThePTXNeeds(t *testing.T) {
	m := regexp.MustCompile(`(?m)^\.version 7\.(\d)\n\.target sm_(\d)0\n`).FindStringSubmatch(kernels.PTX())
	if m == nil {
		t.Fatal("the PTX has another version than those of CUDA 11, or another target: see leastDriver")
	}
	if got := fmt.Sprintf("11.%s, %s", m[1], m[2]); got != fmt.Sprintf("%s, %d", release(leastDriver), leastMajor) {
		t.Errorf("the PTX needs CUDA and capability %s; a card and a driver are asked for %s, %d", got, release(leastDriver), leastMajor)
	}
}
