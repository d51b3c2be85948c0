package cache

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// witness describes a database folder as it was when it was last closed. Tables
// never change and the MANIFEST only grows until Badger writes it anew, so what
// the witness says stays true after a crash as well.
type witness struct {
	Manifest    int64                   `json:"manifest"` // bytes
	ManifestSum uint32                  `json:"manifest_crc32c"`
	Deletions   int                     `json:"manifest_deletions"` // of tables
	Tables      map[string]witnessTable `json:"tables"`
}

type witnessTable struct {
	Size int64    `json:"size"`
	Sum  uint32   `json:"crc32c"`
	Stat [6]int64 `json:"stat"` // device, inode, size, mtime, ctime, time of the stamp
}

const witnessName = "CLOSED.json"

func (t witnessTable) stamp() stamp {
	return stamp{dev: uint64(t.Stat[0]), ino: uint64(t.Stat[1]), size: t.Stat[2], mtime: t.Stat[3], ctime: t.Stat[4], taken: t.Stat[5]}
}

// checkDatabase looks at a closed Badger folder without changing it: it is
// fresh when nothing is there; otherwise MANIFEST and every table that it names
// must be whole. tables is their size in bytes.
func checkDatabase(dir string) (fresh bool, tables int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, 0, err
	}
	data := ""
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".sst", ".mem", ".vlog":
			data = e.Name()
		}
	}
	path := filepath.Join(dir, badger.ManifestFilename)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if data != "" {
			return false, 0, fmt.Errorf("%s is missing beside %s", badger.ManifestFilename, data)
		}
		if w := readWitness(dir); w != nil && len(w.Tables) > 0 {
			return false, 0, fmt.Errorf("%s and %d tables are gone", badger.ManifestFilename, len(w.Tables))
		}
		return true, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir))
	if err != nil {
		if strings.Contains(err.Error(), "unsupported version") {
			return false, 0, fmt.Errorf("another version of clusterflow wrote it (%s): use that version", strings.SplitN(err.Error(), "\n", 2)[0])
		}
		return false, 0, fmt.Errorf("%s: %w", badger.ManifestFilename, err)
	}
	w := readWitness(dir)
	if w != nil && w.Deletions < 5000 {
		// Badger writes it anew only after 10,000 deletions, so the part that the
		// witness saw is still there.
		sum, err := sumFile(f, w.Manifest)
		if err != nil || sum != w.ManifestSum {
			return false, 0, fmt.Errorf("%s was cut short or changed", badger.ManifestFilename)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.Tables)) {
		path := table.NewFilename(id, dir)
		n, err := checkTable(path, w)
		if err != nil {
			return false, 0, fmt.Errorf("table %s %w", filepath.Base(path), err)
		}
		tables += n
	}
	return false, tables, nil
}

func checkTable(path string, w *witness) (int64, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errors.New("is missing")
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return 0, err
	}
	if w != nil {
		if seen, ok := w.Tables[filepath.Base(path)]; ok {
			if s := seen.stamp(); s.settled() && s.same(fileStamp(&st, time.Time{})) {
				return st.Size, nil
			}
			if sum, err := sumFile(f, seen.Size); err != nil || st.Size != seen.Size || sum != seen.Sum {
				return 0, errors.New("was cut short or changed")
			}
			return st.Size, nil
		}
	}
	return st.Size, checkTableIndex(f, st.Size)
}

// checkTableIndex checks the end of a Badger table, which is, backwards: length
// of the checksum (uint32), checksum (protobuf), length of the index (uint32),
// index.
func checkTableIndex(f io.ReaderAt, size int64) error {
	end := size
	back := func(n int64) ([]byte, error) {
		if n < 0 || n > end {
			return nil, errors.New("was cut short or changed")
		}
		end -= n
		buf := make([]byte, n)
		_, err := f.ReadAt(buf, end)
		return buf, err
	}
	field := func() ([]byte, error) {
		n, err := back(4)
		if err != nil {
			return nil, err
		}
		return back(int64(binary.BigEndian.Uint32(n)))
	}
	text, err := field()
	if err != nil {
		return err
	}
	var sum pb.Checksum
	if err := proto.Unmarshal(text, &sum); err != nil {
		return errors.New("has a damaged end")
	}
	if _, ok := pb.Checksum_Algorithm_name[int32(sum.Algo)]; !ok {
		return errors.New("has a damaged end")
	}
	index, err := field()
	if err != nil {
		return err
	}
	if err := y.VerifyChecksum(index, &sum); err != nil {
		return errors.New("has a damaged index")
	}
	return nil
}

// sumFile returns the CRC-32C of the first n bytes of f.
func sumFile(f *os.File, n int64) (uint32, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	h := crc32.New(castagnoli)
	_, err := io.CopyN(h, f, n)
	return h.Sum32(), err
}

func readWitness(dir string) *witness {
	text, err := os.ReadFile(filepath.Join(dir, witnessName))
	if err != nil {
		return nil
	}
	var w witness
	if json.Unmarshal(text, &w) != nil {
		return nil
	}
	return &w
}

// writeWitness describes the closed folder, taking over the sums of tables that
// did not change.
func writeWitness(dir string) error {
	old := readWitness(dir)
	w := witness{Tables: map[string]witnessTable{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("closing the cache database: %w", err)
	}
	look := func(name string) (stamp, uint32, error) {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return stamp{}, 0, err
		}
		defer f.Close()
		var st unix.Stat_t
		if err := ignoringEINTR(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
			return stamp{}, 0, err
		}
		now := fileStamp(&st, time.Now())
		if old != nil {
			if seen, ok := old.Tables[name]; ok && seen.stamp().settled() && seen.stamp().same(now) {
				return seen.stamp(), seen.Sum, nil
			}
		}
		sum, err := sumFile(f, st.Size)
		return now, sum, err
	}
	same := true
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".sst" {
			continue
		}
		st, sum, err := look(e.Name())
		if err != nil {
			return fmt.Errorf("closing the cache database: %w", err)
		}
		t := witnessTable{
			Size: st.size, Sum: sum,
			Stat: [6]int64{int64(st.dev), int64(st.ino), st.size, st.mtime, st.ctime, st.taken},
		}
		w.Tables[e.Name()] = t
		same = same && old != nil && old.Tables[e.Name()] == t
	}
	st, sum, err := look(badger.ManifestFilename)
	if err != nil {
		return fmt.Errorf("closing the cache database: %w", err)
	}
	w.Manifest, w.ManifestSum = st.size, sum
	if w.Deletions, err = countDeletions(dir); err != nil {
		return fmt.Errorf("closing the cache database: %w", err)
	}
	if old != nil && same && old.Manifest == w.Manifest && old.ManifestSum == w.ManifestSum && len(old.Tables) == len(w.Tables) {
		return nil
	}
	text, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, witnessName), append(text, '\n'))
}

func countDeletions(dir string) (int, error) {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir))
	return m.Deletions, err
}
