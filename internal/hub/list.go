package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// List asks the hub which files a repository holds at a revision. It stores
// nothing.
func (c *Client) List(ctx context.Context, r Repo) (*Listing, error) {
	var l *Listing
	err := c.again(ctx, func() (progress bool, err error) {
		l, err = c.list(ctx, r)
		return false, err
	})
	if err != nil {
		return nil, c.explain(r, err)
	}
	return l, nil
}

func (c *Client) list(ctx context.Context, r Repo) (*Listing, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Stall)
	defer cancel()
	resp, err := c.do(ctx, http.MethodGet, fmt.Sprintf("%s/api/models/%s/revision/%s?blobs=true", c.Endpoint, r.ID, url.PathEscape(r.revision())), 0)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, newAnswerError(resp)
	}
	var answer struct {
		Commit string `json:"sha"`
		Files  []struct {
			Name string `json:"rfilename"`
			Size *int64 `json:"size"`
			Git  string `json:"blobId"`
			LFS  *struct {
				SHA256 string `json:"sha256"`
				Size   int64  `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	const most = 64 << 20
	if err := json.NewDecoder(io.LimitReader(resp.Body, most)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("its list of the files of %s is no JSON: %w", r, err)
	}
	if !isCommit(answer.Commit) {
		return nil, fmt.Errorf("its list of the files of %s names no commit; is HF_ENDPOINT a hub?", r)
	}
	l := &Listing{Repo: r, Commit: answer.Commit}
	for _, f := range answer.Files {
		file := File{Name: f.Name, Git: strings.ToLower(f.Git), Size: -1}
		if f.Size != nil {
			file.Size = *f.Size
		}
		if f.LFS != nil {
			file.SHA256, file.Git, file.Size = strings.ToLower(f.LFS.SHA256), "", f.LFS.Size
		}
		if filepath.IsLocal(filepath.FromSlash(f.Name)) {
			l.Files = append(l.Files, file)
		}
	}
	return l, nil
}

// Know fills in the sizes and checksums of the named files where the list that
// the server gave lacks them.
func (c *Client) Know(ctx context.Context, l *Listing, names []string) error {
	for _, name := range names {
		for i := range l.Files {
			f := &l.Files[i]
			if f.Name != name || f.Size >= 0 && sound(*f) {
				continue
			}
			err := c.again(ctx, func() (progress bool, err error) { return false, c.head(ctx, l, f) })
			if err != nil {
				return c.explain(l.Repo, err)
			}
		}
	}
	return nil
}

// sound reports whether a checksum is there and of the right form.
func sound(f File) bool {
	return f.SHA256 == "" && isHex(f.Git, 40) || f.Git == "" && isHex(f.SHA256, 64)
}

// head asks for the size and checksum of one file.
func (c *Client) head(ctx context.Context, l *Listing, f *File) error {
	ctx, cancel := context.WithTimeout(ctx, c.Stall)
	defer cancel()
	req, err := c.request(ctx, http.MethodHead, c.fileURL(l, f.Name))
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", "identity") // else the size is that of the compressed file
	here := *c.HTTP
	here.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := here.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return newAnswerError(resp)
	}
	h := resp.Header
	etag, size := h.Get("X-Linked-Etag"), h.Get("X-Linked-Size")
	if etag == "" {
		etag = h.Get("ETag")
	}
	if size == "" {
		size = h.Get("Content-Length")
	}
	etag = strings.ToLower(strings.Trim(strings.TrimPrefix(etag, "W/"), `"`))
	n, err := strconv.ParseInt(size, 10, 64)
	got := File{Name: f.Name, Size: n}
	if len(etag) == 64 {
		got.SHA256 = etag
	} else {
		got.Git = etag
	}
	if err != nil || n < 0 || !sound(got) {
		return fmt.Errorf("it gives no size and checksum of %s (ETag %q, size %q), so what it sends could not be checked", f.Name, etag, size)
	}
	*f = got
	return nil
}

func (c *Client) fileURL(l *Listing, name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return fmt.Sprintf("%s/%s/resolve/%s/%s", c.Endpoint, l.Repo.ID, l.Commit, strings.Join(parts, "/"))
}

func (c *Client) request(ctx context.Context, method, address string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "clusterflow/"+c.Version)
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	return req, nil
}

// do sends a request, for the bytes from a place on if that is not 0.
func (c *Client) do(ctx context.Context, method, address string, from int64) (*http.Response, error) {
	req, err := c.request(ctx, method, address)
	if err != nil {
		return nil, err
	}
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	return c.HTTP.Do(req)
}

// again calls f until it succeeds, fails for good, or has failed several times
// in a row without progress.
func (c *Client) again(ctx context.Context, f func() (progress bool, err error)) error {
	if c.Offline {
		return errors.New("HF_HUB_OFFLINE is set")
	}
	pause := c.Pause
	for left := repetitions; ; {
		progress, err := f()
		if err == nil || !temporary(err) || ctx.Err() != nil {
			if err != nil && ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		if progress {
			left, pause = repetitions, c.Pause
		}
		if left--; left == 0 {
			return fmt.Errorf("%w (%d times in a row; run the command again to go on)", err, repetitions)
		}
		wait := pause
		var answer *answerError
		if errors.As(err, &answer) {
			if s, err := strconv.Atoi(answer.retry); err == nil && s > 0 {
				wait = min(time.Duration(s)*time.Second, time.Minute)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		pause *= 2
	}
}
