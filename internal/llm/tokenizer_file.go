package llm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"
)

// tokenizerFile is what is used of tokenizer.json and tokenizer_config.json.
// truncation and padding are not: transformers does not apply them either.
type tokenizerFile struct {
	AddedTokens   []addedToken `json:"added_tokens"`
	Normalizer    *component   `json:"normalizer"`
	PreTokenizer  *component   `json:"pre_tokenizer"`
	PostProcessor *component   `json:"post_processor"`
	Model         *bpeModel    `json:"model"`

	config tokenizerConfig
}

// component is a normalizer, pre-tokenizer or post-processor: its type, its
// parts if it is a Sequence, and the fields of the types that are known.
type component struct {
	Type          string      `json:"type"`
	Normalizers   []component `json:"normalizers"`
	Pretokenizers []component `json:"pretokenizers"`
	Processors    []component `json:"processors"`

	// Split
	Pattern struct {
		Regex  *string
		String *string
	} `json:"pattern"`
	Behavior string `json:"behavior"`
	Invert   bool   `json:"invert"`
	// ByteLevel
	AddPrefixSpace bool  `json:"add_prefix_space"`
	UseRegex       *bool `json:"use_regex"`
	// TemplateProcessing
	Single []struct {
		SpecialToken *struct {
			ID string `json:"id"`
		}
		Sequence *struct {
			ID string `json:"id"`
		}
	} `json:"single"`
	SpecialTokens map[string]struct {
		IDs []int32 `json:"ids"`
	} `json:"special_tokens"`
}

// bpeModel is the model of tokenizer.json.
type bpeModel struct {
	Type                    string   `json:"type"`
	Dropout                 *float64 `json:"dropout"`
	ContinuingSubwordPrefix string   `json:"continuing_subword_prefix"`
	EndOfWordSuffix         string   `json:"end_of_word_suffix"`
	ByteFallback            bool     `json:"byte_fallback"`
	IgnoreMerges            bool     `json:"ignore_merges"`
	Vocab                   vocab    `json:"vocab"`
	Merges                  merges   `json:"merges"`
}

// tokenizerConfig is what is used of tokenizer_config.json.
type tokenizerConfig struct {
	Class       string                `json:"tokenizer_class"`
	BOS         *tokenName            `json:"bos_token"`
	EOS         *tokenName            `json:"eos_token"`
	AddBOS      *bool                 `json:"add_bos_token"`
	AddEOS      *bool                 `json:"add_eos_token"`
	AddedTokens map[string]addedToken `json:"added_tokens_decoder"` // by decimal id
}

// tokenName is a token written as a string or as an object with its content.
type tokenName string

func (n *tokenName) UnmarshalJSON(data []byte) error {
	var object struct {
		Content string `json:"content"`
	}
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, (*string)(n))
	}
	err := json.Unmarshal(data, &object)
	*n = tokenName(object.Content)
	return err
}

func readTokenizerFile(fsys fs.FS) (*tokenizerFile, error) {
	data, err := fs.ReadFile(fsys, "tokenizer.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no tokenizer.json beside the weights; copy it from the model's repository, or write it with AutoTokenizer.save_pretrained")
	}
	if err != nil {
		return nil, err
	}
	file := &tokenizerFile{}
	if err := json.Unmarshal(data, file); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	config, err := fs.ReadFile(fsys, "tokenizer_config.json")
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(config, &file.config); err != nil {
		return nil, fmt.Errorf("tokenizer_config.json: %w", err)
	}
	return file, nil
}

// newTokenizer checks the file's parts and puts the tokenizer together.
func newTokenizer(f *tokenizerFile) (*Tokenizer, error) {
	t := &Tokenizer{bos: -1}
	t.scratch.New = func() any { return &bpeScratch{words: map[string][]int32{}} }
	var err error
	if t.nfc, err = f.Normalizer.normalizer(); err != nil {
		return nil, err
	}
	if t.split, err = f.PreTokenizer.preTokenizer(); err != nil {
		return nil, err
	}
	if err := t.setModel(f.Model); err != nil {
		return nil, err
	}
	if err := t.setAdded(f); err != nil {
		return nil, err
	}
	if err := t.setSpecial(f); err != nil {
		return nil, err
	}
	return t, nil
}

