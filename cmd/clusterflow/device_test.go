package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A worker that thinks for long is explained, and waited for.
func TestProbeExplains(t *testing.T) {
	path := filepath.Join(t.TempDir(), "worker")
	gate := filepath.Join(t.TempDir(), "gate")
	script := "#!/bin/sh\nwhile [ ! -e " + gate + " ]; do sleep 0.01; done\necho a card\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	defer func(d time.Duration) { thinking = d }(thinking)
	thinking = time.Millisecond
	notes := &opener{gate: gate}
	card, err := probe(t.Context(), notes, path)
	if err != nil || card.Name() != "a card" || !strings.Contains(notes.said.String(), "compiles the kernels") {
		t.Errorf("%v, %v, and the user was told %q", card, err, notes.said.String())
	}
}

// opener opens a gate when it is written to.
type opener struct {
	said strings.Builder
	gate string
}

func (o *opener) Write(p []byte) (int, error) {
	o.said.Write(p)
	return len(p), os.WriteFile(o.gate, nil, 0o644)
}
