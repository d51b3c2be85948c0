package tasks

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"clusterflow/cache"
	"clusterflow/graph"
)

// FileName is the name under which an output is written for people and other
// programs: with the ending that says what it holds.
func FileName(kind, output string) string {
	if kind == kindReport.Name {
		return output // is a path with an ending
	}
	base, _, _ := strings.Cut(output, "/")
	switch base {
	case "order", "info", "score", "made":
		return output + ".json"
	case "sentences", "traces", "shard", "requests", "answers":
		return output + ".jsonl"
	}
	return output + ".safetensors"
}

// Export writes every output of a record into dir under its FileName, each
// file at once, replacing files of those names, and returns the names. Contents
// are verified while they are copied. No name and no link in dir leads out of it.
func Export(blobs *cache.Blobs, record *cache.Record, dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("exporting %s: %w", record.Address, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("exporting %s: %w", record.Address, err)
	}
	defer root.Close()
	var names []string
	for _, o := range record.Outputs {
		name := filepath.FromSlash(FileName(record.Kind, o.Name))
		if err := exportFile(root, blobs, o, name); err != nil {
			return nil, fmt.Errorf("exporting %s of %s to %s: %w", o.Name, record.Address, filepath.Join(dir, name), err)
		}
		names = append(names, name)
	}
	return names, nil
}

func exportFile(root *os.Root, blobs *cache.Blobs, o cache.Output, name string) error {
	if !filepath.IsLocal(name) {
		return errors.New("the name leads out of the folder")
	}
	if info, err := root.Lstat(name); err == nil && info.IsDir() {
		return errors.New("a folder of that name is in the way")
	}
	if folder := path.Dir(filepath.ToSlash(name)); folder != "." {
		if err := root.MkdirAll(filepath.FromSlash(folder), 0o777); err != nil {
			return err
		}
	}
	content, err := OpenOutput(blobs, o)
	if err != nil {
		return err
	}
	defer content.Close()
	return writeFile(root, name, content)
}

// OpenOutput reads an output of a record, verified.
func OpenOutput(blobs *cache.Blobs, o cache.Output) (io.ReadCloser, error) {
	if o.Inline != nil {
		return io.NopCloser(strings.NewReader(string(o.Inline))), nil
	}
	return blobs.Open(o.Digest)
}

// SampleSentences returns n sentences of a record of sentences, evenly spaced
// in file order, and how many there are; all of them if there are no more.
// It is an error if the record holds no sentences.
func SampleSentences(blobs *cache.Blobs, record *cache.Record, n int) ([]Sentence, int, error) {
	o, ok := record.Output("sentences")
	if !ok {
		return nil, 0, fmt.Errorf("%s has no sentences; a node whose address ends in /sentences has", record.Address)
	}
	content, err := OpenOutput(blobs, o)
	if err != nil {
		return nil, 0, err
	}
	defer content.Close()
	var all []Sentence
	dec := json.NewDecoder(bufio.NewReader(content))
	for dec.More() {
		var s Sentence
		if err := dec.Decode(&s); err != nil {
			return nil, 0, fmt.Errorf("reading the sentences of %s: %w", record.Address, err)
		}
		all = append(all, s)
	}
	if n >= len(all) {
		return all, len(all), nil
	}
	out := make([]Sentence, n)
	for i := range out {
		out[i] = all[i*len(all)/n]
	}
	return out, len(all), nil
}

// KindDoc is the description of a node's kind of task.
func KindDoc(n *graph.Node) string {
	for _, k := range Kinds {
		if k.Name == n.Kind() {
			return k.Doc
		}
	}
	return ""
}
