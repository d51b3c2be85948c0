// Package batchd is a small server of the OpenAI Batch API: files, batches and
// models over HTTP, with its state on disk, and chat completions at once. It
// answers requests with a judge, a function from a chat completion request to the
// text of its answer, or by another server's chat completions. A server that is
// started again on the same directory goes on where the last one stopped, however
// that ended.
//
// Shapes, limits and statuses are those documented at
// https://platform.openai.com/docs/api-reference/batch.
package batchd

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Judge answers the chat completion request in body with the text of the
// assistant's message. It is called from several goroutines. An error becomes
// the failed result of that one request, with status 400 unless it is an
// *[Error] that names another.
type Judge = func(ctx context.Context, body []byte) (content string, err error)

// Error is a failure that a client sees in OpenAI's shape.
type Error struct {
	Status  int    // HTTP status
	Type    string // "invalid_request_error" when empty
	Code    string
	Param   string
	Message string
}

func (e *Error) Error() string { return e.Message }

// Options of a server. Dir has to be set, and Judge or Upstream.
type Options struct {
	Dir         string           // state; made if absent; for one server at a time
	Judge       Judge            // answers the requests
	Upstream    *Upstream        // answers them in place of a judge
	Log         *slog.Logger     // nowhere
	Clock       func() time.Time // time.Now
	Concurrency int              // requests answered at once; GOMAXPROCS
	Models      []string         // what /v1/models lists; any model is accepted
	Key         string           // when set, requests must carry it as a bearer token
	Window      time.Duration    // what a batch may take before it expires; 24 hours
	Faults      *Faults          // none
}

// Server holds files and batches. Create it with [New]; it works on unfinished
// batches from then on until Close.
type Server struct {
	opts  Options
	lock  *os.File
	slots chan struct{} // one token per request being answered
	ctx   context.Context
	stop  context.CancelFunc
	work  sync.WaitGroup

	mu      sync.Mutex
	seq     int64 // orders what was created within one second
	files   map[string]*file
	batches map[string]*batch
}

// New opens the state in opts.Dir and starts working on batches that are not
// finished.
func New(opts Options) (*Server, error) {
	if (opts.Judge == nil) == (opts.Upstream == nil) {
		return nil, errors.New("the batch server needs either a judge or an upstream server to answer requests")
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.Window <= 0 {
		opts.Window = 24 * time.Hour
	}
	if opts.Concurrency <= 0 {
		opts.Concurrency = runtime.GOMAXPROCS(0)
	}
	for _, sub := range []string{"files", "batches"} {
		if err := os.MkdirAll(filepath.Join(opts.Dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("making the batch server's directory: %w", err)
		}
	}
	lock, err := lockDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: opts, lock: lock, slots: make(chan struct{}, opts.Concurrency),
		files: make(map[string]*file), batches: make(map[string]*batch),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if err := s.load(); err != nil {
		s.stop()
		lock.Close()
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		if !b.ended() {
			s.start(b)
		}
	}
	return s, nil
}

// Close stops the work, waits for requests being answered and writes what is
// unfinished, to be continued by the next server on this directory.
func (s *Server) Close() error {
	s.stop()
	s.work.Wait()
	return s.lock.Close()
}

// Handler serves the API under /v1.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"POST /v1/files":               s.uploadFile,
		"GET /v1/files":                s.listFiles,
		"GET /v1/files/{id}":           s.getFile,
		"GET /v1/files/{id}/content":   s.getContent,
		"DELETE /v1/files/{id}":        s.deleteFile,
		"POST /v1/batches":             s.createBatch,
		"GET /v1/batches":              s.listBatches,
		"GET /v1/batches/{id}":         s.getBatch,
		"POST /v1/batches/{id}/cancel": s.cancelBatch,
		"POST /v1/chat/completions":    s.chat,
		"GET /v1/models":               s.listModels,
		"GET /v1/models/{model...}":    s.getModel,
		"/": func(_ http.ResponseWriter, r *http.Request) error {
			return &Error{Status: http.StatusNotFound, Code: "unknown_url", Message: fmt.Sprintf("Unknown request URL: %s %s. This server has /v1/files, /v1/batches, /v1/chat/completions and /v1/models.", r.Method, r.URL.Path)}
		},
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			err := s.authorize(r)
			if err == nil {
				err = h(w, r)
			}
			if err != nil {
				s.fail(w, r, err)
			}
		})
	}
	if s.opts.Faults != nil {
		return s.opts.Faults.before(mux)
	}
	return mux
}

