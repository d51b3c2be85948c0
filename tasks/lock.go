package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"clusterflow/internal/hub"
	"clusterflow/studies"
)

// Lock keeps what the hub's branches and tags stood for when a study was first
// applied, so that it goes on with the same weights when they move. It lies
// beside the study, STUDY.lock.json, and is meant to be kept with it.
type Lock struct {
	Models map[string]LockedModel `json:"models"` // by "org/name@revision"

	path string
	was  []byte // the file's content
}

// LockedModel is one revision of a model on the hub.
type LockedModel struct {
	Commit  string                `json:"commit"`
	Weights map[string]LockedFile `json:"weights,omitempty"` // where the hub was asked; by file
}

// LockedFile is what identifies the content of a file.
type LockedFile struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func lockName(r hub.Repo) string { return r.String() }

// readLock reads the lock of a study; none is an empty one.
func readLock(study *studies.Study) (*Lock, error) {
	l := &Lock{Models: map[string]LockedModel{}, path: strings.TrimSuffix(study.File, filepath.Ext(study.File)) + ".lock.json"}
	raw, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, l)
	}
	if err != nil {
		return nil, fmt.Errorf("the lock file %s: %w; restore it, or remove it to take the revisions as they are now", l.path, err)
	}
	for name, m := range l.Models {
		if m.Commit == "" {
			return nil, fmt.Errorf("the lock file %s: %s has no commit; remove it to take the revision as it is now", l.path, name)
		}
	}
	if l.Models == nil {
		l.Models = map[string]LockedModel{}
	}
	l.was = raw
	return l, nil
}

// listing is the list of weights that the lock keeps, nil if it keeps none.
func (m LockedModel) listing(r hub.Repo) *hub.Listing {
	if len(m.Weights) == 0 {
		return nil
	}
	l := &hub.Listing{Repo: hub.Repo{ID: r.ID, Revision: m.Commit}, Commit: m.Commit}
	for _, name := range sortedKeys(m.Weights) {
		f := m.Weights[name]
		if f.SHA256 == "" || !filepath.IsLocal(name) {
			return nil
		}
		l.Files = append(l.Files, hub.File{Name: name, Size: f.Size, SHA256: f.SHA256})
	}
	return l
}

// pin notes the commit of a model from the hub.
func (l *Lock) pin(m *studies.Model, c *checkpoint) {
	if c.commit == "" {
		return
	}
	name := lockName(hub.Repo{ID: m.Source.V, Revision: m.Revision.V})
	entry := LockedModel{Commit: c.commit}
	if had := l.Models[name]; had.Commit == c.commit {
		entry.Weights = had.Weights
	}
	if c.list != nil {
		entry.Weights = map[string]LockedFile{}
		for _, f := range c.list.Files {
			if f.SHA256 == "" {
				entry.Weights = nil
				break
			}
			entry.Weights[f.Name] = LockedFile{f.Size, f.SHA256}
		}
	}
	l.Models[name] = entry
}

// Save writes the lock if it says anything new.
func (l *Lock) Save() error {
	if len(l.Models) == 0 {
		return nil
	}
	raw, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	if raw = append(raw, '\n'); bytes.Equal(raw, l.was) {
		return nil
	}
	temporary := fmt.Sprintf("%s.%d", l.path, os.Getpid())
	if err = os.WriteFile(temporary, raw, 0o666); err == nil {
		err = os.Rename(temporary, l.path)
	}
	if err != nil {
		os.Remove(temporary)
		return fmt.Errorf("keeping the revisions of models: %w", err)
	}
	l.was = raw
	return nil
}
