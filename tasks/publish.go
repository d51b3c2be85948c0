package tasks

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"clusterflow/cache"
)

// published names the study whose report a directory holds, in its first line,
// and then the files that Publish wrote there, so that those of earlier results
// can be taken away again.
const published = ".clusterflow-report"

// Publish brings the directory of a study's report in line with the record of
// its node: missing and changed files are written, each at once, and files that
// an earlier Publish wrote and that the report no longer has are removed. Files
// of others stay: it is an error if one of them is in the way, or if the
// directory holds the report of another study. It returns the path of the page.
func Publish(blobs *cache.Blobs, record *cache.Record, study, dir string) (string, error) {
	var names []string
	for _, o := range record.Outputs {
		if !filepath.IsLocal(filepath.FromSlash(o.Name)) {
			return "", fmt.Errorf("publishing the report: %q leads out of %s", o.Name, dir)
		}
		names = append(names, o.Name)
	}
	slices.Sort(names)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", fmt.Errorf("publishing the report: %w", err)
	}
	root, err := os.OpenRoot(dir) // no name, and no link, leads out of it
	if err != nil {
		return "", fmt.Errorf("publishing the report: %w", err)
	}
	defer root.Close()
	owner, before := readPublished(root)
	if owner != "" && owner != study {
		return "", fmt.Errorf("publishing the report: %s holds the report of the study %q; give this study another dir in its report block, or remove that folder", dir, owner)
	}
	for _, o := range record.Outputs {
		if !slices.Contains(before, o.Name) && foreign(root, o) {
			return "", fmt.Errorf("publishing the report: %s is in the way, and no report wrote it; move it, or give the report another dir", filepath.Join(dir, filepath.FromSlash(o.Name)))
		}
	}
	if err := writePublished(root, study, union(before, names)); err != nil {
		return "", fmt.Errorf("publishing the report to %s: %w", dir, err)
	}
	for _, o := range record.Outputs {
		if err := publishFile(root, blobs, o); err != nil {
			return "", fmt.Errorf("publishing %s to %s: %w", o.Name, dir, err)
		}
	}
	for _, old := range before {
		if _, found := slices.BinarySearch(names, old); !found && filepath.IsLocal(filepath.FromSlash(old)) {
			if err := root.Remove(filepath.FromSlash(old)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", fmt.Errorf("removing %s of an earlier report: %w", old, err)
			}
			for up := path.Dir(old); up != "." && root.Remove(filepath.FromSlash(up)) == nil; up = path.Dir(up) {
			} // folders that are empty now
		}
	}
	if err := writePublished(root, study, names); err != nil {
		return "", fmt.Errorf("publishing the report to %s: %w", dir, err)
	}
	return filepath.Join(dir, "index.html"), nil
}

func readPublished(root *os.Root) (study string, names []string) {
	raw, err := root.ReadFile(published)
	if err != nil {
		return "", nil
	}
	lines := strings.FieldsFunc(string(raw), func(r rune) bool { return r == '\n' })
	if len(lines) == 0 {
		return "", nil
	}
	return lines[0], lines[1:]
}

func writePublished(root *os.Root, study string, names []string) error {
	return writeFile(root, published, strings.NewReader(study+"\n"+strings.Join(names, "\n")+"\n"))
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// upToDate reports whether the directory has an output as it is.
func upToDate(root *os.Root, o cache.Output) bool {
	name := filepath.FromSlash(o.Name)
	info, err := root.Stat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() != o.Size {
		return false
	}
	have, err := root.ReadFile(name)
	return err == nil && cache.Sum(have) == o.Digest
}

// foreign reports whether something else stands where an output belongs.
func foreign(root *os.Root, o cache.Output) bool {
	_, err := root.Lstat(filepath.FromSlash(o.Name))
	return err == nil && !upToDate(root, o)
}

// publishFile writes one output unless the directory has it already.
func publishFile(root *os.Root, blobs *cache.Blobs, o cache.Output) error {
	name := filepath.FromSlash(o.Name)
	if upToDate(root, o) {
		return nil
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	content := o.Inline
	if content == nil {
		var err error
		if content, err = blobs.ReadAll(o.Digest); err != nil {
			return err
		}
	}
	return writeFile(root, name, strings.NewReader(string(content)))
}

// writeFile replaces a file at once.
func writeFile(root *os.Root, name string, content io.Reader) error {
	temp := name + ".new"
	f, err := root.Create(temp)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, root.Remove(temp))
	}
	return root.Rename(temp, name)
}