func (s *Server) authorize(r *http.Request) error {
	if s.opts.Key == "" {
		return nil
	}
	got := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if subtle.ConstantTimeCompare([]byte(got), []byte(s.opts.Key)) == 1 {
		return nil
	}
	return &Error{Status: http.StatusUnauthorized, Code: "invalid_api_key", Message: "Incorrect or missing API key."}
}

// Serve answers on l until ctx is done, then stops taking requests and waits
// for those under way. It does not close the server.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var fresh connections
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 30 * time.Second, ConnState: fresh.see}
	stopped := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		<-ctx.Done()
		fresh.close()
		wait, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		stopped <- srv.Shutdown(wait)
	}()
	err := srv.Serve(l)
	cancel()
	if stop := <-stopped; errors.Is(err, http.ErrServerClosed) {
		err = stop
	}
	return err
}

// connections are those that have brought no request yet. Shutdown would wait
// for them, and clients open some that they never use.
type connections struct {
	mu     sync.Mutex
	fresh  map[net.Conn]bool
	closed bool
}

func (c *connections) see(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(c.fresh, conn)
	case c.closed:
		conn.Close()
	default:
		if c.fresh == nil {
			c.fresh = make(map[net.Conn]bool)
		}
		c.fresh[conn] = true
	}
}

func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.fresh {
		conn.Close()
	}
}

// Start runs a server on dir at a free port of 127.0.0.1. The base URL ends in
// /v1. stop ends the server and waits for it; it also ends with ctx.
func Start(ctx context.Context, dir string, judge Judge) (baseURL string, stop func() error, err error) {
	s, err := New(Options{Dir: dir, Judge: judge, Models: []string{"lexical"}})
	if err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Close()
		return "", nil, fmt.Errorf("starting the batch server on this machine: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		err := s.Serve(ctx, l)
		ended <- errors.Join(err, s.Close())
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	return "http://" + l.Addr().String() + "/v1", stop, nil
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := new(Error)
	if !errors.As(err, &e) {
		s.opts.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		e = &Error{Status: http.StatusInternalServerError, Type: "server_error", Message: err.Error()}
	}
	reply(w, e.Status, map[string]any{"error": e.body()})
}

// body is OpenAI's error object.
func (e *Error) body() map[string]any {
	orNull := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	kind := e.Type
	if kind == "" {
		kind = "invalid_request_error"
	}
	return map[string]any{"message": e.Message, "type": kind, "param": orNull(e.Param), "code": orNull(e.Code)}
}

func invalid(param, code, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Param: param, Code: code, Message: fmt.Sprintf(format, args...)}
}

func notFound(kind, id string) *Error {
	return &Error{Status: http.StatusNotFound, Param: "id", Message: fmt.Sprintf("No such %s: %s", kind, id)}
}

func reply(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // a client that went away is its own affair
	return nil
}

func (s *Server) listModels(w http.ResponseWriter, r *http.Request) error {
	data := []any{}
	for _, m := range s.opts.Models {
		data = append(data, model(m))
	}
	return reply(w, http.StatusOK, map[string]any{"object": "list", "data": data})
}

func (s *Server) getModel(w http.ResponseWriter, r *http.Request) error {
	return reply(w, http.StatusOK, model(r.PathValue("model")))
}

func model(id string) map[string]any {
	return map[string]any{"id": id, "object": "model", "created": 0, "owned_by": "clusterflow"}
}

func newID(prefix string) string {
	var b [12]byte
	rand.Read(b[:]) // never fails, says its documentation
	return prefix + hex.EncodeToString(b[:])
}
