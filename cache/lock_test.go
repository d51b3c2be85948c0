package cache

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLockNamesItsOwner(t *testing.T) {
	dir := t.TempDir()
	holder, out, leave := startRole(t, "hold", dir)
	if !out.Scan() || out.Text() != "ready" {
		t.Fatalf("holder says %q", out.Text())
	}
	_, err := Open(context.Background(), Options{Dir: dir})
	var locked *LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("Open beside a holder: %v", err)
	}
	host, _ := os.Hostname()
	if o := locked.Owner; o.PID != holder.Process.Pid || o.Host != host || o.Command != "role hold" || time.Since(o.Since) > time.Minute {
		t.Errorf("owner %+v", o)
	}
	for _, want := range []string{dir, "role hold", "is running", "kill "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("message lacks %q: %v", want, err)
		}
	}
	// Waiting helps when the other leaves.
	done := make(chan error, 1)
	go func() {
		s, err := Open(context.Background(), Options{Dir: dir, Wait: 10 * time.Second})
		if err == nil {
			err = s.Close()
		}
		done <- err
	}()
	leave()
	must(t, <-done)
	must(t, holder.Wait())
}

func TestLockOfAKilledProcess(t *testing.T) {
	dir := t.TempDir()
	holder, out, _ := startRole(t, "hold", dir)
	if !out.Scan() || out.Text() != "ready" {
		t.Fatalf("holder says %q", out.Text())
	}
	must(t, holder.Process.Signal(syscall.SIGKILL))
	holder.Wait()
	if o := lockOwner(filepath.Join(dir, lockName)); o.PID != holder.Process.Pid || o.process() != processDead {
		t.Errorf("the lock file names %+v", o)
	}
	closeStore(t, open(t, dir))
	// Garbage in the file does not block either.
	must(t, os.WriteFile(filepath.Join(dir, lockName), []byte("{garbage"), 0o644))
	closeStore(t, open(t, dir))
}

func TestSecondOpenInOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var locked *LockedError
	if _, err := Open(context.Background(), Options{Dir: dir}); !errors.As(err, &locked) || locked.Owner.PID != os.Getpid() {
		t.Errorf("second Open: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, Options{Dir: dir, Wait: -1}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Open: %v", err)
	}
	must(t, s.Commit(testRecord(1)))
}

func TestLockedErrorMessages(t *testing.T) {
	if processIdentity(os.Getpid()) == "" {
		t.Skip("no /proc: processes are known by number only")
	}
	dead := Self("apply a.hcl", time.Now())
	dead.Start += "0" // another process had this number
	foreign := Owner{PID: 12, Start: "boot/ns/3", Host: "node7", Since: time.Now()}
	for want, o := range map[string]Owner{
		"that process is running":     Self("apply a.hcl", time.Now()),
		"that process has ended":      dead,
		"on another host":             foreign,
		"a process that left no name": {},
	} {
		if got := (&LockedError{Dir: "/c", Owner: o}).Error(); !strings.Contains(got, want) {
			t.Errorf("%+v: %q lacks %q", o, got, want)
		}
	}
}

func TestRunAlive(t *testing.T) {
	if processIdentity(os.Getpid()) == "" {
		t.Skip("no /proc: processes are known by number only")
	}
	now := time.Now()
	self := Self("apply", now)
	dead := self
	dead.Start += "0"
	foreign := Owner{PID: 1, Start: "other/1/2", Host: "node7"}
	for _, c := range []struct {
		name string
		run  Run
		want bool
	}{
		{"this process, old heartbeat", Run{Owner: self, Heartbeat: now.Add(-time.Hour)}, true},
		{"its number in other hands", Run{Owner: dead, Heartbeat: now}, false},
		{"finished", Run{Owner: self, Heartbeat: now, Finished: now}, false},
		{"elsewhere, fresh", Run{Owner: foreign, Heartbeat: now.Add(-time.Minute)}, true},
		{"elsewhere, old", Run{Owner: foreign, Heartbeat: now.Add(-3 * time.Minute)}, false},
		{"elsewhere, far in the future", Run{Owner: foreign, Heartbeat: now.Add(time.Hour)}, false},
		{"nobody", Run{}, false},
	} {
		if got := c.run.aliveAt(now); got != c.want {
			t.Errorf("%s: alive %v", c.name, got)
		}
	}
}

func TestRunFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	run := &Run{
		StudyID: "r1-1.5b", Study: "r1", File: "studies/r1.hcl", State: "running", Started: time.Now().UTC().Truncate(time.Second),
		Nodes:   map[string]*NodeState{"a/b": {Key: Sum([]byte("k")), State: "done"}, "a/c": {State: "failed", Error: "no", FailedKey: Sum(nil)}},
		Batches: []BatchState{{ID: "batch_1", Status: "in_progress", Requests: 10}},
	}
	must(t, s.SaveRun(run))
	if !run.Heartbeat.IsZero() {
		t.Error("SaveRun changed its argument")
	}
	must(t, s.SaveRun(&Run{StudyID: "other"}))
	r := reader(t, dir)
	got, err := r.Run("r1-1.5b")
	must(t, err)
	if !got.Alive() || got.Owner.PID != os.Getpid() || got.Heartbeat.IsZero() {
		t.Errorf("run %+v is not alive", got)
	}
	got.Owner, got.Heartbeat = Owner{}, time.Time{}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(run)
	if string(a) != string(b) {
		t.Errorf("got  %s\nwant %s", a, b)
	}
	runs, err := r.Runs()
	if err != nil || len(runs) != 2 || runs[0].StudyID != "other" || runs[1].StudyID != "r1-1.5b" {
		t.Errorf("runs %v, %v", runs, err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "runs", "torn.json"), []byte(`{"study_id": "to`), 0o644))
	if runs, err := r.Runs(); len(runs) != 2 || err == nil || !strings.Contains(err.Error(), "torn.json") {
		t.Errorf("beside a torn file: %v, %v", runs, err)
	}
	for _, id := range []string{"", "../x", "a/b", ".hidden", "a b", strings.Repeat("x", 300)} {
		if err := s.SaveRun(&Run{StudyID: id}); err == nil {
			t.Errorf("study id %q was accepted", id)
		}
	}
}
