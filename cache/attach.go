package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// attach takes the lock and opens the database and the journal, or leaves that
// to Ready if it may come later and there is nothing to mend.
func (s *Store) attach(ctx context.Context, wait time.Duration, later bool) error {
	owner := s.owner
	owner.Since = s.now()
	locks, unclean, err := s.lock(ctx, owner, wait)
	if err != nil {
		return err
	}
	attached := false
	defer func() {
		if !attached {
			unlock(locks, !unclean)
		}
	}()
	id, err := s.identity()
	if err != nil {
		return err
	}
	later = later && !unclean && id.ID != "" && s.journalThere()
	if later {
		fresh, _, err := checkDatabase(databasePath(s.stateDir))
		switch {
		case err == nil && !fresh:
		case err == nil || errors.Is(err, fs.ErrNotExist):
			later = false
		default:
			return &DatabaseError{Dir: databasePath(s.stateDir), Journal: journalPath(s.dir), Err: err}
		}
	}
	s.stamps.begin()
	var db *database
	var j *journal
	if !later {
		if db, j, err = s.openDatabase(id, unclean); err != nil {
			return err
		}
	}
	attached = true
	s.mu.Lock()
	s.locks, s.journal, s.db, s.later, s.users = locks, j, db, later, new(sync.WaitGroup)
	closed := s.closed
	s.mu.Unlock()
	if closed { // while this waited for the lock
		return errors.Join(fmt.Errorf("resuming: %w", ErrSuspended), s.detach())
	}
	return nil
}

func (s *Store) journalThere() bool {
	_, err := os.Stat(journalPath(s.dir))
	return err == nil
}

// openDatabase opens the database and brings it and the journal into agreement.
func (s *Store) openDatabase(id identity, unclean bool) (*database, *journal, error) {
	db, err := openDatabase(databasePath(s.stateDir), journalPath(s.dir))
	if err != nil {
		return nil, nil, err
	}
	j, err := s.settle(db, id, unclean)
	if err != nil {
		return nil, nil, errors.Join(err, db.close())
	}
	return db, j, nil
}

// Ready opens the database if Options.Later put that off, as everything that
// needs it does. It reports whether the journal had to be mended: what was read
// of it before may not hold.
func (s *Store) Ready() (mended bool, err error) {
	if !s.isLater() {
		return false, nil
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	if !s.isLater() {
		return false, nil
	}
	id, err := s.identity()
	if err != nil {
		return false, err
	}
	before, _ := os.Stat(journalPath(s.dir))
	db, j, err := s.openDatabase(id, false)
	if err != nil {
		return false, err
	}
	after, _ := os.Stat(journalPath(s.dir))
	mended = before == nil || after == nil || !os.SameFile(before, after) || before.Size() != after.Size()
	s.mu.Lock()
	s.db, s.journal, s.later = db, j, false
	s.mu.Unlock()
	return mended, s.rememberLoss()
}

func (s *Store) isLater() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.later
}

// detach undoes attach.
func (s *Store) detach() error {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.mu.Lock()
	db, users, locks, later := s.db, s.users, s.locks, s.later
	s.db, s.later = nil, false
	s.mu.Unlock()
	if later {
		err := s.stamps.end()
		return errors.Join(err, unlock(locks, err == nil))
	}
	if db == nil {
		return nil
	}
	users.Wait()
	s.commits.Lock()
	defer s.commits.Unlock()
	err := errors.Join(s.stamps.end(), s.journal.close(), db.close())
	if err == nil {
		_ = writeIndex(s.dir) // it only saves work
	}
	return errors.Join(err, unlock(locks, err == nil))
}

// unlock gives the locks back. After a close that was not clean the lock files
// keep their text, and the next to open looks closely.
func unlock(locks []*fileLock, clean bool) error {
	var errs []error
	for _, l := range locks {
		if clean {
			errs = append(errs, l.release())
		} else {
			l.abandon()
		}
	}
	return errors.Join(errs...)
}

