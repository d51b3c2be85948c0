package llm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"clusterflow/internal/linalg"
)

// stateStore holds the residual stream of every sequence between blocks: in
// memory, or, where that is too much, in files. With a folder to resume from it
// also writes to files what is held in memory, so that a pass that was ended
// goes on after the last block that all its sequences had gone through.
//
// A file states-N-… holds the states after block N of the sequences that went
// through it, each in one piece of float32 in the machine's byte order. The index says, by
// the digest of a sequence's ids, which file holds its latest finished states,
// and their checksum: files are not synced, so after a crash of the machine
// they may be damaged, and are then not used. Where states are in memory, a file
// that cannot be written is done without.
type stateStore struct {
	hidden int
	seqs   []Sequence
	embed  func(seq int, dst linalg.Matrix)
	inMem  []linalg.Matrix // nil where states are in files

	dir    string // of the files, "" for none
	resume bool   // dir outlives the pass
	at     []place
	files  map[string]*os.File // open files of at
	next   *os.File            // being written
	places []place             // in it
	failed atomic.Bool         // it could not be written whole
}

// place is where the states of a sequence after a block are.
type place struct {
	Block  int    `json:"block"` // -1: nowhere yet, they are the embeddings
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Tokens int    `json:"tokens"`
	Sum    uint32 `json:"crc32c"`
}

// stateIndex is the content of the index file.
type stateIndex struct {
	Hidden    int              `json:"hidden"`
	Sequences map[string]place `json:"sequences"` // by digest of the ids
}

const stateIndexName = "states.json"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newStateStore makes the store of a pass and takes over the states that an
// earlier pass left in scratch.
func newStateStore(p *Pass, hidden int, inMemory bool, embed func(int, linalg.Matrix)) (*stateStore, error) {
	s := &stateStore{hidden: hidden, seqs: p.Sequences, embed: embed, dir: p.Scratch, resume: p.Scratch != "", files: map[string]*os.File{}}
	s.at = make([]place, len(p.Sequences))
	for i, q := range p.Sequences {
		s.at[i] = place{Block: -1, Tokens: len(q.IDs)}
	}
	if inMemory {
		s.inMem = make([]linalg.Matrix, len(p.Sequences))
	}
	if s.dir == "" && !inMemory {
		dir, err := os.MkdirTemp("", "clusterflow-states-")
		if err != nil {
			return nil, fmt.Errorf("making a folder for the states, which do not fit the memory allowed: %w", err)
		}
		s.dir = dir
	}
	if s.resume {
		s.takeOver()
	}
	linalg.ForEach(p.Threads, len(s.inMem), func(i int) {
		s.inMem[i] = linalg.NewMatrix(s.at[i].Tokens, hidden)
		if s.read(i, s.inMem[i]) != nil { // damaged: from the beginning
			s.at[i] = place{Block: -1, Tokens: s.at[i].Tokens}
			s.embed(i, s.inMem[i])
		}
	})
	return s, nil
}

// takeOver reads the index of an earlier pass. What cannot be read is computed.
func (s *stateStore) takeOver() {
	defer s.sweep()
	data, err := os.ReadFile(filepath.Join(s.dir, stateIndexName))
	var index stateIndex
	if err != nil || json.Unmarshal(data, &index) != nil || index.Hidden != s.hidden {
		return
	}
	for i, q := range s.seqs {
		at, ok := index.Sequences[digestIDs(q.IDs)]
		if !ok || at.Tokens != len(q.IDs) || len(q.Layers) == 0 || q.Layers[0] < at.Block || !filepath.IsLocal(at.File) {
			continue // it needs an earlier layer
		}
		if s.open(at.File) != nil {
			continue
		}
		if s.inMem == nil { // else checked as it is read
			if s.readAt(at, make([]byte, s.bytes(i))) != nil {
				continue
			}
		}
		s.at[i] = at
	}
}

