package cache

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBlobLife(t *testing.T) {
	dir := t.TempDir()
	b := OpenBlobs(dir)
	w, err := b.Create()
	must(t, err)
	for range 1000 {
		_, err := io.WriteString(w, "twelve bytes")
		must(t, err)
	}
	d, n, err := w.Commit()
	must(t, err)
	want := bytes.Repeat([]byte("twelve bytes"), 1000)
	if n != 12000 || d != Sum(want) {
		t.Fatalf("committed %v, %d bytes", d, n)
	}
	w.Abort() // deferred by careful callers; does nothing
	if _, _, err := w.Commit(); err == nil {
		t.Error("a second Commit went through")
	}
	if _, err := w.Write(nil); err == nil {
		t.Error("a Write after Commit went through")
	}
	s := d.String()
	if p := filepath.Join(dir, "blobs", s[:2], s[2:]); b.Path(d) != p {
		t.Errorf("path %s, want %s", b.Path(d), p)
	}
	st, err := os.Stat(b.Path(d))
	must(t, err)
	if st.Mode().Perm() != 0o444 {
		t.Errorf("mode %v", st.Mode())
	}
	f, err := b.Open(d)
	must(t, err)
	got, err := io.ReadAll(f)
	must(t, err)
	must(t, f.Close())
	if !bytes.Equal(got, want) {
		t.Error("Open gives other bytes")
	}
	if got, err := b.ReadAll(d); err != nil || !bytes.Equal(got, want) {
		t.Errorf("ReadAll gives other bytes, %v", err)
	}
	if st := b.Check(d, 12000); st != OK {
		t.Error(st)
	}
	if left := glob(t, filepath.Join(dir, "blobs", "tmp", "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	w, err = b.Create()
	must(t, err)
	w.Write(want)
	w.Abort()
	if left := glob(t, filepath.Join(dir, "blobs", "tmp", "*")); len(left) != 0 {
		t.Errorf("left behind by Abort: %v", left)
	}
	empty, err := b.Put(nil)
	must(t, err)
	if got, err := b.ReadAll(empty); err != nil || len(got) != 0 || b.Check(empty, 0) != OK {
		t.Errorf("empty blob: %q, %v", got, err)
	}
}

func TestPublishingAgain(t *testing.T) {
	b := OpenBlobs(t.TempDir())
	data := testBlob(1)
	d, err := b.Put(data)
	must(t, err)
	inode := func() uint64 {
		var st unix.Stat_t
		must(t, unix.Stat(b.Path(d), &st))
		return st.Ino
	}
	first := inode()
	for range 2 {
		_, err = b.Put(data)
		must(t, err)
		w, err := b.Create()
		must(t, err)
		w.Write(data)
		_, _, err = w.Commit()
		must(t, err)
	}
	if inode() != first {
		t.Error("a good blob was replaced")
	}
	edit(t, b.Path(d), flip(3))
	_, err = b.Put(data)
	must(t, err)
	must(t, b.Verify(d))
	if inode() == first {
		t.Error("a damaged blob was not replaced")
	}
}

func TestDamagedBlobs(t *testing.T) {
	for name, c := range map[string]struct {
		damage  func(t *testing.T, path string)
		state   State
		missing bool
		says    string
	}{
		"flipped byte": {func(t *testing.T, p string) { edit(t, p, flip(100)) }, Damaged, false, "other bytes"},
		"flipped, times set back": {func(t *testing.T, p string) {
			st, err := os.Stat(p)
			must(t, err)
			time.Sleep(20 * time.Millisecond) // past one tick of the file system's clock
			edit(t, p, flip(-1))
			must(t, os.Chtimes(p, st.ModTime(), st.ModTime()))
		}, Damaged, false, "other bytes"},
		"truncated":          {func(t *testing.T, p string) { edit(t, p, func(b []byte) []byte { return b[:len(b)/2] }) }, Damaged, false, "other bytes"},
		"emptied":            {func(t *testing.T, p string) { edit(t, p, func(b []byte) []byte { return nil }) }, Damaged, false, "other bytes"},
		"longer":             {func(t *testing.T, p string) { edit(t, p, func(b []byte) []byte { return append(b, 0) }) }, Damaged, false, "other bytes"},
		"deleted":            {func(t *testing.T, p string) { must(t, os.Remove(p)) }, Missing, true, "missing"},
		"its folder deleted": {func(t *testing.T, p string) { must(t, os.RemoveAll(filepath.Dir(p))) }, Missing, true, "missing"},
		"a folder in its place": {func(t *testing.T, p string) {
			must(t, os.Remove(p))
			must(t, os.MkdirAll(filepath.Join(p, "sub"), 0o755))
		}, Damaged, false, "folder"},
		"a pipe in its place": {func(t *testing.T, p string) {
			must(t, os.Remove(p))
			must(t, syscall.Mkfifo(p, 0o644))
		}, Damaged, false, "pipe"},
		"a link in its place": {func(t *testing.T, p string) {
			must(t, os.Rename(p, p+"-moved"))
			must(t, os.Symlink(p+"-moved", p))
		}, Damaged, false, "link"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			clk := &clock{}
			s := openWith(t, Options{Dir: dir, Now: clk.now})
			data := testBlob(5)
			d, err := s.Blobs().Put(data)
			must(t, err)
			// Trusted: hashed when it was old enough.
			clk.ahead = time.Minute
			must(t, s.Blobs().Verify(d))
			c.damage(t, s.Blobs().Path(d))
			closeStore(t, s) // stamps are on the disk now
			for who, b := range map[string]*Blobs{"the writer": s.Blobs(), "a reader": reader(t, dir).Blobs(), "a worker": OpenBlobs(dir)} {
				if st := b.Check(d, int64(len(data))); st != c.state {
					t.Errorf("%s: Check says %v", who, st)
				}
				_, openErr := b.Open(d)
				_, readErr := b.ReadAll(d)
				for how, err := range map[string]error{"Open": openErr, "ReadAll": readErr, "Verify": b.Verify(d)} {
					var damaged *DamagedError
					var missing *MissingError
					if c.missing && (!errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist)) || !c.missing && !errors.As(err, &damaged) {
						t.Errorf("%s: %s says %v", who, how, err)
					} else if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), b.Path(d)) {
						t.Errorf("%s: %s: message %v", who, how, err)
					}
				}
			}
			// Made again, it is whole.
			_, err = s.Blobs().Put(data)
			must(t, err)
			if got, err := s.Blobs().ReadAll(d); err != nil || !bytes.Equal(got, data) {
				t.Errorf("published again: %v", err)
			}
			if st := s.Blobs().Check(d, int64(len(data))); st != OK {
				t.Error(st)
			}
		})
	}
}

