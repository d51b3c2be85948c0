package cache

import (
	"os"
	"path/filepath"
	"testing"
)

// A kill while Badger takes away logs that are done with leaves the older ones
// without a byte.
func TestLogsThatWereDoneWith(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.Bucket("ledger").Put(map[string][]byte{"a": []byte("kept")}))
	closeStore(t, s)
	db := filepath.Join(dir, "db")
	for _, name := range []string{"00003.mem", "00005.mem", "000003.vlog", "000005.vlog"} {
		must(t, os.WriteFile(filepath.Join(db, name), nil, 0o644))
	}
	for _, name := range []string{"00004.mem", "00006.mem", "000006.vlog"} { // begun, and empty as well but for their size
		must(t, os.WriteFile(filepath.Join(db, name), make([]byte, 1<<20), 0o644))
	}
	s = open(t, dir)
	if v, ok, err := s.Bucket("ledger").Get("a"); string(v) != "kept" || !ok || err != nil {
		t.Errorf("%q %v %v", v, ok, err)
	}
	must(t, s.Bucket("ledger").Put(map[string][]byte{"b": []byte("new")}))
	closeStore(t, s)
}

// A kill while Badger makes a log leaves a file without a byte: in a new
// database, or beside logs that hold something.
func TestLogThatWasJustMade(t *testing.T) {
	for _, name := range []string{"00001.mem", "000001.vlog", "00099.mem", "000099.vlog"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			must(t, s.Bucket("ledger").Put(map[string][]byte{"a": []byte("kept")}))
			closeStore(t, s)
			db := filepath.Join(dir, "db")
			path := filepath.Join(db, name)
			if _, err := os.Stat(path); err == nil {
				must(t, os.RemoveAll(db)) // an empty first log: nothing was there yet
				must(t, os.RemoveAll(filepath.Join(dir, "runs")))
				closeStore(t, open(t, dir))
				for _, f := range []string{"*.mem", "*.vlog"} {
					for _, old := range glob(t, filepath.Join(db, f)) {
						must(t, os.Remove(old))
					}
				}
				must(t, os.WriteFile(path, nil, 0o644))
				closeStore(t, open(t, dir))
				return
			}
			must(t, os.WriteFile(path, nil, 0o644))
			s = open(t, dir)
			if v, ok, err := s.Bucket("ledger").Get("a"); string(v) != "kept" || !ok || err != nil {
				t.Errorf("%q %v %v", v, ok, err)
			}
			closeStore(t, s)
		})
	}
}
