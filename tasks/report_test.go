package tasks_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"clusterflow/cache"
	"clusterflow/tasks"
)

func publish(a *applied, dir string) (string, error) {
	return tasks.Publish(a.store.Blobs(), a.records["report"], "s", dir)
}

// The report of a study does not hang on the order of its blocks, nor on where
// it lies.
func TestReportOfReorderedStudy(t *testing.T) {
	dir, _ := threeGroups(t)
	text := strings.Replace(scriptedStudy("http://127.0.0.1:1/v1", "", 1), "model    = \"scripted\"\n  base_url = \"http://127.0.0.1:1/v1\"", `provider = "lexical"`, 1)
	b := newBench(t)
	first := b.apply(dir, text)
	at := strings.Index(text, "evaluator \"e\"")
	moved := t.TempDir()
	if err := os.CopyFS(moved, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for name, again := range map[string]*applied{
		"in the same cache": b.apply(moved, "# the last comes first\n"+text[at:]+text[:at]),
		"in another":        newBench(t).apply(moved, text[at:]+text[:at]),
	} {
		if name == "in the same cache" && len(again.ran) > 0 {
			t.Errorf("ran %v", again.ran)
		}
		was, now := first.records["report"].Outputs, again.records["report"].Outputs
		if !slices.EqualFunc(was, now, func(a, b cache.Output) bool { return a.Name == b.Name && a.Digest == b.Digest }) {
			t.Errorf("%s: other files, or other content", name)
		}
	}
	for _, o := range first.records["report"].Outputs {
		raw := first.output("report", o.Name)
		if bytes.Contains(raw, []byte(dir)) {
			t.Errorf("%s names the folder of the study", o.Name)
		}
	}
}

// fakeReport is a record of a report with some files.
func fakeReport(t testing.TB, blobs *cache.Blobs, files map[string]string) *cache.Record {
	t.Helper()
	r := &cache.Record{Address: "report"}
	for _, name := range sortedKeys(files) {
		o := cache.Output{Name: name, Digest: cache.Sum([]byte(files[name])), Size: int64(len(files[name]))}
		if len(files[name]) > 20 { // as large ones
			if _, err := blobs.Put([]byte(files[name])); err != nil {
				t.Fatal(err)
			}
		} else {
			o.Inline = []byte(files[name])
		}
		r.Outputs = append(r.Outputs, o)
	}
	return r
}

// tree lists the files of a folder with their content, without Publish's own.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".clusterflow") {
			return err
		}
		raw, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[filepath.ToSlash(rel)] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func holds(t testing.TB, dir string, want map[string]string) {
	t.Helper()
	got := tree(t, dir)
	for name, content := range want {
		if g, ok := got[name]; !ok || g != content {
			t.Errorf("%s holds %q (there: %v), want %q", name, g, ok, content)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is there", name)
		}
	}
}

