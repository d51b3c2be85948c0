package cache

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// databaseStamp tells whether anything was done to the database's folder.
func databaseStamp(t *testing.T, dir string) time.Time {
	t.Helper()
	var last time.Time
	entries, err := os.ReadDir(databasePath(dir))
	must(t, err)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last
}

// A store opened with Later holds the lock, but leaves the database alone until
// something needs it.
func TestLater(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{Dir: dir})
	must(t, err)
	rec := &Record{Key: Sum([]byte("k")), Address: "a", Kind: "t"}
	must(t, s.Commit(rec))
	must(t, s.Close())
	before := databaseStamp(t, dir)

	s, err = Open(t.Context(), Options{Dir: dir, Later: true})
	must(t, err)
	if _, err := Open(t.Context(), Options{Dir: dir}); err == nil {
		t.Error("a second store was opened beside it")
	}
	r, err := s.Reader()
	must(t, err)
	if _, ok := r.Record(rec.Key); !ok {
		t.Error("the record is not seen before the database is open")
	}
	must(t, s.SaveRun(&Run{StudyID: "s", State: "done"}))
	must(t, s.Close())
	if at := databaseStamp(t, dir); at != before {
		t.Error("the database was opened although nothing needed it")
	}

	s, err = Open(t.Context(), Options{Dir: dir, Later: true})
	must(t, err)
	if got, err := s.Record(rec.Key); err != nil || got == nil {
		t.Errorf("record %v, %v", got, err)
	}
	more := &Record{Key: Sum([]byte("l")), Address: "b", Kind: "t"}
	must(t, s.Commit(more))
	if mended, err := s.Ready(); mended || err != nil {
		t.Errorf("Ready says %v, %v of an open database", mended, err)
	}
	must(t, s.Close())
	if _, err := s.Record(rec.Key); err == nil {
		t.Error("a closed store opened the database again")
	}
}

// What the lock file and a short look can tell is told at once; what only the
// open database shows is mended when it is opened.
func TestLaterFindsHarm(t *testing.T) {
	fill := func(t *testing.T) (string, *Record) {
		dir := t.TempDir()
		s, err := Open(t.Context(), Options{Dir: dir})
		must(t, err)
		rec := &Record{Key: Sum([]byte("k")), Address: "a", Kind: "t"}
		must(t, s.Commit(rec))
		must(t, s.Close())
		return dir, rec
	}
	t.Run("journal cut short", func(t *testing.T) {
		dir, rec := fill(t)
		must(t, os.Truncate(journalPath(dir), 0))
		s, err := Open(t.Context(), Options{Dir: dir, Later: true})
		must(t, err)
		defer s.Close()
		if mended, err := s.Ready(); !mended || err != nil {
			t.Errorf("Ready says %v, %v", mended, err)
		}
		r, err := s.Reader()
		must(t, err)
		if _, ok := r.Record(rec.Key); !ok {
			t.Error("the record did not come back")
		}
	})
	t.Run("database gone", func(t *testing.T) {
		dir, _ := fill(t)
		must(t, os.RemoveAll(databasePath(dir)))
		s, err := Open(t.Context(), Options{Dir: dir, Later: true})
		must(t, err)
		defer s.Close()
		if len(s.Notices()) == 0 {
			t.Error("nothing is said of the lost database")
		}
	})
	t.Run("manifest damaged", func(t *testing.T) {
		dir, _ := fill(t)
		must(t, os.WriteFile(filepath.Join(databasePath(dir), "MANIFEST"), []byte("no manifest"), 0o644))
		if s, err := Open(t.Context(), Options{Dir: dir, Later: true}); err == nil {
			s.Close()
			t.Error("a damaged database was let pass")
		}
	})
	t.Run("not closed", func(t *testing.T) {
		dir, _ := fill(t)
		s, err := Open(t.Context(), Options{Dir: dir})
		must(t, err)
		s.mu.Lock()
		for _, l := range s.locks {
			l.abandon()
		}
		db := s.db
		s.mu.Unlock()
		must(t, db.b.Close())
		before := databaseStamp(t, dir)
		next, err := Open(t.Context(), Options{Dir: dir, Later: true})
		must(t, err)
		defer next.Close()
		if databaseStamp(t, dir) == before {
			t.Error("after a process that did not close, the database was not looked at")
		}
	})
}
