package llm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"clusterflow/internal/linalg"
)

// Checkpoint is a decoder whose weights are memory-mapped from a Hugging Face
// directory, or built in. It is safe for concurrent use, until Close.
type Checkpoint struct {
	Config Config

	source  string
	dir     string // "" for a built-in model
	files   []string
	mapped  []*linalg.Safetensors
	tensors map[string]tensor
	prefix  string // of the names of the decoder's tensors
	builtin string // content identity; "" for a directory
}

// tensor is one tensor of a checkpoint, little-endian and row-major.
type tensor struct {
	name, file string
	dtype      string
	shape      []int
	raw        []byte
	mapped     *linalg.Safetensors // the file; nil for a built-in model
}

// Open opens a checkpoint: a directory with config.json and safetensors (one
// file, or several with an index), a hub id that the local Hugging Face cache
// holds, or [BuiltinTiny]. It checks that the architecture is known and that
// every tensor of every block is there in the right shape; weights are not
// read yet.
func Open(source string) (*Checkpoint, error) {
	c, err := open(source)
	if err != nil {
		return nil, fmt.Errorf("opening model %q: %w", source, err)
	}
	return c, nil
}

func open(source string) (*Checkpoint, error) {
	if strings.HasPrefix(source, "builtin:") {
		if source != BuiltinTiny {
			return nil, fmt.Errorf("there is no such built-in model; there is %s", BuiltinTiny)
		}
		return newTiny()
	}
	dir, err := findSource(source)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	c, err := outline(source, dir)
	if err != nil {
		return nil, err
	}
	if err := c.mapWeights(); err != nil {
		c.Close()
		return nil, err
	}
	if err := c.checkTensors(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Outline opens a checkpoint without its weights, which need not be there: its
// shape, its tokenizer and the files that describe it. Nothing can be run.
func Outline(source string) (*Checkpoint, error) {
	if source == BuiltinTiny {
		return Open(source)
	}
	dir, err := findSource(source)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	var c *Checkpoint
	if err == nil {
		c, err = outline(source, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("opening model %q: %w", source, err)
	}
	if index := filepath.Join(dir, indexName); !exists(filepath.Join(dir, weightsName)) && exists(index) {
		c.files = append(c.files, index)
	}
	return c, nil
}

// outline reads config.json.
func outline(source, dir string) (*Checkpoint, error) {
	c := &Checkpoint{source: source, dir: dir, tensors: map[string]tensor{}}
	path := filepath.Join(dir, configName)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; a checkpoint's directory holds config.json", err)
	}
	if c.Config, err = parseConfig(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.files = append(c.files, path)
	return c, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// mapWeights maps the weight files and lists their tensors.
func (c *Checkpoint) mapWeights() error {
	single, index := filepath.Join(c.dir, weightsName), filepath.Join(c.dir, indexName)
	if _, err := os.Stat(single); err == nil {
		return c.mapFile(single, nil)
	}
	tensors, err := readIndex(index)
	if errors.Is(err, fs.ErrNotExist) {
		hint := "they are safetensors, model.safetensors or several files with model.safetensors.index.json"
		if old, _ := filepath.Glob(filepath.Join(c.dir, "pytorch_model*.bin")); len(old) > 0 {
			hint = "pytorch_model.bin is not read here; save the model again with save_pretrained(…, safe_serialization=True)"
		}
		return fmt.Errorf("%s has no weights: %s", c.dir, hint)
	}
	if err != nil {
		return err
	}
	c.files = append(c.files, index)
	for _, name := range sortedKeys(tensors) {
		slices.Sort(tensors[name])
		if err := c.mapFile(filepath.Join(c.dir, name), tensors[name]); err != nil {
			return err
		}
	}
	return nil
}

// readIndex returns the tensors that each weight file should hold.
func readIndex(path string) (map[string][]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(file.WeightMap) == 0 {
		return nil, fmt.Errorf("%s lists no tensors (weight_map)", path)
	}
	tensors := map[string][]string{}
	for tensor, name := range file.WeightMap {
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%s: tensor %q is said to be in %q, outside the checkpoint", path, tensor, name)
		}
		tensors[name] = append(tensors[name], tensor)
	}
	return tensors, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// mapFile maps one weight file and takes the named tensors of it, or all.
func (c *Checkpoint) mapFile(path string, names []string) error {
	s, err := linalg.OpenSafetensors(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; the index names it: the checkpoint is not complete", err)
	}
	if err != nil {
		return err
	}
	c.mapped = append(c.mapped, s)
	c.files = append(c.files, path)
	if names == nil {
		names = s.Names()
	}
	for _, name := range names {
		t, ok := s.Tensor(name)
		if !ok {
			return fmt.Errorf("%s lacks tensor %q, which the index says is there", path, name)
		}
		c.tensors[name] = tensor{name, path, t.DType, t.Shape, t.Raw(), s}
	}
	return nil
}

// checkTensors checks the tensors that Forward can need, and that no block has
// one that Forward would leave out.
func (c *Checkpoint) checkTensors() error {
	const embed = "embed_tokens.weight"
	c.prefix = "model."
	if _, ok := c.tensors[c.prefix+embed]; !ok {
		if _, ok := c.tensors[embed]; ok {
			c.prefix = "" // saved without the language-model head
		}
	}
	if _, err := c.tensor(c.prefix+embed, c.Config.Vocab, c.Config.Hidden); err != nil {
		return err
	}
	known := map[string]bool{"self_attn.rotary_emb.inv_freq": true} // old files; computed here
	for i := range c.Config.Layers {
		for _, p := range c.Config.parts(nil) {
			if _, err := c.tensor(c.blockTensor(i, p.name), p.shape...); err != nil {
				return err
			}
			known[p.name] = true
		}
	}
	blocks := regexp.MustCompile(`^` + regexp.QuoteMeta(c.prefix) + `layers\.(\d+)\.(.+)$`)
	var extra []string
	for name := range c.tensors {
		if m := blocks.FindStringSubmatch(name); m != nil && !known[m[2]] {
			if i, err := strconv.Atoi(m[1]); err == nil && i < c.Config.Layers {
				extra = append(extra, name)
			}
		}
	}
	if len(extra) > 0 {
		slices.Sort(extra)
		return fmt.Errorf("%s: tensor %q is no part of a %s block with this config.json; the model is of another kind than it says", c.tensors[extra[0]].file, extra[0], c.Config.ModelType)
	}
	return nil
}

// tensor returns a tensor after checking its shape and type.
func (c *Checkpoint) tensor(name string, shape ...int) (tensor, error) {
	t, ok := c.tensors[name]
	if !ok {
		where := c.files[len(c.files)-1]
		if len(c.mapped) > 1 {
			where = filepath.Join(c.dir, "model.safetensors.index.json")
		}
		return t, fmt.Errorf("%s lacks tensor %q, of shape %v", where, name, shape)
	}
	if !slices.Equal(t.shape, shape) {
		return t, fmt.Errorf("%s: tensor %q has shape %v; config.json makes it %v", t.file, name, t.shape, shape)
	}
	if elementSize(t.dtype) == 0 {
		return t, fmt.Errorf("%s: tensor %q holds %s; BF16, F16 and F32 can be read", t.file, name, t.dtype)
	}
	return t, nil
}

func (c *Checkpoint) blockTensor(block int, part string) string {
	return fmt.Sprintf("%slayers.%d.%s", c.prefix, block, part)
}

// Close unmaps the weights.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, s := range c.mapped {
		errs = append(errs, s.Close())
	}
	c.mapped, c.tensors = nil, nil
	return errors.Join(errs...)
}

// Files returns the absolute paths of the files whose content is the model:
// config.json, the index where there is one, and the weights. There are none
// for a built-in model.
func (c *Checkpoint) Files() []string { return slices.Clone(c.files) }

// TokenizerFiles returns the absolute paths of the tokenizer's files; none for
// a built-in model.
func (c *Checkpoint) TokenizerFiles() []string {
	var files []string
	for _, name := range []string{tokenizerName, tokenizerConfigName} {
		if path := filepath.Join(c.dir, name); c.dir != "" && exists(path) {
			files = append(files, path)
		}
	}
	return files
}

// BuiltinID returns what identifies the content of a built-in model, weights
// and tokenizer; "" for a model from a directory.
func (c *Checkpoint) BuiltinID() string { return c.builtin }

// Random reports whether the weights were drawn at random, so that what the
// model computes means nothing.
func (c *Checkpoint) Random() bool { return c.builtin != "" }

// Layers returns the number of blocks.
func (c *Checkpoint) Layers() int { return c.Config.Layers }

// Hidden returns the width of the hidden states.
func (c *Checkpoint) Hidden() int { return c.Config.Hidden }

// Tokenizer reads the tokenizer that lies beside the weights.
func (c *Checkpoint) Tokenizer() (*Tokenizer, error) {
	fsys := os.DirFS(c.dir)
	if c.builtin != "" {
		fsys = tinyFiles()
	}
	t, err := OpenTokenizer(fsys)
	if err != nil {
		return nil, fmt.Errorf("opening model %q: %w", c.source, err)
	}
	return t, c.Fits(t)
}

// Fits reports, as an error, that the embedding has no rows for some ids of a
// tokenizer.
func (c *Checkpoint) Fits(t *Tokenizer) error {
	if t.Size() > c.Config.Vocab {
		return fmt.Errorf("opening model %q: its tokenizer has ids up to %d, but its embedding only %d rows (vocab_size); the files belong to different models", c.source, t.Size()-1, c.Config.Vocab)
	}
	return nil
}
