package cache

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// droppedHeader opens runs/dropped, the list of blobs that GC took away: one
// digest a line, behind the CRC-32C of those lines. It tells a blob that was
// given up, whose record still stands, from one that was lost.
const droppedHeader = "clusterflow dropped 1 "

// droppedList is that file, read again when it changed. It is safe for
// concurrent use.
type droppedList struct {
	path string

	mu   sync.Mutex
	size int64
	time time.Time
	set  map[Digest]bool
}

func newDroppedList(dir string) *droppedList {
	return &droppedList{path: filepath.Join(dir, "runs", "dropped")}
}

// Dropped reports whether GC took the blob away. It says nothing of whether the
// blob has been made again since.
func (b *Blobs) Dropped(d Digest) bool {
	l := b.dropped
	l.mu.Lock()
	defer l.mu.Unlock()
	st, err := os.Stat(l.path)
	if err != nil {
		return false
	}
	if l.set == nil || st.Size() != l.size || !st.ModTime().Equal(l.time) {
		l.size, l.time = st.Size(), st.ModTime()
		if l.set, err = readDropped(l.path); err != nil {
			l.set = map[Digest]bool{} // then they count as missing, and are made again
		}
	}
	return l.set[d]
}

// readDropped reads the list; a missing file is an empty one.
func readDropped(path string) (map[Digest]bool, error) {
	set := map[Digest]bool{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return set, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the list of dropped blobs: %w", err)
	}
	head, body, _ := strings.Cut(string(data), "\n")
	if head != fmt.Sprintf("%s%08x", droppedHeader, crc32.Checksum([]byte(body), castagnoli)) {
		return nil, fmt.Errorf("reading the list of dropped blobs: %s is damaged: the blobs that it named count as lost", path)
	}
	for line := range strings.Lines(body) {
		d, err := ParseDigest(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("reading the list of dropped blobs: %s: %w", path, err)
		}
		set[d] = true
	}
	return set, nil
}

func writeDropped(path string, set map[Digest]bool) error {
	var body strings.Builder
	for _, d := range slices.SortedFunc(maps.Keys(set), compareDigests) {
		body.WriteString(d.String() + "\n")
	}
	head := fmt.Sprintf("%s%08x\n", droppedHeader, crc32.Checksum([]byte(body.String()), castagnoli))
	return replaceFile(path, []byte(head+body.String()))
}

func compareDigests(a, b Digest) int { return bytes.Compare(a[:], b[:]) }