// lock takes the lock of StateDir, which guards the database, and that of Dir,
// which guards the rest, where they differ: two machines with a state directory
// each must not write one network directory. A file system without flock is let
// pass for the second.
func (s *Store) lock(ctx context.Context, owner Owner, wait time.Duration) (locks []*fileLock, unclean bool, err error) {
	l, err := lockDir(ctx, s.stateDir, owner, wait)
	if err != nil {
		return nil, false, err
	}
	locks, unclean = append(locks, l), l.unclean
	if s.stateDir == s.dir {
		return locks, unclean, nil
	}
	l, err = lockDir(ctx, s.dir, owner, wait)
	switch {
	case err == nil:
		return append(locks, l), unclean || l.unclean, nil
	case errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.ENOLCK), errors.Is(err, syscall.ENOSYS):
		return locks, unclean, nil
	}
	locks[0].release()
	return nil, false, err
}

// identity ties a cache directory to its database: runs/cache.id names the
// cache and the state directory in use. Without it a forgotten --state-dir would
// begin a second, empty ledger.
type identity struct {
	ID       string `json:"id"`
	StateDir string `json:"state_dir,omitempty"` // empty: the cache directory itself
}

func (s *Store) identityPath() string { return filepath.Join(s.dir, "runs", "cache.id") }

func (s *Store) identity() (identity, error) {
	var id identity
	text, err := os.ReadFile(s.identityPath())
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return id, fmt.Errorf("opening the cache: %w", err)
	}
	if err := json.Unmarshal(text, &id); err != nil || id.ID == "" {
		return identity{}, nil // the database knows it too
	}
	if id.StateDir == s.recordedStateDir() {
		return id, nil
	}
	if _, err := os.Stat(databasePath(s.stateDir)); errors.Is(err, fs.ErrNotExist) {
		was, flag := id.StateDir, "--state-dir "+id.StateDir
		if was == "" {
			was, flag = s.dir, "no --state-dir"
		}
		return id, fmt.Errorf("the cache %s keeps its database, with the ledger of paid answers, in %s, and there is none in %s: "+
			"use %s, or move %s to %s; if that database is lost for good, remove %s and look at the open batches before you let it buy answers",
			s.dir, was, s.stateDir, flag, databasePath(was), databasePath(s.stateDir), s.identityPath())
	}
	return id, nil
}

func (s *Store) recordedStateDir() string {
	if s.stateDir == s.dir {
		return ""
	}
	return s.stateDir
}

// settle brings database, journal and identity into agreement after opening.
func (s *Store) settle(db *database, id identity, unclean bool) (*journal, error) {
	if err := db.redo(); err != nil {
		return nil, err
	}
	have, err := db.get([]byte(metaID))
	if err != nil {
		return nil, err
	}
	fresh, moved := have == nil, false
	lost := fresh && id.ID != ""
	switch {
	case fresh && id.ID == "":
		raw := make([]byte, 16)
		rand.Read(raw)
		id.ID = hex.EncodeToString(raw)
	case fresh:
	default:
		was, err := db.get([]byte(metaDir))
		if err != nil {
			return nil, err
		}
		// A cache that lost its runs/ is known by its place.
		if id.ID == "" && (s.stateDir == s.dir || string(was) == s.dir) {
			id.ID = string(have)
		}
		if string(have) != id.ID {
			return nil, fmt.Errorf("the database %s belongs to another cache, last seen at %s, not to %s: give each cache a state directory of its own", db.dir, was, s.dir)
		}
		moved = string(was) != s.dir
	}
	j, err := openJournal(journalPath(s.dir))
	if err != nil {
		return nil, err
	}
	if err := s.reconcile(db, j, lost, unclean); err != nil {
		return nil, errors.Join(err, j.f.Close())
	}
	if fresh || moved {
		if err := db.commit([]entry{{[]byte(metaID), []byte(id.ID)}, {[]byte(metaDir), []byte(s.dir)}}); err != nil {
			return nil, errors.Join(err, j.f.Close())
		}
	}
	want := identity{ID: id.ID, StateDir: s.recordedStateDir()}
	text, err := json.Marshal(want)
	if err != nil {
		return nil, err
	}
	if old, err := os.ReadFile(s.identityPath()); err != nil || !bytes.Equal(old, append(text, '\n')) {
		if err := replaceFile(s.identityPath(), append(text, '\n')); err != nil {
			return nil, errors.Join(err, j.f.Close())
		}
	}
	return j, nil
}

