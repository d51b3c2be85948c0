package batch

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
)

// Handed is an answer on its way from one ledger to another.
type Handed struct {
	Key  string `json:"key"`            // of the request
	Body string `json:"body,omitempty"` // SHA-256 of the request's body, in hexadecimal
	Line string `json:"line"`           // the result line as the server gave it
}

// Export hands the answered ones among keys to fn, in their order. It stops at
// the first error of fn.
func (d *Desk) Export(ctx context.Context, keys []string, fn func(i int, line []byte) error) error {
	rows, err := d.rows(ctx, keys)
	if err != nil {
		return err
	}
	var open openFiles
	defer open.close()
	for i, r := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.State != answered {
			continue
		}
		line, err := open.read(d.files, r)
		if err != nil {
			return fmt.Errorf("reading the answer to request %s: %w; apply the study, which fetches it again", keys[i], err)
		}
		if err := fn(i, bytes.TrimSpace(line)); err != nil {
			return err
		}
	}
	return nil
}

// Imported is what Import did with each answer.
type Imported struct {
	Taken     []string // request keys
	Same      int      // were there already
	Conflicts []string // have another answer here, which stays
	InBatch   []string // are in a batch now, which will bring an answer
}

// importing is an answer that is to be taken.
type importing struct {
	key    string
	offset int64
	length int
	old    row
}

// Import takes over answers that another ledger has bought: those to requests
// that have none here. It never replaces an answer by another. next gives one
// after the other, false at the end; an error of next, and an answer that is
// none, end the import with nothing taken. before is called with the requests
// that had failed here for good and get an answer now, before they do.
//
// The lines become a result file of their own. A row that points into it has no
// intent: no server has the file, so what is lost of it is asked for again only
// by a person who forgets it. Nothing else may use the ledger meanwhile.
func (d *Desk) Import(ctx context.Context, next func() (Handed, bool, error), before func(failed []string) error) (Imported, error) {
	var got Imported
	f, err := os.CreateTemp(d.opts.TempDir, "clusterflow-import-*.jsonl")
	if err != nil {
		return got, &ledgerError{fmt.Errorf("storing the imported answers: %w", err)}
	}
	defer os.Remove(f.Name())
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	var open openFiles
	defer open.close()
	var list []importing
	var offset int64
	taken := make(map[string][32]byte) // digests of lines, for keys that come twice
	for {
		h, more, err := next()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return Imported{}, err
		}
		if !more {
			break
		}
		line := bytes.TrimSpace([]byte(h.Line))
		if err := h.check(line); err != nil {
			return Imported{}, err
		}
		if was, twice := taken[h.Key]; twice {
			if was == sha256.Sum256(line) {
				got.Same++
			} else {
				got.Conflicts = append(got.Conflicts, h.Key)
			}
			continue
		}
		old, err := d.rows(ctx, []string{h.Key})
		if err != nil {
			return Imported{}, err
		}
		switch r := old[0]; r.State {
		case inBatch:
			got.InBatch = append(got.InBatch, h.Key)
			continue
		case answered:
			have, err := open.read(d.files, r)
			if err == nil && bytes.Equal(plain(have), plain(line)) {
				got.Same++
				continue
			}
			if err == nil || r.Intent != "" { // a lost one of a batch is fetched again
				got.Conflicts = append(got.Conflicts, h.Key)
				continue
			}
		}
		w.Write(line) // bufio keeps the first error for Flush
		w.WriteByte('\n')
		list = append(list, importing{h.Key, offset, len(line), old[0]})
		offset += int64(len(line)) + 1
		taken[h.Key] = sha256.Sum256(line)
	}
	if len(list) == 0 {
		return got, nil
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		return Imported{}, &ledgerError{fmt.Errorf("storing the imported answers: %w; free some space and import again", err)}
	}
	blob, _, err := d.files.Import(f.Name())
	if err != nil {
		return Imported{}, &ledgerError{fmt.Errorf("storing the imported answers: %w", err)}
	}
	var had []string
	for _, l := range list {
		if l.old.State == failed {
			had = append(had, l.key)
		}
	}
	if len(had) > 0 {
		if err := before(had); err != nil {
			return Imported{}, err
		}
	}
	for len(list) > 0 {
		n := min(d.chunk, len(list))
		values := make(map[string]any, n)
		for _, l := range list[:n] {
			values[rowPrefix+l.key] = row{State: answered, Blob: blob, Offset: l.offset, Length: l.length, history: l.old.history}
		}
		if err := d.put(values); err != nil {
			return got, err
		}
		for _, l := range list[:n] {
			got.Taken = append(got.Taken, l.key)
		}
		list = list[n:]
	}
	return got, nil
}

// plain is a result line without the white space that says nothing.
func plain(line []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, line) != nil {
		return bytes.TrimSpace(line)
	}
	return b.Bytes()
}

var requestKey = regexp.MustCompile(`^[0-9a-f]{64}$`)

// check refuses what is no answer to the request that it is said to be to.
func (h Handed) check(line []byte) error {
	if !requestKey.MatchString(h.Key) {
		return fmt.Errorf("%.80q is no request key", h.Key)
	}
	if len(line) > maxResultLine || bytes.ContainsAny(line, "\n") {
		return fmt.Errorf("the result of request %s is not one line of at most %d bytes", h.Key, maxResultLine)
	}
	id, r, err := parseLine(line)
	switch {
	case err != nil:
		return fmt.Errorf("the result line of request %s cannot be read: %w", h.Key, err)
	case id != h.Key:
		return fmt.Errorf("the result line of request %s is that of %.80q", h.Key, id)
	case !r.good:
		return fmt.Errorf("the result line of request %s holds no answer: %s", h.Key, r.reason)
	}
	return nil
}
