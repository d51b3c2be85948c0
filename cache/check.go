package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// CheckOptions say how Check looks at a cache.
type CheckOptions struct {
	// Repair takes out of use what is damaged.
	Repair bool
	// Key computes the key of a record's lines, to be compared with the
	// record's own; nil leaves that out.
	Key func([]Line) Digest
	// Ledger names the buckets that cannot be made again: their damaged entries
	// are reported and never removed.
	Ledger []string
	// Progress is called with the bytes of blobs read so far, of all; may be nil.
	Progress func(done, total int64)
}

// Problem is one thing that is not as it should be.
type Problem struct {
	Part     string `json:"part"` // blob, record, journal, entry, run, stamps, dropped
	Name     string `json:"name"`
	Text     string `json:"text"`
	Address  string `json:"address,omitempty"`  // of a node that will run again for it
	Repaired bool   `json:"repaired,omitempty"` // it is out of use
	Harmless bool   `json:"harmless,omitempty"` // nothing relies on it
}

// CheckReport is what Check looked at and what it found.
type CheckReport struct {
	Blobs    Amount    `json:"blobs"`
	Records  int       `json:"records"`
	Entries  int       `json:"entries"` // of buckets
	Stamps   int       `json:"stamps"`
	Dropped  int       `json:"dropped"` // blobs that GC took away and a record names
	Problems []Problem `json:"problems"`
}

// Open counts the problems that are neither repaired nor harmless.
func (r *CheckReport) Open() int {
	n := 0
	for _, p := range r.Problems {
		if !p.Repaired && !p.Harmless {
			n++
		}
	}
	return n
}

// checker is one Check.
type checker struct {
	s   *Store
	o   CheckOptions
	r   *CheckReport
	bad map[Digest]*Problem // blobs
	// needed are the records of the studies' last runs; nil if that is not known.
	needed map[Digest]bool
}

// Check reads every blob, record, entry and stamp of the cache and compares
// each with its sum. With Repair, damaged blobs are set aside in
// blobs/damaged and damaged records removed, unless the journal has a good copy:
// the nodes that made them run again.
func (s *Store) Check(ctx context.Context, o CheckOptions) (*CheckReport, error) {
	c := &checker{s: s, o: o, r: &CheckReport{}, bad: map[Digest]*Problem{}}
	db, done, err := s.begin()
	if err != nil {
		return nil, err
	}
	defer done()
	if err := db.b.VerifyChecksum(); err != nil {
		return nil, &DatabaseError{Dir: db.dir, Journal: journalPath(s.dir), Err: err}
	}
	if runs, err := loadRuns(s.dir); err != nil {
		c.found(Problem{Part: "run", Name: filepath.Join(s.dir, "runs"), Text: err.Error()})
	} else {
		c.needed = map[Digest]bool{}
		for _, run := range runs {
			for _, n := range run.Nodes {
				c.needed[n.Key] = true
			}
		}
	}
	if err := c.stamps(); err != nil {
		return c.r, err
	}
	if err := c.blobs(ctx); err != nil {
		return c.r, err
	}
	if err := c.records(db); err != nil {
		return c.r, err
	}
	return c.r, c.entries(db)
}

func (c *checker) found(p Problem) *Problem {
	c.r.Problems = append(c.r.Problems, p)
	return &c.r.Problems[len(c.r.Problems)-1]
}

// stamps checks the files that only save work. Damaged ones are not used, and
// written anew when the cache is closed.
func (c *checker) stamps() error {
	data, err := os.ReadFile(c.s.stamps.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("checking the stamps: %w", err)
	default:
		blobs, files, err := decodeStamps(data)
		c.r.Stamps = len(blobs)/blobEntry + len(files)
		if err != nil {
			p := c.found(Problem{Part: "stamps", Name: c.s.stamps.path, Text: err.Error() + "; it is not used"})
			if c.o.Repair {
				c.s.stamps.touch()
				p.Repaired = true
			}
		}
	}
	path := c.s.blobs.dropped.path
	if _, err := readDropped(path); err != nil {
		p := c.found(Problem{Part: "dropped", Name: path, Text: err.Error()})
		if c.o.Repair {
			if err := os.Remove(path); err != nil {
				return writeError(path, err)
			}
			p.Repaired = true
		}
	}
	return nil
}