// normalizer reports whether the text is brought to NFC.
func (c *component) normalizer() (nfc bool, err error) {
	if c == nil {
		return false, nil
	}
	switch c.Type {
	case "NFC":
		return true, nil
	case "Sequence":
		for i := range c.Normalizers {
			on, err := c.Normalizers[i].normalizer()
			if err != nil {
				return false, err
			}
			nfc = nfc || on
		}
		return nfc, nil
	}
	return false, fmt.Errorf("tokenizer.json: the normalizer %q is not known here; NFC is, and none at all", c.Type)
}

// preTokenizer returns how text is split: by a known pattern, then to bytes.
func (c *component) preTokenizer() (split splitter, err error) {
	var parts []component
	if c != nil {
		parts = []component{*c}
		if c.Type == "Sequence" {
			parts = c.Pretokenizers
		}
	}
	byteLevel := false
	for _, p := range parts {
		switch {
		case p.Type == "Split" && split.numerals == 0 && !byteLevel:
			if p.Pattern.Regex == nil {
				return split, fmt.Errorf("tokenizer.json: the pre-tokenizer Split has no Regex pattern; known are\n  %s", knownPatterns())
			}
			if split.numerals = splitPatterns[*p.Pattern.Regex]; split.numerals == 0 {
				return split, fmt.Errorf("tokenizer.json: the Split pattern\n  %s\nis not known here; known are\n  %s", *p.Pattern.Regex, knownPatterns())
			}
			if p.Behavior != "Isolated" && p.Behavior != "Removed" || p.Invert != (p.Behavior == "Removed") {
				return split, fmt.Errorf("tokenizer.json: the pre-tokenizer Split with behavior %q and invert %v is not known here; Isolated is", p.Behavior, p.Invert)
			}
		case p.Type == "ByteLevel" && !byteLevel:
			if p.AddPrefixSpace {
				return split, errors.New("tokenizer.json: the pre-tokenizer ByteLevel with add_prefix_space is not known here")
			}
			if p.UseRegex == nil || *p.UseRegex {
				return split, errors.New("tokenizer.json: the pre-tokenizer ByteLevel with its own pattern (use_regex) is not known here; a Split before it with use_regex = false is")
			}
			byteLevel = true
		default:
			return split, fmt.Errorf("tokenizer.json: the pre-tokenizer %q at this place is not known here; a Split followed by ByteLevel is", p.Type)
		}
	}
	if split.numerals == 0 || !byteLevel {
		return split, errors.New("tokenizer.json: its pre-tokenizer is not a Split followed by ByteLevel, the only kind known here (byte-level BPE)")
	}
	split.classes = unicodeClasses()
	return split, nil
}

// setModel takes the vocabulary and the merges.
func (t *Tokenizer) setModel(m *bpeModel) error {
	switch {
	case m == nil:
		return errors.New("tokenizer.json: it has no model")
	case m.Type != "BPE" && m.Type != "":
		return fmt.Errorf("tokenizer.json: the model %q is not known here; BPE is", m.Type)
	case m.Dropout != nil && *m.Dropout != 0:
		return errors.New("tokenizer.json: BPE with dropout gives random tokens, and is not known here")
	case m.ContinuingSubwordPrefix != "" || m.EndOfWordSuffix != "":
		return errors.New("tokenizer.json: BPE with continuing_subword_prefix or end_of_word_suffix is not known here")
	case m.ByteFallback:
		return errors.New("tokenizer.json: BPE with byte_fallback (SentencePiece) is not known here; byte-level BPE is")
	case len(m.Vocab) == 0:
		return errors.New("tokenizer.json: its vocabulary is empty")
	}
	b := &t.bpe
	b.ignoreMerges = m.IgnoreMerges
	b.vocab = make(map[string]int32, len(m.Vocab))
	for i := range b.bytes {
		b.bytes[i] = -1
	}
	for _, e := range m.Vocab {
		content, byteLevel := fromByteLevel(e.token)
		if err := t.place(e.id, content, len(m.Vocab)); err != nil {
			return fmt.Errorf("tokenizer.json: %w", err)
		}
		if !byteLevel {
			continue // not made of byte characters, so no text merges to it
		}
		if _, ok := b.vocab[content]; ok {
			return fmt.Errorf("tokenizer.json: the token %q stands twice in the vocabulary", e.token)
		}
		b.vocab[content] = e.id
		if len(content) == 1 {
			b.bytes[content[0]] = e.id
		}
	}
	b.merges = newMergeTable(len(m.Merges))
	var joined []byte
	for rank, pair := range m.Merges {
		left, ok1 := fromByteLevel(pair[0])
		right, ok2 := fromByteLevel(pair[1])
		if !ok1 || !ok2 {
			continue
		}
		l, okL := b.vocab[left]
		r, okR := b.vocab[right]
		joined = append(append(joined[:0], left...), right...)
		id, ok := b.vocab[string(joined)]
		if !okL || !okR || !ok {
			return fmt.Errorf("tokenizer.json: merge %d, %q and %q: the vocabulary lacks one of them or what they make", rank, pair[0], pair[1])
		}
		b.merges.set(l, r, merge{uint32(rank), id})
	}
	return nil
}

