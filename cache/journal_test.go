package cache

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

func records(t *testing.T, dir string) map[Digest]*Record {
	t.Helper()
	m := map[Digest]*Record{}
	for rec := range reader(t, dir).Records() {
		m[rec.Key] = rec
	}
	return m
}

func TestJournalDamageIsRepaired(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, path string)
		lost   int // records that a reader misses before the cache is opened again
	}{
		"missing":        {func(t *testing.T, p string) { must(t, os.Remove(p)) }, 5},
		"runs/ gone":     {func(t *testing.T, p string) { must(t, os.RemoveAll(filepath.Dir(p))) }, 5},
		"empty":          {func(t *testing.T, p string) { edit(t, p, func(b []byte) []byte { return nil }) }, 5},
		"torn last line": {func(t *testing.T, p string) { edit(t, p, func(b []byte) []byte { return b[:len(b)-7] }) }, 1},
		"newline lacks":  {func(t *testing.T, p string) { edit(t, p, func(b []byte) []byte { return b[:len(b)-1] }) }, 1},
		"first line lacks": {func(t *testing.T, p string) {
			edit(t, p, func(b []byte) []byte { return b[bytes.IndexByte(b, '\n')+1:] })
		}, 1},
		"something behind it":       {func(t *testing.T, p string) { edit(t, p, func(b []byte) []byte { return append(b, "garbage"...) }) }, 0},
		"a whole line behind it":    {func(t *testing.T, p string) { edit(t, p, func(b []byte) []byte { return append(b, "garbage\n"...) }) }, 0},
		"lines twice, out of order": {func(t *testing.T, p string) { edit(t, p, func(b []byte) []byte { return append(b, b...) }) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			for i := range 5 {
				must(t, s.Commit(testRecord(i)))
			}
			closeStore(t, s)
			c.damage(t, journalPath(dir))
			if got := len(records(t, dir)); got != 5-c.lost {
				t.Errorf("a reader sees %d records, want %d", got, 5-c.lost)
			}
			s = open(t, dir)
			must(t, s.Commit(testRecord(5)))
			got := records(t, dir)
			for i := range 6 {
				if !reflect.DeepEqual(got[testRecord(i).Key], testRecord(i)) {
					t.Errorf("record %d after opening: %+v", i, got[testRecord(i).Key])
				}
			}
			if len(got) != 6 {
				t.Errorf("%d records", len(got))
			}
			closeStore(t, s)
			text, err := os.ReadFile(journalPath(dir))
			must(t, err)
			if n := bytes.Count(text, []byte("\n")); n != 6 {
				t.Errorf("the journal has %d lines", n)
			}
		})
	}
}

func TestDamagedLineIsNoRecord(t *testing.T) {
	line, err := encodeRecord(testRecord(1))
	must(t, err)
	for at := range line {
		bad := flip(at)(line)
		if rec, err := decodeRecord(bad); err == nil {
			t.Fatalf("byte %d flipped: accepted as %+v", at, rec)
		}
	}
}

func TestLastLineWins(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	newer := testRecord(1)
	newer.Host = "another"
	must(t, s.Commit(testRecord(1), testRecord(2), newer))
	got := records(t, dir)
	if len(got) != 2 || got[newer.Key].Host != "another" {
		t.Errorf("got %d records, host %q", len(got), got[newer.Key].Host)
	}
	if rec, err := s.Record(newer.Key); err != nil || rec.Host != "another" {
		t.Errorf("store: %v, %v", rec, err)
	}
}

// A failed append must leave no torn line, and lose nothing.
func TestFailedAppend(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.Commit(testRecord(1)))
	broken, err := os.Open(journalPath(dir)) // not writable
	must(t, err)
	good := s.journal.f
	s.journal.f = broken
	if err := s.Commit(testRecord(2)); err == nil {
		t.Fatal("the append should fail")
	}
	if rec, err := s.Record(testRecord(2).Key); rec == nil || err != nil {
		t.Errorf("the record is lost: %v", err)
	}
	s.journal.f = good
	broken.Close()
	must(t, s.Commit(testRecord(3)))
	if got := records(t, dir); len(got) != 3 {
		t.Errorf("%d records in the journal", len(got))
	}
	closeStore(t, s)
	closeStore(t, open(t, dir))
	if got := records(t, dir); len(got) != 3 {
		t.Errorf("%d records in the journal", len(got))
	}
}

