//go:build linux

package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBucket(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := s.Bucket("ledger")
	if v, ok, err := b.Get("none"); v != nil || ok || err != nil {
		t.Errorf("absent key: %q %v %v", v, ok, err)
	}
	must(t, b.Put(nil))
	must(t, b.Put(map[string][]byte{"req/2": []byte("two"), "req/1": []byte("one"), "empty": {}, "": []byte("no key"), "req/10": nil}))
	must(t, s.Bucket("ledger2").Put(map[string][]byte{"req/1": []byte("other")}))
	if v, ok, err := b.Get("empty"); v == nil || len(v) != 0 || !ok || err != nil {
		t.Errorf("empty value: %v %v %v", v, ok, err)
	}
	if v, ok, err := b.Get(""); string(v) != "no key" || !ok || err != nil {
		t.Errorf("empty key: %q %v %v", v, ok, err)
	}
	scan := func(prefix string) (got []string) {
		must(t, b.Scan(prefix, func(k string, v []byte) error { got = append(got, k+"="+string(v)); return nil }))
		return got
	}
	if got := scan("req/"); !reflect.DeepEqual(got, []string{"req/1=one", "req/10=", "req/2=two"}) {
		t.Errorf("scan: %q", got)
	}
	stop := errors.New("stop")
	n := 0
	if err := b.Scan("", func(k string, v []byte) error { n++; return stop }); err != stop || n != 1 {
		t.Errorf("a scan that was stopped: %v after %d", err, n)
	}
	must(t, b.Scan("req/", func(k string, v []byte) error { return b.Delete(k, "never there") }))
	if got := scan("req/"); got != nil {
		t.Errorf("after Delete: %q", got)
	}
	if _, ok, _ := s.Bucket("ledger2").Get("req/1"); !ok {
		t.Error("the other bucket lost its entry")
	}
	if err := b.Put(map[string][]byte{"a": make([]byte, MaxValueLen+1), "b": nil}); err == nil {
		t.Error("a value too large was accepted")
	}
	if err := b.Put(map[string][]byte{strings.Repeat("k", MaxKeyLen+1): nil}); err == nil {
		t.Error("a key too large was accepted")
	}
	if _, ok, _ := b.Get("b"); ok {
		t.Error("half of a refused Put is there")
	}
	if _, _, err := s.Bucket("a\x00b").Get("x"); err == nil {
		t.Error("a name with NUL was accepted")
	}
}

func bigPut(n int) map[string][]byte {
	kv := map[string][]byte{}
	for i := range n {
		kv[fmt.Sprintf("req/%06d", i)] = bytes.Repeat([]byte{byte(i)}, 100)
	}
	kv["large"] = bytes.Repeat([]byte("x"), MaxValueLen)
	return kv
}

func TestPutLargerThanATransaction(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	kv := bigPut(30000)
	must(t, s.Bucket("ledger").Put(kv))
	check := func() {
		t.Helper()
		n := 0
		must(t, s.Bucket("ledger").Scan("", func(k string, v []byte) error {
			if n++; !bytes.Equal(v, kv[k]) {
				t.Errorf("%s is different", k)
			}
			return nil
		}))
		if n != len(kv) {
			t.Errorf("%d of %d entries", n, len(kv))
		}
		for _, p := range []string{"w", "W"} {
			must(t, s.db.scan(p, func(k string, _ []byte) error { t.Errorf("%s%x is left", p, k); return nil }))
		}
	}
	check()
	closeStore(t, s)
	s = open(t, dir)
	check()
	var keys []string
	for k := range kv {
		keys = append(keys, k)
	}
	must(t, s.Bucket("ledger").Delete(keys...))
	kv = nil
	check()
}

// A crash in a large Put: before the mark nothing of it is there, after it
// everything.
func TestLargePutIsWholeAfterACrash(t *testing.T) {
	for _, marked := range []bool{false, true} {
		dir := t.TempDir()
		s := open(t, dir)
		b := s.Bucket("ledger")
		must(t, b.Put(map[string][]byte{"k": []byte("old")}))
		var plan []byte
		for _, e := range []entry{{[]byte(b.prefix + "k"), b.frame("k", []byte("new"))}, {[]byte(b.prefix + "l"), b.frame("l", nil)}} {
			plan = append(append(append(plan, byte(len(e.key))), e.key...), byte(len(e.value)))
			plan = append(plan, e.value...)
		}
		id := "12345678"
		must(t, s.db.commitAll([]entry{{[]byte("w" + id + "\x00\x00\x00\x00"), plan[:10]}, {[]byte("w" + id + "\x00\x00\x00\x01"), plan[10:]}}))
		if marked {
			sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(plan, castagnoli))
			must(t, s.db.commit([]entry{{[]byte("W" + id), sum}}))
		}
		closeStore(t, s)
		s = open(t, dir)
		v, _, err := s.Bucket("ledger").Get("k")
		must(t, err)
		if want := map[bool]string{false: "old", true: "new"}[marked]; string(v) != want {
			t.Errorf("marked %v: %q", marked, v)
		}
		for _, p := range []string{"w", "W"} {
			must(t, s.db.scan(p, func(k string, _ []byte) error { t.Errorf("%s%x is left", p, k); return nil }))
		}
	}
}

