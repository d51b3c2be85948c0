package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"clusterflow/internal/linalg"
)

// TestExportNamesTellTheFormat takes out every output of a study and reads each
// file as what its name says.
func TestExportNamesTellTheFormat(t *testing.T) {
	b := newBench(t)
	b.edit(`["spherical_kmeans"]`, `["spherical_kmeans", "pca_kmeans"]`)
	b.must(0, `^29 run`, "apply", "--quiet", "study.hcl")
	var plan struct {
		Nodes []struct{ Address, Kind string }
	}
	if err := json.Unmarshal([]byte(b.run("plan", "--json", "study.hcl").out), &plan); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, n := range plan.Nodes {
		dir := filepath.Join("out", filepath.FromSlash(n.Address))
		b.must(0, ``, "show", "study.hcl", n.Address, "--export", dir)
		err := filepath.WalkDir(filepath.Join(b.dir, dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			seen[filepath.Ext(path)]++
			switch filepath.Ext(path) {
			case ".json":
				if !json.Valid(raw) {
					t.Errorf("%s is no JSON", path)
				}
			case ".jsonl":
				for line := range bytes.Lines(raw) {
					if !json.Valid(line) {
						t.Errorf("%s has a line that is no JSON: %.80s", path, line)
						break
					}
				}
				if len(raw) == 0 {
					t.Errorf("%s is empty", path)
				}
			case ".safetensors":
				f, err := linalg.OpenSafetensors(path)
				if err != nil {
					t.Error(err)
					break
				}
				if len(f.Names()) == 0 {
					t.Errorf("%s holds no tensors", path)
				}
				return f.Close()
			case ".csv", ".html", ".svg":
				if n.Kind != "report" {
					t.Errorf("%s of a %s node", path, n.Kind)
				}
			default:
				t.Errorf("%s: nothing is known of such names", path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, ext := range []string{".json", ".jsonl", ".safetensors", ".html"} {
		if seen[ext] == 0 {
			t.Errorf("no %s file was made: %v", ext, seen)
		}
	}
}
