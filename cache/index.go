package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The index, runs/records.index, says of each record in the journal where its
// line is and, in binary, what a plan needs of it: outputs and times. It saves
// reading and decoding every line. It only saves work: one that does not fit
// the journal, or is damaged, is not used.
//
//	header  text: format, CRC-32C of what follows, the journal's stamp
//	u32     number of names, then each: u16 length, bytes
//	u32     number of entries, then each, the later of two with one key counting:
//	        key[32]  i64 offset  u32 length  i64 started  i64 finished
//	        u32 kind  u8 withdrawn  u16 outputs, then each: u32 name  digest[32]
//	        i64 size  u8 inline
//
// Integers are little-endian, kind and name numbers of names.
const indexHeader = "clusterflow index 2 "

// withdrawnBrief stands in a brief record for the reason, which only the whole
// record has.
const withdrawnBrief = "withdrawn"

const (
	indexEntry  = 32 + 8 + 4 + 8 + 8 + 4 + 1 + 2
	indexOutput = 4 + 32 + 8 + 1
)

func indexPath(dir string) string { return filepath.Join(dir, "runs", "records.index") }

// recordIndex is an index in memory: the entries as they are in the file, found
// by an open-addressed table of their offsets.
type recordIndex struct {
	names []string
	ids   map[string]uint32
	data  []byte   // entries
	table []uint32 // offset+1 of an entry, 0 where free; the size is a power of two
	n     int      // distinct keys
	upTo  int64    // bytes of the journal that it covers
}

func newRecordIndex() *recordIndex {
	return &recordIndex{ids: map[string]uint32{}, table: make([]uint32, 1<<10)}
}

// find returns the offset of key's entry.
func (x *recordIndex) find(key Digest) (int, bool) {
	mask := uint32(len(x.table) - 1)
	for h := binary.LittleEndian.Uint32(key[:]) & mask; ; h = (h + 1) & mask {
		at := x.table[h]
		if at == 0 {
			return 0, false
		}
		if Digest(x.data[at-1:at+31]) == key {
			return int(at - 1), true
		}
	}
}

// enter makes the entry at an offset that of its key.
func (x *recordIndex) enter(at int) {
	if 2*(x.n+1) > len(x.table) {
		x.grow(4 * len(x.table))
	}
	key := Digest(x.data[at : at+32])
	mask := uint32(len(x.table) - 1)
	h := binary.LittleEndian.Uint32(key[:]) & mask
	for ; x.table[h] != 0; h = (h + 1) & mask {
		if old := x.table[h]; Digest(x.data[old-1:old+31]) == key {
			x.table[h] = uint32(at + 1)
			return
		}
	}
	x.table[h] = uint32(at + 1)
	x.n++
}

func (x *recordIndex) grow(size int) {
	old := x.table
	x.table, x.n = make([]uint32, size), 0
	for _, at := range old {
		if at != 0 {
			x.enter(int(at - 1))
		}
	}
}

func (x *recordIndex) name(s string) uint32 {
	id, ok := x.ids[s]
	if !ok {
		id = uint32(len(x.names))
		x.names = append(x.names, s)
		x.ids[s] = id
	}
	return id
}

// add enters a record whose line is at the given place.
func (x *recordIndex) add(r *Record, at span) {
	le := binary.LittleEndian
	begin := len(x.data)
	b := append(x.data, r.Key[:]...)
	b = le.AppendUint64(b, uint64(at.at))
	b = le.AppendUint32(b, uint32(at.len))
	b = le.AppendUint64(b, uint64(wireTime(r.Started)))
	b = le.AppendUint64(b, uint64(wireTime(r.Finished)))
	b = le.AppendUint32(b, x.name(r.Kind))
	withdrawn := byte(0)
	if r.Withdrawn != "" {
		withdrawn = 1
	}
	b = append(b, withdrawn)
	b = le.AppendUint16(b, uint16(len(r.Outputs)))
	for _, o := range r.Outputs {
		b = le.AppendUint32(b, x.name(o.Name))
		b = append(b, o.Digest[:]...)
		b = le.AppendUint64(b, uint64(o.Size))
		inline := byte(0)
		if o.Inline != nil {
			inline = 1
		}
		b = append(b, inline)
	}
	x.data = b
	x.enter(begin)
}

// span is where the line of the entry at an offset stands in the journal.
func (x *recordIndex) span(at int) span {
	le := binary.LittleEndian
	return span{int64(le.Uint64(x.data[at+32:])), int(le.Uint32(x.data[at+40:]))}
}

// brief is the record of the entry at an offset, without what the index lacks.
func (x *recordIndex) brief(at int) *Record {
	le := binary.LittleEndian
	e := x.data[at:]
	r := &Record{
		Key: Digest(e[:32]), Kind: x.names[le.Uint32(e[60:])], Brief: true,
		Started: recordTime(int64(le.Uint64(e[44:]))), Finished: recordTime(int64(le.Uint64(e[52:]))),
		Outputs: make([]Output, le.Uint16(e[65:])),
	}
	if e[64] == 1 {
		r.Withdrawn = withdrawnBrief
	}
	e = e[indexEntry:]
	for i := range r.Outputs {
		o := &r.Outputs[i]
		o.Name, o.Digest, o.Size = x.names[le.Uint32(e)], Digest(e[4:36]), int64(le.Uint64(e[36:]))
		o.Absent = e[44] == 1
		e = e[indexOutput:]
	}
	return r
}

