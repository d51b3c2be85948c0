package llm

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
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
	cache, err := hubCache()
	if err != nil {
		return "", err
	}
	repo := filepath.Join(cache, "models--"+strings.ReplaceAll(source, "/", "--"))
	if _, err := os.Stat(repo); err != nil {
		return "", fmt.Errorf("there is no directory %s, and no model of that name in the Hugging Face cache %s; downloading comes with a later release: until then give a local directory with config.json, the safetensors and tokenizer.json, or put the model into that cache with Hugging Face's own tools", source, cache)
	}
	snapshots := filepath.Join(repo, "snapshots")
	if ref, err := os.ReadFile(filepath.Join(repo, "refs", "main")); err == nil {
		if name := strings.TrimSpace(string(ref)); filepath.IsLocal(name) {
			dir := filepath.Join(snapshots, name)
			if _, err := os.Stat(dir); err == nil {
				return dir, nil
			}
		}
	}
	entries, err := os.ReadDir(snapshots)
	if err != nil || len(entries) != 1 {
		return "", fmt.Errorf("the Hugging Face cache holds %s without a snapshot of its main branch, under %s; download it again or give the directory of the snapshot", source, snapshots)
	}
	return filepath.Join(snapshots, entries[0].Name()), nil
}

// hubCache returns the directory of the Hugging Face cache, by the rules of
// huggingface_hub.
func hubCache() (string, error) {
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"} {
		if dir := os.Getenv(name); dir != "" {
			return dir, nil
		}
	}
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return filepath.Join(dir, "hub"), nil
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "huggingface", "hub"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("looking for the Hugging Face cache: %w", err)
	}
	return filepath.Join(home, ".cache", "huggingface", "hub"), nil
}
