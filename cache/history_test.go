package cache

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestHistorySurvivesTornLines(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "runs"), 0o777); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	add := func(id, text string) {
		t.Helper()
		if err := AppendHistory(dir, Past{StudyID: id, User: "ada", Started: at, Finished: at, Error: text, Counts: map[string]int{"ran": 3}}); err != nil {
			t.Fatal(err)
		}
	}
	spoil := func(text string) {
		t.Helper()
		f, err := os.OpenFile(historyPath(dir), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	read := func(id string) ([]string, int) {
		t.Helper()
		r, err := OpenReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		past, bad, err := r.History(id)
		if err != nil {
			t.Fatal(err)
		}
		var errs []string
		for _, p := range past {
			if p.User != "ada" || !p.Started.Equal(at) || p.Counts["ran"] != 3 {
				t.Errorf("read back %+v", p)
			}
			errs = append(errs, p.Error)
		}
		return errs, bad
	}

	if got, bad := read("a"); got != nil || bad != 0 {
		t.Errorf("without a file: %v, %d bad", got, bad)
	}
	add("a", "first\nline")
	add("b", "of another study")
	spoil(`{"study_id":"a","error":"half a li`)
	if got, bad := read("a"); !slices.Equal(got, []string{"first\nline"}) || bad != 0 {
		t.Errorf("while a line is being written: %q, %d bad", got, bad)
	}
	add("a", "second")
	spoil("\x00\x00\x00\nnull\n{}\n")
	add("a", strings.Repeat("ä", pastErrorLimit))
	got, bad := read("a")
	if len(got) != 3 || got[1] != "second" || len(got[2]) > pastErrorLimit+len("…") || !strings.HasSuffix(got[2], "ä…") {
		t.Errorf("after torn lines: %.200q", got)
	}
	if bad != 4 {
		t.Errorf("%d bad lines, want 4: the torn one, zeros, null and one without a study", bad)
	}
}

// FuzzHistory: whatever lies in the file, a line that is appended is read back
// as the last one.
func FuzzHistory(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("\n\n"))
	f.Add([]byte(`{"study_id":"a","exit":0}` + "\n" + `{"study_id":"a"`))
	f.Add([]byte("\x00\xff{}[]null"))
	f.Fuzz(func(t *testing.T, before []byte) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "runs"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(historyPath(dir), before, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := AppendHistory(dir, Past{StudyID: "mine", Exit: 42}); err != nil {
			t.Fatal(err)
		}
		r, err := OpenReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		past, _, err := r.History("mine")
		if err != nil || len(past) == 0 || past[len(past)-1].Exit != 42 {
			t.Fatalf("after appending: %v, %v", past, err)
		}
	})
}
