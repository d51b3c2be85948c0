package batch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

var errKilled = errors.New("killed")

// fuse kills a process at its n-th operation, before or after the operation
// takes effect: from then on nothing it does has any effect.
type fuse struct {
	mu    sync.Mutex
	n     int // operations left; below 0 never kills
	after bool
	blown bool
	kill  context.CancelFunc
}

// burn runs op unless the process is dead by then.
func (f *fuse) burn(op func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.blown {
		return errKilled
	}
	f.n--
	if f.n != 0 {
		return op()
	}
	f.blown = true
	defer f.kill()
	if f.after {
		if err := op(); err != nil {
			return err
		}
	}
	return errKilled
}

// mortalKV and mortalNet are the places where a process touches the world.
type mortalKV struct {
	*memory
	f *fuse
}

func (k mortalKV) Put(values map[string][]byte) error {
	return k.f.burn(func() error { return k.memory.Put(values) })
}

func (k mortalKV) Delete(keys ...string) error {
	return k.f.burn(func() error { return k.memory.Delete(keys...) })
}

type mortalFiles struct {
	*blobs
	f *fuse
}

func (b mortalFiles) Import(path string) (digest string, size int64, err error) {
	err = b.f.burn(func() (err error) {
		digest, size, err = b.blobs.Import(path)
		return err
	})
	return digest, size, err
}

func (f *fuse) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	err = f.burn(func() error {
		// The call takes effect at the server even if its sender dies.
		resp, err = pass(req.WithContext(context.WithoutCancel(req.Context())))
		if err != nil {
			return err
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(b))
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// live runs one process on the world's ledger: it registers and advances until
// it is done (true) or killed (false).
func (w *world) live(e Evaluator, reqs []Request, n int, after bool) bool {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	f := &fuse{n: n, after: after, kill: cancel}
	o := w.options()
	o.HTTPClient = &http.Client{Transport: f}
	d := NewDesk(mortalKV{w.kv, f}, mortalFiles{w.files, f}, o)
	d.chunk = 2 // binding a file takes several writes
	err := d.Register(ctx, e, reqs)
	if err == nil {
		_, err = w.drive(ctx, d, e, reqs)
	}
	if err == nil {
		return true
	}
	if !f.blown {
		w.t.Fatalf("killed at %d: a process that was not killed failed: %v", n, err)
	}
	return false
}

// TestKilledAnywhere kills the process before and after every write to the
// ledger, every stored file and every call, and again in the life after that
// one. Whatever remains, the last life ends with every request answered, and
// the server has seen each request in exactly one batch.
func TestKilledAnywhere(t *testing.T) {
	w := newWorld(t, nil)
	e := w.evaluator()
	lives := 0
	for _, after := range []bool{false, true} {
		e.Limits.Lines = 3 // two files
		if after {
			e.Limits.Lines = 5 // one
		}
		for n := 1; ; n++ {
			if n > 500 {
				t.Fatal("no process lived to its end")
			}
			reqs := append(ask(e, fmt.Sprintf("good %d %v", n, after), 4), ask(e, fmt.Sprintf("bad %d %v", n, after), 1)...)
			ended := w.live(e, reqs, n, after)
			if !ended {
				w.live(e, reqs, 1+n*7%23, !after)
				w.live(e, reqs, -1, false)
				lives++
			}
			d := w.desk()
			got := w.contents(d, e, reqs)
			for i, c := range got {
				want := fmt.Sprintf("re: good %d %v %d", n, after, i)
				if i == 4 {
					want = "!400 Bad Request: the question is bad"
				}
				if c != want {
					t.Errorf("killed at %d: answer %d is %q, want %q", n, i, c, want)
				}
			}
			if ended {
				break
			}
		}
	}
	for key, n := range w.sent() {
		if n != 1 {
			t.Errorf("request %s is in %d batches", key, n)
		}
	}
	for q, n := range w.asked.n {
		if n != 1 {
			t.Errorf("%q was answered %d times", q, n)
		}
	}
	if lives < 45 {
		t.Errorf("only %d kills: operations are no longer counted", lives)
	}
	err := w.kv.Scan("", func(key string, _ []byte) error {
		if strings.HasPrefix(key, openPrefix) {
			return fmt.Errorf("%s is left", key)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d processes killed, %d batches", lives, len(w.batches()))
}

// TestDirectKilledAnywhere does the same to direct requests. Nobody can be asked
// what became of one that was under way, so it is asked again: at most as many
// for each kill as may be under way at once.
func TestDirectKilledAnywhere(t *testing.T) {
	w := newWorld(t, nil)
	e := w.direct()
	e.Concurrency = 3
	kills := 0
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			if n > 500 {
				t.Fatal("no process lived to its end")
			}
			reqs := append(ask(e, fmt.Sprintf("good %d %v", n, after), 7), ask(e, fmt.Sprintf("bad %d %v", n, after), 1)...)
			before := w.asked.total()
			ended := w.live(e, reqs, n, after)
			killed := 0
			if !ended {
				killed = 1
				if !w.live(e, reqs, 1+n*7%23, !after) {
					killed++
				}
				w.live(e, reqs, -1, false)
			}
			kills += killed
			if extra := w.asked.total() - before - len(reqs); extra > killed*e.Concurrency {
				t.Errorf("killed at %d: %d requests were asked again after %d kills", n, extra, killed)
			}
			for i, c := range w.contents(w.desk(), e, reqs) {
				want := fmt.Sprintf("re: good %d %v %d", n, after, i)
				if i == 7 {
					want = "!400 Bad Request: the question is bad"
				}
				if c != want {
					t.Errorf("killed at %d: answer %d is %q, want %q", n, i, c, want)
				}
			}
			if ended {
				break
			}
		}
	}
	if len(w.batches()) != 0 {
		t.Errorf("%d batches were made", len(w.batches()))
	}
	if kills < 45 {
		t.Errorf("only %d kills: operations are no longer counted", kills)
	}
	w.settled()
	t.Logf("%d processes killed", kills)
}

func (c *tally) total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := 0
	for _, n := range c.n {
		total += n
	}
	return total
}
