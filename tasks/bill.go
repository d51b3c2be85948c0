package tasks

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/studies"
)

// askedFile is a request file without its bodies.
type askedFile struct {
	keys  []string
	heads []askedHead
}

// askedHead is what a request is about and how long it is.
type askedHead struct {
	Key    string `json:"key"`
	Task   string `json:"task"`
	Tokens int    `json:"tokens"`
	Body   struct {
		Most int `json:"max_completion_tokens"`
	} `json:"body"`
}

// asked is a job's request file.
func (o *Office) asked(job *graph.Job) (*askedFile, error) {
	d, err := job.Digest("requests")
	if err != nil {
		return nil, err
	}
	return o.fileOf(d, func() (io.ReadCloser, error) { return job.Open("requests") })
}

// fileOf is a request file, by its content: it is opened only the first time.
func (o *Office) fileOf(d cache.Digest, open func() (io.ReadCloser, error)) (*askedFile, error) {
	o.mu.Lock()
	known, ok := o.files[d]
	o.mu.Unlock()
	if ok {
		return known, nil
	}
	in, err := open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	heads, err := readJSONL[askedHead](in)
	if err != nil {
		return nil, fmt.Errorf("reading the request file %s: %w", d.Short(), err)
	}
	f := &askedFile{keys: make([]string, len(heads)), heads: heads}
	for i, h := range heads {
		f.keys[i] = h.Key
	}
	o.mu.Lock()
	o.files[d] = f
	o.mu.Unlock()
	return f, nil
}

// Bill is Asks for what would be sent: a request that is answered, in a batch,
// or asked by two nodes is not counted again; in a batch that a person cancelled,
// it is. The record of a node finds record.
func (o *Office) Bill(ctx context.Context, c *Compiled, p *graph.Plan, record func(cache.Digest) (*cache.Record, bool), past Answered) ([]Ask, error) {
	counted := map[string]bool{}
	var trouble error
	asks := c.asks(p, past, func(s *graph.Step, e *studies.Evaluator) []Ask {
		r, ok := record(s.Record.Key)
		if !ok || trouble != nil {
			return nil
		}
		f, err := o.written(r)
		if err != nil {
			return nil // a damaged file is written again
		}
		unsent, err := o.desk.Unsent(ctx, f.keys)
		if err != nil {
			trouble = err
			return nil
		}
		back, err := o.desk.Returning(ctx, f.keys) // some of these will be answered
		if err != nil {
			trouble = err
			return nil
		}
		sums := map[string]*Ask{}
		out := []Ask{} // not nil: known, even if it is nothing
		for _, h := range f.heads {
			if !unsent[h.Key] && !back[h.Key] || counted[h.Key] {
				continue
			}
			counted[h.Key] = true
			if sums[h.Task] == nil {
				sums[h.Task] = &Ask{Evaluator: e, Task: h.Task, Exact: true}
			}
			a := sums[h.Task]
			a.Exact = a.Exact && !back[h.Key]
			a.Requests++
			a.Prompt += int64(h.Tokens)
			a.Most += int64(h.Body.Most)
		}
		for _, task := range sortedKeys(sums) {
			sums[task].expect(past)
			out = append(out, *sums[task])
		}
		return out
	})
	return asks, trouble
}

// written is the request file of a record.
func (o *Office) written(r *cache.Record) (*askedFile, error) {
	out, ok := r.Output("requests")
	if !ok {
		return nil, fmt.Errorf("%s has no requests", r.Address)
	}
	return o.fileOf(out.Digest, func() (io.ReadCloser, error) {
		if out.Inline != nil {
			return io.NopCloser(bytes.NewReader(out.Inline)), nil
		}
		return o.store.Blobs().Open(out.Digest)
	})
}

// ByDestination adds up asks by where they go.
func ByDestination(asks []Ask) map[graph.Destination][]Ask {
	out := map[graph.Destination][]Ask{}
	for _, a := range asks {
		out[destination(a.Evaluator)] = append(out[destination(a.Evaluator)], a)
	}
	return out
}
