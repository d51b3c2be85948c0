package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRecordsComeBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	s := open(t, dir)
	must(t, s.Commit(testRecord(1), testRecord(2)))
	must(t, s.Commit(testRecord(3)))
	check := func(record func(Digest) (*Record, error)) {
		t.Helper()
		for i := 1; i <= 3; i++ {
			got, err := record(testRecord(i).Key)
			if err != nil || !reflect.DeepEqual(got, testRecord(i)) {
				t.Fatalf("record %d: got %+v, %v", i, got, err)
			}
		}
		if got, err := record(Sum([]byte("nothing"))); got != nil || err != nil {
			t.Fatalf("absent record: %v, %v", got, err)
		}
	}
	fromReader := func(r *Reader) func(Digest) (*Record, error) {
		return func(k Digest) (*Record, error) { rec, _ := r.Record(k); return rec, r.Err() }
	}
	check(s.Record)
	check(fromReader(reader(t, dir))) // beside the writer
	r, err := s.Reader()
	must(t, err)
	check(fromReader(r))
	closeStore(t, s)
	closeStore(t, s) // twice is no error
	check(fromReader(reader(t, dir)))
	var order []string
	for rec := range reader(t, dir).Records() {
		order = append(order, rec.Address)
	}
	if want := []string{"r1/1/kmeans/10/train", "r1/2/kmeans/10/train", "r1/3/kmeans/10/train"}; !reflect.DeepEqual(order, want) {
		t.Errorf("records in order %v", order)
	}
	s = open(t, dir)
	check(s.Record)
	if n := s.Notices(); len(n) != 0 {
		t.Errorf("notices %q", n)
	}
}

func TestCommitRefusesWrongRecords(t *testing.T) {
	s := open(t, t.TempDir())
	good := []byte("abc")
	for name, change := range map[string]func(*Record){
		"no key":      func(r *Record) { r.Key = Digest{} },
		"no digest":   func(r *Record) { r.Outputs[0].Digest = Digest{} },
		"other bytes": func(r *Record) { r.Outputs[1] = Output{Name: "x", Digest: Sum(good), Size: 3, Inline: []byte("abd")} },
		"other size":  func(r *Record) { r.Outputs[1] = Output{Name: "x", Digest: Sum(good), Size: 4, Inline: good} },
		"too long": func(r *Record) {
			b := make([]byte, InlineLimit+1)
			r.Outputs[1] = Output{Name: "x", Digest: Sum(b), Size: int64(len(b)), Inline: b}
		},
	} {
		rec := testRecord(1)
		change(rec)
		if err := s.Commit(testRecord(2), rec); err == nil {
			t.Errorf("%s: committed", name)
		}
	}
	if got, _ := s.Record(testRecord(2).Key); got != nil {
		t.Error("a record beside a wrong one was committed")
	}
}

// A record longer than a value of Badger: a report over thousands of inputs.
func TestLongRecord(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	rec := testRecord(1)
	for i := range 40000 {
		rec.Lines = append(rec.Lines, Line{fmt.Sprintf("input %d", i), Sum([]byte{byte(i), byte(i >> 8)}).String(), "a.hcl:1"})
	}
	must(t, s.Commit(rec, testRecord(2)))
	closeStore(t, s)
	s = open(t, dir)
	got, err := s.Record(rec.Key)
	if err != nil || !reflect.DeepEqual(got, rec) {
		t.Fatalf("long record came back different: %v", err)
	}
	if got, ok := reader(t, dir).Record(rec.Key); !ok || !reflect.DeepEqual(got, rec) {
		t.Fatal("long record is different in the journal")
	}
	must(t, s.Commit(testRecord(1))) // a short one in its place
	if got, err := s.Record(rec.Key); err != nil || !reflect.DeepEqual(got, testRecord(1)) {
		t.Fatalf("replaced record: %v", err)
	}
}

func TestSuspendLetsAnotherProcessWork(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.Commit(testRecord(1)))
	must(t, s.Suspend())
	must(t, s.Suspend())
	if _, err := s.Record(testRecord(1).Key); !errors.Is(err, ErrSuspended) {
		t.Errorf("Record while suspended: %v", err)
	}
	if err := s.Commit(testRecord(2)); !errors.Is(err, ErrSuspended) {
		t.Errorf("Commit while suspended: %v", err)
	}
	if err := s.Bucket("ledger").Put(map[string][]byte{"a": nil}); !errors.Is(err, ErrSuspended) {
		t.Errorf("Put while suspended: %v", err)
	}
	d, err := s.Blobs().Put([]byte("still works"))
	must(t, err)
	must(t, s.SaveRun(&Run{StudyID: "s", State: "waiting"}))

	visitor, _, _ := startRole(t, "visit", dir)
	must(t, visitor.Wait())

	must(t, s.Resume(context.Background()))
	must(t, s.Resume(context.Background()))
	for _, i := range []int{1, 7000} {
		if got, err := s.Record(testRecord(i).Key); err != nil || !reflect.DeepEqual(got, testRecord(i)) {
			t.Errorf("record %d after Resume: %v, %v", i, got, err)
		}
	}
	if v, ok, err := s.Bucket("ledger").Get("visitor"); string(v) != "was here" || !ok || err != nil {
		t.Errorf("the visitor's entry: %q, %v, %v", v, ok, err)
	}
	must(t, s.Commit(testRecord(3)))
	if got, _ := s.Blobs().ReadAll(d); string(got) != "still works" {
		t.Errorf("blob: %q", got)
	}
	r := reader(t, dir)
	for _, i := range []int{1, 7000, 3} {
		if _, ok := r.Record(testRecord(i).Key); !ok {
			t.Errorf("the journal lacks record %d", i)
		}
	}
	closeStore(t, s)
	if err := s.Resume(context.Background()); !errors.Is(err, ErrSuspended) {
		t.Errorf("Resume after Close: %v", err)
	}
}

