package cache

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Keys in Badger:
//
//	m/<name>               about the cache itself
//	r<32-byte key>         a record's line, or how many parts it has
//	R<32-byte key><uint32> part of a long record
//	b/<bucket>\x00<key>    an entry of a bucket
//	w<8-byte id><uint32>   part of a Put larger than a transaction
//	W<8-byte id>           such a Put is complete: apply it
const (
	metaID      = "m/id"      // names the cache this database belongs to
	metaDir     = "m/dir"     // where that cache was last
	metaJournal = "m/journal" // how long the journal is, in bytes
)

// Limits of one entry. A value larger than partSize is cut in parts.
const (
	memTableSize = 16 << 20
	partSize     = 512 << 10 // a transaction takes 15 % of memTableSize
)

// databaseOptions suit many small values, one writer, and short lives: no
// compression and so no block cache, no metrics, small tables, every commit
// synced (SyncWrites, because Sync reaches only the newest of several logs).
func databaseOptions(dir string, log badger.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithLogger(log).
		WithSyncWrites(true).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithNumGoroutines(1).
		WithNumCompactors(2).
		WithNumMemtables(2).
		WithMemTableSize(memTableSize).
		WithValueThreshold(1 << 20). // none is longer: values stay in the tables
		WithValueLogFileSize(1 << 20).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithChecksumVerificationMode(options.OnBlockRead)
}

// database is Badger with the folder's checks and free space around it.
type database struct {
	dir    string
	b      *badger.DB
	log    *databaseLog
	fresh  bool  // there was none
	tables int64 // bytes of tables at Open

	mu     sync.Mutex
	grown  int64 // bytes written since
	broken error // a half-applied Put: nothing more may be written before redo
}

// openDatabase opens the Badger folder dir after checking it: Badger deletes
// tables that its MANIFEST does not name, leaves out a table whose index is
// damaged, and panics over a short one, all of which would lose paid answers.
func openDatabase(dir, journal string) (_ *database, err error) {
	damaged := func(err error) error { return &DatabaseError{Dir: dir, Journal: journal, Err: err} }
	db := &database{dir: dir, log: &databaseLog{}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, writeError(dir, err)
	}
	if db.fresh, db.tables, err = checkDatabase(dir); err != nil {
		return nil, damaged(err)
	}
	if err := db.room(0); err != nil {
		return nil, err
	}
	if err := removeEmptyLogs(dir); err != nil {
		return nil, writeError(dir, err)
	}
	defer func() {
		if r := recover(); r != nil {
			err = damaged(fmt.Errorf("%.300v", r))
		}
	}()
	b, err := badger.Open(databaseOptions(dir, db.log))
	if err != nil {
		if werr := writeError(dir, err); isFull(werr) || errors.Is(err, os.ErrPermission) {
			return nil, werr
		}
		if strings.Contains(err.Error(), "Cannot acquire directory lock") {
			return nil, fmt.Errorf("the database %s is open in another program: close that first (find it with: fuser %s)", dir, dir)
		}
		return nil, damaged(err)
	}
	if msg := db.log.first(); msg != "" {
		b.Close()
		return nil, damaged(errors.New(msg))
	}
	db.b = b
	return db, nil
}

