package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Options say which cache to open and how.
type Options struct {
	// Dir is the cache directory; it is made when it does not exist.
	Dir string
	// StateDir holds the database and the lock; empty is Dir. It is for caches
	// on network file systems, where Badger must not be.
	StateDir string
	// Command is what this process does, "apply studies/r1.hcl", for the
	// message that others get while it holds the lock.
	Command string
	// Wait is how long to wait for the lock; 0 is not at all, negative without
	// limit.
	Wait time.Duration
	// Later leaves a database that was closed properly alone until something
	// needs it; see Store.Ready.
	Later bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Store is the cache as its one writer sees it. It is safe for concurrent use.
type Store struct {
	dir, stateDir string
	owner         Owner
	now           func() time.Time
	blobs         *Blobs
	stamps        *stamps

	mu      sync.Mutex // guards what follows
	db      *database  // nil while suspended, closed or not needed yet
	later   bool       // the lock is held, and nothing has needed the database yet
	users   *sync.WaitGroup
	locks   []*fileLock
	closed  bool
	notices []string
	loss    bool // found on attaching, not yet remembered

	commits sync.Mutex // order of commits, which is the journal's order
	journal *journal

	opening sync.Mutex // held while the database is opened later
}

// Open opens the cache for writing, making it if need be. It returns a
// *LockedError when another process has it, and a *DatabaseError when the
// database is damaged.
func Open(ctx context.Context, o Options) (*Store, error) {
	s := &Store{now: o.Now}
	if s.now == nil {
		s.now = time.Now
	}
	if o.Dir == "" {
		return nil, errors.New("opening the cache: no directory given")
	}
	var err error
	if s.dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	s.stateDir = s.dir
	if o.StateDir != "" {
		if s.stateDir, err = filepath.Abs(o.StateDir); err != nil {
			return nil, err
		}
	}
	if err := makeFolders(s.dir, s.stateDir); err != nil {
		return nil, err
	}
	s.stamps = newStamps(s.dir, s.now)
	s.blobs = newBlobs(s.dir, s.stamps, s.now)
	s.owner = Self(o.Command, s.now())
	if err := s.attach(ctx, o.Wait, o.Later); err != nil {
		return nil, err
	}
	if err := s.rememberLoss(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.blobs.sweep()
	for _, d := range []string{filepath.Join(s.dir, "runs"), databasePath(s.stateDir)} {
		sweepReplaced(d, s.now())
	}
	return s, nil
}

// makeFolders makes the folders of a cache and the entries that lead to them
// durable: a synced blob in a folder that a power cut takes away is no blob.
func makeFolders(dir, stateDir string) error {
	for _, d := range []string{stateDir, filepath.Join(dir, "runs"), filepath.Join(dir, "blobs"), filepath.Join(dir, "scratch")} {
		if _, err := os.Stat(d); err == nil {
			continue
		}
		if err := os.MkdirAll(d, 0o755); err != nil {
			return writeError(d, err)
		}
		for _, up := range []string{filepath.Dir(d), filepath.Dir(filepath.Dir(d))} {
			if err := syncDir(up); err != nil && !errors.Is(err, fs.ErrPermission) {
				return writeError(d, err)
			}
		}
	}
	return nil
}

// Close saves what is to be saved and gives the lock back. Blobs stay usable.
// Closing twice is no error.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return s.detach()
}

// Suspend closes the database and gives the lock to whoever waits for it. Blobs,
// FileDigest and SaveRun stay usable; records and buckets answer ErrSuspended
// until Resume. It waits for operations that are under way.
func (s *Store) Suspend() error { return s.detach() }

// Resume undoes Suspend, waiting for the lock until ctx is done. Another
// process may have added records and changed buckets meanwhile.
func (s *Store) Resume(ctx context.Context) error {
	s.mu.Lock()
	closed, open := s.closed, s.db != nil || s.later
	s.mu.Unlock()
	if closed {
		return fmt.Errorf("resuming: %w", ErrSuspended)
	}
	if open {
		return nil
	}
	if err := s.attach(ctx, -1, false); err != nil {
		return err
	}
	return s.rememberLoss()
}

// Dir returns the absolute path of the cache directory.
func (s *Store) Dir() string { return s.dir }

// Owner returns this process as the lock names it.
func (s *Store) Owner() Owner { return s.owner }

// Blobs returns the cache's blobs.
func (s *Store) Blobs() *Blobs { return s.blobs }

// lossKey stands in the bucket "state" from when the ledger was found lost
// until somebody accepts it.
const lossKey = "ledger lost"

// noticeLoss notes that the ledger of batches and paid answers lost entries.
func (s *Store) noticeLoss() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loss = true
}

// rememberLoss makes the note survive this process.
func (s *Store) rememberLoss() error {
	s.mu.Lock()
	loss := s.loss
	s.mu.Unlock()
	if !loss {
		return nil
	}
	return s.Bucket("state").Put(map[string][]byte{lossKey: []byte(s.now().UTC().Format(time.RFC3339))})
}

// LedgerLost reports whether the database was lost, in part or whole, with
// answers in it that were paid for, and nobody has accepted that since: what
// looks unsent may have been bought.
func (s *Store) LedgerLost() (bool, error) {
	_, lost, err := s.Bucket("state").Get(lossKey)
	return lost, err
}

// AcceptLoss ends the state of LedgerLost.
func (s *Store) AcceptLoss() error {
	s.mu.Lock()
	s.loss = false
	s.mu.Unlock()
	return s.Bucket("state").Delete(lossKey)
}