func TestResumeWaitsForTheLock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.Suspend())
	_, out, leave := startRole(t, "hold", dir)
	if !out.Scan() || out.Text() != "ready" {
		t.Fatalf("holder says %q", out.Text())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err := s.Resume(ctx)
	var locked *LockedError
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &locked) || locked.Owner.Command != "role hold" {
		t.Fatalf("Resume beside a holder: %v", err)
	}
	leave()
	must(t, s.Resume(context.Background()))
	must(t, s.Commit(testRecord(1)))
}

func TestConcurrentUseAndSuspend(t *testing.T) {
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 20 {
				err := s.Commit(testRecord(100*g + i))
				if err == nil {
					_, err = s.Record(testRecord(100*g + i).Key)
				}
				if err != nil && !errors.Is(err, ErrSuspended) {
					t.Error(err)
				}
				if err := s.SaveRun(&Run{StudyID: fmt.Sprint(g), State: "running"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 3 {
			if err := s.Suspend(); err != nil {
				t.Error(err)
			}
			if err := s.Resume(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

func TestReaderOfNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there")
	r := reader(t, dir)
	if _, ok := r.Record(Sum(nil)); ok || r.Len() != 0 {
		t.Error("records in an empty cache")
	}
	for range r.Records() {
		t.Error("records in an empty cache")
	}
	if runs, err := r.Runs(); len(runs) != 0 || err != nil {
		t.Error(runs, err)
	}
	if run, err := r.Run("x"); run != nil || err != nil {
		t.Error(run, err)
	}
	if st := r.Blobs().Check(Sum(nil), -1); st != Missing {
		t.Error(st)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made the folder: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o644))
	if _, err := OpenReader(file); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("a file as cache: %v", err)
	}
}

func TestStateDir(t *testing.T) {
	base := t.TempDir()
	dir, local, other := filepath.Join(base, "net"), filepath.Join(base, "local"), filepath.Join(base, "other")
	s := openWith(t, Options{Dir: dir, StateDir: local})
	must(t, s.Commit(testRecord(1)))
	if _, err := os.Stat(filepath.Join(dir, "db")); err == nil {
		t.Error("db is in the cache directory")
	}
	// Another machine with a state directory of its own.
	var locked *LockedError
	if _, err := Open(context.Background(), Options{Dir: dir, StateDir: other}); !errors.As(err, &locked) {
		t.Errorf("second state directory beside the first: %v", err)
	}
	closeStore(t, s)
	for _, wrong := range []string{"", other} {
		_, err := Open(context.Background(), Options{Dir: dir, StateDir: wrong})
		if err == nil || !strings.Contains(err.Error(), "--state-dir "+local) {
			t.Errorf("state dir %q: %v", wrong, err)
		}
	}
	// Two caches must not share a database.
	if _, err := Open(context.Background(), Options{Dir: filepath.Join(base, "net2"), StateDir: local}); err == nil || !strings.Contains(err.Error(), "another cache, last seen at "+dir) {
		t.Errorf("a new cache on a used state dir: %v", err)
	}
	// Moving the database is allowed.
	must(t, os.MkdirAll(other, 0o755))
	must(t, os.Rename(filepath.Join(local, "db"), filepath.Join(other, "db")))
	s = openWith(t, Options{Dir: dir, StateDir: other})
	if got, err := s.Record(testRecord(1).Key); got == nil || err != nil {
		t.Errorf("record after moving the database: %v", err)
	}
	closeStore(t, s)
	must(t, os.RemoveAll(filepath.Join(dir, "runs"))) // all that readers know
	openWith(t, Options{Dir: dir, StateDir: other})
	if _, ok := reader(t, dir).Record(testRecord(1).Key); !ok {
		t.Error("the journal was not written again")
	}
}

func TestScratch(t *testing.T) {
	s := open(t, t.TempDir())
	dir, err := s.Scratch(Sum([]byte("x")))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "part"), []byte("half"), 0o644))
	again, err := s.Scratch(Sum([]byte("x")))
	must(t, err)
	if _, err := os.Stat(filepath.Join(again, "part")); err != nil {
		t.Error(err)
	}
	must(t, s.DropScratch(Sum([]byte("x"))))
	if _, err := os.Stat(dir); err == nil {
		t.Error("still there")
	}
}
