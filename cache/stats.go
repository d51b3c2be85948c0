package cache

import (
	"io/fs"
	"path/filepath"
)

// Stats is what lies in a cache.
type Stats struct {
	Dir      string            `json:"dir"`
	Blobs    Amount            `json:"blobs"`
	Needed   Amount            `json:"needed"`  // blobs of the last runs; the ledger's are not counted
	Records  Amount            `json:"records"` // and the size of the journal
	Kinds    map[string]Amount `json:"kinds"`   // records by kind of task, and the size of their outputs
	Dropped  int               `json:"dropped"` // blobs that GC took away
	Database Amount            `json:"database"`
	Scratch  Amount            `json:"scratch"`
	Damaged  Amount            `json:"damaged"` // set aside
	Studies  []*Run            `json:"-"`       // their last runs
	Names    []string          `json:"studies"`
}

// ReadStats measures the cache at dir without its lock.
func ReadStats(dir string) (*Stats, error) {
	r, err := OpenReader(dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	s := &Stats{Dir: r.dir, Kinds: map[string]Amount{}}
	if s.Studies, err = r.Runs(); err != nil {
		return nil, err
	}
	keys := map[Digest]bool{}
	for _, run := range s.Studies {
		s.Names = append(s.Names, run.StudyID)
		for _, n := range run.Nodes {
			keys[n.Key] = true
		}
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	needed := map[Digest]bool{}
	for rec := range r.Records() {
		k := s.Kinds[rec.Kind]
		k.Files++
		for _, o := range rec.Outputs {
			k.Bytes += o.Size
			if o.Inline == nil && keys[rec.Key] {
				needed[o.Digest] = true
			}
		}
		s.Kinds[rec.Kind] = k
	}
	dropped, err := readDropped(r.blobs.dropped.path)
	if err != nil {
		dropped = map[Digest]bool{} // cache verify says so
	}
	err = r.blobs.each(func(d Digest, _ string, st fs.FileInfo) error {
		delete(dropped, d)
		s.Blobs.add(st.Size())
		if needed[d] {
			s.Needed.add(st.Size())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.Dropped = len(dropped)
	for _, part := range []struct {
		path   string
		amount *Amount
	}{
		{journalPath(r.dir), &s.Records}, {databasePath(r.dir), &s.Database},
		{filepath.Join(r.dir, "scratch"), &s.Scratch}, {filepath.Join(r.blobs.dir, "damaged"), &s.Damaged},
	} {
		if *part.amount, _, err = folderSize(part.path); err != nil {
			return nil, err
		}
	}
	s.Records.Files = r.Len()
	return s, nil
}