// Notices returns what a person should know about how the cache was opened:
// records taken from the journal, an empty ledger where there was one.
func (s *Store) Notices() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.notices...)
}

func (s *Store) notice(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notices = append(s.notices, fmt.Sprintf(format, args...))
}

// Reader returns a reader of the records committed so far, which is faster than
// Record for many of them.
func (s *Store) Reader() (*Reader, error) {
	s.commits.Lock() // between two commits: what was committed is in the file
	defer s.commits.Unlock()
	r := newReader(s.dir, s.blobs, s.stamps)
	return r, r.Err()
}

// SaveRun replaces runs/<study id>.json with r and the time as heartbeat; an
// empty Owner is this process. Readers see the old state or the new. It syncs a
// file, so callers leave about a second between two.
func (s *Store) SaveRun(r *Run) error { return saveRun(s.dir, r, s.owner, s.now()) }

// Scratch returns the directory for unfinished work on the node of that key,
// making it if need be. What is there survives a crash or was never written;
// it is never read as a result.
func (s *Store) Scratch(key Digest) (string, error) {
	dir := s.scratch(key)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", writeError(dir, err)
	}
	return dir, nil
}

// DropScratch removes that directory.
func (s *Store) DropScratch(key Digest) error { return os.RemoveAll(s.scratch(key)) }

func (s *Store) scratch(key Digest) string {
	return filepath.Join(s.dir, "scratch", key.String())
}

// FileDigest returns the SHA-256 and the size in bytes of a source file. A file
// is hashed unless device, inode, size, mtime and ctime are as they were when
// it was hashed before, at least two seconds after its last change.
func (s *Store) FileDigest(path string) (Digest, int64, error) { return s.stamps.fileDigest(path) }

// Record returns the record of key, nil when there is none or it is damaged.
func (s *Store) Record(key Digest) (*Record, error) {
	db, done, err := s.begin()
	if err != nil {
		return nil, err
	}
	defer done()
	line, err := readLine(db, key)
	if err != nil || line == nil {
		return nil, err
	}
	rec, err := decodeRecord(line)
	if err == nil && rec.Key != key {
		err = errors.New("it has another key")
	}
	if err != nil {
		s.notice("the record of key %s is damaged (%v): its node will run again", key.Short(), err)
		return nil, nil
	}
	return rec, nil
}

// Commit stores the records; they are on the disk when it returns nil, and in
// the journal, where readers look. Each record is there whole or not at all;
// after a crash in the middle of many, some may be there.
func (s *Store) Commit(recs ...*Record) error {
	db, done, err := s.begin()
	if err != nil {
		return err
	}
	defer done()
	var entries []entry
	var lines []byte
	for _, r := range recs {
		if err := r.check(); err != nil {
			return err
		}
		line, err := encodeRecord(r)
		if err != nil {
			return err
		}
		entries = appendLine(entries, r.Key, line)
		lines = append(append(lines, line...), '\n')
	}
	s.commits.Lock()
	defer s.commits.Unlock()
	if err := db.commitAll(entries, journalLength(s.journal.target(lines))); err != nil {
		return err
	}
	return s.journal.append(lines)
}

// Withdraw says of the results of keys that they no longer count, and why: their
// nodes are run again, and so is what reads them if it comes out differently.
// Keys without a result are passed over.
func (s *Store) Withdraw(why string, keys ...Digest) error {
	var recs []*Record
	for _, k := range keys {
		r, err := s.Record(k)
		if err != nil {
			return err
		}
		if r != nil {
			r.Withdrawn = why
			recs = append(recs, r)
		}
	}
	if len(recs) == 0 {
		return nil
	}
	return s.Commit(recs...)
}

// begin returns the database for one operation; done ends it.
func (s *Store) begin() (db *database, done func(), err error) {
	if _, err := s.Ready(); err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil, nil, ErrSuspended
	}
	s.users.Add(1)
	return s.db, s.users.Done, nil
}

// appendLine adds the entries of a record. A line too long for one value is cut
// in parts that are stored before the entry that counts them; its own sum tells
// when they do not belong together.
func appendLine(entries []entry, key Digest, line []byte) []entry {
	if len(line) <= partSize {
		return append(entries, entry{append([]byte("r"), key[:]...), line})
	}
	n := 0
	for ; n*partSize < len(line); n++ {
		part := line[n*partSize : min((n+1)*partSize, len(line))]
		entries = append(entries, entry{partKey(key, n), part})
	}
	return append(entries, entry{append([]byte("r"), key[:]...), binary.BigEndian.AppendUint32(nil, uint32(n))})
}

func partKey(key Digest, n int) []byte {
	return binary.BigEndian.AppendUint32(append([]byte("R"), key[:]...), uint32(n))
}

func readLine(db *database, key Digest) ([]byte, error) {
	v, err := db.get(append([]byte("r"), key[:]...))
	if err != nil || v == nil {
		return nil, err
	}
	return wholeLine(db, key, v)
}

func wholeLine(db *database, key Digest, v []byte) ([]byte, error) {
	if len(v) != 4 {
		return v, nil
	}
	parts := int(binary.BigEndian.Uint32(v))
	line := make([]byte, 0, min(parts, 64)*partSize)
	for n := range parts {
		part, err := db.get(partKey(key, n))
		if err != nil {
			return nil, err
		}
		if part == nil {
			break // decodeRecord finds it short
		}
		line = append(line, part...)
	}
	return line, nil
}

func journalLength(n int64) entry {
	v := binary.BigEndian.AppendUint64(nil, uint64(n))
	return entry{[]byte(metaJournal), binary.BigEndian.AppendUint32(v, crc32.Checksum(v, castagnoli))}
}