func digestIDs(ids []int32) string {
	h := sha256.New()
	var buf [4]byte
	for _, id := range ids {
		binary.LittleEndian.PutUint32(buf[:], uint32(id))
		h.Write(buf[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (s *stateStore) bytes(seq int) int64 { return int64(s.at[seq].Tokens) * int64(s.hidden) * 4 }

func (s *stateStore) open(name string) error {
	if s.files[name] != nil {
		return nil
	}
	f, err := os.Open(filepath.Join(s.dir, name))
	if err == nil {
		s.files[name] = f
	}
	return err
}

// read fills dst with the states of a sequence after its last finished block.
func (s *stateStore) read(seq int, dst linalg.Matrix) error {
	if at := s.at[seq]; at.Block >= 0 {
		return s.readAt(at, linalg.Bytes(dst.Data))
	}
	s.embed(seq, dst)
	return nil
}

func (s *stateStore) readAt(at place, dst []byte) error {
	if _, err := s.files[at.File].ReadAt(dst, at.Offset); err != nil {
		return fmt.Errorf("reading states after block %d: %w", at.Block, err)
	}
	if crc32.Checksum(dst, castagnoli) != at.Sum {
		return fmt.Errorf("%s was changed or damaged while it was in use", filepath.Join(s.dir, at.File))
	}
	return nil
}

// take returns the states of a sequence to work on, in buf where they come
// from a file.
func (s *stateStore) take(seq int, buf *[]float32) (linalg.Matrix, error) {
	if s.inMem != nil {
		return s.inMem[seq], nil
	}
	x := matrix(buf, s.at[seq].Tokens, s.hidden)
	return x, s.read(seq, x)
}

// begin prepares for the sequences that go through a block and on to the next.
func (s *stateStore) begin(block int, on []int) error {
	s.places = nil
	if s.dir == "" || len(on) == 0 {
		return nil
	}
	f, err := os.CreateTemp(s.dir, fmt.Sprintf("states-%d-*", block))
	if err != nil {
		return s.writeError(err)
	}
	s.failed.Store(false)
	name := filepath.Base(f.Name())
	s.next, s.places = f, make([]place, len(s.seqs))
	offset := int64(0)
	for _, i := range on {
		s.places[i] = place{Block: block, File: name, Offset: offset, Tokens: s.at[i].Tokens}
		offset += s.bytes(i)
	}
	return nil
}

// put hands back the states of a sequence after the block that was begun. It
// can be called for several sequences at once.
func (s *stateStore) put(seq int, x linalg.Matrix) error {
	if s.places == nil {
		return nil
	}
	at := &s.places[seq]
	raw := linalg.Bytes(x.Data)
	at.Sum = crc32.Checksum(raw, castagnoli)
	if _, err := s.next.WriteAt(raw, at.Offset); err != nil {
		return s.writeError(err)
	}
	return nil
}

// commit makes the block that was begun the last finished one.
func (s *stateStore) commit(on []int) error {
	if s.places == nil {
		return nil
	}
	name := s.places[on[0]].File
	err := s.next.Close()
	s.next = nil
	if err != nil {
		err = s.writeError(err)
	}
	if s.failed.Load() || err != nil {
		s.sweep() // the files of the block before stay
		return err
	}
	for _, i := range on {
		s.at[i] = s.places[i]
	}
	if err := s.open(name); err != nil {
		return s.writeError(err)
	}
	index := stateIndex{Hidden: s.hidden, Sequences: map[string]place{}}
	for i, at := range s.at {
		if at.Block >= 0 {
			index.Sequences[digestIDs(s.seqs[i].IDs)] = at
		}
	}
	if s.resume {
		data, err := json.Marshal(index)
		path := filepath.Join(s.dir, stateIndexName)
		if err == nil {
			err = writeSynced(path+".new", data)
		}
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			return s.writeError(err)
		}
	}
	s.sweep()
	return nil
}

// writeSynced writes a file that is whole on the disk when it returns.
func writeSynced(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// sweep removes the files of states that no sequence needs any more, or that a
// pass that was ended had begun. What cannot be removed does no harm.
func (s *stateStore) sweep() {
	used := map[string]bool{}
	for _, at := range s.at {
		used[at.File] = true
	}
	for name, f := range s.files {
		if !used[name] {
			f.Close()
			delete(s.files, name)
		}
	}
	names, _ := filepath.Glob(filepath.Join(s.dir, "states-*"))
	for _, name := range names {
		if !used[filepath.Base(name)] {
			os.Remove(name)
		}
	}
}

// writeError is what becomes of an error of writing: nothing, where the states
// are in memory as well.
func (s *stateStore) writeError(err error) error {
	if s.inMem != nil {
		s.failed.Store(true)
		return nil
	}
	return fmt.Errorf("keeping the states between blocks in %s: %w; free some space there, or allow more memory", s.dir, err)
}

// close closes the files, and removes them unless an ended pass can go on from
// them.
func (s *stateStore) close(done bool) error {
	var errs []error
	if s.next != nil {
		errs = append(errs, s.next.Close(), os.Remove(s.next.Name()))
	}
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	switch {
	case s.dir == "":
	case !s.resume:
		errs = append(errs, os.RemoveAll(s.dir))
	case done:
		entries, err := os.ReadDir(s.dir)
		if !errors.Is(err, fs.ErrNotExist) { // done without
			errs = append(errs, err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "states") {
				errs = append(errs, os.Remove(filepath.Join(s.dir, e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}