func TestFolderInTheWayIsKept(t *testing.T) {
	dir := t.TempDir()
	b := OpenBlobs(dir)
	path := b.Path(Sum([]byte("x")))
	must(t, os.MkdirAll(path, 0o755))
	must(t, os.WriteFile(filepath.Join(path, "precious"), nil, 0o644))
	_, err := b.Put([]byte("x"))
	must(t, err)
	if kept := glob(t, filepath.Join(dir, "blobs", "damaged", "*", "*", "precious")); len(kept) != 1 {
		t.Error("what stood there is gone")
	}
}

func TestConcurrentPublishing(t *testing.T) {
	dir := t.TempDir()
	stores := []*Blobs{OpenBlobs(dir), OpenBlobs(dir)}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			b := stores[g%2]
			for i := range 5 {
				w, err := b.Create()
				if err == nil {
					_, err = w.Write(testBlob(i))
				}
				if err == nil {
					_, _, err = w.Commit()
				}
				if err == nil {
					_, err = b.Put(testBlob(i))
				}
				if err == nil {
					_, err = b.ReadAll(Sum(testBlob(i)))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i := range 5 {
		must(t, stores[0].Verify(Sum(testBlob(i))))
	}
	if left := glob(t, filepath.Join(dir, "blobs", "tmp", "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestImportFile(t *testing.T) {
	dir := t.TempDir()
	b := OpenBlobs(filepath.Join(dir, "cache"))
	src := filepath.Join(dir, "src")
	must(t, os.WriteFile(src, testBlob(9), 0o600))
	d, n, err := b.ImportFile(src)
	if err != nil || d != Sum(testBlob(9)) || n != int64(len(testBlob(9))) {
		t.Fatal(d, n, err)
	}
	must(t, os.WriteFile(src, nil, 0o600))
	must(t, b.Verify(d))
	if _, _, err := b.ImportFile(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, _, err := b.ImportFile(dir); err == nil {
		t.Error("a folder was imported")
	}
}

// A blob of 5 GB, most of it holes: sizes and places beyond 32 bits.
func TestHugeBlob(t *testing.T) {
	if testing.Short() {
		t.Skip("hashes 15 GB")
	}
	const size = 5 << 30
	dir := t.TempDir()
	b := OpenBlobs(dir)
	src := filepath.Join(dir, "src")
	f, err := os.Create(src)
	must(t, err)
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Skipf("needs sparse files: %v", err)
	}
	_, err = f.WriteAt([]byte("end"), size-3)
	must(t, err)
	h := sha256.New()
	_, err = io.Copy(h, f)
	must(t, err)
	d := Digest(h.Sum(nil))
	path := filepath.Join(dir, "blobs", d.String()[:2], d.String()[2:])
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.Rename(src, path))
	must(t, b.Verify(d))
	if state := b.Check(d, size); state != OK {
		t.Errorf("a whole blob is %v", state)
	}
	if state := b.Check(d, size-1<<32); state != Damaged {
		t.Errorf("a blob that is 4 GB too long is %v", state)
	}
	_, err = f.WriteAt([]byte{1}, size-1<<29)
	must(t, err)
	var damaged *DamagedError
	if err := b.Verify(d); !errors.As(err, &damaged) {
		t.Errorf("a changed byte near the end: %v", err)
	}
}

func TestSweepSparesTheLiving(t *testing.T) {
	dir := t.TempDir()
	b := OpenBlobs(dir)
	w, err := b.Create()
	must(t, err)
	tmp := filepath.Join(dir, "blobs", "tmp")
	here := strings.Split(filepath.Base(w.f.Name()), "-")[2]
	old := filepath.Join(tmp, "999999999-00000000-ffffffff-1") // of another host
	for _, name := range []string{
		filepath.Join(tmp, "999999999-00000000-"+here+"-1"), // no such process
		old,
		filepath.Join(tmp, "12-00000000-ffffffff-2"), // of another host, young
	} {
		must(t, os.WriteFile(name, nil, 0o644))
	}
	must(t, os.Chtimes(old, time.Time{}, time.Now().Add(-8*24*time.Hour)))
	b.sweep()
	left := glob(t, filepath.Join(tmp, "*"))
	if len(left) != 2 || !slices.Contains(left, filepath.Join(tmp, "12-00000000-ffffffff-2")) || !slices.Contains(left, w.f.Name()) {
		t.Errorf("left: %v", left)
	}
	w.Write([]byte("x"))
	if _, _, err := w.Commit(); err != nil {
		t.Error(err)
	}
}
