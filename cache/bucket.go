package cache

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
)

// Limits of a bucket's entries, in bytes.
const (
	MaxKeyLen   = 16 << 10
	MaxValueLen = 1<<20 - 64<<10
)

// Bucket is a durable key/value space for small things that are not records:
// the batch ledger, the places of answers. It is safe for concurrent use.
type Bucket struct {
	s      *Store
	prefix string
	err    error
}

// Bucket returns the bucket of that name, which exists from the first Put on.
// A name is any text without a NUL byte.
func (s *Store) Bucket(name string) *Bucket {
	b := &Bucket{s: s, prefix: "b/" + name + "\x00"}
	if name == "" || strings.Contains(name, "\x00") {
		b.err = fmt.Errorf("cache: %q is no name for a bucket", name)
	}
	return b
}

// Get returns a copy of the value of key, and false when there is none.
func (b *Bucket) Get(key string) ([]byte, bool, error) {
	db, done, err := b.begin()
	if err != nil {
		return nil, false, err
	}
	defer done()
	framed, err := db.get([]byte(b.prefix + key))
	if err != nil || framed == nil {
		return nil, false, err
	}
	value, err := b.open(key, framed)
	return value, err == nil, err
}

// Put sets all the keys or none, whatever their number, also when the process
// or the machine dies in the middle; it is on the disk when Put returns nil. A
// Put too large for one transaction of Badger (about 2 MB or 25,000 keys) may
// be seen half done by others of this process while it is at work, and if it
// fails half way it is completed when the cache is opened again.
func (b *Bucket) Put(kv map[string][]byte) error {
	db, done, err := b.begin()
	if err != nil {
		return err
	}
	defer done()
	if len(kv) == 0 {
		return nil
	}
	entries := make([]entry, 0, len(kv))
	for _, k := range slices.Sorted(maps.Keys(kv)) {
		if len(k) > MaxKeyLen || len(kv[k]) > MaxValueLen {
			return fmt.Errorf("cache: entry %.80q is too large: key %d of at most %d bytes, value %d of at most %d; put large things in a blob",
				k, len(k), MaxKeyLen, len(kv[k]), MaxValueLen)
		}
		entries = append(entries, entry{[]byte(b.prefix + k), b.frame(k, kv[k])})
	}
	return db.putWhole(entries)
}

// Delete removes the keys that are there; it is on the disk when Delete returns
// nil. Thousands of keys may be removed in several steps.
func (b *Bucket) Delete(keys ...string) error {
	db, done, err := b.begin()
	if err != nil {
		return err
	}
	defer done()
	entries := make([]entry, len(keys))
	for i, k := range keys {
		entries[i] = entry{[]byte(b.prefix + k), nil}
	}
	return db.commitAll(entries)
}

// Scan calls fn for every key with the prefix, in the order of keys, with the
// values as they were when Scan began. fn owns value, may use the bucket, and
// ends the scan with an error, which Scan returns. Suspend and Close wait for
// a scan to end.
func (b *Bucket) Scan(prefix string, fn func(key string, value []byte) error) error {
	db, done, err := b.begin()
	if err != nil {
		return err
	}
	defer done()
	return db.scan(b.prefix+prefix, func(rest string, framed []byte) error {
		key := prefix + rest
		value, err := b.open(key, framed)
		if err != nil {
			return err
		}
		return fn(key, value)
	})
}

func (b *Bucket) begin() (*database, func(), error) {
	if b.err != nil {
		return nil, nil, b.err
	}
	return b.s.begin()
}

// frame puts a sum before the value: the ledger is what must not lie.
func (b *Bucket) frame(key string, value []byte) []byte {
	out := make([]byte, 4, 4+len(value))
	binary.BigEndian.PutUint32(out, b.sum(key, value))
	return append(out, value...)
}

func (b *Bucket) open(key string, framed []byte) ([]byte, error) {
	if len(framed) < 4 || binary.BigEndian.Uint32(framed) != b.sum(key, framed[4:]) {
		db := databasePath(b.s.stateDir)
		return nil, &DatabaseError{Dir: db, Journal: journalPath(b.s.dir),
			Err: fmt.Errorf("entry %.80q of %q is damaged", key, strings.Trim(b.prefix[2:], "\x00"))}
	}
	return framed[4:], nil
}

func (b *Bucket) sum(key string, value []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(b.prefix+key), castagnoli), castagnoli, value)
}
