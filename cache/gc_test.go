package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// careCache holds the blobs and records 0…5. The last run of a study needs 0
// and 1, a killed one may need 2, the ledger names 3, and nobody needs 4 and 5.
func careCache(t *testing.T, ahead time.Duration) *Store {
	t.Helper()
	c := &clock{ahead: ahead}
	s := openWith(t, Options{Dir: filepath.Join(t.TempDir(), "cache"), Command: "test", Now: c.now})
	t.Cleanup(func() { s.Close() })
	done := &Run{StudyID: "done", Finished: time.Now(), Nodes: map[string]*NodeState{}}
	for i := range 6 {
		if _, err := s.Blobs().Put(testBlob(i)); err != nil {
			t.Fatal(err)
		}
		r := testRecord(i)
		if i == 2 {
			r.Finished = time.Now().Add(time.Second)
		}
		must(t, s.Commit(r))
		if i < 2 {
			done.Nodes[r.Address] = &NodeState{Key: r.Key}
		}
	}
	must(t, s.SaveRun(done))
	must(t, s.SaveRun(&Run{StudyID: "killed", State: "running", Started: time.Now(), Owner: Owner{PID: 1 << 22, Host: "gone"}}))
	must(t, s.Bucket("ledger").Put(map[string][]byte{"request/1": fmt.Appendf(nil, `{"b":%q,"o":7}`, Sum(testBlob(3)))}))
	return s
}

func there(s *Store) []int {
	var out []int
	for i := range 6 {
		if s.Blobs().Check(Sum(testBlob(i)), -1) == OK {
			out = append(out, i)
		}
	}
	return out
}

func TestGCKeepsWhatIsNeeded(t *testing.T) {
	size := int64(len(testBlob(0)))
	tests := []struct {
		name  string
		ahead time.Duration
		o     GCOptions
		want  []int
		over  int64
	}{
		{"dry run", 0, GCOptions{DryRun: true}, []int{0, 1, 2, 3, 4, 5}, 0},
		{"young", 0, GCOptions{Keep: time.Hour}, []int{0, 1, 2, 3, 4, 5}, 0},
		{"old", 2 * time.Hour, GCOptions{Keep: time.Hour}, []int{0, 1, 2, 3}, 0},
		{"clock set back", -48 * time.Hour, GCOptions{Keep: time.Hour}, []int{0, 1, 2, 3, 4, 5}, 0},
		{"one too many", 0, GCOptions{Keep: time.Hour, MaxSize: 5*size + 10}, []int{0, 1, 2, 3, 5}, 0},
		{"no room at all", 0, GCOptions{Keep: time.Hour, MaxSize: 1}, []int{0, 1, 2, 3}, 4*size - 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := careCache(t, tt.ahead)
			for i := range 6 { // in the order of their ages
				at := time.Now().Add(time.Duration(i-10) * time.Second)
				must(t, os.Chtimes(s.Blobs().Path(Sum(testBlob(i))), at, at))
			}
			tt.o.Ledger = []string{"ledger"}
			r, err := s.GC(t.Context(), tt.o)
			must(t, err)
			if got := there(s); !slices.Equal(got, tt.want) {
				t.Errorf("left %v, want %v (%+v)", got, tt.want, r)
			}
			if r.Over != tt.over {
				t.Errorf("%d bytes over, want %d", r.Over, tt.over)
			}
			for i := range 6 {
				lost := !slices.Contains(tt.want, i)
				if got := s.Blobs().Dropped(Sum(testBlob(i))); got != lost {
					t.Errorf("blob %d dropped: %v, want %v", i, got, lost)
				}
				if rec, err := s.Record(testRecord(i).Key); err != nil || rec == nil {
					t.Errorf("record %d: %v, %v", i, rec, err)
				}
			}
			if c, err := s.Check(t.Context(), CheckOptions{Ledger: tt.o.Ledger}); err != nil || c.Open() != 0 || c.Dropped != 6-len(tt.want) {
				t.Errorf("check after gc: %+v, %v", c, err)
			}
		})
	}
}

// A run file that cannot be read could name anything.
func TestGCNeedsToKnowTheRuns(t *testing.T) {
	s := careCache(t, time.Hour)
	must(t, os.WriteFile(filepath.Join(s.Dir(), "runs", "torn.json"), []byte(`{"study_id":`), 0o644))
	if _, err := s.GC(t.Context(), GCOptions{}); err == nil {
		t.Error("gc with a damaged run file: no error")
	}
	if got := there(s); len(got) != 6 {
		t.Errorf("left %v", got)
	}
}

func TestGCSweepsLeftovers(t *testing.T) {
	s := careCache(t, 25*time.Hour)
	must(t, s.SaveRun(&Run{StudyID: "killed", Finished: time.Now()})) // else it may hold some
	orphan, err := s.Blobs().Put([]byte("nobody's"))
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(s.Dir(), "scratch", "old"), 0o755))
	must(t, s.Blobs().Quarantine(Sum(testBlob(5))))
	r, err := s.GC(t.Context(), GCOptions{Ledger: []string{"ledger"}})
	must(t, err)
	if s.Blobs().Check(orphan, -1) != Missing || s.Blobs().Dropped(orphan) {
		t.Error("a blob of no record is still there, or listed as dropped")
	}
	if left := glob(t, filepath.Join(s.Dir(), "scratch", "*")); len(left) > 0 {
		t.Errorf("scratch: %v", left)
	}
	if left := glob(t, filepath.Join(s.Dir(), "blobs", "damaged", "*")); len(left) > 0 || r.Damaged.Files != 1 {
		t.Errorf("damaged: %v, %+v", left, r)
	}
}

// What was dropped and made again is there again.
func TestDroppedBlobMadeAgain(t *testing.T) {
	s := careCache(t, time.Hour)
	_, err := s.GC(t.Context(), GCOptions{Ledger: []string{"ledger"}})
	must(t, err)
	d := Sum(testBlob(4))
	var missing *MissingError
	if _, err := s.Blobs().ReadAll(d); !errors.As(err, &missing) {
		t.Errorf("reading a dropped blob: %v", err)
	}
	_, err = s.Blobs().Put(testBlob(4))
	must(t, err)
	r, err := s.GC(t.Context(), GCOptions{Ledger: []string{"ledger"}, Keep: 24 * time.Hour})
	must(t, err)
	if r.Dropped.Files != 0 || s.Blobs().Check(d, -1) != OK {
		t.Errorf("%+v", r)
	}
	edit(t, filepath.Join(s.Dir(), "runs", "dropped"), flip(60))
	if s.Blobs().Dropped(Sum(testBlob(5))) {
		t.Error("a damaged list is believed")
	}
}
