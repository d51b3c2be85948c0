// Package hubtest serves model repositories over HTTP on loopback as the
// Hugging Face Hub does, for tests: a list of files with checksums, contents of
// large files by redirect from a storage server, ranges, gated and private
// repositories, and the accidents of networks.
package hubtest

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// Commit is the commit of every repository's main branch.
const Commit = "0123456789abcdef0123456789abcdef01234567"

// Server is a hub with its storage. Change its fields only between requests.
type Server struct {
	URL string // what HF_ENDPOINT should be

	Repos   map[string]map[string][]byte // id → file → content
	Gated   map[string]bool              // readable with Token only
	Token   string
	NoSums  bool              // the list lacks sizes and checksums, as a mirror's may
	NoRange bool              // ranges are ignored
	Cut     map[string]int    // file → bytes after which the connection ends
	Cuts    int               // how many times; less than 0: always
	Flip    map[string]int    // file → number of times a bit of it is wrong
	Refuse  []int             // statuses of the next answers, whatever is asked
	Wait    time.Duration     // before every 64 KiB of a file
	Hang    map[string]bool   // file → after half of it nothing more comes, once
	Branch  map[string]string // revision → commit, besides main

	mu      sync.Mutex
	log     []string
	leaked  bool
	hub     *httptest.Server
	storage *httptest.Server
}

// New starts a server; the caller closes it.
func New() *Server {
	s := &Server{Repos: map[string]map[string][]byte{}, Gated: map[string]bool{}, Cut: map[string]int{}, Cuts: 1, Flip: map[string]int{}, Hang: map[string]bool{}}
	s.hub = httptest.NewServer(http.HandlerFunc(s.serve))
	s.storage = httptest.NewServer(http.HandlerFunc(s.store))
	s.URL = s.hub.URL
	return s
}

// Close ends the server and its connections.
func (s *Server) Close() {
	s.hub.CloseClientConnections()
	s.storage.CloseClientConnections()
	s.hub.Close()
	s.storage.Close()
}

// Log lists the requests so far: method, path and, where there is one, range.
func (s *Server) Log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.log...)
}

// Leaked reports whether the storage server ever saw a token.
func (s *Server) Leaked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaked
}

// large reports whether Git would keep the file elsewhere.
func large(name string) bool { return strings.HasSuffix(name, ".safetensors") }

func sum256(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}

func gitSum(b []byte) string {
	d := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(b)), b...))
	return hex.EncodeToString(d[:])
}

// refuse answers the next status that was asked for.
func (s *Server) refuse(w http.ResponseWriter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.Refuse) == 0 {
		return false
	}
	w.WriteHeader(s.Refuse[0])
	s.Refuse = s.Refuse[1:]
	return true
}

func (s *Server) note(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
}

func deny(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Error-Code", code)
	w.Header().Set("X-Error-Message", message)
	w.WriteHeader(status)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.note(r)
	if s.refuse(w) {
		return
	}
	allowed := s.Token != "" && r.Header.Get("Authorization") == "Bearer "+s.Token
	if rest, ok := strings.CutPrefix(r.URL.Path, "/api/models/"); ok {
		id, rev, _ := strings.Cut(rest, "/revision/")
		files, ok := s.Repos[id]
		commit := Commit
		if rev != "main" && rev != Commit {
			commit = s.Branch[rev]
		}
		switch {
		case !ok: // the hub does not say whether it is private
			deny(w, http.StatusUnauthorized, "RepoNotFound", "Repository not found")
		case commit == "":
			deny(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+rev)
		default:
			s.list(w, commit, files)
		}
		return
	}
	id, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/resolve/")
	_, name, _ := strings.Cut(rest, "/")
	content, found := s.Repos[id][name]
	switch {
	case !ok || s.Repos[id] == nil:
		deny(w, http.StatusUnauthorized, "RepoNotFound", "Repository not found")
	case s.Gated[id] && !allowed:
		deny(w, http.StatusUnauthorized, "GatedRepo", "Access to model "+id+" is restricted.")
	case !found:
		deny(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
	case large(name):
		w.Header().Set("X-Linked-Etag", `"`+sum256(content)+`"`)
		w.Header().Set("X-Linked-Size", fmt.Sprint(len(content)))
		http.Redirect(w, r, s.storage.URL+"/"+id+"/"+name+"?signature=1", http.StatusFound)
	default:
		w.Header().Set("ETag", `W/"`+gitSum(content)+`"`)
		s.content(w, r, name, content)
	}
}

func (s *Server) list(w http.ResponseWriter, commit string, files map[string][]byte) {
	var list []map[string]any
	for name, content := range files {
		f := map[string]any{"rfilename": name}
		if !s.NoSums {
			f["size"], f["blobId"] = len(content), gitSum(content)
			if large(name) {
				f["lfs"] = map[string]any{"sha256": sum256(content), "size": len(content), "pointerSize": 135}
			}
		}
		list = append(list, f)
	}
	json.NewEncoder(w).Encode(map[string]any{"id": "x", "sha": commit, "siblings": list})
}

// store is the storage server.
func (s *Server) store(w http.ResponseWriter, r *http.Request) {
	s.note(r)
	if r.Header.Get("Authorization") != "" {
		s.mu.Lock()
		s.leaked = true
		s.mu.Unlock()
	}
	if s.refuse(w) {
		return
	}
	for id, files := range s.Repos {
		if name, ok := strings.CutPrefix(r.URL.Path, "/"+id+"/"); ok && files[name] != nil {
			s.content(w, r, name, files[name])
			return
		}
	}
	w.WriteHeader(http.StatusNotFound)
}

// content sends a file, with what was asked to go wrong.
func (s *Server) content(w http.ResponseWriter, r *http.Request, name string, content []byte) {
	if s.NoRange {
		r.Header.Del("Range")
	}
	s.mu.Lock()
	if s.Flip[name] > 0 {
		s.Flip[name]--
		content = bytes.Clone(content)
		content[len(content)/2] ^= 1
	}
	o := &faulty{ResponseWriter: w, s: s, cut: -1}
	if at, ok := s.Cut[name]; ok && s.Cuts != 0 && r.Method == http.MethodGet {
		s.Cuts--
		o.cut = at
	}
	if s.Hang[name] {
		s.Hang[name] = false
		o.hang, o.done = len(content)/2, r.Context().Done()
	}
	s.mu.Unlock()
	http.ServeContent(o, r, "", time.Time{}, bytes.NewReader(content))
}

// faulty is an answer in which something goes wrong.
type faulty struct {
	http.ResponseWriter
	s    *Server
	cut  int // bytes left until the connection ends; less than 0: never
	hang int // bytes left until nothing more comes; 0: never
	done <-chan struct{}
}

func (o *faulty) Write(b []byte) (int, error) {
	n := 0
	for len(b) > 0 {
		k := min(len(b), 64<<10)
		if o.s.Wait > 0 {
			time.Sleep(o.s.Wait)
		}
		if o.cut >= 0 && k > o.cut {
			o.ResponseWriter.Write(b[:o.cut])
			o.ResponseWriter.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		if o.hang > 0 && k >= o.hang {
			o.ResponseWriter.Write(b[:o.hang])
			o.ResponseWriter.(http.Flusher).Flush()
			<-o.done
			panic(http.ErrAbortHandler)
		}
		m, err := o.ResponseWriter.Write(b[:k])
		n += m
		if err != nil {
			return n, err
		}
		o.ResponseWriter.(http.Flusher).Flush()
		if o.cut >= 0 {
			o.cut -= k
		}
		if o.hang > 0 {
			o.hang -= k
		}
		b = b[k:]
	}
	return n, nil
}