// place makes content the token of id. Ids may leave gaps, of a size that goes
// with the number of tokens.
func (t *Tokenizer) place(id int32, content string, count int) error {
	if id < 0 || int(id) >= 4*count+1<<16 {
		return fmt.Errorf("the id %d of %q is out of range for a vocabulary of %d", id, content, count)
	}
	if content == "" {
		return fmt.Errorf("the token with id %d is empty", id)
	}
	for int(id) >= len(t.tokens) {
		t.tokens = append(t.tokens, make([]string, int(id)+1-len(t.tokens))...)
	}
	if bytes, _ := fromByteLevel(content); t.tokens[id] != "" && t.tokens[id] != content && t.tokens[id] != bytes {
		return fmt.Errorf("the id %d stands for both %q and %q", id, t.tokens[id], content)
	}
	t.tokens[id] = content
	return nil
}

// setAdded takes the added tokens of both files; where they disagree about a
// token, tokenizer_config.json has the last word, as in transformers.
func (t *Tokenizer) setAdded(f *tokenizerFile) error {
	t.raw, t.normalized = newMatcher(), newMatcher()
	var list []addedToken
	index := map[string]int{}
	add := func(tok addedToken, file string) error {
		if tok.Content == "" {
			return nil
		}
		if err := t.place(tok.ID, tok.Content, len(f.Model.Vocab)+len(f.AddedTokens)+len(f.config.AddedTokens)); err != nil {
			return fmt.Errorf("%s: added token: %w", file, err)
		}
		if bytes, ok := fromByteLevel(tok.Content); ok {
			if id, ok := t.bpe.vocab[bytes]; ok && id != tok.ID {
				return fmt.Errorf("%s: the added token %q has the id %d, but %d in the vocabulary", file, tok.Content, tok.ID, id)
			}
		}
		i, ok := index[tok.Content]
		if !ok {
			index[tok.Content] = len(list)
			list = append(list, tok)
			return nil
		}
		if list[i].ID != tok.ID {
			return fmt.Errorf("%s: the added token %q has the ids %d and %d", file, tok.Content, list[i].ID, tok.ID)
		}
		list[i] = tok
		return nil
	}
	for _, tok := range f.AddedTokens {
		if err := add(tok, "tokenizer.json"); err != nil {
			return err
		}
	}
	var fromConfig []addedToken
	for key, tok := range f.config.AddedTokens {
		if _, err := fmt.Sscanf(key, "%d", &tok.ID); err != nil {
			return fmt.Errorf("tokenizer_config.json: added_tokens_decoder: %q is no token id", key)
		}
		fromConfig = append(fromConfig, tok)
	}
	slices.SortFunc(fromConfig, func(a, b addedToken) int {
		if a.ID != b.ID {
			return int(a.ID) - int(b.ID)
		}
		return strings.Compare(a.Content, b.Content)
	})
	for _, tok := range fromConfig {
		if err := add(tok, "tokenizer_config.json"); err != nil {
			return err
		}
	}
	for _, tok := range list {
		switch {
		case !tok.Normalized:
			t.raw.insert(tok.Content, tok)
		case t.nfc:
			t.normalized.insert(normalizeNFC(tok.Content, 0).text, tok)
		default:
			t.normalized.insert(tok.Content, tok)
		}
	}
	return nil
}

// llamaClasses are the tokenizer classes in which transformers ignores the
// file's post-processor and adds a BOS unless add_bos_token says otherwise.
var llamaClasses = []string{"LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast"}