// filledCache makes a closed cache with two tables.
func filledCache(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for round := range 2 { // two tables
		s := open(t, dir)
		for i := range 20 {
			must(t, s.Commit(testRecord(100*round+i)))
		}
		must(t, s.Bucket("ledger").Put(map[string][]byte{fmt.Sprint(round): []byte("paid")}))
		closeStore(t, s)
	}
	return dir
}

func TestDamagedDatabaseIsRefused(t *testing.T) {
	master := filledCache(t)
	tables := glob(t, filepath.Join(master, "db", "*.sst"))
	if len(tables) < 2 {
		t.Fatalf("tables: %v", tables)
	}
	table := filepath.Base(tables[0])
	half := func(b []byte) []byte { return b[:len(b)/2] }
	for name, damage := range map[string]func(t *testing.T, db string){
		"MANIFEST removed": func(t *testing.T, db string) { must(t, os.Remove(filepath.Join(db, "MANIFEST"))) },
		"MANIFEST emptied": func(t *testing.T, db string) {
			edit(t, filepath.Join(db, "MANIFEST"), func([]byte) []byte { return nil })
		},
		"MANIFEST cut short": func(t *testing.T, db string) {
			edit(t, filepath.Join(db, "MANIFEST"), func(b []byte) []byte { return b[:len(b)-3] })
		},
		"MANIFEST cut to its head": func(t *testing.T, db string) {
			edit(t, filepath.Join(db, "MANIFEST"), func(b []byte) []byte { return b[:16] })
		},
		"MANIFEST flipped": func(t *testing.T, db string) { edit(t, filepath.Join(db, "MANIFEST"), flip(30)) },
		"another version": func(t *testing.T, db string) {
			edit(t, filepath.Join(db, "MANIFEST"), func(b []byte) []byte { b[7] = 99; return b })
		},
		"table removed":         func(t *testing.T, db string) { must(t, os.Remove(filepath.Join(db, table))) },
		"table cut short":       func(t *testing.T, db string) { edit(t, filepath.Join(db, table), half) },
		"table emptied":         func(t *testing.T, db string) { edit(t, filepath.Join(db, table), func([]byte) []byte { return nil }) },
		"table flipped early":   func(t *testing.T, db string) { edit(t, filepath.Join(db, table), flip(50)) },
		"table's end flipped":   func(t *testing.T, db string) { edit(t, filepath.Join(db, table), flip(-2)) },
		"table's index flipped": func(t *testing.T, db string) { edit(t, filepath.Join(db, table), flip(-60)) },
		"all but the witness removed": func(t *testing.T, db string) {
			for _, f := range glob(t, filepath.Join(db, "*")) {
				if filepath.Base(f) != witnessName {
					must(t, os.Remove(f))
				}
			}
		},
	} {
		for _, witnessed := range []bool{true, false} {
			if !witnessed && (strings.Contains(name, "cut short") && strings.Contains(name, "MANIFEST") || strings.Contains(name, "head") || strings.Contains(name, "early") || strings.Contains(name, "witness")) {
				continue // only the witness knows
			}
			t.Run(fmt.Sprintf("%s/witness=%v", name, witnessed), func(t *testing.T) {
				dir := t.TempDir()
				must(t, os.CopyFS(dir, os.DirFS(master)))
				db := filepath.Join(dir, "db")
				if !witnessed {
					must(t, os.Remove(filepath.Join(db, witnessName)))
				}
				damage(t, db)
				before := listing(t, db)
				_, err := Open(context.Background(), Options{Dir: dir})
				var damaged *DatabaseError
				if !errors.As(err, &damaged) {
					t.Fatalf("Open: %v", err)
				}
				for _, want := range []string{db, "backup", "mv ", "paid answers", "records.jsonl"} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("message lacks %q: %v", want, err)
					}
				}
				if after := listing(t, db); !reflect.DeepEqual(before, after) {
					t.Errorf("the damaged folder was changed:\n%v\n%v", before, after)
				}
				// Readers do not mind.
				if n := reader(t, dir).Len(); n != 40 {
					t.Errorf("a reader sees %d records", n)
				}
				// What the message says works.
				must(t, os.Rename(db, db+".damaged"))
				s := open(t, dir)
				for i := range 20 {
					if rec, err := s.Record(testRecord(100 + i).Key); err != nil || !reflect.DeepEqual(rec, testRecord(100+i)) {
						t.Fatalf("record %d after recovery: %v %v", i, rec, err)
					}
				}
				if n := s.Notices(); len(n) != 1 || !strings.Contains(n[0], "40 records") || !strings.Contains(n[0], "ledger") {
					t.Errorf("notices %q", n)
				}
				closeStore(t, s)
				if n := open(t, dir).Notices(); len(n) != 0 {
					t.Errorf("second time: notices %q", n)
				}
			})
		}
	}
}

func listing(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	m := map[string]int64{}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		st, err := e.Info()
		must(t, err)
		m[e.Name()] = st.Size()
	}
	return m
}

