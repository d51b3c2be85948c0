package cache

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// A brief record has what the whole one has; lines behind the index are seen,
// and an index that is not of this journal is not used.
func TestIndex(t *testing.T) {
	dir := t.TempDir()
	open := func() *Store {
		t.Helper()
		s, err := Open(t.Context(), Options{Dir: dir, Command: "test"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	record := func(i int) *Record {
		small, at := []byte(fmt.Sprint(i)), time.Unix(int64(i), 5).UTC()
		return &Record{
			Key: Sum(small), Kind: "kind" + fmt.Sprint(i%3), Started: at, Finished: at.Add(time.Second),
			Outputs: []Output{{Name: "blob", Digest: Sum(append(small, 'b')), Size: 9}, {Name: "small", Digest: Sum(small), Size: int64(len(small)), Inline: small}},
		}
	}
	check := func(what string, n int) {
		t.Helper()
		r, err := OpenReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if r.Len() != n {
			t.Errorf("%s: %d records, want %d", what, r.Len(), n)
		}
		for i := range n {
			want := record(i)
			got, ok := r.Brief(want.Key)
			whole, ok2 := r.Record(want.Key)
			if !ok || !ok2 || got.Kind != want.Kind || !got.Started.Equal(want.Started) || !got.Finished.Equal(want.Finished) || len(got.Outputs) != 2 {
				t.Fatalf("%s: record %d is %+v (%v, %v)", what, i, got, ok, ok2)
			}
			for k, o := range got.Outputs {
				if w := whole.Outputs[k]; o.Name != w.Name || o.Digest != w.Digest || o.Size != w.Size || o.InRecord() != w.InRecord() {
					t.Errorf("%s: output %+v, want %+v", what, o, w)
				}
			}
		}
		if _, ok := r.Brief(Sum([]byte("other"))); ok {
			t.Errorf("%s: a record that is not there", what)
		}
	}
	commit := func(s *Store, from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if err := s.Commit(record(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := open()
	commit(s, 0, 40)
	check("no index", 40)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(indexPath(dir)); err != nil {
		t.Fatal(err)
	}
	check("index", 40)
	s = open()
	commit(s, 40, 60)
	check("lines behind the index", 60)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(indexPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(index); i += 97 { // any damage is seen
		index[i] ^= 0x10
		if err := os.WriteFile(indexPath(dir), index, 0o644); err != nil {
			t.Fatal(err)
		}
		index[i] ^= 0x10
		if i%970 == 0 {
			check(fmt.Sprintf("byte %d flipped", i), 60)
		}
	}
	journal, err := os.ReadFile(journalPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(indexPath(dir), index, 0o644); err != nil {
		t.Fatal(err)
	}
	journal[bodyAt+3] ^= 1 // of the first line, in place
	time.Sleep(10 * time.Millisecond)
	if err := os.WriteFile(journalPath(dir), journal, 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, ok := r.Brief(record(0).Key); ok || r.Len() != 59 {
		t.Errorf("a damaged line is served from the index; %d records", r.Len())
	}
}

func FuzzDecodeIndex(f *testing.F) {
	x := newRecordIndex()
	x.add(&Record{Key: Sum(nil), Kind: "k", Outputs: []Output{{Name: "o", Digest: Sum(nil)}}}, span{0, 10})
	journal := stamp{dev: 1, ino: 2, size: 99}
	f.Add(x.encode(journal))
	f.Fuzz(func(t *testing.T, data []byte) {
		if x, err := decodeIndex(data, journal); err == nil {
			for _, at := range x.table {
				if at != 0 {
					x.brief(int(at - 1))
				}
			}
		}
	})
}

// A record that was withdrawn says so to every reader, until another takes its
// place.
func TestWithdraw(t *testing.T) {
	dir := t.TempDir()
	small := []byte("x")
	rec := &Record{Key: Sum(small), Kind: "k", Outputs: []Output{{Name: "o", Digest: Sum(small), Size: 1, Inline: small}}}
	check := func(what, why string) {
		t.Helper()
		r, err := OpenReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		whole, _ := r.Record(rec.Key)
		brief, _ := r.Brief(rec.Key)
		if whole == nil || brief == nil || whole.Withdrawn != why || (brief.Withdrawn != "") != (why != "") || len(whole.Outputs) != 1 || len(brief.Outputs) != 1 {
			t.Errorf("%s: %+v and, briefly, %+v", what, whole, brief)
		}
	}
	for _, step := range []struct {
		what, why string
		do        func(*Store) error
	}{
		{"committed", "", func(s *Store) error { return s.Commit(rec) }},
		{"withdrawn", "no more", func(s *Store) error { return s.Withdraw("no more", rec.Key, Sum([]byte("none"))) }},
		{"opened again", "no more", func(s *Store) error { return nil }}, // by its index
		{"committed anew", "", func(s *Store) error { return s.Commit(rec) }},
	} {
		s, err := Open(t.Context(), Options{Dir: dir, Command: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if err := step.do(s); err != nil {
			t.Fatal(err)
		}
		check(step.what, step.why)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		check(step.what+", closed", step.why)
	}
}
