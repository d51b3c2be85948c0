// Package hub reads models from the Hugging Face Hub into the local cache that
// Hugging Face's own tools share, so that neither downloads what the other has.
//
// Of the Go modules for this, github.com/gomlx/go-huggingface 0.3.1 neither
// resumes nor checks what it downloaded, knows no HF_HOME or HF_HUB_CACHE and
// writes to standard output; so this package speaks the protocol itself:
//
//	GET  /api/models/ID/revision/REV?blobs=true   the commit, files, sizes, checksums
//	HEAD /ID/resolve/COMMIT/FILE                  size and checksum, where a mirror's list lacks them
//	GET  /ID/resolve/COMMIT/FILE                  the content, from a byte on with Range
//
// The cache is laid out as huggingface_hub documents it: blobs/CHECKSUM,
// snapshots/COMMIT/FILE → ../../blobs/CHECKSUM, refs/REVISION with a commit,
// and blobs/CHECKSUM.incomplete for what is under way.
package hub

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Repo is a model on the hub, at a branch, tag or commit.
type Repo struct {
	ID       string // "org/name" or "name"
	Revision string // "" is main
}

func (r Repo) revision() string {
	if r.Revision == "" {
		return "main"
	}
	return r.Revision
}

func (r Repo) String() string { return r.ID + "@" + r.revision() }

// Listing is what a repository holds at one commit.
type Listing struct {
	Repo   Repo
	Commit string
	Files  []File
}

// File is one file of a repository.
type File struct {
	Name   string // slash-separated, relative to the repository
	Size   int64
	SHA256 string // of its content, in hexadecimal; "" for small files, which Git itself holds
	Git    string // Git's SHA-1 of its content, where SHA256 is ""
}

// etag is what the cache calls the file's content.
func (f File) etag() string {
	if f.SHA256 != "" {
		return f.SHA256
	}
	return f.Git
}

// File returns the file of that name, and whether there is one.
func (l *Listing) File(name string) (File, bool) {
	i := slices.IndexFunc(l.Files, func(f File) bool { return f.Name == name })
	if i < 0 {
		return File{}, false
	}
	return l.Files[i], true
}

// Client reads from one hub into one cache. It is safe for concurrent use, also
// by several processes on one cache. Its fields are not changed after first use.
type Client struct {
	Endpoint string // base URL, without a slash at its end
	Token    string // "" for none; sent to the endpoint's host only
	Cache    string // the folder of the hub cache
	Offline  bool   // never to use the network
	Version  string // of this program, for the User-Agent

	HTTP  *http.Client  // nil: one that follows redirects without carrying the token to other hosts
	Pause time.Duration // before the first repetition of a failed request, doubled each time
	Stall time.Duration // without a byte, after which a connection is given up
}

// repetitions of a request that brought nothing new.
const repetitions = 5

