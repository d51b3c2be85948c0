package batchd

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
)

// results are the result lines that a batch has so far. Lines are written as
// they come: a server that is killed loses none but those being answered.
type results struct {
	mu                sync.Mutex
	out, bad          *os.File
	have              map[string]bool // by custom_id, from before a restart
	completed, failed int
	firstErr          error
}

// results opens the partial result files, drops a line that a kill tore, and
// reads which requests they answer.
func (s *Server) results(b *batch) (*results, error) {
	r := &results{have: make(map[string]bool)}
	for _, p := range []struct {
		kind string
		f    **os.File
		n    *int
	}{{"out", &r.out, &r.completed}, {"err", &r.bad, &r.failed}} {
		f, err := os.OpenFile(s.partial(b.ID, p.kind), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			r.close()
			return nil, err
		}
		*p.f = f
		if *p.n, err = r.restore(f); err != nil {
			r.close()
			return nil, fmt.Errorf("reading the results so far in %s: %w", f.Name(), err)
		}
	}
	return r, nil
}

// restore reads whole lines and leaves f behind the last of them.
func (r *results) restore(f *os.File) (n int, err error) {
	in := bufio.NewReaderSize(f, 1<<16)
	var good int64
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return n, err
		}
		var l struct {
			CustomID string `json:"custom_id"`
		}
		if json.Unmarshal(line, &l) != nil {
			break
		}
		r.have[l.CustomID] = true
		good += int64(len(line))
		n++
	}
	if err := f.Truncate(good); err != nil {
		return n, err
	}
	_, err = f.Seek(good, io.SeekStart)
	return n, err
}

func (r *results) has(customID string) bool { return r.have[customID] }

func (r *results) write(s *Server, b *batch, l resultLine) error {
	line, err := json.Marshal(l)
	if err != nil {
		return err
	}
	good := l.Response != nil && l.Response.Status == http.StatusOK
	f := r.bad
	if good {
		f = r.out
	}
	r.mu.Lock()
	_, err = f.Write(append(line, '\n'))
	r.mu.Unlock()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if good {
		b.Completed++
	} else {
		b.Failed++
	}
	return nil
}

func (r *results) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.firstErr = errors.Join(r.firstErr, err)
}

func (r *results) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.firstErr
}

// sync puts the lines on disk before the batch's record says that it is done.
func (r *results) sync() error {
	for _, f := range []*os.File{r.out, r.bad} {
		if at, err := f.Seek(0, io.SeekCurrent); err != nil {
			return err
		} else if at == 0 {
			continue
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

func (r *results) close() {
	for _, f := range []*os.File{r.out, r.bad} {
		if f != nil {
			f.Close()
		}
	}
}
