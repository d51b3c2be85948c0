package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
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
	index *journalIndex
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
	r.once.Do(func() { r.index = &journalIndex{} })
	return r.index.close()
}

// Err returns what went wrong in reading the records, which then look absent.
// A damaged record is absent without being an error: it will be made again.
func (r *Reader) Err() error {
	r.load()
	return r.err
}

func (r *Reader) load() *journalIndex {
	r.once.Do(func() {
		r.index, r.err = indexJournal(journalPath(r.dir))
		if r.err != nil {
			r.index = &journalIndex{}
		}
	})
	return r.index
}

// Record returns the record of key, and false when there is none.
func (r *Reader) Record(key Digest) (*Record, bool) {
	line, err := r.load().line(key)
	if err != nil || line == nil {
		return nil, false
	}
	rec, err := decodeRecord(line)
	return rec, err == nil
}

// Len returns the number of records.
func (r *Reader) Len() int { return len(r.load().spans) }

// Records yields all records in the order in which they were last committed.
func (r *Reader) Records() iter.Seq[*Record] {
	return func(yield func(*Record) bool) {
		for line, err := range r.load().lines() {
			if err != nil {
				return
			}
			if rec, err := decodeRecord(line); err == nil && !yield(rec) {
				return
			}
		}
	}
}

// Blobs returns the cache's blobs.
func (r *Reader) Blobs() *Blobs { return r.blobs }

// Run returns the state of the last run of a study, nil when there was none.
func (r *Reader) Run(studyID string) (*Run, error) { return loadRun(r.dir, studyID) }

// Runs returns the state of every study's last run, in the order of study ids.
// Files that cannot be read are in the error, the others are returned all the
// same.
func (r *Reader) Runs() ([]*Run, error) { return loadRuns(r.dir) }

// FileDigest returns the SHA-256 and the size in bytes of a source file. It
// uses the stamps that Store.FileDigest left and remembers new ones only for
// itself.
func (r *Reader) FileDigest(path string) (Digest, int64, error) { return r.stamps.fileDigest(path) }