// blobs hashes every file under blobs/, whatever its stamp says.
func (c *checker) blobs(ctx context.Context) error {
	var all []Digest
	var total, read int64
	err := c.s.blobs.each(func(d Digest, _ string, st fs.FileInfo) error {
		all = append(all, d)
		c.r.Blobs.add(st.Size())
		total += st.Size()
		return nil
	})
	if err != nil {
		return err
	}
	foreign, err := c.s.blobs.foreign()
	if err != nil {
		return err
	}
	for _, path := range foreign {
		c.found(Problem{Part: "blob", Name: path, Text: "is not named like a blob; it is not used", Harmless: true})
	}
	for _, d := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		size := int64(0)
		if st, err := os.Lstat(c.s.blobs.Path(d)); err == nil && st.Mode().IsRegular() {
			size = st.Size()
		}
		err := c.s.blobs.Verify(d)
		var damaged *DamagedError
		var missing *MissingError
		switch {
		case err == nil || errors.As(err, &missing): // gone meanwhile: its record says so
		case !errors.As(err, &damaged):
			return err
		default:
			p := Problem{Part: "blob", Name: c.s.blobs.Path(d), Text: damaged.Reason}
			if c.o.Repair {
				if err := c.s.blobs.Quarantine(d); err != nil {
					return err
				}
				p.Repaired = true
			}
			c.bad[d] = &p
		}
		if read += size; c.o.Progress != nil {
			c.o.Progress(read, total)
		}
	}
	return nil
}

// records checks every record of the database and its copy in the journal.
func (c *checker) records(db *database) error {
	x, err := indexJournal(journalPath(c.s.dir))
	if err != nil {
		return err
	}
	defer x.close()
	if x.bad > 0 {
		c.found(Problem{Part: "journal", Name: journalPath(c.s.dir), Text: fmt.Sprintf("has %d damaged lines", x.bad)})
	}
	known := map[Digest]bool{}
	var fixes []entry
	differ := 0
	err = db.scan("r", func(k string, v []byte) error {
		if len(k) != len(Digest{}) {
			return fmt.Errorf("%s: a record has a key of %d bytes", db.dir, len(k))
		}
		key := Digest([]byte(k))
		line, err := wholeLine(db, key, v)
		if err != nil {
			return err
		}
		c.r.Records++
		known[key] = true
		rec, err := c.record(key, line)
		there, rerr := x.line(key)
		if rerr != nil {
			return fmt.Errorf("reading the records: %w", rerr)
		}
		if err == nil {
			if !bytes.Equal(there, line) {
				differ++
			}
			c.outputs(rec)
			return nil
		}
		p := Problem{Part: "record", Name: key.Short(), Text: err.Error(), Repaired: c.o.Repair}
		if copied, cerr := c.record(key, there); cerr == nil {
			p.Address, p.Text = copied.Address, p.Text+"; the journal has a good copy"
			fixes = appendLine(fixes, key, there)
			c.outputs(copied)
		} else {
			p.Text += "; its node will run again"
			fixes = append(fixes, entry{append([]byte("r"), key[:]...), nil})
			differ++
		}
		c.found(p)
		return nil
	})
	if err != nil {
		return err
	}
	for key := range x.spans {
		if !known[key] {
			differ++
		}
	}
	if differ > 0 && x.bad == 0 {
		c.found(Problem{Part: "journal", Name: journalPath(c.s.dir), Text: fmt.Sprintf("differs from the database in %d records", differ)})
	}
	for _, d := range sortedProblems(c.bad) {
		c.found(*c.bad[d])
	}
	if !c.o.Repair {
		return nil
	}
	if err := db.commitAll(fixes); err != nil {
		return err
	}
	if differ == 0 && x.bad == 0 {
		return nil
	}
	for i := range c.r.Problems {
		if c.r.Problems[i].Part == "journal" {
			c.r.Problems[i].Repaired = true
		}
	}
	c.s.commits.Lock()
	defer c.s.commits.Unlock()
	if err := c.s.journal.rewrite(databaseLines(db)); err != nil {
		return err
	}
	return db.commit([]entry{journalLength(c.s.journal.size)})
}

// record decodes a line and checks what its sum does not cover: a record that a
// faulty program wrote.
func (c *checker) record(key Digest, line []byte) (*Record, error) {
	rec, err := decodeRecord(line)
	if err != nil {
		return nil, err
	}
	if rec.Key != key {
		return nil, errors.New("it has another key")
	}
	if err := rec.check(); err != nil {
		return nil, err
	}
	if c.o.Key != nil && c.o.Key(rec.Lines) != key {
		return nil, errors.New("its lines make another key")
	}
	return rec, nil
}