func TestReaderKeepsItsView(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.Commit(testRecord(1)))
	r := reader(t, dir)
	must(t, s.Commit(testRecord(2)))
	must(t, s.journal.rewrite(databaseLines(s.db)))
	if _, ok := r.Record(testRecord(1).Key); !ok || r.Len() != 1 {
		t.Error("the reader lost what it had seen")
	}
	if r := reader(t, dir); r.Len() != 2 {
		t.Error("a new reader does not see the rewritten journal")
	}
	must(t, r.Close())
}

// The process dies between any two steps, with all its goroutines.
func TestKillNine(t *testing.T) {
	dir := t.TempDir()
	last := -1
	for round := range 3 {
		cmd, out, _ := startRole(t, "write", dir)
		n := 0
		for out.Scan() {
			f := strings.Fields(out.Text())
			if len(f) != 2 || f[0] != "done" {
				t.Fatalf("writer says %q", out.Text())
			}
			last = max(last, n)
			if n++; n == 20+13*round {
				must(t, cmd.Process.Signal(syscall.SIGKILL))
			}
		}
		cmd.Wait()
		// A reader works at once.
		r := reader(t, dir)
		for i := range last {
			if _, ok := r.Record(testRecord(i).Key); !ok {
				t.Errorf("round %d: the reader lacks record %d of %d", round, i, last)
			}
		}
		run, err := r.Run("study")
		if err != nil || run == nil || run.Alive() {
			t.Errorf("run %+v, %v", run, err)
		}
		s := open(t, dir)
		for i := range last {
			rec, err := s.Record(testRecord(i).Key)
			if err != nil || !reflect.DeepEqual(rec, testRecord(i)) {
				t.Fatalf("round %d: record %d: %v, %v", round, i, rec, err)
			}
			must(t, s.Blobs().Verify(rec.Outputs[0].Digest))
		}
		paid := 0
		must(t, s.Bucket("ledger").Scan("", func(string, []byte) error { paid++; return nil }))
		if paid < last {
			t.Errorf("round %d: %d of %d ledger entries", round, paid, last)
		}
		if left := glob(t, filepath.Join(dir, "blobs", "tmp", "*")); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
		if n := s.Notices(); len(n) != 0 {
			t.Errorf("notices %q", n)
		}
		closeStore(t, s)
	}
}

func TestCopiedCache(t *testing.T) {
	base := t.TempDir()
	s := open(t, filepath.Join(base, "a"))
	d, err := s.Blobs().Put(testBlob(1))
	must(t, err)
	must(t, s.Commit(testRecord(1)))
	must(t, s.Bucket("ledger").Put(map[string][]byte{"k": []byte("v")}))
	closeStore(t, s)
	must(t, os.CopyFS(filepath.Join(base, "b"), os.DirFS(filepath.Join(base, "a"))))
	s, err = Open(context.Background(), Options{Dir: filepath.Join(base, "b")})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	if rec, err := s.Record(testRecord(1).Key); rec == nil || err != nil {
		t.Error(err)
	}
	if _, err := s.Blobs().ReadAll(d); err != nil {
		t.Error(err)
	}
	if _, ok, err := s.Bucket("ledger").Get("k"); !ok || err != nil {
		t.Error(err)
	}
}

func FuzzJournal(f *testing.F) {
	one, err := encodeRecord(testRecord(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(one, '\n'))
	f.Add(append(append(append(append([]byte{}, one...), '\n'), one...), "\n{\"k\":"...))
	f.Add(lineText(one))
	f.Add([]byte(`{"l":[["a"],["a","b","c","d"]],"o":[{"n":"x","d":"","i":""}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		x := &journalIndex{spans: map[Digest]span{}}
		if err := x.scan(bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		for key, s := range x.spans {
			if got, err := checkLine(data[s.at : s.at+int64(s.len)]); err != nil || got != key {
				t.Fatalf("span %v of key %s: %v", s, key, err)
			}
		}
		// The data as the body of a line whose sum is right.
		line := append([]byte{}, one[:bodyAt]...)
		line = append(append(line, data...), lineClose...)
		sum := lineChecksum(line[keyAt:keyAt+64], data)
		const digits = "0123456789abcdef"
		for i := range 8 {
			line[sumAt+i] = digits[sum>>(28-4*i)&15]
		}
		rec, err := decodeRecord(line)
		if err != nil {
			return
		}
		again, err := encodeRecord(rec)
		if err != nil {
			t.Fatal(err)
		}
		rec2, err := decodeRecord(again)
		if err != nil || !reflect.DeepEqual(rec, rec2) {
			t.Fatalf("%+v came back as %+v, %v", rec, rec2, err)
		}
	})
}
