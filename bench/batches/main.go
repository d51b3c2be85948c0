// Command batches measures what it takes to have many small requests answered
// through batchd: seconds, and the peak memory of both processes.
//
//	go run ./bench/batches [-n 1000000] [-direct] [-concurrency 8] [-dir FOLDER]
//
// It asks as an apply does: by the ledger in a real cache, with the bodies of a
// file's worth of requests in memory at a time, until every answer is there, and
// then reads all of them. batchd runs in a process of its own; its judge gives the
// same short answer to everybody, so that what is measured is the way there.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"clusterflow/cache"
	"clusterflow/internal/batch"
	"clusterflow/internal/batchd"
)

func main() {
	var n, concurrency int
	var direct bool
	var dir, serve string
	flag.IntVar(&n, "n", 1_000_000, "requests")
	flag.BoolVar(&direct, "direct", false, "send them one by one")
	flag.IntVar(&concurrency, "concurrency", 8, "direct requests at once")
	flag.StringVar(&dir, "dir", "", "where to work; a temporary folder")
	flag.StringVar(&serve, "serve", "", "serve from this folder (for the program itself)")
	flag.Parse()
	err := func() error {
		if serve != "" {
			return server(serve)
		}
		return run(n, direct, concurrency, dir)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// server is batchd until its input ends; then it prints its peak of memory.
func server(dir string) error {
	s, err := batchd.New(batchd.Options{Dir: dir, Judge: func(context.Context, []byte) (string, error) {
		return `{"answers":[{"id":1,"answer":"Yes"},{"id":2,"answer":"No"}]}`, nil
	}})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s/v1\n", l.Addr())
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // it ends either way
		stop()
	}()
	if err := s.Serve(ctx, l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	_, err = fmt.Printf("%.0f\n", peak())
	return err
}

// child is the server's process.
type child struct {
	cmd  *exec.Cmd
	in   io.Closer
	out  *bufio.Reader
	base string
}

func start(dir string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self, "-serve", dir)}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	line, err := c.out.ReadString('\n')
	c.base = strings.TrimSpace(line)
	return c, err
}

// stop ends the server and returns its peak of memory in bytes.
func (c *child) stop() (peak float64, err error) {
	c.in.Close()
	line, err := c.out.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(line, &peak); err != nil {
		return 0, err
	}
	return peak, c.cmd.Wait()
}

// blobs lets the desk keep result files in a cache.
type blobs struct{ *cache.Blobs }

func (b blobs) Import(path string) (string, int64, error) {
	d, n, err := b.ImportFile(path)
	return d.String(), n, err
}

func (b blobs) Open(digest string) (io.ReadSeekCloser, error) {
	d, err := cache.ParseDigest(digest)
	if err != nil {
		return nil, err
	}
	return b.Blobs.Open(d)
}

// question is the i-th request, some 700 bytes.
func question(e batch.Evaluator, i int) batch.Request {
	return batch.NewRequest(e, batch.PromptParts{
		System: "You grade sentences of reasoning traces.",
		User:   fmt.Sprintf("Does each sentence state a plan? Question %d. %s", i, strings.Repeat("Let me check this step once more. ", 12)),
	})
}

// budget is how many bytes of bodies are in memory at a time, of how many
// requests at most: as in an apply.
const (
	budget = 200 << 20
	bodies = 100_000
)

// node is how many requests one node of a study has.
const node = 10_000

func run(n int, direct bool, concurrency int, dir string) error {
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "clusterflow-batches-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	ctx := context.Background()
	c, err := start(filepath.Join(dir, "served"))
	if err != nil {
		return err
	}
	defer c.cmd.Process.Kill() //nolint:errcheck // it has ended, unless something failed
	store, err := cache.Open(ctx, cache.Options{Dir: filepath.Join(dir, "cache"), Command: "bench"})
	if err != nil {
		return err
	}
	defer store.Close()
	d := batch.NewDesk(store.Bucket("ledger"), blobs{store.Blobs()}, batch.DeskOptions{TempDir: dir})
	e := batch.Evaluator{Name: "judge", Model: "m", BaseURL: c.base, Direct: direct, Concurrency: concurrency}

	var own watch
	go own.look()

	began := time.Now()
	reqs := make([]batch.Request, n)
	keys := make([]string, n)
	for i := range reqs {
		keys[i] = question(e, i).Key
		reqs[i].Key = keys[i]
	}
	made := time.Since(began)
	if err := d.Register(ctx, e, reqs); err != nil {
		return err
	}
	registered := time.Since(began) - made
	for {
		left, room := budget, bodies
		for at := 0; at < n; at += node {
			unsent, err := d.Unsent(ctx, keys[at:min(at+node, n)])
			if err != nil {
				return err
			}
			for i := at; i < min(at+node, n); i++ {
				if left > 0 && room > 0 && unsent[reqs[i].Key] {
					reqs[i].Body = question(e, i).Body
					left -= len(reqs[i].Body)
					room--
				}
			}
		}
		p, err := d.Advance(ctx, e, reqs)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "\r%d of %d answered, %d in batches, %.0f s, %.0f MB ", p.Answered, n, p.InBatch, time.Since(began).Seconds(), peak()/1e6)
		if p.Next.IsZero() {
			break
		}
		for i := range reqs {
			reqs[i].Body = nil
		}
		time.Sleep(time.Until(p.Next))
	}
	fmt.Fprintln(os.Stderr)
	answered := time.Since(began) - made - registered
	read := 0
	err = d.Answers(ctx, e, keys, func(i int, a batch.Answer) error {
		if a.Status != batch.StatusOK {
			return fmt.Errorf("request %d: %s", i, a.Error)
		}
		read++
		return nil
	})
	if err != nil || read != n {
		return fmt.Errorf("%d of %d answers were read: %w", read, n, err)
	}
	all := time.Since(began)
	served, err := c.stop()
	if err != nil {
		return err
	}
	fmt.Printf("%d requests of %d bytes\n", n, len(question(e, 0).Body))
	fmt.Printf("  keys          %6.1f s\n  registered    %6.1f s\n  answered      %6.1f s   %.0f a second\n  answers read  %6.1f s\n",
		made.Seconds(), registered.Seconds(), answered.Seconds(), float64(n)/answered.Seconds(), (all - made - registered - answered).Seconds())
	fmt.Printf("  peak memory   client %.0f MB, of that %.0f without pages of mapped files; batchd %.0f MB\n", peak()/1e6, own.Load()/1e6, served/1e6)
	return nil
}
