package batchd

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Faults make a server misbehave as servers and networks do. They are for tests
// of clients: whatever a client does under them, it may neither lose an answer
// nor buy one twice.
type Faults struct {
	LoseCreate  float64       // part of the create calls that are done, but answered by a cut or an error
	LateList    time.Duration // how long a new batch is missing from the list
	NoList      bool          // lists are not found
	TwiceLines  bool          // result files have every line twice
	HalfExpired bool          // half of a batch's requests expire, each once
	Storm       float64       // part of the calls that are refused with 429 or 500

	mu      sync.Mutex
	since   map[string]time.Time // when batches were made
	expired map[string]bool      // requests, by custom_id
}

// ParseFaults reads a list such as "lose-create=0.5,late-list=100ms,no-list".
func ParseFaults(text string) (*Faults, error) {
	f := &Faults{since: map[string]time.Time{}, expired: map[string]bool{}}
	for item := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(item, "=")
		var err error
		switch name {
		case "lose-create":
			f.LoseCreate, err = strconv.ParseFloat(value, 64)
		case "late-list":
			f.LateList, err = time.ParseDuration(value)
		case "no-list":
			f.NoList = true
		case "twice-lines":
			f.TwiceLines = true
		case "half-expired":
			f.HalfExpired = true
		case "storm":
			f.Storm, err = strconv.ParseFloat(value, 64)
		default:
			err = fmt.Errorf("there is no such fault")
		}
		if err != nil {
			return nil, fmt.Errorf("fault %q: %w", item, err)
		}
	}
	return f, nil
}

// before is h behind the faults.
func (f *Faults) before(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		collection := r.Method == http.MethodGet && (r.URL.Path == "/v1/batches" || r.URL.Path == "/v1/files")
		switch p := rand.Float64(); {
		case p < f.Storm/2:
			w.Header().Set("Retry-After", "0.02")
			reply(w, http.StatusTooManyRequests, map[string]any{"error": (&Error{Message: "Slow down.", Code: "rate_limit_exceeded"}).body()})
		case p < f.Storm:
			reply(w, http.StatusInternalServerError, map[string]any{"error": (&Error{Type: "server_error", Message: "The server had an error."}).body()})
		case f.NoList && collection:
			http.NotFound(w, r)
		case r.Method == http.MethodPost && r.URL.Path == "/v1/batches" && rand.Float64() < f.LoseCreate:
			h.ServeHTTP(nowhere{}, r) // done, and nobody learns of it
			if rand.IntN(2) == 0 {
				panic(http.ErrAbortHandler)
			}
			http.Error(w, "a proxy lost the reply", http.StatusBadGateway)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// nowhere takes a reply that nobody gets.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}

// made notes when a batch was made.
func (f *Faults) made(id string) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.since[id] = time.Now()
}

// hidden reports whether a batch is not on the list yet.
func (f *Faults) hidden(id string) bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.since[id]) < f.LateList
}

// expires reports whether a request is not run, as the n-th of its batch: every
// second is not, the first time that it is met.
func (f *Faults) expires(n int, customID string) bool {
	if f == nil || !f.HalfExpired || n%2 == 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.expired[customID]
	f.expired[customID] = true
	return !before
}

// copyTwice copies lines, each of them twice.
func copyTwice(w io.Writer, r io.Reader) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			if _, werr := w.Write(bytes.Repeat(line, 2)); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
