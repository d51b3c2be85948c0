package cache

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"sort"
	"strconv"
)

// The file of stamps begins with a line of text: the CRC-32C of what follows it,
// because a wrong bit must not vouch for a file, and the number of blobs. Then
// come the blobs in the order of their digests, an entry of fixed size each, and
// then the source files as text, one a line with the quoted path last.
const stampsHeader = "clusterflow stamps 2 "

// blobEntry is the size of a blob's entry: digest, device, inode, size, mtime,
// ctime and the time of the stamp, little-endian.
const blobEntry = len(Digest{}) + 6*8

// blobStamps are the stamps of blobs. Of a large cache they are looked up where
// they lie in the file's text: what changes is kept beside it. The zero value is
// empty.
type blobStamps struct {
	base    []byte // entries in the order of digests, each digest once
	changed map[Digest]stampChange
}

// stampChange is a stamp that is newer than base, or the news that there is none.
type stampChange struct {
	stamp stamp
	gone  bool
}

func (b *blobStamps) get(d Digest) (stamp, bool) {
	if len(b.changed) > 0 {
		if c, ok := b.changed[d]; ok {
			return c.stamp, !c.gone
		}
	}
	return b.old(d)
}

// old looks in base.
func (b *blobStamps) old(d Digest) (stamp, bool) {
	i, found := sort.Find(len(b.base)/blobEntry, func(i int) int {
		return bytes.Compare(d[:], b.base[i*blobEntry:][:len(d)])
	})
	if !found {
		return stamp{}, false
	}
	return entryStamp(b.base[i*blobEntry:]), true
}

func entryStamp(e []byte) stamp {
	e = e[len(Digest{}):]
	field := func(i int) uint64 { return binary.LittleEndian.Uint64(e[8*i:]) }
	return stamp{field(0), field(1), int64(field(2)), int64(field(3)), int64(field(4)), int64(field(5))}
}

func (b *blobStamps) set(d Digest, st stamp) { b.change(d, stampChange{stamp: st}) }

// drop forgets the stamp of d and reports whether there was one.
func (b *blobStamps) drop(d Digest) bool {
	if _, ok := b.get(d); !ok {
		return false
	}
	b.change(d, stampChange{gone: true})
	return true
}

func (b *blobStamps) change(d Digest, c stampChange) {
	if b.changed == nil {
		b.changed = map[Digest]stampChange{}
	}
	b.changed[d] = c
}

// rebase puts what a file holds under the changes made since: of two stamps of
// a blob the later stands.
func (b *blobStamps) rebase(base []byte) {
	b.base = base
	maps.DeleteFunc(b.changed, func(d Digest, c stampChange) bool {
		st, ok := b.old(d)
		return ok && !c.gone && st.taken > c.stamp.taken
	})
}

// encode appends base as the changes have made it.
func (b *blobStamps) encode(to []byte) []byte {
	news := slices.SortedFunc(maps.Keys(b.changed), func(x, y Digest) int { return bytes.Compare(x[:], y[:]) })
	base := b.base
	for _, d := range news {
		i, found := sort.Find(len(base)/blobEntry, func(i int) int { return bytes.Compare(d[:], base[i*blobEntry:][:len(d)]) })
		to = append(to, base[:i*blobEntry]...)
		if found {
			i++
		}
		base = base[i*blobEntry:]
		if c := b.changed[d]; !c.gone {
			to = append(to, d[:]...)
			st := c.stamp
			for _, v := range []uint64{st.dev, st.ino, uint64(st.size), uint64(st.mtime), uint64(st.ctime), uint64(st.taken)} {
				to = binary.LittleEndian.AppendUint64(to, v)
			}
		}
	}
	return append(to, base...)
}

func encodeStamps(blobs *blobStamps, files map[string]stampedFile) []byte {
	body := blobs.encode(make([]byte, 0, len(blobs.base)+blobEntry*len(blobs.changed)+160*len(files)))
	n := len(body) / blobEntry
	for _, p := range slices.Sorted(maps.Keys(files)) {
		st := files[p].stamp
		body = append(body, files[p].digest.String()...)
		for _, v := range []uint64{st.dev, st.ino} {
			body = strconv.AppendUint(append(body, ' '), v, 10)
		}
		for _, v := range []int64{st.size, st.mtime, st.ctime, st.taken} {
			body = strconv.AppendInt(append(body, ' '), v, 10)
		}
		body = append(strconv.AppendQuote(append(body, ' '), p), '\n')
	}
	return sumStamps(n, body)
}

func sumStamps(blobs int, body []byte) []byte {
	return append(fmt.Appendf(nil, "%s%08x %d\n", stampsHeader, crc32.Checksum(body, castagnoli), blobs), body...)
}

var errStamps = errors.New("stamps: the header does not match the content")

// decodeStamps reads a file; blobs are the text of their entries.
func decodeStamps(data []byte) (blobs []byte, files map[string]stampedFile, err error) {
	head, body, _ := bytes.Cut(data, []byte("\n"))
	head, ok := bytes.CutPrefix(head, []byte(stampsHeader))
	sum, count, _ := bytes.Cut(head, []byte(" "))
	n, err := strconv.Atoi(string(count))
	if !ok || err != nil || n < 0 || n > len(body)/blobEntry || string(sum) != fmt.Sprintf("%08x", crc32.Checksum(body, castagnoli)) {
		return nil, nil, errStamps
	}
	blobs, body = body[:n*blobEntry:n*blobEntry], body[n*blobEntry:]
	for i := blobEntry; i < len(blobs); i += blobEntry {
		if bytes.Compare(blobs[i-blobEntry:][:len(Digest{})], blobs[i:][:len(Digest{})]) >= 0 {
			return nil, nil, errors.New("stamps: the blobs are out of order")
		}
	}
	files = map[string]stampedFile{}
	for len(body) > 0 {
		line, rest, _ := bytes.Cut(body, []byte("\n"))
		body = rest
		path, f, err := decodeFileStamp(line)
		if err != nil {
			return nil, nil, fmt.Errorf("stamps: line %.80q: %w", line, err)
		}
		files[path] = f
	}
	return blobs, files, nil
}

// decodeFileStamp reads the line of a source file.
func decodeFileStamp(line []byte) (path string, f stampedFile, err error) {
	fields := bytes.SplitN(line, []byte(" "), 8)
	if len(fields) < 8 {
		return "", f, errors.New("too few fields")
	}
	if err := f.digest.UnmarshalText(fields[0]); err != nil {
		return "", f, err
	}
	unsigned := func(i int, to *uint64) {
		v, perr := strconv.ParseUint(string(fields[i]), 10, 64)
		*to, err = v, cmp.Or(err, perr)
	}
	signed := func(i int, to *int64) {
		v, perr := strconv.ParseInt(string(fields[i]), 10, 64)
		*to, err = v, cmp.Or(err, perr)
	}
	st := &f.stamp
	unsigned(1, &st.dev)
	unsigned(2, &st.ino)
	signed(3, &st.size)
	signed(4, &st.mtime)
	signed(5, &st.ctime)
	signed(6, &st.taken)
	if err != nil {
		return "", f, err
	}
	if path, err = strconv.Unquote(string(fields[7])); err != nil {
		return "", f, errors.New("the path is not quoted")
	}
	return path, f, nil
}
