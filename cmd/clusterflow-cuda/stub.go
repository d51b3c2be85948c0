//go:build !cuda

// Command clusterflow-cuda computes hidden states on an NVIDIA card. This build
// lacks the tag cuda, and with it the card.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "clusterflow-cuda: this build cannot use a card; build it with: go build -tags cuda ./cmd/clusterflow-cuda")
	os.Exit(1)
}
