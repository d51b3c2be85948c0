package cache

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// poison makes the stamp of path vouch for a digest that is wrong, so that a
// test sees whether the stamp was believed or the file hashed.
func poison(s *stamps, path string) Digest {
	wrong := Sum([]byte("a lie"))
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[path]
	f.digest = wrong
	s.files[path] = f
	s.dirty = true
	return wrong
}

func TestTwoSecondRule(t *testing.T) {
	now := time.Now()
	base := func(mtime, ctime, taken time.Duration) stamp {
		at := func(d time.Duration) int64 { return now.Add(d).UnixNano() }
		return stamp{mtime: at(mtime), ctime: at(ctime), taken: at(taken)}
	}
	for _, c := range []struct {
		name                string
		mtime, ctime, taken time.Duration
		want                bool
	}{
		{"just written", 0, 0, 0, false},
		{"1.9 s", 0, 0, 1900 * time.Millisecond, false},
		{"2 s", 0, 0, 2 * time.Second, true},
		{"old mtime, new ctime: touched or moved here", -time.Hour, 0, time.Second, false},
		{"old mtime, older ctime", -time.Hour, -time.Minute, 0, true},
		{"mtime in the future: the clock was set back", time.Hour, 0, time.Minute, false},
	} {
		if got := base(c.mtime, c.ctime, c.taken).settled(); got != c.want {
			t.Errorf("%s: settled %v", c.name, got)
		}
	}
}

func TestFileDigestTrustsOldFilesOnly(t *testing.T) {
	dir := t.TempDir()
	clk := &clock{}
	s := openWith(t, Options{Dir: filepath.Join(dir, "cache"), Now: clk.now})
	path := filepath.Join(dir, "data.json")
	digest := func() Digest {
		t.Helper()
		d, n, err := s.FileDigest(path)
		must(t, err)
		st, err := os.Stat(path)
		must(t, err)
		if n != st.Size() {
			t.Errorf("size %d, want %d", n, st.Size())
		}
		return d
	}
	// Three contents of one size, each with the same mtime long ago, within one
	// tick: only hashing tells them apart.
	long := time.Now().Add(-24 * time.Hour)
	for _, text := range []string{"aaa", "bbb", "ccc"} {
		must(t, os.WriteFile(path, []byte(text), 0o644))
		must(t, os.Chtimes(path, long, long))
		if digest() != Sum([]byte(text)) {
			t.Fatalf("%s has the digest of an earlier content", text)
		}
	}
	// Old enough: the stamp is believed, so that a lie in it shows.
	clk.ahead = 3 * time.Second
	if digest() != Sum([]byte("ccc")) {
		t.Fatal("wrong digest")
	}
	wrong := poison(s.stamps, path)
	if digest() != wrong {
		t.Error("an old unchanged file was hashed again")
	}
	// Anything that stat shows ends the trust.
	for name, change := range map[string]func(){
		"mtime": func() { must(t, os.Chtimes(path, time.Time{}, long.Add(time.Second))) },
		"ctime": func() { time.Sleep(20 * time.Millisecond); must(t, os.Chmod(path, 0o600)) },
		"inode": func() {
			must(t, os.Rename(path, path+"2"))
			must(t, os.WriteFile(path, []byte("ccc"), 0o644))
		},
		"size": func() { must(t, os.WriteFile(path, []byte("cccc"), 0o644)) },
	} {
		must(t, os.WriteFile(path, []byte("ccc"), 0o644))
		clk.ahead += 10 * time.Second
		digest()
		wrong := poison(s.stamps, path)
		change()
		if digest() == wrong {
			t.Errorf("a changed %s went unseen", name)
		}
	}
}

func TestStampsSurviveAndMerge(t *testing.T) {
	dir := t.TempDir()
	cacheDir := filepath.Join(dir, "cache")
	clk := &clock{ahead: time.Minute}
	path := filepath.Join(dir, "odd name\n\"é.json")
	must(t, os.WriteFile(path, []byte("x"), 0o644))
	s := openWith(t, Options{Dir: cacheDir, Now: clk.now})
	_, _, err := s.FileDigest(path)
	must(t, err)
	d, err := s.Blobs().Put([]byte("blob"))
	must(t, err)
	if _, ok := s.stamps.blob(d); !ok {
		t.Error("the writer left no stamp")
	}
	wrong := poison(s.stamps, path)
	closeStore(t, s)

	r := reader(t, cacheDir)
	if got, _, err := r.FileDigest(path); got != wrong || err != nil {
		t.Errorf("the reader does not use stamps: %v", err)
	}
	// What a second apply learns while the first is suspended is kept.
	s = openWith(t, Options{Dir: cacheDir, Now: clk.now})
	s.stamps.blob(d) // loaded
	must(t, s.Suspend())
	other := openWith(t, Options{Dir: cacheDir, Now: clk.now})
	d2, err := other.Blobs().Put([]byte("blob 2"))
	must(t, err)
	closeStore(t, other)
	must(t, s.Resume(t.Context()))
	_, err = s.Blobs().Put([]byte("blob 3"))
	must(t, err)
	closeStore(t, s)
	if _, ok := newStamps(cacheDir, time.Now).blob(d2); !ok {
		t.Error("the other's stamp was overwritten")
	}
	// A flipped bit in the file must vouch for nothing.
	edit(t, filepath.Join(cacheDir, "runs", "stamps"), flip(-30))
	if got, _, err := reader(t, cacheDir).FileDigest(path); got != Sum([]byte("x")) || err != nil {
		t.Errorf("damaged stamps were believed: %v %v", got, err)
	}
	s = open(t, cacheDir)
	_, err = s.Blobs().ReadAll(d)
	must(t, err)
}

