package llm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"clusterflow/internal/hub"
)

// repoID is what names a model on the Hugging Face hub.
var repoID = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$`)
})

// findSource returns the directory that holds a checkpoint: source itself, or
// the snapshot of the hub id source in the local Hugging Face cache.
func findSource(source string) (string, error) {
	if stat, err := os.Stat(source); err == nil {
		if !stat.IsDir() {
			return "", fmt.Errorf("%s is a file; give the directory that holds config.json", source)
		}
		return source, nil
	}
	if !repoID().MatchString(source) {
		return "", fmt.Errorf("there is no directory %s", source)
	}
	c, err := hub.FromEnv(os.Getenv)
	if err != nil {
		return "", err
	}
	dir, _, ok := c.Local(hub.Repo{ID: source})
	if !ok {
		return "", fmt.Errorf("there is no directory %s, and no snapshot of a model of that name in the Hugging Face cache %s; a study with this source downloads it", source, c.Cache)
	}
	return dir, nil
}

// OneWeightFile is the name of the file with all weights, where they are in one.
const OneWeightFile = "model.safetensors"

// The files of a checkpoint.
const (
	configName          = "config.json"
	tokenizerName       = "tokenizer.json"
	tokenizerConfigName = "tokenizer_config.json"
	weightsName         = OneWeightFile
	indexName           = weightsName + ".index.json"
)

// DescriptionFiles are the small files that say what a checkpoint is, of which
// only the first two must be there. The last belongs to weights in several files.
var DescriptionFiles = []string{configName, tokenizerName, tokenizerConfigName, indexName}

// WeightFiles returns the names of the files that hold, or should hold, the
// weights of the checkpoint in dir, sorted: one file, if that is there, else
// those that the index lists, else the one file after all.
func WeightFiles(dir string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(dir, weightsName)); err == nil {
		return []string{weightsName}, nil
	}
	byFile, err := readIndex(filepath.Join(dir, indexName))
	if errors.Is(err, fs.ErrNotExist) {
		return []string{weightsName}, nil
	}
	return sortedKeys(byFile), err
}
