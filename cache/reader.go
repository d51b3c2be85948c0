package cache

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Reader sees a cache without its lock and without Badger: beside a process
// that writes, after one was killed, and where nothing may be written. It shows
// the records as they were when they were first asked for. It is safe for
// concurrent use.
type Reader struct {
	dir    string
	blobs  *Blobs
	stamps *stamps

	once  sync.Once
	f     *os.File // the journal; nil: there is none
	index *recordIndex
	err   error
}

// OpenReader opens the cache at dir for reading. A folder that does not exist
// is an empty cache.
func OpenReader(dir string) (*Reader, error) { return openReader(dir, time.Now) }

func openReader(dir string, now func() time.Time) (*Reader, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("reading the cache: %w", err)
	case !st.IsDir():
		return nil, fmt.Errorf("reading the cache: %s is not a folder", abs)
	}
	s := newStamps(abs, now)
	return newReader(abs, newBlobs(abs, s, now), s), nil
}

func newReader(dir string, b *Blobs, s *stamps) *Reader {
	return &Reader{dir: dir, blobs: b, stamps: s}
}

// Close releases the journal file. A Reader that is not closed releases it when
// it is collected.
func (r *Reader) Close() error {
	r.once.Do(func() { r.index = newRecordIndex() })
	if r.f == nil {
		return nil
	}
	return r.f.Close()
}

// Err returns what went wrong in reading the records, which then look absent.
// A damaged record is absent without being an error: it will be made again.
func (r *Reader) Err() error {
	r.load()
	return r.err
}

func (r *Reader) load() *recordIndex {
	r.once.Do(func() {
		if r.index, r.err = r.open(); r.err != nil {
			r.index, r.err = newRecordIndex(), fmt.Errorf("reading the records: %w", r.err)
		}
	})
	return r.index
}

func (r *Reader) open() (*recordIndex, error) {
	f, err := os.Open(journalPath(r.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return newRecordIndex(), nil
	}
	if err != nil {
		return nil, err
	}
	x := readIndex(r.dir, f)
	if err := x.follow(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	r.f = f
	return x, nil
}

// Record returns the record of key, and false when there is none.
func (r *Reader) Record(key Digest) (*Record, bool) {
	x := r.load()
	at, ok := x.find(key)
	if !ok {
		return nil, false
	}
	rec, err := r.read(x.span(at))
	return rec, err == nil && rec.Key == key
}

func (r *Reader) read(s span) (*Record, error) {
	line := make([]byte, s.len)
	if _, err := r.f.ReadAt(line, s.at); err != nil {
		return nil, err
	}
	return decodeRecord(line)
}

// Brief returns what a plan needs of the record of key, and false when there is
// none: outputs and times, read from an index without looking at the record.
func (r *Reader) Brief(key Digest) (*Record, bool) {
	x := r.load()
	at, ok := x.find(key)
	if !ok {
		return nil, false
	}
	return x.brief(at), true
}

// Len returns the number of records.
func (r *Reader) Len() int { return r.load().n }

// Records yields all records in the order in which they were last committed.
func (r *Reader) Records() iter.Seq[*Record] {
	return func(yield func(*Record) bool) {
		x := r.load()
		spans := make([]span, 0, x.n)
		for _, at := range x.table {
			if at != 0 {
				spans = append(spans, x.span(int(at-1)))
			}
		}
		slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.at, b.at) })
		for _, s := range spans {
			if rec, err := r.read(s); err == nil && !yield(rec) {
				return
			}
		}
	}
}

// Blobs returns the cache's blobs.
func (r *Reader) Blobs() *Blobs { return r.blobs }

// Run returns the state of the last run of a study, nil when there was none.
func (r *Reader) Run(studyID string) (*Run, error) { return loadRun(r.dir, studyID) }

// ReadRun is Run, but reads the nodes only when they are asked for with
// Run.Node or Run.LoadNodes; until then Nodes is nil.
func (r *Reader) ReadRun(studyID string) (*Run, error) {
	return readRun(r.dir, studyID)
}

// Runs returns the state of every study's last run, in the order of study ids.
// Files that cannot be read are in the error, the others are returned all the
// same.
func (r *Reader) Runs() ([]*Run, error) { return loadRuns(r.dir) }

// FileDigest returns the SHA-256 and the size in bytes of a source file. It
// uses the stamps that Store.FileDigest left and remembers new ones only for
// itself.
func (r *Reader) FileDigest(path string) (Digest, int64, error) { return r.stamps.fileDigest(path) }