// reconcile makes the journal hold the records of the database. A length that
// the last commit wrote down tells whether it does; after a process that did
// not close, every line is compared.
func (s *Store) reconcile(db *database, j *journal, lost, unclean bool) error {
	want, known, err := readJournalLength(db)
	if err != nil {
		return err
	}
	if known && want == j.size && !unclean {
		return nil
	}
	if !known && j.size == 0 && !lost {
		return db.commit([]entry{journalLength(0)})
	}
	// The journal may know records that the database lost; the other way round
	// is usual after a crash.
	if !known || j.size > want {
		n, err := importJournal(db, j.path)
		if err != nil {
			return err
		}
		if lost {
			s.noticeLoss()
			s.notice("the database %s was gone: %d records were taken from %s; the ledger of batches and paid answers is empty", db.dir, n, j.path)
		} else if n > 0 && known {
			s.noticeLoss()
			s.notice("the database %s had lost %d records, which were taken from %s; the ledger of batches and paid answers may have lost its last entries too", db.dir, n, j.path)
		}
	}
	same := !known || want == j.size
	if same {
		if same, err = sameRecords(db, j.path); err != nil {
			return err
		}
	}
	if !same {
		if err := j.rewrite(databaseLines(db)); err != nil {
			return err
		}
	}
	if known && want == j.size {
		return nil
	}
	return db.commit([]entry{journalLength(j.size)})
}

func readJournalLength(db *database) (n int64, known bool, err error) {
	v, err := db.get([]byte(metaJournal))
	if err != nil || len(v) != 12 {
		return 0, false, err
	}
	e := journalLength(int64(binary.BigEndian.Uint64(v)))
	return int64(binary.BigEndian.Uint64(v)), bytes.Equal(e.value, v), nil
}

// importJournal stores the journal's records that the database does not have
// and returns how many there were.
func importJournal(db *database, path string) (int, error) {
	x, err := indexJournal(path)
	if err != nil {
		return 0, err
	}
	defer x.close()
	var entries []entry
	n := 0
	for line, err := range x.lines() {
		if err != nil {
			return 0, fmt.Errorf("reading the records: %w", err)
		}
		key, err := checkLine(line)
		if err != nil {
			continue
		}
		have, err := readLine(db, key)
		if err != nil {
			return 0, err
		}
		if have != nil {
			continue
		}
		entries = appendLine(entries, key, line)
		n++
		if len(entries) >= 1000 {
			if err := db.commitAll(entries); err != nil {
				return 0, err
			}
			entries = entries[:0]
		}
	}
	return n, db.commitAll(entries)
}

// sameRecords reports whether the journal holds the database's records, byte by
// byte, and no others.
func sameRecords(db *database, path string) (bool, error) {
	x, err := indexJournal(path)
	if err != nil {
		return false, err
	}
	defer x.close()
	n := 0
	for line, err := range databaseLines(db) {
		if err != nil {
			return false, err
		}
		key, err := checkLine(line)
		if err != nil {
			continue
		}
		there, err := x.line(key)
		if err != nil {
			return false, fmt.Errorf("reading the records: %w", err)
		}
		if !bytes.Equal(there, line) {
			return false, nil
		}
		n++
	}
	return n == len(x.spans), nil
}

// databaseLines yields the lines of the database's good records, by key.
func databaseLines(db *database) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		stop := errors.New("stop")
		err := db.scan("r", func(k string, v []byte) error {
			if len(k) != len(Digest{}) {
				return nil
			}
			line, err := wholeLine(db, Digest([]byte(k)), v)
			if err != nil {
				return err
			}
			if key, err := checkLine(line); err != nil || key != Digest([]byte(k)) {
				return nil
			}
			if !yield(line, nil) {
				return stop
			}
			return nil
		})
		if err != nil && err != stop {
			yield(nil, err)
		}
	}
}