// The writer hashed the bytes on their way to the disk, but its stamp is as
// young as the file: what happens within the same tick must still be seen.
func TestFreshBlobIsHashedWhenRead(t *testing.T) {
	clk := &clock{}
	s := openWith(t, Options{Dir: t.TempDir(), Now: clk.now})
	b := s.Blobs()
	d, err := b.Put(testBlob(1))
	must(t, err)
	path := b.Path(d)
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	edit(t, path, flip(5))
	must(t, os.Chmod(path, 0o444))
	// Pretend that the file system shows nothing of it.
	must(t, unix.Stat(path, &st))
	s.stamps.setBlob(d, fileStamp(&st, time.Now()))
	if b.Check(d, -1) != OK {
		t.Error("the test is wrong: the stamp should match")
	}
	var damaged *DamagedError
	if _, err := b.Open(d); !errors.As(err, &damaged) {
		t.Errorf("a fresh blob was read without a hash: %v", err)
	}
	// A settled stamp is what reading relies on.
	d, err = b.Put(testBlob(2))
	must(t, err)
	clk.ahead = 3 * time.Second
	f, err := b.Open(d)
	must(t, err)
	f.Close()
	if have, _ := s.stamps.blob(d); !have.settled() {
		t.Error("hashing an old blob left no settled stamp")
	}
}

func TestFileDigestErrors(t *testing.T) {
	dir := t.TempDir()
	r := reader(t, dir)
	if _, _, err := r.FileDigest(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, _, err := r.FileDigest(dir); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Error(err)
	}
	pipe := filepath.Join(dir, "pipe")
	must(t, syscall.Mkfifo(pipe, 0o644))
	if _, _, err := r.FileDigest(pipe); err == nil {
		t.Error("a pipe was hashed")
	}
}

func FuzzStamps(f *testing.F) {
	one := new(blobStamps)
	one.set(Sum(nil), stamp{1, 2, 3, -4, 5, 6})
	f.Add(encodeStamps(one, map[string]stampedFile{"/a b\n": {stamp{size: 9}, Sum(nil)}}))
	f.Add(encodeStamps(new(blobStamps), nil))
	f.Add([]byte("clusterflow stamps 1 00000000\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		// Give any body a right sum, or the fuzzer never gets past it.
		_, body, _ := bytes.Cut(data, []byte("\n"))
		for _, in := range [][]byte{data, sumStamps(0, body), sumStamps(1, body), sumStamps(len(body)/blobEntry, body)} {
			blobs, files, err := decodeStamps(in)
			if err != nil {
				continue
			}
			b2, f2, err := decodeStamps(encodeStamps(&blobStamps{base: blobs}, files))
			if err != nil || !bytes.Equal(blobs, b2) || !reflect.DeepEqual(files, f2) {
				t.Fatalf("%v: %v %v came back as %v %v", err, blobs, files, b2, f2)
			}
		}
	})
}

// The table of a file with changes beside it is what a plain map would be, also
// after it was written and read.
func TestBlobStamps(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	digest := func() Digest { return Sum([]byte{byte(rng.IntN(60))}) }
	var table blobStamps
	want := map[Digest]stamp{}
	for step := range 3000 {
		d := digest()
		switch rng.IntN(8) {
		case 0:
			_, had := want[d]
			if table.drop(d) != had {
				t.Fatal("drop says otherwise")
			}
			delete(want, d)
		case 1: // saved, and read by the next process
			base, _, err := decodeStamps(encodeStamps(&table, nil))
			must(t, err)
			table = blobStamps{base: base}
		default:
			st := stamp{dev: rng.Uint64(), ino: rng.Uint64(), size: rng.Int64(), mtime: -rng.Int64(), ctime: rng.Int64(), taken: int64(step)}
			table.set(d, st)
			want[d] = st
		}
		d = digest()
		st, ok := table.get(d)
		if w, had := want[d]; ok != had || st != w {
			t.Fatalf("step %d: %v %v, want %v %v", step, st, ok, w, had)
		}
	}
	// Another process has saved: the later stamp of each stands, and what was
	// dropped here stays so.
	a, b, c := Sum([]byte("a")), Sum([]byte("b")), Sum([]byte("c"))
	var mine, theirs blobStamps
	mine.set(a, stamp{taken: 1})
	mine.set(b, stamp{taken: 5})
	mine.set(c, stamp{taken: 1})
	mine.drop(c)
	for _, d := range []Digest{a, b, c} {
		theirs.set(d, stamp{taken: 3})
	}
	base, _, err := decodeStamps(encodeStamps(&theirs, nil))
	must(t, err)
	mine.rebase(base)
	for d, want := range map[Digest]int64{a: 3, b: 5, c: 0} {
		if st, _ := mine.get(d); st.taken != want {
			t.Errorf("%s: the stamp of time %d stands, want %d", d.Short(), st.taken, want)
		}
	}
}
