package llm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"clusterflow/internal/linalg"
)

// endAfter runs a pass that is ended once so many tokens times blocks are done,
// and returns the layers that it had shown.
func endAfter(t *testing.T, c *Checkpoint, p Pass, enough int) map[int]int {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var mu sync.Mutex
	shown := map[int]int{}
	p.Visit = func(layer, _ int, _ linalg.Matrix) error {
		mu.Lock()
		defer mu.Unlock()
		shown[layer]++
		return nil
	}
	p.Progress = func(done, _ int) {
		if done >= enough {
			end()
		}
	}
	if err := c.Forward(ctx, p); !errors.Is(err, context.Canceled) {
		t.Fatalf("a pass that was ended: %v", err)
	}
	return shown
}

func TestForwardGoesOn(t *testing.T) {
	s := testShape("qwen2", "BF16")
	c := openTest(t, makeCheckpoint(t, s))
	var ids [][]int32
	tokens := 0
	for _, n := range []int{7, 130, 1, 300, 64} {
		ids = append(ids, randomIDs(n, s.Vocab))
		tokens += n
	}
	want := states(t, c, ids, []int{0, 1, 2}, 1)
	check := func(t *testing.T, got map[int][]linalg.Matrix, layers ...int) {
		t.Helper()
		for _, layer := range layers {
			for i := range ids {
				if !slices.Equal(got[layer][i].Data, want[layer][i].Data) {
					t.Errorf("layer %d, sequence %d: other states", layer, i)
				}
			}
		}
	}
	for name, memory := range map[string]int64{"in memory": 0, "in files": 1} {
		t.Run(name, func(t *testing.T) {
			p := Pass{Sequences: sequences(ids, []int{0, 1, 2}), Threads: 2, Memory: memory, Scratch: t.TempDir()}
			started := -1
			p.Progress = func(done, _ int) {
				if started < 0 {
					started = done
				}
			}
			files := func() []string {
				names, err := filepath.Glob(filepath.Join(p.Scratch, "*"))
				if err != nil {
					t.Fatal(err)
				}
				return names
			}

			// Ended within block 1: block 0 is not run again.
			if shown := endAfter(t, c, p, tokens+1); shown[0] != len(ids) || shown[2] != 0 {
				t.Errorf("shown %v", shown)
			}
			p.Sequences = sequences(ids, []int{1, 2})
			check(t, passStates(t, c, p), 1, 2)
			if started != tokens {
				t.Errorf("went on at %d, want %d", started, tokens)
			}
			if left := files(); len(left) > 0 {
				t.Errorf("left after the end: %v", left)
			}

			// Layer 0 is wanted again by one, and was computed but not shown
			// to another: it comes from the file.
			started = -1
			p.Sequences = sequences(ids, []int{2})
			endAfter(t, c, p, 2*tokens+1)
			p.Sequences = sequences(ids, []int{1, 2})
			p.Sequences[0].Layers = []int{0, 1, 2}
			got := passStates(t, c, p)
			check(t, got, 1, 2)
			if !slices.Equal(got[0][0].Data, want[0][0].Data) {
				t.Error("layer 0: other states")
			}
			if started != 2*(tokens-len(ids[0])) {
				t.Errorf("went on at %d, want %d", started, 2*(tokens-len(ids[0])))
			}

			// Damaged: computed again.
			started = -1
			p.Sequences = sequences(ids, []int{0, 1, 2})
			endAfter(t, c, p, tokens+1)
			for _, f := range files() {
				if strings.HasSuffix(f, stateIndexName) {
					continue
				}
				data, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				data[len(data)-1]++ // of the shortest sequence
				if err := os.WriteFile(f, data, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			check(t, passStates(t, c, p), 0, 1, 2)
			if started != tokens-1 {
				t.Errorf("went on at %d, want %d", started, tokens-1)
			}
		})
	}
	t.Run("no such folder", func(t *testing.T) {
		p := Pass{Sequences: sequences(ids, []int{0, 1, 2}), Scratch: filepath.Join(t.TempDir(), "none")}
		check(t, passStates(t, c, p), 0, 1, 2) // done without
		p.Memory, p.Visit = 1, func(int, int, linalg.Matrix) error { return nil }
		err := c.Forward(t.Context(), p)
		if err == nil || !strings.Contains(err.Error(), "keeping the states between blocks in") {
			t.Error(err)
		}
	})
}