func TestPublish(t *testing.T) {
	b := newBench(t)
	blobs := b.store.Blobs()
	dir := filepath.Join(t.TempDir(), "deep", "out")
	long := strings.Repeat("a long file ", 9)
	one := map[string]string{"index.html": "<html>", "vars/a.json": long, "vars/two words.json": "2", "figures/f.svg": long + "f"}
	put := func(files map[string]string) {
		t.Helper()
		page, err := tasks.Publish(blobs, fakeReport(t, blobs, files), "s", dir)
		if err != nil {
			t.Fatal(err)
		}
		if page != filepath.Join(dir, "index.html") {
			t.Errorf("the page is %s", page)
		}
	}
	put(one)
	holds(t, dir, one)

	// Whole files are left alone; damaged and missing ones are made again.
	before, err := os.Stat(filepath.Join(dir, "vars/a.json"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "index.html", "<wrong")
	if err := os.Remove(filepath.Join(dir, "figures/f.svg")); err != nil {
		t.Fatal(err)
	}
	put(one)
	holds(t, dir, one)
	if after, err := os.Stat(filepath.Join(dir, "vars/a.json")); err != nil || !os.SameFile(before, after) {
		t.Errorf("a whole file was written again: %v", err)
	}

	// Files of an earlier report go, files of others stay: also one whose
	// name is a part of a name of ours.
	foreign := map[string]string{"notes.txt": "mine", "vars/mine.json": "{}", "words.json": "mine too", "figures/old.svg": "mine"}
	for name, content := range foreign {
		write(t, dir, name, content)
	}
	two := map[string]string{"index.html": "<html>2", "vars/b.json": long}
	put(two)
	want := map[string]string{}
	for name, content := range foreign {
		want[name] = content
	}
	for name, content := range two {
		want[name] = content
	}
	holds(t, dir, want)
	put(map[string]string{"index.html": "3", "deep/er/x.json": "x"})
	put(two)
	if _, err := os.Stat(filepath.Join(dir, "deep")); err == nil {
		t.Error("an empty folder of an earlier report is left")
	}
	holds(t, dir, want)

	// What was published in part is known as ours: here one blob is missing.
	three := fakeReport(t, blobs, map[string]string{"a first.json": "1", "vars/b.json": long})
	three.Outputs = append(three.Outputs, cache.Output{Name: "z.json", Digest: cache.Sum([]byte("gone")), Size: 4})
	if _, err := tasks.Publish(blobs, three, "s", dir); err == nil || !strings.Contains(err.Error(), "z.json") {
		t.Errorf("a missing blob: %v", err)
	}
	put(map[string]string{"index.html": "<html>3"})
	delete(want, "vars/b.json")
	want["index.html"] = "<html>3"
	holds(t, dir, want)
}

// Publish writes nothing and removes nothing outside of its directory, neither
// by a name nor through a link, nor because its own list says so.
func TestPublishStaysInside(t *testing.T) {
	b := newBench(t)
	blobs := b.store.Blobs()
	for _, name := range []string{"../out.txt", "/tmp/out.txt", "a/../../out.txt", ""} {
		dir := filepath.Join(t.TempDir(), "dir")
		if _, err := tasks.Publish(blobs, fakeReport(t, blobs, map[string]string{name: "x"}), "s", dir); err == nil {
			t.Errorf("%q was published", name)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: the directory was made", name)
		}
	}

	root := t.TempDir()
	dir, outside := filepath.Join(root, "dir"), filepath.Join(root, "outside")
	kept := map[string]string{"old.json": "mine", "index.html": "mine"}
	for name, content := range kept {
		write(t, outside, name, content)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "vars")); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if _, err := tasks.Publish(blobs, fakeReport(t, blobs, map[string]string{"index.html": "<html>", "vars/new.json": "x"}), "s", dir); err == nil {
		t.Error("a file was published through a link that leads out")
	}
	holds(t, outside, kept)

	// A stale file of ours behind such a link, and a list that somebody edited.
	write(t, dir, ".clusterflow-report", "s\nindex.html\nvars/old.json\n../outside/index.html\n"+filepath.Join(outside, "old.json")+"\n")
	if _, err := tasks.Publish(blobs, fakeReport(t, blobs, map[string]string{"index.html": "<html>"}), "s", dir); err == nil {
		t.Error("a file behind a link that leads out was taken for a stale one of ours")
	}
	holds(t, outside, kept)

	// A link in place of a file of ours.
	linked := filepath.Join(root, "linked")
	if err := os.MkdirAll(linked, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "index.html"), filepath.Join(linked, "index.html")); err != nil {
		t.Fatal(err)
	}
	if _, err := tasks.Publish(blobs, fakeReport(t, blobs, map[string]string{"index.html": "<html>"}), "s", linked); err == nil {
		t.Error("a link of somebody's was replaced")
	}
	holds(t, outside, kept)
}

// What somebody else put where a file of the report belongs is not
// overwritten, and a directory holds the report of one study.
func TestPublishOverwritesNobody(t *testing.T) {
	b := newBench(t)
	blobs := b.store.Blobs()
	dir := t.TempDir()
	mine := map[string]string{"scores.csv": "my own scores"}
	write(t, dir, "scores.csv", mine["scores.csv"])
	files := map[string]string{"index.html": "<html>", "scores.csv": "scores"}
	if _, err := tasks.Publish(blobs, fakeReport(t, blobs, files), "one", dir); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "scores.csv")) {
		t.Errorf("a foreign file in the way: %v", err)
	}
	holds(t, dir, mine)
	if err := os.Remove(filepath.Join(dir, "scores.csv")); err != nil {
		t.Fatal(err)
	}
	if _, err := tasks.Publish(blobs, fakeReport(t, blobs, files), "one", dir); err != nil {
		t.Error(err)
	}
	holds(t, dir, files)
	if _, err := tasks.Publish(blobs, fakeReport(t, blobs, map[string]string{"index.html": "<other>"}), "two", dir); err == nil || !strings.Contains(err.Error(), `"one"`) {
		t.Errorf("another study's directory: %v", err)
	}
	holds(t, dir, files)
}
