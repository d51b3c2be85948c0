package cache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The test binary runs itself as other processes: CACHE_TEST_ROLE says what to
// do with the cache at CACHE_TEST_DIR.
func TestMain(m *testing.M) {
	role := os.Getenv("CACHE_TEST_ROLE")
	if role == "" {
		os.Exit(m.Run())
	}
	if err := playRole(role, os.Getenv("CACHE_TEST_DIR")); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func playRole(role, dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, Options{Dir: dir, Command: "role " + role, Wait: 5 * time.Second})
	if err != nil {
		return err
	}
	switch role {
	case "hold": // until stdin ends
		fmt.Println("ready")
		bufio.NewReader(os.Stdin).ReadString('\n')
		return s.Close()
	case "visit": // add one record and one ledger entry
		if err := s.Commit(testRecord(7000)); err != nil {
			return err
		}
		if err := s.Bucket("ledger").Put(map[string][]byte{"visitor": []byte("was here")}); err != nil {
			return err
		}
		return s.Close()
	case "write": // records, blobs, ledger, until killed; says what is done
		w, err := s.Blobs().Create()
		if err != nil {
			return err
		}
		if _, err := w.Write(make([]byte, 1<<20)); err != nil { // never committed
			return err
		}
		for i := 0; ; i++ {
			if _, err := s.Blobs().Put(testBlob(i)); err != nil {
				return err
			}
			if err := s.Commit(testRecord(i)); err != nil {
				return err
			}
			if err := s.Bucket("ledger").Put(map[string][]byte{strconv.Itoa(i): []byte("paid")}); err != nil {
				return err
			}
			if err := s.SaveRun(&Run{StudyID: "study", State: "running", Started: time.Now()}); err != nil {
				return err
			}
			fmt.Println("done", i)
		}
	}
	return errors.New("no such role")
}

func startRole(t *testing.T, role, dir string) (*exec.Cmd, *bufio.Scanner, func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CACHE_TEST_ROLE="+role, "CACHE_TEST_DIR="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewScanner(out), func() { in.Close() }
}

func testBlob(i int) []byte { return []byte(strings.Repeat(fmt.Sprintf("blob %d\n", i), 1000)) }

func testRecord(i int) *Record {
	blob := testBlob(i)
	inline := []byte(fmt.Sprintf("score %d", i))
	return &Record{
		Key:     Sum([]byte(fmt.Sprint("key ", i))),
		Address: fmt.Sprintf("r1/%d/kmeans/10/train", i),
		Kind:    "train",
		Lines:   []Line{{"task", "train", ""}, {"clusters", strconv.Itoa(i), "studies/r1.hcl:31"}, {"odd", "a\nb<>&\"\\ü", ""}},
		Outputs: []Output{
			{Name: "model", Digest: Sum(blob), Size: int64(len(blob))},
			{Name: "score", Digest: Sum(inline), Size: int64(len(inline)), Inline: inline},
			{Name: "empty", Digest: Sum(nil), Inline: []byte{}},
		},
		Started:  time.Unix(1700000000, int64(i)).UTC(),
		Finished: time.Unix(1700000001, 5).UTC(),
		Host:     "host", Backend: "cpu gonum",
		Info: map[string]string{"iterations": "12"},
	}
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	return openWith(t, Options{Dir: dir, Command: "test"})
}

func openWith(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func reader(t *testing.T, dir string) *Reader {
	t.Helper()
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// edit changes the bytes of a file in place, read-only or not.
func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.Chmod(path, 0o644))
	must(t, os.WriteFile(path, change(data), 0o644))
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b = append([]byte(nil), b...)
		b[(at+len(b))%len(b)] ^= 0x40
		return b
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	m, err := filepath.Glob(pattern)
	must(t, err)
	return m
}

// clock is a settable Options.Now.
type clock struct{ ahead time.Duration }

func (c *clock) now() time.Time { return time.Now().Add(c.ahead) }