// outputs says which blobs of a record are not there, and what a damaged one
// costs.
func (c *checker) outputs(rec *Record) {
	for _, o := range rec.Outputs {
		if o.Inline != nil {
			continue
		}
		if p := c.bad[o.Digest]; p != nil {
			p.Address = rec.Address
			continue
		}
		st, err := os.Lstat(c.s.blobs.Path(o.Digest))
		switch {
		case err == nil && st.Size() == o.Size:
		case err == nil:
			c.found(Problem{Part: "record", Name: rec.Key.Short(), Address: rec.Address,
				Text: fmt.Sprintf("says that output %s has %d bytes, its blob has %d", o.Name, o.Size, st.Size())})
		case c.s.blobs.Dropped(o.Digest):
			c.r.Dropped++
		default: // a plan sees it too: it needs no repair but a run
			c.found(Problem{Part: "blob", Name: c.s.blobs.Path(o.Digest), Address: rec.Address,
				Text: "is missing, output " + o.Name, Repaired: c.o.Repair, Harmless: c.needed != nil && !c.needed[rec.Key]})
		}
	}
}

// entries checks every entry of every bucket.
func (c *checker) entries(db *database) error {
	var lost []entry
	paid, err := map[Digest]bool{}, error(nil)
	err = db.scan("b/", func(rest string, framed []byte) error {
		c.r.Entries++
		name, key, ok := strings.Cut(rest, "\x00")
		if !ok {
			return fmt.Errorf("%s: %.80q is no entry of a bucket", db.dir, rest)
		}
		if _, err := c.s.Bucket(name).open(key, framed); err == nil {
			return nil
		}
		p := Problem{Part: "entry", Name: name + " " + key, Text: "its bytes do not match their sum"}
		if slices.Contains(c.o.Ledger, name) {
			p.Text += "; it tells of something paid for and is left as it is: put back a backup of " + db.dir
		} else {
			lost = append(lost, entry{[]byte("b/" + rest), nil})
			p.Repaired = c.o.Repair
		}
		c.found(p)
		return nil
	})
	if err != nil {
		return err
	}
	if c.o.Repair {
		if err := db.commitAll(lost); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(c.r.Problems, func(p Problem) bool { return p.Part == "entry" }) {
		if paid, err = c.s.ledgerBlobs(c.o.Ledger); err != nil {
			return err
		}
	}
	for i, p := range c.r.Problems { // the answers themselves are what cannot be made again
		if d, err := ParseDigest(strings.ReplaceAll(relative(c.s.blobs.dir, p.Name), string(filepath.Separator), "")); p.Part == "blob" && err == nil && paid[d] {
			c.r.Problems[i].Text += "; it holds answers that were paid for"
		}
	}
	return nil
}

func relative(dir, path string) string {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return path
	}
	return rel
}

func sortedProblems(m map[Digest]*Problem) []Digest {
	var ds []Digest
	for d := range m {
		ds = append(ds, d)
	}
	slices.SortFunc(ds, compareDigests)
	return ds
}

// each calls fn with whatever stands in the place of a blob, by digest.
func (b *Blobs) each(fn func(d Digest, path string, st fs.FileInfo) error) error {
	return b.walk(fn, nil)
}

// foreign lists what stands among the blobs and is none.
func (b *Blobs) foreign() (paths []string, err error) {
	err = b.walk(nil, func(path string) { paths = append(paths, path) })
	return paths, err
}

func (b *Blobs) walk(blob func(Digest, string, fs.FileInfo) error, other func(string)) error {
	folders, err := os.ReadDir(b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing the blobs: %w", err)
	}
	for _, f := range folders {
		dir := filepath.Join(b.dir, f.Name())
		if f.Name() == "tmp" || f.Name() == "damaged" {
			continue
		}
		if len(f.Name()) != 2 || !f.IsDir() {
			if other != nil {
				other(dir)
			}
			continue
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("listing the blobs: %w", err)
		}
		for _, e := range files {
			path := filepath.Join(dir, e.Name())
			d, err := ParseDigest(f.Name() + e.Name())
			if err != nil || d.IsZero() {
				if other != nil {
					other(path)
				}
				continue
			}
			st, err := e.Info()
			if err != nil || blob == nil {
				continue // gone meanwhile
			}
			if err := blob(d, path, st); err != nil {
				return err
			}
		}
	}
	return nil
}
