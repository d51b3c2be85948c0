package tasks

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"clusterflow/graph"
	"clusterflow/internal/hub"
	"clusterflow/internal/llm"
	"clusterflow/studies"
)

// checkpoint says where the files of a model are. Of a model on the hub, the
// small ones that describe it are always in the local Hugging Face cache; its
// weights come when a node needs them.
type checkpoint struct {
	source string // as the study names it
	dir    string // folder of its files; the source itself for a built-in model

	hub     *hub.Client  // nil where nothing has to be downloaded
	list    *hub.Listing // sizes and checksums of the weights
	commit  string       // "" unless it comes from the hub
	missing []string     // names of weights that are not in dir

	tokenizer func() (*llm.Tokenizer, error) // reads it once
}

// newCheckpoint is one whose files lie in a folder.
func newCheckpoint(source, dir string) *checkpoint {
	return &checkpoint{
		source: source, dir: dir,
		tokenizer: sync.OnceValues(func() (*llm.Tokenizer, error) { return llm.TokenizerOf(dir) }),
	}
}

// findCheckpoint looks for a model's files: a folder, the Hugging Face cache,
// and only then the hub, which it asks for what the model is and not for its
// weights. A locked revision stands for the commit that it had.
func findCheckpoint(ctx context.Context, m *studies.Model, locked *Lock) (*checkpoint, error) {
	if !m.FromHub() {
		return newCheckpoint(m.Source.V, m.Source.V), nil
	}
	client, err := hub.FromEnv(os.Getenv)
	if err != nil {
		return nil, err
	}
	repo := hub.Repo{ID: m.Source.V, Revision: m.Revision.V}
	lock, isLocked := locked.Models[lockName(repo)]
	local := repo
	if isLocked {
		local.Revision = lock.Commit
	}
	dir, commit, ok := client.Local(local)
	if ok && described(dir) {
		c := newCheckpoint(m.Source.V, dir)
		c.commit = commit
		switch names, err := llm.WeightFiles(dir); {
		case err != nil:
			return nil, err
		case len(missingFrom(dir, names)) == 0:
			return c, nil
		}
		if list := lock.listing(local); isLocked && list != nil {
			c.needs(client, list)
			return c, nil
		}
	}
	if client.Offline {
		return nil, fmt.Errorf("the model %s is not whole in the Hugging Face cache %s, and HF_HUB_OFFLINE forbids to download it", repo, client.Cache)
	}
	list, err := describe(ctx, client, local)
	if err != nil {
		if isLocked {
			err = fmt.Errorf("%w (%s pins %s to commit %.12s)", err, locked.path, repo, lock.Commit)
		}
		return nil, err
	}
	c := newCheckpoint(m.Source.V, client.Snapshot(repo.ID, list.Commit))
	c.commit = list.Commit
	c.needs(client, list)
	return c, nil
}

// needs takes a list of weights and finds out which are not there.
func (c *checkpoint) needs(client *hub.Client, weights *hub.Listing) {
	c.hub, c.list = client, weights
	for _, f := range weights.Files {
		c.missing = append(c.missing, f.Name)
	}
	c.missing = missingFrom(c.dir, c.missing)
}

// described reports whether a folder has what says what its model is.
func described(dir string) bool { return len(missingFrom(dir, llm.DescriptionFiles[:2])) == 0 }

func missingFrom(dir string, names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return fileExists(filepath.Join(dir, name)) })
}

// describe downloads the files that say what a model is, a few megabytes, and
// returns a list of its weights.
func describe(ctx context.Context, client *hub.Client, repo hub.Repo) (*hub.Listing, error) {
	list, err := client.List(ctx, repo)
	if err != nil {
		return nil, err
	}
	has := func(name string) bool { _, ok := list.File(name); return ok }
	var small []string
	for _, name := range llm.DescriptionFiles {
		if has(name) {
			small = append(small, name)
		}
	}
	for _, name := range llm.DescriptionFiles[:2] {
		if !has(name) {
			return nil, fmt.Errorf("the model %s has no %s: it is no language model that transformers saved", repo, name)
		}
	}
	dir, err := client.Fetch(ctx, list, small, nil)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range list.Files {
		if f.Name == llm.OneWeightFile {
			names = []string{f.Name}
		}
	}
	if names == nil {
		if names, err = llm.WeightFiles(dir); err != nil {
			return nil, err
		}
	}
	weights := &hub.Listing{Repo: list.Repo, Commit: list.Commit}
	for _, name := range names {
		if !has(name) {
			hint := ""
			if slices.ContainsFunc(list.Files, func(f hub.File) bool { return strings.HasSuffix(f.Name, ".bin") }) {
				hint = "; pytorch_model.bin is not read here: look for a revision or a conversion with safetensors"
			}
			return nil, fmt.Errorf("the model %s has no %s%s", repo, name, hint)
		}
	}
	if err := client.Know(ctx, list, names); err != nil {
		return nil, err
	}
	var held []string // by Git itself: small, and without a SHA-256
	for _, name := range names {
		f, _ := list.File(name)
		if weights.Files = append(weights.Files, f); f.SHA256 == "" {
			held = append(held, name)
		}
	}
	_, err = client.Fetch(ctx, list, held, nil)
	return weights, err
}

// outline reads what can be known without the weights.
func (c *checkpoint) outline() (*llm.Checkpoint, error) { return llm.Outline(c.dir) }

// open opens the model, and downloads first what is missing of it, with progress
// shown on the jobs that wait for it.
func (c *checkpoint) open(ctx context.Context, jobs ...*graph.Job) (*llm.Checkpoint, error) {
	if missing := missingFrom(c.dir, c.missing); len(missing) > 0 {
		_, err := c.hub.Fetch(ctx, c.list, c.missing, func(done, total int64) {
			for _, j := range jobs {
				j.Progress(graph.Progress{Done: done, Total: total, Unit: "bytes", Note: "of " + c.source + " downloaded"})
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return llm.Open(c.dir)
}

// sources names the files of the checkpoint by their base names: where it lies
// does not matter. Weights that are still to come enter by the checksum that the
// hub gave.
func (c *checkpoint) sources() ([]graph.Source, error) {
	ckpt, err := c.outline()
	if err != nil || ckpt.BuiltinID() != "" {
		return nil, err
	}
	out := sources("checkpoint", ckpt.Files())
	var names []string
	if c.list == nil {
		if names, err = llm.WeightFiles(c.dir); err != nil {
			return nil, err
		}
	} else {
		for _, f := range c.list.Files {
			names = append(names, f.Name)
		}
		slices.Sort(names)
	}
	for _, name := range names {
		s := sources("checkpoint", []string{filepath.Join(c.dir, name)})[0]
		if slices.Contains(c.missing, name) {
			f, _ := c.list.File(name)
			if err := s.Digest.UnmarshalText([]byte(f.SHA256)); err != nil {
				return nil, fmt.Errorf("the checksum of %s: %w", name, err)
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// Download is what a study's model will fetch before it can run.
type Download struct {
	Model  string // label in the study
	Source string // "org/name@main"
	Commit string
	Host   string
	Files  int
	Bytes  int64
	Cache  string // folder that it goes to
}

// download says what is missing; ok is false where nothing is.
func (c *checkpoint) download(label string) (d Download, ok bool) {
	if len(c.missing) == 0 {
		return d, false
	}
	d = Download{Model: label, Source: c.source, Commit: c.commit, Host: c.hub.Host(), Files: len(c.missing), Cache: c.hub.Cache}
	for _, name := range c.missing {
		f, _ := c.list.File(name)
		d.Bytes += f.Size
	}
	return d, true
}
