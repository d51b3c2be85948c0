package cache

import (
	"os"
	"path/filepath"
	"testing"
)

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
