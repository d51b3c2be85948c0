package llm

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Pages of the weights do not stay in memory once their block was run, so the
// peak does not grow with the number of blocks.
func TestWeightsAreGivenBack(t *testing.T) {
	s := testShape("llama", "F32")
	s.Hidden, s.Inter, s.Heads, s.HeadDim, s.KVHeads, s.Layers = 256, 768, 4, 64, 2, 5
	dir := makeCheckpoint(t, s)
	c := openTest(t, dir)
	states(t, c, [][]int32{randomIDs(3, s.Vocab), randomIDs(20, s.Vocab)}, []int{4}, 2)
	path := filepath.Join(dir, "model.safetensors")
	stat, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if held := residentBytes(t, path); held > stat.Size()/10 {
		t.Errorf("%d of the file's %d bytes are held after a pass", held, stat.Size())
	}
}

// residentBytes is how much of a mapped file counts as this process's memory.
func residentBytes(t *testing.T, path string) int64 {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	held, found, inside := int64(0), false, false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if strings.HasSuffix(line, path) {
			inside, found = true, true
		} else if rest, ok := strings.CutPrefix(line, "Rss:"); ok && inside {
			var kb int64
			if _, err := fmt.Sscan(rest, &kb); err != nil {
				t.Fatal(err)
			}
			held += kb << 10
			inside = false
		}
	}
	if !found {
		t.Fatalf("%s is not mapped", path)
	}
	return held
}