// encode writes the index for a journal of that stamp.
func (x *recordIndex) encode(journal stamp) []byte {
	le := binary.LittleEndian
	body := le.AppendUint32(make([]byte, 0, len(x.data)+64*len(x.names)+16), uint32(len(x.names)))
	for _, n := range x.names {
		body = append(le.AppendUint16(body, uint16(len(n))), n...)
	}
	body = append(body, x.data...)
	head := fmt.Sprintf("%s%08x %d %d %d %d %d\n", indexHeader, crc32.Checksum(body, castagnoli),
		journal.dev, journal.ino, journal.size, journal.mtime, journal.ctime)
	return append([]byte(head), body...)
}

var errIndex = errors.New("the index does not fit the journal")

// decodeIndex reads an index if it is of that journal as it is, or as it was
// before lines were added.
func decodeIndex(data []byte, journal stamp) (*recordIndex, error) {
	head, body, ok := bytes.Cut(data, []byte("\n"))
	var sum uint32
	var was stamp
	if _, err := fmt.Sscanf(string(head), indexHeader+"%08x %d %d %d %d %d", &sum, &was.dev, &was.ino, &was.size, &was.mtime, &was.ctime); err != nil || !ok {
		return nil, errIndex
	}
	if was.dev != journal.dev || was.ino != journal.ino || was.size > journal.size ||
		was.size == journal.size && !was.same(journal) || crc32.Checksum(body, castagnoli) != sum {
		return nil, errIndex
	}
	x := newRecordIndex()
	x.upTo = was.size
	le := binary.LittleEndian
	if len(body) < 4 {
		return nil, errIndex
	}
	count := le.Uint32(body)
	body = body[4:]
	for range count {
		if len(body) < 2 || len(body) < 2+int(le.Uint16(body)) {
			return nil, errIndex
		}
		n := int(le.Uint16(body))
		x.name(string(body[2 : 2+n]))
		body = body[2+n:]
	}
	x.data = body
	x.grow(tableFor(len(body) / (indexEntry + indexOutput)))
	for at := 0; at < len(body); {
		end, err := x.check(at)
		if err != nil {
			return nil, err
		}
		x.enter(at)
		at = end
	}
	return x, nil
}

func tableFor(n int) int {
	size := 1 << 10
	for size < 2*n+2 {
		size *= 2
	}
	return size
}

// check returns where the entry at an offset ends.
func (x *recordIndex) check(at int) (end int, err error) {
	le := binary.LittleEndian
	e := x.data[at:]
	if len(e) < indexEntry || le.Uint32(e[60:]) >= uint32(len(x.names)) {
		return 0, errIndex
	}
	n := int(le.Uint16(e[65:]))
	if len(e) < indexEntry+n*indexOutput {
		return 0, errIndex
	}
	for i := range n {
		if le.Uint32(e[indexEntry+i*indexOutput:]) >= uint32(len(x.names)) {
			return 0, errIndex
		}
	}
	if s := x.span(at); s.at < 0 || s.at+int64(s.len) >= x.upTo {
		return 0, errIndex
	}
	return at + indexEntry + n*indexOutput, nil
}

// readIndex reads the index of an open journal, or an empty one when there is
// none that can be used.
func readIndex(dir string, journal *os.File) *recordIndex {
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Fstat(int(journal.Fd()), &st) }); err != nil {
		return newRecordIndex()
	}
	data, err := os.ReadFile(indexPath(dir))
	if err != nil {
		return newRecordIndex()
	}
	x, err := decodeIndex(data, stampOf(&st))
	if err != nil {
		return newRecordIndex()
	}
	return x
}

func stampOf(st *unix.Stat_t) stamp { return fileStamp(st, time.Time{}) }

// follow adds the journal's lines behind those that the index covers.
// It is for one goroutine; damaged lines are passed over.
func (x *recordIndex) follow(f *os.File) error {
	st, err := f.Stat()
	if err != nil || x.upTo >= st.Size() {
		return err
	}
	x.data = slices.Clip(x.data)
	from := x.upTo
	return scanLines(io.NewSectionReader(f, from, st.Size()-from), func(line []byte, at int64) {
		if r, err := decodeRecord(line); err == nil {
			x.add(r, span{from + at, len(line)})
		}
		x.upTo = from + at + int64(len(line)) + 1
	})
}

// writeIndex brings the index of the cache in line with its journal, which the
// caller keeps others from changing.
func writeIndex(dir string) error {
	f, err := os.Open(journalPath(dir))
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return err
	}
	x := readIndex(dir, f)
	if x.upTo == st.Size {
		return nil
	}
	if err := x.follow(f); err != nil || x.upTo != st.Size || len(x.data) > indexMost {
		return err
	}
	return replaceFile(indexPath(dir), x.encode(stampOf(&st)))
}

// indexMost is how many bytes of entries the table's offsets can tell apart.
const indexMost = 4<<30 - 2
