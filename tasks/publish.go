package tasks

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"clusterflow/cache"
)

// published is the list of files that Publish wrote to a report's directory,
// kept there so that files of earlier results can be taken away again.
const published = ".clusterflow-report"

// Publish brings a report's directory in line with the record of its node:
// missing and changed files are written, each at once, and files that an
// earlier Publish wrote and that the report no longer has are removed. Files of
// others stay. It returns the path of the page.
func Publish(blobs *cache.Blobs, record *cache.Record, dir string) (string, error) {
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
	before := readPublished(root)
	if err := writeFile(root, published, strings.NewReader(strings.Join(union(before, names), "\n")+"\n")); err != nil {
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
		}
	}
	if err := writeFile(root, published, strings.NewReader(strings.Join(names, "\n")+"\n")); err != nil {
		return "", fmt.Errorf("publishing the report to %s: %w", dir, err)
	}
	return filepath.Join(dir, "index.html"), nil
}

func readPublished(root *os.Root) []string {
	raw, err := root.ReadFile(published)
	if err != nil {
		return nil
	}
	return strings.Fields(string(raw))
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// publishFile writes one output unless the directory has it already.
func publishFile(root *os.Root, blobs *cache.Blobs, o cache.Output) error {
	name := filepath.FromSlash(o.Name)
	if info, err := root.Stat(name); err == nil && info.Mode().IsRegular() && info.Size() == o.Size {
		if have, err := root.ReadFile(name); err == nil && cache.Sum(have) == o.Digest {
			return nil
		}
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
