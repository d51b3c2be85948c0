package cache

import "time"

// InlineLimit is the largest output, in bytes, that a record carries itself;
// larger ones are blobs.
const InlineLimit = 4 << 10

// Line is one influence on a node's key: what it is called and its value.
type Line struct {
	Label string
	Value string
	// Origin says where the value was written, "studies/r1.hcl:31", or is
	// empty. It is for explanations and is never part of a key.
	Origin string
}

// Output is one result of a node.
type Output struct {
	Name   string
	Digest Digest
	Size   int64 // bytes
	// Inline holds the content when it is not longer than InlineLimit; the
	// blob store then has no copy. nil: the content is the blob Digest.
	Inline []byte
	// Absent is set in a brief record where Inline was not read.
	Absent bool
}

// InRecord reports whether the content is part of the record, and no blob.
func (o Output) InRecord() bool { return o.Inline != nil || o.Absent }

// Record says what a node of a given key produced. The lines are the ones the
// key was made of, kept so that a later plan can say which of them changed.
type Record struct {
	Key      Digest
	Address  string // of the node that made it; another study may have another
	Kind     string // task kind, "train"
	Lines    []Line
	Outputs  []Output
	Started  time.Time
	Finished time.Time
	Host     string
	Backend  string            // what computed it, "cpu gonum"
	Info     map[string]string // measurements worth showing; never hashed
	// Withdrawn says why the result no longer counts, "" while it does. A record
	// that is committed under the same key later takes its place.
	Withdrawn string
	// Brief says that only Key, Kind, Started, Finished, whether it was withdrawn
	// and the outputs without their inline content were read.
	Brief bool
}

// Output returns the output of that name.
func (r *Record) Output(name string) (Output, bool) {
	for _, o := range r.Outputs {
		if o.Name == name {
			return o, true
		}
	}
	return Output{}, false
}