// removeEmptyLogs takes away logs without a byte, which Badger does not open. A
// process that was killed leaves them: between making a file and giving it its
// size, or between taking away the size of a log that is done with, whose entries
// are in tables by then, and the file. A log with an entry that was committed is
// never among them: its size was synced with the entry.
func removeEmptyLogs(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".mem" && ext != ".vlog" {
			continue
		}
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && info.Size() == 0 {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func isFull(err error) bool {
	var full *FullError
	return errors.As(err, &full)
}

// close flushes and closes, and leaves a witness of the closed folder.
func (db *database) close() error {
	if err := db.b.Close(); err != nil {
		return fmt.Errorf("closing %s: %w", db.dir, writeError(db.dir, err))
	}
	return writeWitness(db.dir)
}

// room refuses to write n bytes when the disk is about to be full. Badger
// writes through memory maps of sparse files: a full disk would not be an error
// there but the end of the process (SIGBUS). What it may need behind our back
// is a flushed table, and a compaction's copy of the tables.
func (db *database) room(n int64) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	const most = 256 << 20
	if db.broken != nil {
		return fmt.Errorf("%s takes no more changes after an earlier error: %w", db.dir, db.broken)
	}
	free, ok := freeSpace(db.dir)
	need := 3*n + 4<<20 + min(db.tables+2*db.grown, most)
	if ok && free < need {
		return &FullError{Path: db.dir, Free: free, Need: need, Err: errNoSpace}
	}
	db.grown += n
	return nil
}

// get returns a copy of the value of key, nil when there is none.
func (db *database) get(key []byte) ([]byte, error) {
	var value []byte
	err := db.b.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		value, err = item.ValueCopy([]byte{})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", db.dir, err)
	}
	return value, nil
}

// scan calls fn with every key of the prefix, without the prefix, and a copy of
// its value, in the order of keys, as they were when scan began. fn may write.
func (db *database) scan(prefix string, fn func(key string, value []byte) error) error {
	txn := db.b.NewTransaction(false)
	defer txn.Discard()
	o := badger.DefaultIteratorOptions
	o.Prefix = []byte(prefix)
	it := txn.NewIterator(o)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		value, err := it.Item().ValueCopy([]byte{})
		if err != nil {
			return fmt.Errorf("reading %s: %w", db.dir, err)
		}
		if err := fn(string(it.Item().Key()[len(prefix):]), value); err != nil {
			return err
		}
	}
	return nil
}

// entry is one change: value nil deletes.
type entry struct {
	key   []byte
	value []byte
}

func size(entries []entry) (n int64) {
	for _, e := range entries {
		n += int64(len(e.key) + len(e.value) + 64)
	}
	return n
}

// errTooBig says that entries do not fit in one transaction.
var errTooBig = badger.ErrTxnTooBig

// commit makes the changes in one transaction, synced when it returns, or
// returns errTooBig and changes nothing.
func (db *database) commit(entries []entry) error {
	if err := db.room(size(entries)); err != nil {
		return err
	}
	txn := db.b.NewTransaction(true)
	defer txn.Discard()
	for _, e := range entries {
		var err error
		if e.value == nil {
			err = txn.Delete(e.key)
		} else {
			err = txn.Set(e.key, e.value)
		}
		if err != nil {
			return db.explain(err)
		}
	}
	return db.explain(txn.Commit())
}

func (db *database) explain(err error) error {
	if err == nil || errors.Is(err, errTooBig) {
		return err
	}
	return writeError(db.dir, err)
}

