package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// orphanAge is how old a blob must be that no record names before it counts as
// left over: what is young may belong to a node that is not finished.
const orphanAge = 24 * time.Hour

// GCOptions say what GC may take away.
type GCOptions struct {
	// Keep is how old what nobody needs must be to be dropped.
	Keep time.Duration
	// MaxSize, in bytes, drops more of what nobody needs, oldest first and
	// whatever its age, until the blobs take no more; 0 is no limit.
	MaxSize int64
	// Ledger names the buckets whose entries hold on to every blob that they
	// name by its 64 hexadecimal digits: paid answers.
	Ledger []string
	DryRun bool // only report
}

// Amount is a number of files and their size.
type Amount struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

func (a *Amount) add(n int64) { a.Files, a.Bytes = a.Files+1, a.Bytes+n }

// GCReport is what GC found and took away, or would with DryRun.
type GCReport struct {
	Blobs   Amount            `json:"blobs"`   // before
	Needed  Amount            `json:"needed"`  // by the last run of a study
	Paid    Amount            `json:"paid"`    // by the ledger, and by no last run
	Young   Amount            `json:"young"`   // needed by nobody, kept for their age
	Dropped Amount            `json:"dropped"` // needed by nobody
	Kinds   map[string]Amount `json:"kinds"`   // of those dropped, by the kind of task that made them
	Scratch Amount            `json:"scratch"` // unfinished work that nobody goes on with
	Damaged Amount            `json:"damaged"` // files set aside as damaged
	Over    int64             `json:"over"`    // bytes above MaxSize that may not go
}

// candidate is a blob that nobody needs.
type candidate struct {
	digest Digest
	size   int64
	last   time.Time
	kind   string // of the task that made it, "" if no record names it
}