// Random damage anywhere in the folder, in a process of its own because Badger
// may end it: either the cache opens with everything in it, or it says what is
// wrong. After a clean close there is no third way.
func TestRandomDatabaseDamage(t *testing.T) {
	master := filledCache(t)
	files := []string{}
	for _, f := range glob(t, filepath.Join(master, "db", "*")) {
		if st, err := os.Stat(f); err == nil && st.Size() > 0 {
			files = append(files, filepath.Base(f))
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		dir := t.TempDir()
		must(t, os.CopyFS(dir, os.DirFS(master)))
		name := files[rng.IntN(len(files))]
		how := rng.IntN(3)
		edit(t, filepath.Join(dir, "db", name), func(b []byte) []byte {
			at := rng.IntN(min(len(b), 5000))
			switch how {
			case 0:
				return b[:at]
			case 1:
				return flip(at)(b)
			}
			return append(b, 1, 2, 3)
		})
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CACHE_TEST_ROLE=visit", "CACHE_TEST_DIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			if !bytes.HasPrefix(out, []byte("error: ")) || bytes.Contains(out, []byte("goroutine ")) {
				t.Errorf("%s, way %d: the process ended with %s", name, how, out)
			}
			continue
		}
		s := open(t, dir)
		paid := 0
		must(t, s.Bucket("ledger").Scan("", func(string, []byte) error { paid++; return nil }))
		if paid != 3 {
			t.Errorf("%s, way %d: opened with %d of 3 ledger entries", name, how, paid)
		}
		for i := range 20 {
			if rec, err := s.Record(testRecord(i).Key); rec == nil || err != nil {
				t.Errorf("%s, way %d: record %d is gone: %v", name, how, i, err)
				break
			}
		}
		closeStore(t, s)
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := mountSmall(dir, "10m"); err != nil {
		t.Skipf("no small file system to fill (needs root): %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	s := openWith(t, Options{Dir: filepath.Join(dir, "cache")})
	must(t, s.Commit(testRecord(1)))
	saysWhat := func(what string, err error) {
		t.Helper()
		var full *FullError
		if !errors.As(err, &full) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "make room") {
			t.Errorf("%s on a full disk: %v", what, err)
		}
	}
	fill := filepath.Join(dir, "fill")
	must(t, exec.Command("sh", "-c", "cat /dev/zero > "+fill+" 2>/dev/null || true").Run())
	_, err := s.Blobs().Put(testBlob(1))
	saysWhat("a blob", err)
	w, err := s.Blobs().Create()
	if err == nil {
		if _, err = w.Write(make([]byte, 1<<20)); err == nil {
			_, _, err = w.Commit()
		}
		w.Abort()
	}
	saysWhat("a larger blob", err)
	saysWhat("a record", s.Commit(testRecord(2)))
	saysWhat("a ledger entry", s.Bucket("ledger").Put(map[string][]byte{"a": nil}))
	saysWhat("a run file", s.SaveRun(&Run{StudyID: "s"}))
	if left := glob(t, filepath.Join(dir, "cache", "blobs", "tmp", "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if rec, err := s.Record(testRecord(1).Key); rec == nil || err != nil {
		t.Errorf("the earlier record: %v", err)
	}
	must(t, os.Remove(fill))
	must(t, s.Commit(testRecord(2)))
	_, err = s.Blobs().Put(testBlob(1))
	must(t, err)
	must(t, s.Bucket("ledger").Put(map[string][]byte{"a": nil}))
	closeStore(t, s)
	s = openWith(t, Options{Dir: filepath.Join(dir, "cache")})
	for i := 1; i <= 2; i++ {
		if rec, err := s.Record(testRecord(i).Key); rec == nil || err != nil {
			t.Errorf("record %d: %v", i, err)
		}
	}
	if n := reader(t, filepath.Join(dir, "cache")).Len(); n != 2 {
		t.Errorf("%d records in the journal", n)
	}
	closeStore(t, s)
}

func TestReadOnlyCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	s := open(t, dir)
	must(t, s.Commit(testRecord(1)))
	d, err := s.Blobs().Put(testBlob(1))
	must(t, err)
	closeStore(t, s)
	if err := mountReadOnly(dir); err != nil {
		if os.Geteuid() == 0 {
			t.Skipf("root, and cannot mount: %v", err)
		}
		for _, p := range []string{dir, filepath.Join(dir, "lock")} {
			must(t, os.Chmod(p, 0o500))
			t.Cleanup(func() { os.Chmod(p, 0o700) })
		}
	} else {
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	}
	_, err = Open(context.Background(), Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "must be writable") || !strings.Contains(err.Error(), "--cache-dir") {
		t.Errorf("Open: %v", err)
	}
	r := reader(t, dir)
	if _, ok := r.Record(testRecord(1).Key); !ok {
		t.Error("a reader does not see the record")
	}
	if _, err := r.Blobs().ReadAll(d); err != nil {
		t.Error(err)
	}
	if _, err := r.Blobs().Put([]byte("new")); err == nil && os.Geteuid() == 0 {
		t.Error("a blob was written")
	}
}
