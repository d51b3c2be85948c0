package cache

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckFindsAndRepairs(t *testing.T) {
	path := func(s *Store, i int) string { return s.Blobs().Path(Sum(testBlob(i))) }
	tests := []struct {
		name   string
		damage func(t *testing.T, s *Store)
		part   string // of the one problem found
		text   string
		keeps  bool // it cannot be repaired
	}{
		{"nothing", func(*testing.T, *Store) {}, "", "", false},
		{"flipped blob", func(t *testing.T, s *Store) { edit(t, path(s, 1), flip(77)) }, "blob", "holds other bytes", false},
		{"cut blob", func(t *testing.T, s *Store) {
			edit(t, path(s, 1), func(b []byte) []byte { return b[:len(b)/2] })
		}, "blob", "holds other bytes", false},
		{"empty blob", func(t *testing.T, s *Store) { edit(t, path(s, 1), func([]byte) []byte { return nil }) }, "blob", "holds other bytes", false},
		{"missing blob", func(t *testing.T, s *Store) { must(t, os.Remove(path(s, 1))) }, "blob", "is missing, output model", false},
		{"folder", func(t *testing.T, s *Store) {
			must(t, os.Remove(path(s, 1)))
			must(t, os.MkdirAll(filepath.Join(path(s, 1), "sub"), 0o755))
		}, "blob", "is not a file but a folder", false},
		{"paid answers", func(t *testing.T, s *Store) { edit(t, path(s, 3), flip(5)) }, "blob", "paid for", false},
		{"record", func(t *testing.T, s *Store) {
			v := mustGet(t, s, append([]byte("r"), testKey(1)...))
			v[len(v)/2] ^= 1
			must(t, s.db.commit([]entry{{append([]byte("r"), testKey(1)...), v}}))
		}, "record", "the journal has a good copy", false},
		{"record of another key", func(t *testing.T, s *Store) {
			v := mustGet(t, s, append([]byte("r"), testKey(1)...))
			must(t, s.db.commit([]entry{{append([]byte("r"), testKey(2)...), v}}))
			edit(t, journalPath(s.Dir()), func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"r1/2/kmeans/10/train"`), []byte(`"r1/9/kmeans/10/train"`), 1)
			})
		}, "record", "another key", false},
		{"journal", func(t *testing.T, s *Store) { edit(t, journalPath(s.Dir()), flip(300)) }, "journal", "damaged line", false},
		{"ledger", func(t *testing.T, s *Store) {
			v := mustGet(t, s, []byte("b/ledger\x00request/1"))
			v[len(v)-1] ^= 1
			must(t, s.db.commit([]entry{{[]byte("b/ledger\x00request/1"), v}}))
		}, "entry", "put back a backup", true},
		{"other bucket", func(t *testing.T, s *Store) {
			must(t, s.Bucket("rows").Put(map[string][]byte{"x": []byte("y")}))
			must(t, s.db.commit([]entry{{[]byte("b/rows\x00x"), []byte("torn")}}))
		}, "entry", "do not match", false},
		{"stamps", func(t *testing.T, s *Store) {
			must(t, s.stamps.end())
			edit(t, s.stamps.path, flip(100))
			s.stamps.begin()
		}, "stamps", "it is not used", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := careCache(t, 0)
			tt.damage(t, s)
			o := CheckOptions{Ledger: []string{"ledger"}}
			r, err := s.Check(t.Context(), o)
			must(t, err)
			if tt.part == "" {
				if len(r.Problems) > 0 || r.Blobs.Files != 6 || r.Records != 6 || r.Entries != 1 {
					t.Errorf("%+v", r)
				}
				return
			}
			found := false
			for _, p := range r.Problems {
				found = found || p.Part == tt.part && strings.Contains(p.Text, tt.text)
			}
			if !found || r.Open() == 0 {
				t.Fatalf("want a problem of %s, %q: %+v", tt.part, tt.text, r.Problems)
			}
			o.Repair = true
			if r, err = s.Check(t.Context(), o); err != nil || (r.Open() > 0) != tt.keeps {
				t.Errorf("repair: %+v, %v", r, err)
			}
			must(t, s.Close())
			s = open(t, s.Dir())
			defer s.Close()
			o.Repair = false
			if r, err = s.Check(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			for _, p := range r.Problems { // a blob that is gone waits for its node
				if !strings.Contains(p.Text, "missing") && !tt.keeps {
					t.Errorf("after repair and opening again: %+v", p)
				}
			}
		})
	}
}

func testKey(i int) []byte {
	k := testRecord(i).Key
	return k[:]
}

func mustGet(t *testing.T, s *Store, key []byte) []byte {
	t.Helper()
	v, err := s.db.get(key)
	if err != nil || v == nil {
		t.Fatalf("%q: %v, %v", key, v, err)
	}
	return v
}

// Lines that make another key were written by a faulty program.
func TestCheckComparesKeys(t *testing.T) {
	s := careCache(t, 0)
	wrong := testRecord(3).Key
	keys := map[string]Digest{}
	for i := range 6 {
		keys[testRecord(i).Lines[1].Value] = testRecord(i).Key
	}
	o := CheckOptions{Repair: true, Ledger: []string{"ledger"}, Key: func(ls []Line) Digest {
		if ls[1].Value == "3" {
			return Digest{1}
		}
		return keys[ls[1].Value]
	}}
	r, err := s.Check(t.Context(), o)
	must(t, err)
	if len(r.Problems) != 2 || r.Open() != 0 { // the record, and its line in the journal
		t.Errorf("%+v", r.Problems)
	}
	if rec, err := s.Record(wrong); rec != nil || err != nil {
		t.Errorf("still there: %v, %v", rec, err)
	}
	if rec, err := s.Record(testRecord(2).Key); rec == nil || err != nil {
		t.Errorf("gone: %v, %v", rec, err)
	}
}