// setSpecial works out which special tokens go around a text: those of the
// post-processor's template, or of add_bos_token and add_eos_token where the
// configuration has them.
func (t *Tokenizer) setSpecial(f *tokenizerFile) error {
	before, after, err := f.PostProcessor.template()
	if err != nil {
		return err
	}
	for _, id := range append(slices.Clone(before), after...) {
		if id < 0 || int(id) >= len(t.tokens) || t.tokens[id] == "" {
			return fmt.Errorf("tokenizer.json: the post-processor adds the id %d, which is no token", id)
		}
	}
	c := f.config
	bos, err := t.named(c.BOS, "bos_token")
	if err != nil {
		return err
	}
	eos, err := t.named(c.EOS, "eos_token")
	if err != nil {
		return err
	}
	if bos < 0 && len(before) > 0 {
		bos = before[0]
	}
	t.bos, t.before, t.after = bos, before, after
	llama := slices.Contains(llamaClasses, c.Class)
	if llama {
		t.before, t.after = nil, nil
	}
	switch has := slices.Contains(t.before, bos); {
	case c.AddBOS != nil && *c.AddBOS && bos < 0:
		return errors.New("tokenizer_config.json: add_bos_token is true, but it names no bos_token")
	case bos < 0:
	case !has && (c.AddBOS != nil && *c.AddBOS || c.AddBOS == nil && llama):
		t.before = append([]int32{bos}, t.before...)
	case has && c.AddBOS != nil && !*c.AddBOS:
		t.before = slices.DeleteFunc(slices.Clone(t.before), func(id int32) bool { return id == bos })
	}
	if c.AddEOS != nil && *c.AddEOS && !slices.Contains(t.after, eos) {
		if eos < 0 {
			return errors.New("tokenizer_config.json: add_eos_token is true, but it names no eos_token")
		}
		t.after = append(t.after, eos)
	}
	return nil
}

// named returns the id of a token that the configuration names, -1 for none.
func (t *Tokenizer) named(name *tokenName, field string) (int32, error) {
	if name == nil || *name == "" {
		return -1, nil
	}
	for _, m := range []*matcher{t.raw, t.normalized} {
		for _, tok := range m.tokens {
			if tok.Content == string(*name) {
				return tok.ID, nil
			}
		}
	}
	if id := slices.Index(t.tokens, string(*name)); id >= 0 {
		return int32(id), nil
	}
	return -1, fmt.Errorf("tokenizer_config.json: %s is %q, which is no token of tokenizer.json", field, *name)
}

// template returns the ids that a post-processor puts around a single text.
func (c *component) template() (before, after []int32, err error) {
	if c == nil {
		return nil, nil, nil
	}
	switch c.Type {
	case "ByteLevel":
		return nil, nil, nil
	case "Sequence":
		for i := range c.Processors {
			b, a, err := c.Processors[i].template()
			if err != nil {
				return nil, nil, err
			}
			before, after = append(b, before...), append(after, a...)
		}
		return before, after, nil
	case "TemplateProcessing":
		sequence := false
		for _, piece := range c.Single {
			switch {
			case piece.Sequence != nil && piece.Sequence.ID == "A" && !sequence:
				sequence = true
			case piece.SpecialToken != nil:
				tok, ok := c.SpecialTokens[piece.SpecialToken.ID]
				if !ok {
					return nil, nil, fmt.Errorf("tokenizer.json: the post-processor's template uses %q, which its special_tokens lack", piece.SpecialToken.ID)
				}
				if sequence {
					after = append(after, tok.IDs...)
				} else {
					before = append(before, tok.IDs...)
				}
			default:
				return nil, nil, errors.New("tokenizer.json: the post-processor's template for a single text is not special tokens around $A")
			}
		}
		if !sequence {
			return nil, nil, errors.New("tokenizer.json: the post-processor's template for a single text lacks the text")
		}
		return before, after, nil
	}
	return nil, nil, fmt.Errorf("tokenizer.json: the post-processor %q is not known here; ByteLevel and TemplateProcessing are", c.Type)
}

// byteAlphabet is GPT-2's map from characters to bytes: printable ASCII and
// Latin-1 stand for themselves, the other 68 bytes, in order, for U+0100 on.
var byteAlphabet = func() map[rune]byte {
	table := map[rune]byte{}
	next := rune(0x100)
	for b := range rune(256) {
		if '!' <= b && b <= '~' || 0xa1 <= b && b <= 0xac || 0xae <= b {
			table[b] = byte(b)
		} else {
			table[next] = byte(b)
			next++
		}
	}
	return table
}()

// fromByteLevel returns the bytes that a token of the file stands for, or the
// token itself and false where it is not written in byte characters.
func fromByteLevel(token string) (string, bool) {
	plain := true
	for i := range len(token) {
		plain = plain && '!' <= token[i] && token[i] <= '~'
	}
	if plain {
		return token, true
	}
	out := make([]byte, 0, utf8.RuneCountInString(token))
	for _, r := range token {
		b, ok := byteAlphabet[r]
		if !ok {
			return token, false
		}
		out = append(out, b)
	}
	return string(out), true
}
