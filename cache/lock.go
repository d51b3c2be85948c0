package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const lockName = "lock"

// fileLock is an flock(2) on a file that also tells who holds it. The kernel
// drops the lock when its process ends, however it ends, so a file left behind
// blocks nobody; the text in it then shows that the last owner did not close.
type fileLock struct {
	f *os.File
	// unclean: the previous owner did not release the lock itself.
	unclean bool
}

// lockDir takes the lock of dir, trying until wait is over or ctx is done.
// wait < 0 is without limit.
func lockDir(ctx context.Context, dir string, self Owner, wait time.Duration) (*fileLock, error) {
	path := filepath.Join(dir, lockName)
	deadline := time.Now().Add(wait)
	for n := 0; ; n++ {
		l, err := tryLock(path, self)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking the cache: %w", err)
		}
		d := pollDelay(n)
		if wait >= 0 {
			left := time.Until(deadline)
			if left <= 0 {
				return nil, &LockedError{Dir: dir, Owner: lockOwner(path)}
			}
			d = min(d, left)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the lock: %w: %w", context.Cause(ctx), &LockedError{Dir: dir, Owner: lockOwner(path)})
		case <-time.After(d):
		}
	}
}

func tryLock(path string, self Owner) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, writeError(path, err)
	}
	fail := func(err error) (*fileLock, error) {
		f.Close()
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return fail(&os.PathError{Op: "flock", Path: path, Err: err})
	}
	// Somebody may have removed the file between open and flock: then this
	// lock is on a file nobody else will look at.
	mine, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	if there, err := os.Stat(path); err != nil || !os.SameFile(mine, there) {
		return fail(&os.PathError{Op: "flock", Path: path, Err: syscall.EWOULDBLOCK})
	}
	l := &fileLock{f: f, unclean: mine.Size() > 0}
	text, err := json.Marshal(self)
	if err != nil {
		return fail(err)
	}
	if err := f.Truncate(0); err != nil {
		return fail(writeError(path, err))
	}
	if _, err := f.WriteAt(append(text, '\n'), 0); err != nil {
		return fail(writeError(path, err))
	}
	return l, nil
}

// release gives the lock back. The file stays: removing it would let two
// processes lock two files of one name.
func (l *fileLock) release() error {
	err := l.f.Truncate(0)
	return errors.Join(err, l.f.Close())
}

// abandon gives the lock back and leaves the file as it is after a crash.
func (l *fileLock) abandon() { l.f.Close() }

// lockOwner reads who holds the lock. The owner writes its name just after
// taking the lock, so an empty file is looked at again.
func lockOwner(path string) Owner {
	for n := range 5 {
		var o Owner
		f, err := os.Open(path)
		if err != nil {
			return o
		}
		text, err := io.ReadAll(io.LimitReader(f, 1<<16))
		f.Close()
		if err == nil && json.Unmarshal(text, &o) == nil {
			return o
		}
		time.Sleep(time.Duration(n+1) * 2 * time.Millisecond)
	}
	return Owner{}
}