// commitAll makes the changes in order, in as many transactions as needed, each
// of which is whole or not there after a crash. tail is repeated at the end of
// each.
func (db *database) commitAll(entries []entry, tail ...entry) error {
	const most = memTableSize / 16 // half of what Badger takes in a transaction
	for len(entries) > 0 {
		n, bytes := 0, size(tail)
		for n < len(entries) && n < 8192 && (n == 0 || bytes < most) {
			bytes += size(entries[n : n+1])
			n++
		}
		if err := db.commit(append(entries[:n:n], tail...)); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// putWhole makes the changes all or none, however many they are: what does not
// fit in a transaction is first written down in parts, then marked complete,
// then applied, which a crash cannot undo because redo does it again.
func (db *database) putWhole(entries []entry) error {
	err := db.commit(entries)
	if !errors.Is(err, errTooBig) {
		return err
	}
	var plan []byte
	for _, e := range entries {
		plan = binary.AppendUvarint(plan, uint64(len(e.key)))
		plan = append(plan, e.key...)
		plan = binary.AppendUvarint(plan, uint64(len(e.value)))
		plan = append(plan, e.value...)
	}
	id := make([]byte, 8)
	rand.Read(id)
	var parts []entry
	for n := 0; n*partSize < len(plan); n++ {
		key := binary.BigEndian.AppendUint32(append([]byte("w"), id...), uint32(n))
		parts = append(parts, entry{key, plan[n*partSize : min((n+1)*partSize, len(plan))]})
	}
	if err := db.commitAll(parts); err != nil {
		return err
	}
	mark := binary.BigEndian.AppendUint32(nil, crc32.Checksum(plan, castagnoli))
	if err := db.commit([]entry{{append([]byte("W"), id...), mark}}); err != nil {
		return err
	}
	// From here on it counts as done: an error is made good when the cache is
	// opened again, and until then nothing newer may be written under it.
	err = db.commitAll(entries)
	if err == nil {
		err = db.dropPlan(id, parts)
	}
	if err != nil {
		db.mu.Lock()
		db.broken = err
		db.mu.Unlock()
	}
	return err
}

func (db *database) dropPlan(id []byte, parts []entry) error {
	if err := db.commit([]entry{{append([]byte("W"), id...), nil}}); err != nil {
		return err
	}
	for i := range parts {
		parts[i].value = nil
	}
	return db.commitAll(parts)
}

// redo completes the Puts that were marked complete before a crash and forgets
// those that were not.
func (db *database) redo() error {
	marks := map[string]uint32{}
	err := db.scan("W", func(id string, v []byte) error {
		if len(id) != 8 || len(v) != 4 {
			return fmt.Errorf("%s: mark %x of a large write is damaged", db.dir, id)
		}
		marks[id] = binary.BigEndian.Uint32(v)
		return nil
	})
	if err != nil {
		return err
	}
	var lost []entry
	parts := map[string][]entry{}
	plans := map[string][]byte{}
	err = db.scan("w", func(key string, v []byte) error {
		full := []byte("w" + key)
		if len(key) != 12 {
			return fmt.Errorf("%s: part %x of a large write is damaged", db.dir, key)
		}
		id := key[:8]
		if _, ok := marks[id]; !ok {
			lost = append(lost, entry{full, nil})
			return nil
		}
		parts[id] = append(parts[id], entry{full, nil})
		plans[id] = append(plans[id], v...)
		return nil
	})
	if err != nil {
		return err
	}
	for id, sum := range marks {
		if crc32.Checksum(plans[id], castagnoli) != sum {
			// Parts are deleted only after the mark, so this is damage.
			return fmt.Errorf("%s: parts of a large write are damaged", db.dir)
		}
		entries, err := decodePlan(plans[id])
		if err != nil {
			return fmt.Errorf("%s: %w", db.dir, err)
		}
		if err := db.commitAll(entries); err != nil {
			return err
		}
		if err := db.dropPlan([]byte(id), parts[id]); err != nil {
			return err
		}
	}
	return db.commitAll(lost)
}

func decodePlan(p []byte) ([]entry, error) {
	next := func() ([]byte, bool) {
		n, w := binary.Uvarint(p)
		if w <= 0 || n > uint64(len(p)-w) {
			return nil, false
		}
		field := p[w : w+int(n)]
		p = p[w+int(n):]
		return field, true
	}
	var entries []entry
	for len(p) > 0 {
		k, ok1 := next()
		v, ok2 := next()
		if !ok1 || !ok2 || len(k) == 0 {
			return nil, errors.New("parts of a large write do not add up")
		}
		entries = append(entries, entry{k, v})
	}
	return entries, nil
}

// databaseLog keeps Badger's errors and drops the rest.
type databaseLog struct {
	mu   sync.Mutex
	errs []string
}

func (l *databaseLog) Errorf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errs) < 10 {
		l.errs = append(l.errs, strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

func (l *databaseLog) Warningf(string, ...any) {}
func (l *databaseLog) Infof(string, ...any)    {}
func (l *databaseLog) Debugf(string, ...any)   {}

func (l *databaseLog) first() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.errs, "; ")
}

func databasePath(stateDir string) string { return filepath.Join(stateDir, "db") }
