package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrSuspended is returned by operations that need the database while the
// store is suspended or closed.
var ErrSuspended = errors.New("the cache is not open for writing now (suspended or closed)")

// MissingError says that a blob is not there. It is an fs.ErrNotExist.
type MissingError struct {
	Digest Digest
	Path   string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("blob %s is missing: no file %s; the node that made it has to run again", e.Digest.Short(), e.Path)
}

// Is makes errors.Is(err, fs.ErrNotExist) true.
func (e *MissingError) Is(target error) bool { return target == fs.ErrNotExist }

// DamagedError says that a blob's file does not hold the bytes its name
// promises.
type DamagedError struct {
	Digest Digest
	Path   string
	Reason string // "holds other bytes (SHA-256 12ab…)", "is a directory"
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("blob %s is damaged: %s %s; it is not used, the node that made it has to run again", e.Digest.Short(), e.Path, e.Reason)
}

// LockedError says that another process works with the cache.
type LockedError struct {
	Dir   string
	Owner Owner // zero when the lock file does not say
}

func (e *LockedError) Error() string {
	o := e.Owner
	if o.PID == 0 {
		return fmt.Sprintf("the cache %s is in use by a process that left no name in %s: wait for it, or find it with: fuser %s",
			e.Dir, lockName, filepath.Join(e.Dir, lockName))
	}
	what := ""
	if o.Command != "" {
		what = fmt.Sprintf(" (%s)", o.Command)
	}
	head := fmt.Sprintf("the cache %s is in use by process %d on %s%s since %s", e.Dir, o.PID, o.Host, what, o.Since.Local().Format("2006-01-02 15:04:05"))
	switch o.process() {
	case processAlive:
		return head + fmt.Sprintf("; that process is running: wait for it, or stop it with: kill %d", o.PID)
	case processDead:
		return head + fmt.Sprintf("; that process has ended, but something it started still holds the lock: find it with: fuser %s", filepath.Join(e.Dir, lockName))
	}
	return head + fmt.Sprintf("; it runs on another host or in another container: wait for it, or stop it there (kill %d)", o.PID)
}

// DatabaseError says that the database folder cannot be used as it is.
type DatabaseError struct {
	Dir     string // the db folder
	Journal string // where the records can be had from again
	Err     error
}

func (e *DatabaseError) Error() string {
	return fmt.Sprintf(`the cache database %s cannot be used: %v.
It holds two things: the records of finished nodes, of which %s is a copy, and the ledger of batches and paid answers, of which there is no copy: without it they would be bought again.
If a backup of that folder exists, put it back. If not, keep the folder and go on without it:
    mv %s %s.damaged
The next apply then takes the records from the copy; look at the open batches of the evaluator before you let it buy answers.`,
		e.Dir, e.Err, e.Journal, e.Dir, e.Dir)
}

func (e *DatabaseError) Unwrap() error { return e.Err }

// FullError says that a file system has no room left. Err is the system's
// error (syscall.ENOSPC or syscall.EDQUOT).
type FullError struct {
	Path string // what was being written
	Free int64  // bytes free there now
	Need int64  // bytes wanted, 0 when not known
	Err  error
}

func (e *FullError) Error() string {
	need := ""
	if e.Need > 0 {
		need = fmt.Sprintf(", %s needed", byteSize(e.Need))
	}
	return fmt.Sprintf("writing %s: the file system is full (%s free%s); nothing that was finished is lost: make room there and run the same command again, or use another place with --cache-dir",
		e.Path, byteSize(e.Free), need)
}

func (e *FullError) Unwrap() error { return e.Err }

// writeError explains an error that came from writing path.
func writeError(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		var full *FullError
		if errors.As(err, &full) {
			return err
		}
		free, _ := freeSpace(filepath.Dir(path))
		return &FullError{Path: path, Free: free, Err: err}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("writing %s: %w; the cache must be writable for this command: change its owner or mode, or use another place with --cache-dir (plan, status and explain only read it)", path, err)
	}
	return fmt.Errorf("writing %s: %w", path, err)
}

// freeSpace returns the bytes an unprivileged process may still write under
// dir, or false when the system does not say.
func freeSpace(dir string) (int64, bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}

var errNoSpace error = syscall.ENOSPC

func byteSize(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
}

// syncDir makes the entries of dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // network file systems that cannot sync a folder
	}
	return errors.Join(err, f.Close())
}

// replaceFile writes data to path so that a reader sees the old content or the
// new, also after a power cut.
func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return writeError(path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return writeError(path, err)
	}
	return writeError(path, syncDir(dir))
}

// sweepReplaced removes what replaceFile and rewrite left in dir when their
// process was killed. A suspended process may be replacing a run file just now,
// so young ones stay.
func sweepReplaced(dir string, now time.Time) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.Name()[0] != '.' || !strings.Contains(e.Name(), "-") || !e.Type().IsRegular() {
			continue
		}
		if st, err := e.Info(); err == nil && now.Sub(st.ModTime()) > time.Hour {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

func pollDelay(n int) time.Duration {
	return min(50*time.Millisecond<<min(n, 5), time.Second)
}