// GC takes away blobs that nobody needs: neither the last run of a study that
// the cache knows, nor the ledger. Records stay, so a node whose blob was
// dropped is still known and is made again only when something reads it. It is
// an error, and nothing is taken away, if it cannot be told what is needed.
func (s *Store) GC(ctx context.Context, o GCOptions) (*GCReport, error) {
	runs, err := loadRuns(s.dir)
	if err != nil {
		return nil, fmt.Errorf("what the studies need cannot be told, so nothing was dropped: %w", err)
	}
	paid, err := s.ledgerBlobs(o.Ledger)
	if err != nil {
		return nil, err
	}
	dropped, err := readDropped(s.blobs.dropped.path)
	if err != nil {
		dropped = map[Digest]bool{} // they are gone either way
	}
	needed, made, err := s.uses(runs)
	if err != nil {
		return nil, err
	}
	r := &GCReport{Kinds: map[string]Amount{}}
	var free []candidate
	err = s.blobs.each(func(d Digest, _ string, st fs.FileInfo) error {
		if !st.Mode().IsRegular() {
			return nil // what stands in a blob's place is for Check
		}
		delete(dropped, d) // made again
		size := st.Size()
		r.Blobs.add(size)
		c := candidate{digest: d, size: size, last: st.ModTime()}
		if m, ok := made[d]; ok {
			c.kind = m.kind
			if m.last.After(c.last) {
				c.last = m.last
			}
		}
		switch {
		case needed[d]:
			r.Needed.add(size)
		case paid[d]:
			r.Paid.add(size)
		case c.kind == "" && s.now().Sub(c.last) < orphanAge:
			r.Young.add(size)
		default:
			free = append(free, c)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(free, func(a, b candidate) int {
		if c := a.last.Compare(b.last); c != 0 {
			return c
		}
		return compareDigests(a.digest, b.digest)
	})
	left := r.Blobs.Bytes
	var gone []candidate
	for _, c := range free {
		if s.now().Sub(c.last) < o.Keep && (o.MaxSize == 0 || left <= o.MaxSize) {
			r.Young.add(c.size)
			continue
		}
		left -= c.size
		gone = append(gone, c)
		r.Dropped.add(c.size)
		kind := r.Kinds[c.kind]
		kind.add(c.size)
		r.Kinds[c.kind] = kind
	}
	if o.MaxSize > 0 {
		r.Over = max(left-o.MaxSize, 0)
	}
	if !o.DryRun {
		if err := s.drop(ctx, gone, dropped); err != nil {
			return r, err
		}
	}
	return r, s.sweepFolders(r, runs, o)
}

// ledgerBlobs are the digests that entries of the named buckets hold.
func (s *Store) ledgerBlobs(buckets []string) (map[Digest]bool, error) {
	digits := regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	out := map[Digest]bool{}
	for _, name := range buckets {
		err := s.Bucket(name).Scan("", func(_ string, value []byte) error {
			for _, text := range digits.FindAll(value, -1) {
				if d, err := ParseDigest(string(text)); err == nil {
					out[d] = true
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// maker is what made a blob, and when that was last recorded.
type maker struct {
	kind string
	last time.Time
}

// uses finds the blobs that the runs need, and what made each blob. A run that
// has not ended may have finished nodes that its file does not name yet.
func (s *Store) uses(runs []*Run) (needed map[Digest]bool, made map[Digest]maker, err error) {
	keys := map[Digest]bool{}
	var since []time.Time
	for _, r := range runs {
		for _, n := range r.Nodes {
			keys[n.Key] = true
		}
		if r.Finished.IsZero() {
			since = append(since, r.Started)
		}
	}
	known, err := s.Reader()
	if err != nil {
		return nil, nil, err
	}
	defer known.Close()
	needed, made = map[Digest]bool{}, map[Digest]maker{}
	for rec := range known.Records() {
		need := keys[rec.Key] || slices.ContainsFunc(since, func(t time.Time) bool { return !rec.Finished.Before(t) })
		for _, o := range rec.Outputs {
			if o.Inline != nil {
				continue
			}
			needed[o.Digest] = needed[o.Digest] || need
			if m, ok := made[o.Digest]; !ok || rec.Finished.After(m.last) {
				made[o.Digest] = maker{rec.Kind, rec.Finished}
			}
		}
	}
	return needed, made, nil
}

// drop takes the blobs away, after writing down that this was meant.
func (s *Store) drop(ctx context.Context, gone []candidate, dropped map[Digest]bool) error {
	if len(gone) == 0 {
		return nil
	}
	for _, c := range gone {
		if c.kind != "" {
			dropped[c.digest] = true
		}
	}
	if err := writeDropped(s.blobs.dropped.path, dropped); err != nil {
		return err
	}
	for _, c := range gone {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.stamps.dropBlob(c.digest)
		if err := os.Remove(s.blobs.Path(c.digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return writeError(s.blobs.Path(c.digest), err)
		}
	}
	return nil
}

// sweepFolders removes scratch that nobody goes on with and old damaged files.
func (s *Store) sweepFolders(r *GCReport, runs []*Run, o GCOptions) error {
	alive := slices.ContainsFunc(runs, func(r *Run) bool { return r.aliveAt(s.now()) })
	for _, part := range []struct {
		dir    string
		amount *Amount
	}{{filepath.Join(s.dir, "scratch"), &r.Scratch}, {filepath.Join(s.blobs.dir, "damaged"), &r.Damaged}} {
		if part.amount == &r.Scratch && alive {
			continue // a suspended apply may hold some
		}
		entries, err := os.ReadDir(part.dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := filepath.Join(part.dir, e.Name())
			amount, last, err := folderSize(path)
			if err != nil {
				return err
			}
			if s.now().Sub(last) < o.Keep {
				continue
			}
			part.amount.Files += amount.Files
			part.amount.Bytes += amount.Bytes
			if !o.DryRun {
				if err := os.RemoveAll(path); err != nil {
					return writeError(path, err)
				}
			}
		}
	}
	return nil
}

// folderSize measures the files below path and finds when one last changed. A
// path that is not there has none.
func folderSize(path string) (Amount, time.Time, error) {
	var a Amount
	var last time.Time
	err := filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		var st fs.FileInfo
		if err == nil {
			st, err = d.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		if st.ModTime().After(last) {
			last = st.ModTime()
		}
		if st.Mode().IsRegular() {
			a.add(st.Size())
		}
		return nil
	})
	return a, last, err
}
