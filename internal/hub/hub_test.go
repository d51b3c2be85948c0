package hub_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"clusterflow/internal/hub"
	"clusterflow/internal/hub/hubtest"
)

const id = "org/model"

var weights = func() []byte {
	b := make([]byte, 1<<20)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}()

var names = []string{"config.json", "model.safetensors"}

// world is a hub with one model, and a client with an empty cache.
func world(t *testing.T) (*hubtest.Server, *hub.Client) {
	t.Helper()
	s := hubtest.New()
	t.Cleanup(s.Close)
	s.Repos[id] = map[string][]byte{"config.json": []byte(`{"model_type": "qwen2"}`), "model.safetensors": weights, "README.md": []byte("no")}
	return s, client(t, s, t.TempDir())
}

func client(t *testing.T, s *hubtest.Server, home string, more ...string) *hub.Client {
	t.Helper()
	env := map[string]string{"HF_ENDPOINT": s.URL + "/", "HF_HOME": home}
	for _, kv := range more {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	c, err := hub.FromEnv(func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	c.Pause, c.Stall = time.Millisecond, 300*time.Millisecond
	return c
}

func list(t *testing.T, c *hub.Client) *hub.Listing {
	t.Helper()
	l, err := c.List(context.Background(), hub.Repo{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// holds checks that the cache has the whole model, as huggingface_hub lays it out.
func holds(t *testing.T, c *hub.Client) {
	t.Helper()
	repo := filepath.Join(c.Cache, "models--org--model")
	for name, want := range map[string][]byte{"config.json": []byte(`{"model_type": "qwen2"}`), "model.safetensors": weights} {
		path := filepath.Join(repo, "snapshots", hubtest.Commit, name)
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s holds %d bytes, %v", name, len(got), err)
		}
		if to, err := os.Readlink(path); err != nil || !strings.HasPrefix(to, "../../blobs/") {
			t.Errorf("%s leads to %q, %v", name, to, err)
		}
	}
	if ref, err := os.ReadFile(filepath.Join(repo, "refs", "main")); err != nil || string(ref) != hubtest.Commit {
		t.Errorf("refs/main holds %q, %v", ref, err)
	}
	left, _ := filepath.Glob(filepath.Join(repo, "blobs", "*.incomplete"))
	if len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// gets counts the requests for the weights' content, and their ranges.
func gets(s *hubtest.Server) (n int, ranges []string) {
	for _, line := range s.Log() {
		if path, at, _ := strings.Cut(strings.TrimPrefix(line, "GET "), " "); path == "/"+id+"/model.safetensors" {
			n++
			ranges = append(ranges, at)
		}
	}
	return n, ranges
}

func TestFetch(t *testing.T) {
	s, c := world(t)
	s.Token = "hf_secret"
	c.Token = s.Token
	l := list(t, c)
	if f, _ := l.File("model.safetensors"); l.Commit != hubtest.Commit || f.Size != 1<<20 || len(f.SHA256) != 64 {
		t.Fatalf("the list is %+v", l)
	}
	var last, total int64
	dir, err := c.Fetch(context.Background(), l, names, func(done, of int64) {
		if done < last {
			t.Errorf("%d bytes after %d", done, last)
		}
		last, total = done, of
	})
	if err != nil {
		t.Fatal(err)
	}
	holds(t, c)
	if want := int64(1<<20 + 23); last != want || total != want {
		t.Errorf("progress ended at %d of %d, want %d", last, total, want)
	}
	if dir != c.Snapshot(id, hubtest.Commit) {
		t.Errorf("it lies in %s", dir)
	}
	if s.Leaked() {
		t.Error("the storage server saw the token")
	}
	if local, commit, ok := c.Local(hub.Repo{ID: id}); !ok || commit != hubtest.Commit || local != dir {
		t.Errorf("the cache knows the commit %q in %s", commit, local)
	}
	// What is there is not asked for again.
	before := len(s.Log())
	if _, err := c.Fetch(context.Background(), l, names, nil); err != nil || len(s.Log()) != before {
		t.Errorf("a second time: %v, requests %v", err, s.Log()[before:])
	}
}

func TestFetchAccidents(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup func(*hubtest.Server)
		gets  int
		last  string // range of the last request
	}{
		{"cut, then resumed", func(s *hubtest.Server) { s.Cut["model.safetensors"] = 300_000 }, 2, "bytes=300000-"},
		{"cut four times", func(s *hubtest.Server) { s.Cut["model.safetensors"], s.Cuts = 200_000, 4 }, 5, "bytes=800000-"},
		{"cut, and the server knows no ranges", func(s *hubtest.Server) { s.Cut["model.safetensors"], s.NoRange = 300_000, true }, 2, "bytes=300000-"},
		{"a server that hangs", func(s *hubtest.Server) { s.Hang["model.safetensors"] = true }, 2, "bytes=524288-"},
		{"a slow server", func(s *hubtest.Server) { s.Wait = 20 * time.Millisecond }, 1, ""},
		{"busy for a while", func(s *hubtest.Server) { s.Refuse = []int{503, 429, 502} }, 1, ""},
		{"a list without checksums", func(s *hubtest.Server) { s.NoSums = true }, 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, client := world(t)
			c.setup(s)
			if _, err := client.Fetch(context.Background(), list(t, client), names, nil); err != nil {
				t.Fatal(err)
			}
			holds(t, client)
			n, ranges := gets(s)
			if n != c.gets || ranges[n-1] != c.last {
				t.Errorf("%d requests with ranges %q, want %d and at last %q", n, ranges, c.gets, c.last)
			}
		})
	}
}

// What a killed process left is gone on with; if it was damaged, all is loaded anew.
func TestFetchGoesOn(t *testing.T) {
	for _, c := range []struct {
		name   string
		left   []byte
		ranges []string
	}{
		{"sound", weights[:400_000], []string{"bytes=400000-"}},
		{"damaged", append([]byte("???"), weights[:400_000]...), []string{"bytes=400003-", ""}},
		{"whole", weights, nil},
		{"too long", append(bytes.Clone(weights), 1), []string{""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, client := world(t)
			l := list(t, client)
			f, _ := l.File("model.safetensors")
			blobs := filepath.Join(client.Cache, "models--org--model", "blobs")
			if err := errors.Join(os.MkdirAll(blobs, 0o777), os.WriteFile(filepath.Join(blobs, f.SHA256+".incomplete"), c.left, 0o666)); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Fetch(context.Background(), l, names, nil); err != nil {
				t.Fatal(err)
			}
			holds(t, client)
			if _, ranges := gets(s); !slices.Equal(ranges, c.ranges) {
				t.Errorf("ranges %q, want %q", ranges, c.ranges)
			}
		})
	}
}

// A wrong checksum is no file, whatever was there before.
func TestFetchChecksum(t *testing.T) {
	s, c := world(t)
	s.Flip["model.safetensors"] = 2
	l := list(t, c)
	_, err := c.Fetch(context.Background(), l, names, nil)
	if err == nil || !strings.Contains(err.Error(), "has the checksum") || !strings.Contains(err.Error(), "model.safetensors of org/model@main") {
		t.Fatalf("a wrong checksum: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.Snapshot(id, hubtest.Commit), "model.safetensors")); err == nil {
		t.Fatal("the file is in the snapshot all the same")
	}
	s.Flip["model.safetensors"] = 0
	if _, err := c.Fetch(context.Background(), l, names, nil); err != nil {
		t.Fatal(err)
	}
	holds(t, c)
	// Of a small file, Git's checksum.
	s, c = world(t)
	s.Flip["config.json"] = 1
	if _, err := c.Fetch(context.Background(), list(t, c), names, nil); err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Fatalf("a wrong checksum of a small file: %v", err)
	}
}

// Processes that want the same files download them once.
func TestFetchTogether(t *testing.T) {
	s, c := world(t)
	s.Wait = 5 * time.Millisecond
	l := list(t, c)
	var wg sync.WaitGroup
	for range 4 {
		other := client(t, s, filepath.Dir(c.Cache))
		wg.Go(func() {
			if _, err := other.Fetch(context.Background(), l, names, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	holds(t, c)
	if n, _ := gets(s); n != 1 {
		t.Errorf("%d downloads of the same file", n)
	}
}

// Interrupted, it leaves what it has, and goes on with that.
func TestFetchInterrupted(t *testing.T) {
	s, c := world(t)
	s.Wait = 2 * time.Millisecond
	l := list(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := c.Fetch(ctx, l, names, func(done, total int64) {
		if done > 200_000 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	if _, err := c.Fetch(context.Background(), l, names, nil); err != nil {
		t.Fatal(err)
	}
	holds(t, c)
	if _, ranges := gets(s); len(ranges) != 2 || !strings.HasPrefix(ranges[1], "bytes=") {
		t.Errorf("ranges %q", ranges)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	s, c := world(t)
	s.Repos["org/gated"], s.Gated["org/gated"], s.Token = s.Repos[id], true, "hf_good"
	fetch := func(c *hub.Client, id, revision string) error {
		l, err := c.List(context.Background(), hub.Repo{ID: id, Revision: revision})
		if err == nil {
			_, err = c.Fetch(context.Background(), l, names, nil)
		}
		return err
	}
	home := filepath.Dir(c.Cache)
	for _, x := range []struct {
		what         string
		client       *hub.Client
		id, revision string
		want         []string
	}{
		{"gated, no token", c, "org/gated", "", []string{"org/gated is gated", "HF_TOKEN is not set", s.URL + "/org/gated", "/settings/tokens"}},
		{"gated, wrong token", client(t, s, home, "HF_TOKEN=hf_bad"), "org/gated", "", []string{"is gated", "the token in use may not read it"}},
		{"missing", c, "org/modle", "", []string{"has no model org/modle, or it is private", "check the name", "HF_TOKEN"}},
		{"no such revision", c, id, "v9", []string{`org/model has no revision "v9"`, "/org/model/tree/main"}},
		{"offline", client(t, s, home, "HF_HUB_OFFLINE=1"), id, "", []string{"HF_HUB_OFFLINE is set"}},
		{"nobody there", client(t, s, home, "HF_ENDPOINT=http://127.0.0.1:1"), id, "", []string{"127.0.0.1:1 cannot be reached", "HF_ENDPOINT", "local folder"}},
	} {
		err := fetch(x.client, x.id, x.revision)
		for _, want := range x.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\nwant %q", x.what, err, want)
			}
		}
		if err != nil && strings.Contains(err.Error(), "hf_bad") {
			t.Errorf("%s: the token is shown", x.what)
		}
	}
	if err := fetch(client(t, s, t.TempDir(), "HF_TOKEN=hf_good"), "org/gated", ""); err != nil {
		t.Errorf("gated, with a token: %v", err)
	}
	// A server that stays broken.
	s.Refuse = slices.Repeat([]int{500}, 5)
	if _, err := c.List(context.Background(), hub.Repo{ID: id}); err == nil || !strings.Contains(err.Error(), "it answered 500") {
		t.Errorf("a broken server: %v", err)
	}
	if _, err := hub.FromEnv(func(k string) string { return map[string]string{"HF_ENDPOINT": "hub.example"}[k] }); err == nil || !strings.Contains(err.Error(), "HF_ENDPOINT") {
		t.Errorf("a wrong HF_ENDPOINT: %v", err)
	}
}

func TestFromEnv(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "token"), []byte("hf_stored\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env             map[string]string
		cache, token    string
		endpoint        string
		offline, inHome bool
	}{
		{map[string]string{"HF_HOME": home}, filepath.Join(home, "hub"), "hf_stored", "https://huggingface.co", false, false},
		{map[string]string{"HF_HOME": home, "HF_TOKEN": "a"}, filepath.Join(home, "hub"), "a", "https://huggingface.co", false, false},
		{map[string]string{"HF_HOME": home, "HF_HUB_CACHE": "/x"}, "/x", "hf_stored", "https://huggingface.co", false, false},
		{map[string]string{"XDG_CACHE_HOME": "/y", "HF_HUB_OFFLINE": "1"}, "/y/huggingface/hub", "", "https://huggingface.co", true, false},
		{map[string]string{"HF_HOME": home, "HF_ENDPOINT": "http://mirror:8080/"}, filepath.Join(home, "hub"), "hf_stored", "http://mirror:8080", false, false},
	} {
		got, err := hub.FromEnv(func(k string) string { return c.env[k] })
		if err != nil || got.Cache != c.cache || got.Token != c.token || got.Endpoint != c.endpoint || got.Offline != c.offline {
			t.Errorf("%v: %+v, %v", c.env, got, err)
		}
	}
}