// FromEnv is the client that the variables of Hugging Face's tools describe:
// HF_ENDPOINT, HF_TOKEN (or the token that "hf auth login" stored), HF_HUB_CACHE,
// HF_HOME, XDG_CACHE_HOME, HF_HUB_OFFLINE.
func FromEnv(getenv func(string) string) (*Client, error) {
	first := func(names ...string) string {
		for _, n := range names {
			if v := getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	home := first("HF_HOME")
	if home == "" {
		cache := first("XDG_CACHE_HOME")
		if cache == "" {
			user, err := os.UserHomeDir()
			if err != nil {
				return nil, fmt.Errorf("looking for the Hugging Face cache: %w; set HF_HOME", err)
			}
			cache = filepath.Join(user, ".cache")
		}
		home = filepath.Join(cache, "huggingface")
	}
	c := &Client{
		Endpoint: strings.TrimRight(first("HF_ENDPOINT"), "/"),
		Token:    strings.TrimSpace(first("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")),
		Cache:    first("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"),
		Offline:  slices.Contains([]string{"1", "true", "yes", "on"}, strings.ToLower(first("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))),
		Pause:    time.Second, Stall: time.Minute,
	}
	if c.Endpoint == "" {
		c.Endpoint = "https://huggingface.co"
	}
	if u, err := url.Parse(c.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("HF_ENDPOINT is %q; give a URL such as https://huggingface.co", c.Endpoint)
	}
	if c.Cache == "" {
		c.Cache = filepath.Join(home, "hub")
	}
	if c.Token == "" {
		path := first("HF_TOKEN_PATH")
		if path == "" {
			path = filepath.Join(home, "token")
		}
		if raw, err := os.ReadFile(path); err == nil {
			c.Token = strings.TrimSpace(string(raw))
		}
	}
	c.HTTP = c.newHTTP()
	return c, nil
}

// newHTTP follows redirects to storage servers without the token: their
// addresses are signed, and the token is none of their business. (net/http
// itself keeps it for subdomains.)
func (c *Client) newHTTP() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = time.Minute
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= 10 {
				return errors.New("it was redirected ten times")
			}
			if req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
				req.Header.Del("Authorization")
			}
			return nil
		},
	}
}

// Host is the name of the server, for people.
func (c *Client) Host() string {
	if u, err := url.Parse(c.Endpoint); err == nil {
		return u.Host
	}
	return c.Endpoint
}

// isCommit reports whether a revision is a full commit.
func isCommit(rev string) bool { return isHex(rev, 40) }

func isHex(s string, digits int) bool {
	return len(s) == digits && strings.Trim(s, "0123456789abcdef") == ""
}

// dir is the folder of a repository in the cache.
func (c *Client) dir(id string) string {
	return filepath.Join(c.Cache, "models--"+strings.ReplaceAll(id, "/", "--"))
}

// Snapshot is the folder with the files of a commit, as far as they have been
// downloaded. It may not exist.
func (c *Client) Snapshot(id, commit string) string {
	return filepath.Join(c.dir(id), "snapshots", commit)
}

// Local is the snapshot that the cache holds of a revision, its folder and
// commit: that which the revision had when it was last downloaded or, where the
// cache does not say, the only one there is. Files may be missing from it.
func (c *Client) Local(r Repo) (dir, commit string, ok bool) {
	rev := r.revision()
	if isCommit(rev) {
		commit = rev
	} else if !filepath.IsLocal(filepath.FromSlash(rev)) {
		return "", "", false
	} else if raw, err := os.ReadFile(filepath.Join(c.dir(r.ID), "refs", filepath.FromSlash(rev))); err == nil {
		commit = strings.TrimSpace(string(raw))
	} else if all, err := os.ReadDir(filepath.Join(c.dir(r.ID), "snapshots")); err == nil && len(all) == 1 && rev == "main" {
		commit = all[0].Name()
	}
	if commit == "" || !filepath.IsLocal(commit) {
		return "", "", false
	}
	dir = c.Snapshot(r.ID, commit)
	info, err := os.Stat(dir)
	return dir, commit, err == nil && info.IsDir()
}

// answerError is an answer of the server that is no success.
type answerError struct {
	status int
	code   string // X-Error-Code
	text   string // X-Error-Message
	retry  string // Retry-After
}

func (e *answerError) Error() string {
	s := fmt.Sprintf("it answered %d %s", e.status, http.StatusText(e.status))
	if e.text != "" {
		s += ": " + e.text
	}
	return s
}

func newAnswerError(resp *http.Response) *answerError {
	text := resp.Header.Get("X-Error-Message")
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	return &answerError{resp.StatusCode, resp.Header.Get("X-Error-Code"), text, resp.Header.Get("Retry-After")}
}

// temporary reports whether the same request may succeed later.
func temporary(err error) bool {
	var answer *answerError
	if errors.As(err, &answer) {
		return answer.status >= 500 || answer.status == http.StatusTooManyRequests || answer.status == http.StatusRequestTimeout
	}
	var write *writeError
	if errors.As(err, &write) {
		return false
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.IsTemporary && !dns.IsNotFound
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return false // nobody listens there: say so at once
	}
	return true
}

// explain says what to do about an error of a request about r.
func (c *Client) explain(r Repo, err error) error {
	var answer *answerError
	var dial *net.OpError
	switch {
	case errors.As(err, &answer):
	case errors.As(err, &dial) && dial.Op == "dial":
		return fmt.Errorf("%s cannot be reached (%w); connect this machine, name a mirror in HF_ENDPOINT, or give a local folder as the source", c.Host(), dial)
	default:
		return err
	}
	token := "HF_TOKEN is not set"
	if c.Token != "" {
		token = "the token in use may not read it"
	}
	page := c.Endpoint + "/" + r.ID
	switch {
	case answer.code == "GatedRepo":
		return fmt.Errorf("the model %s is gated, and %s: accept its terms at %s, make a token at %s/settings/tokens, and set HF_TOKEN", r.ID, token, page, c.Endpoint)
	case answer.code == "RevisionNotFound":
		return fmt.Errorf("the model %s has no revision %q; see %s/tree/main for its branches and tags", r.ID, r.revision(), page)
	case answer.code == "RepoNotFound" || answer.status == http.StatusNotFound && answer.code == "":
		return fmt.Errorf("%s has no model %s, or it is private and %s: check the name at %s, and set HF_TOKEN if it is private", c.Host(), r.ID, token, page)
	case answer.status == http.StatusUnauthorized && c.Token != "":
		return fmt.Errorf("%s does not accept the token in HF_TOKEN (or that which hf auth login stored): make a new one at %s/settings/tokens", c.Host(), c.Endpoint)
	case answer.status == http.StatusUnauthorized || answer.status == http.StatusForbidden:
		return fmt.Errorf("the model %s may not be read, and %s: see %s, and set HF_TOKEN", r.ID, token, page)
	}
	return fmt.Errorf("%s: %w", c.Host(), err)
}
