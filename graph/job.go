package graph

import (
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"clusterflow/cache"
)

// Job is one run of one node: what a task reads and writes through. It is safe
// for concurrent use.
type Job struct {
	Node    *Node
	Key     cache.Digest
	Threads int // threads that the task may keep busy
	// Memory is how many bytes the task should get by with, by its own estimate
	// (Need.Memory, or as little as Need.Least); 0 is no limit.
	Memory int64
	// Store is the cache, for what a task remembers between runs. It is nil in
	// a process of its own, which remembers nothing.
	Store *cache.Store

	Lines []cache.Line // of the key

	files  files          // where inputs and outputs lie
	inputs []cache.Output // in the order of Node.Inputs

	byNameOnce sync.Once
	byName     map[string]int // their places

	was    *cache.Record // an earlier result of the same key, to compare with
	lease  *lease
	settle func(*Job, error)
	notify func(*Job)
	noted  func(name, value string) // hears of notes; may be nil

	mu       sync.Mutex
	started  time.Time
	ended    time.Time // when it settled, zero before
	outputs  []cache.Output
	info     map[string]string
	backend  string
	progress Progress
}

// Progress is how far a job has come. Total is 0 when it is not known.
type Progress struct {
	Done, Total int64
	Unit        string // of Done and Total, such as "tokens"
	Note        string
}

// input finds an input by the reader's name.
func (j *Job) input(name string) (cache.Output, error) {
	j.byNameOnce.Do(func() { // a report has very many
		j.byName = make(map[string]int, len(j.Node.Inputs))
		for i, in := range j.Node.Inputs {
			j.byName[in.Name] = i
		}
	})
	if i, ok := j.byName[name]; ok {
		return j.inputs[i], nil
	}
	return cache.Output{}, fmt.Errorf("%s has no input %q", j.Node.Addr, name)
}

// Digest is the content digest of an input.
func (j *Job) Digest(name string) (cache.Digest, error) {
	in, err := j.input(name)
	return in.Digest, err
}

// Bytes reads an input whole, verified.
func (j *Job) Bytes(name string) ([]byte, error) {
	in, err := j.input(name)
	if err != nil {
		return nil, err
	}
	return j.files.bytes(in)
}

// Open reads an input as a stream, verified before the first byte.
func (j *Job) Open(name string) (io.ReadCloser, error) {
	in, err := j.input(name)
	if err != nil {
		return nil, err
	}
	return j.files.open(in)
}

// Path is a read-only file with an input's content, verified, for readers that
// map it into memory or live in another process.
func (j *Job) Path(name string) (string, error) {
	in, err := j.input(name)
	if err != nil {
		return "", err
	}
	return j.files.path(in)
}

// Put stores an output.
func (j *Job) Put(name string, data []byte) error {
	return j.add(j.files.put(name, data))
}

// Write stores an output that write streams. Nothing is kept if write fails.
func (j *Job) Write(name string, write func(io.Writer) error) error {
	return j.add(j.files.write(name, write))
}

// Output is the digest of an output that has been stored.
func (j *Job) Output(name string) (cache.Digest, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, o := range j.outputs {
		if o.Name == name {
			return o.Digest, nil
		}
	}
	return cache.Digest{}, fmt.Errorf("%s has not stored an output %q", j.Node.Addr, name)
}

// add notes an output that has been stored, or says which was not.
func (j *Job) add(o cache.Output, err error) error {
	if err != nil {
		return fmt.Errorf("storing %s of %s: %w", o.Name, j.Node.Addr, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.outputs = append(j.outputs, o)
	return nil
}

// Progress shows how far the job has come.
func (j *Job) Progress(p Progress) {
	j.mu.Lock()
	j.progress = p
	j.mu.Unlock()
	j.notify(j)
}

// Note keeps a fact about this run in the record, such as the number of
// iterations. Notes enter no key.
func (j *Job) Note(name, value string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.info == nil {
		j.info = map[string]string{}
	}
	j.info[name] = value
	if j.noted != nil {
		j.noted(name, value)
	}
}

// Backend records what computed the result: a library or a device.
func (j *Job) Backend(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.backend = name
}

// Done settles a job of a group: its outputs are complete.
func (j *Job) Done() { j.finish(nil) }

// Fail settles a job of a group with an error.
func (j *Job) Fail(err error) { j.finish(err) }

// Wait settles a job of a group until t: it waits for something outside.
func (j *Job) Wait(t time.Time, note string) { j.finish(WaitUntil(t, note)) }

// finish settles the job once; later calls do nothing.
func (j *Job) finish(err error) {
	j.mu.Lock()
	first := j.ended.IsZero()
	if first {
		j.ended = time.Now()
	}
	j.mu.Unlock()
	if first {
		j.settle(j, err)
	}
}

// record is the result of a job that is done, begun at the given time.
func (j *Job) record(started time.Time, host string) *cache.Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &cache.Record{
		Key: j.Key, Address: j.Node.Addr, Kind: j.Node.Kind(), Lines: j.Lines, Outputs: j.outputs,
		Started: started, Finished: j.ended, Host: host, Backend: j.backend, Info: maps.Clone(j.info),
	}
}

// snapshot is the job's progress at this moment.
func (j *Job) snapshot() (Progress, time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.progress, j.started
}
