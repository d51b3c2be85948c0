package cache

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Look is Check for many blobs: it opens each of their folders once and looks
// their files up in it, on all processors. The answers are in the order of
// outputs; those that lie in a record are OK.
func (b *Blobs) Look(outputs []Output) []State {
	states := make([]State, len(outputs))
	if len(outputs) == 0 {
		return states
	}
	root, err := unix.Open(b.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		for i, o := range outputs {
			states[i] = b.Check(o.Digest, o.Size)
		}
		return states
	}
	defer unix.Close(root)
	b.stamps.blob(Digest{}) // read them before many ask
	var folders [256][]int
	for i, o := range outputs {
		if !o.InRecord() {
			folders[o.Digest[0]] = append(folders[o.Digest[0]], i)
		}
	}
	next := make(chan int, len(folders))
	for f := range folders {
		if len(folders[f]) > 0 {
			next <- f
		}
	}
	close(next)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), 8) {
		wg.Go(func() {
			for f := range next {
				b.lookIn(root, f, folders[f], outputs, states)
			}
		})
	}
	wg.Wait()
	return states
}

// lookIn checks the outputs of one folder.
func (b *Blobs) lookIn(root, folder int, which []int, outputs []Output, states []State) {
	name := strconv.FormatUint(uint64(folder)+256, 16)[1:]
	dir, err := unix.Openat(root, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		for _, i := range which {
			states[i] = b.Check(outputs[i].Digest, outputs[i].Size)
		}
		return
	}
	defer unix.Close(dir)
	var hexName [2*len(Digest{}) - 2]byte
	var st unix.Stat_t
	for _, i := range which {
		o := outputs[i]
		hex.Encode(hexName[:], o.Digest[1:])
		err := error(unix.EINTR)
		for err == unix.EINTR {
			err = unix.Fstatat(dir, string(hexName[:]), &st, unix.AT_SYMLINK_NOFOLLOW)
		}
		states[i] = b.judge(o.Digest, o.Size, &st, err)
	}
}

// judge says what a look at a blob's file means; see Check.
func (b *Blobs) judge(d Digest, size int64, st *unix.Stat_t, err error) State {
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Missing
		}
		return Damaged
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || size >= 0 && st.Size != size {
		return Damaged
	}
	if have, ok := b.stamps.blob(d); ok && !have.same(stampOf(st)) {
		switch err := b.Verify(d); {
		case errors.Is(err, fs.ErrNotExist):
			return Missing
		case err != nil:
			return Damaged
		}
	}
	return OK
}
