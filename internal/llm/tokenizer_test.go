package llm

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/rangetable"
)

// realTokenizer opens one of the published tokenizers, and skips without them.
func realTokenizer(t testing.TB, name string) *Tokenizer {
	t.Helper()
	dir := filepath.Dir(sharedFile(t, "data/tokenizers/"+name+"/tokenizer.json"))
	tok, err := OpenTokenizer(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// The reference ids are those of the npm package @huggingface/tokenizers 0.2.0
// for the first responses, without special tokens added.
func TestReferenceIDs(t *testing.T) {
	texts := realResponses(t)
	for _, name := range []string{"qwen2.5", "llama-3"} {
		t.Run(name, func(t *testing.T) {
			tok := realTokenizer(t, name)
			f, err := os.Open(sharedFile(t, "data/tokenizers/"+name+"/ids.jsonl.gz"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			z, err := gzip.NewReader(f)
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(z)
			lines.Buffer(nil, 1<<20)
			n := 0
			for ; lines.Scan(); n++ {
				var want []int32
				if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
					t.Fatal(err)
				}
				got, err := tok.Encode(texts[n], "false")
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got.IDs, want) {
					t.Errorf("response %d: %d ids, want %d", n, len(got.IDs), len(want))
				}
				if text, err := tok.Decode(got.IDs); err != nil || text != texts[n] {
					t.Errorf("response %d is not what its tokens decode to: %v", n, err)
				}
				checkOffsets(t, texts[n], got)
			}
			if n < 100 {
				t.Errorf("%d lines of reference ids, want 100", n)
			}
		})
	}
}

// checkOffsets holds what every encoding's offsets promise, BOS included.
func checkOffsets(t testing.TB, text string, e Encoding) {
	t.Helper()
	if len(e.Offsets) != len(e.IDs) {
		t.Fatalf("%q: %d ids but %d offsets", text, len(e.IDs), len(e.Offsets))
	}
	at, covered := 0, 0
	for i, s := range e.Offsets {
		if s.Start < at || s.End < s.Start || s.End > len(text) || s.Start > covered {
			t.Fatalf("%q: offset %d is %v, after start %d and bytes up to %d", text, i, s, at, covered)
		}
		if utf8.ValidString(text) && !utf8.ValidString(text[s.Start:s.End]) {
			t.Fatalf("%q: offset %d, %v, cuts a character", text, i, s)
		}
		at, covered = s.Start, max(covered, s.End)
	}
	if covered != len(text) {
		t.Fatalf("%q: tokens cover bytes up to %d of %d", text, covered, len(text))
	}
}

// Ids and code point offsets of the Rust library tokenizers 0.23.2 with the
// published files. Where characters were composed, the library's offsets keep
// the first of them only where ours keep all; those are marked.
func TestRustLibraryIDs(t *testing.T) {
	tokenizers := map[string]*Tokenizer{}
	for _, c := range []struct {
		tokenizer, text string
		ids             []int32
		offsets         []Span // code points
	}{
		{"qwen2.5", "I'\u017fee 'S 'Re x", []int32{40, 6, 144815, 2127, 364, 50, 364, 693, 856}, []Span{{0, 1}, {1, 2}, {2, 3}, {3, 5}, {5, 7}, {7, 8}, {8, 10}, {10, 12}, {12, 14}}},
		{"qwen2.5", "a\u0085b c\u0085\u0085d", []int32{64, 126, 227, 65, 272, 126, 227, 126, 227, 67}, []Span{{0, 1}, {1, 2}, {1, 2}, {2, 3}, {3, 5}, {5, 6}, {5, 6}, {6, 7}, {6, 7}, {7, 8}}},
		{"qwen2.5", "a\ufeffb \ufeff\ufeffc", []int32{64, 3225, 65, 75780, 3225, 66}, []Span{{0, 1}, {1, 2}, {2, 3}, {3, 5}, {5, 6}, {6, 7}}},
		{"qwen2.5", "cafe\u0301 x", []int32{924, 58858, 856}, []Span{{0, 2}, {2, 5}, {5, 7}}},                                                                             // library: {2, 4}
		{"qwen2.5", "\u1e9b\u0323 a\u0323\u0302\u0301z", []int32{149616, 136, 96, 220, 23458, 53839, 89}, []Span{{0, 1}, {1, 2}, {1, 2}, {2, 3}, {3, 7}, {3, 7}, {7, 8}}}, /* library: {3, 4}, {6, 7}, {7, 8} */
		{"qwen2.5", "\U0001f44d\U0001f3fd ok \u591a\u5b57", []int32{144349, 145375, 5394, 40666, 248, 18600}, []Span{{0, 1}, {1, 2}, {2, 5}, {5, 7}, {6, 7}, {7, 8}}},
		{"qwen2.5", "  \n\n  x \t\u00a0y   ", []int32{18611, 220, 856, 7018, 4102, 88, 262}, []Span{{0, 4}, {4, 5}, {5, 7}, {7, 9}, {9, 10}, {10, 11}, {11, 14}}},
		{"qwen2.5", "\u1100\u1161\u11a8", []int32{126317}, []Span{{0, 3}}}, // library: {0, 1}
		{"qwen2.5", "\u0344x\u0958", []int32{136, 230, 53839, 87, 64704, 5502, 120}, []Span{{0, 1}, {0, 1}, {0, 1}, {1, 2}, {2, 3}, {2, 3}, {2, 3}}},
		// Unicode 16 made U+13A9C a letter and the library knows; U+088F is of Unicode 17.
		{"qwen2.5", "\U00013a9c's x", []int32{124373, 103, 250, 594, 856}, []Span{{0, 1}, {0, 1}, {0, 1}, {1, 3}, {3, 5}}},
		{"qwen2.5", "\u088f's x", []int32{156, 95, 237, 6, 82, 856}, []Span{{0, 1}, {0, 1}, {0, 1}, {1, 2}, {2, 3}, {3, 5}}},
		// Its normalization is of Unicode 9: these marks of later versions stay where they are.
		{"qwen2.5", "a\u0d3b\u0335", []int32{64, 33739, 119, 136, 113}, []Span{{0, 1}, {1, 2}, {1, 2}, {2, 3}, {2, 3}}},
		{"qwen2.5", "a\u1ac5\u0301", []int32{64, 157, 104, 227, 53839}, []Span{{0, 1}, {1, 2}, {1, 2}, {1, 2}, {2, 3}}},
		{"qwen2.5", "\U00011935\U00011930", []int32{128240, 97, 113, 128240, 97, 108}, []Span{{0, 1}, {0, 1}, {0, 1}, {1, 2}, {1, 2}, {1, 2}}},
		{"llama-3", "\U00013a9c's x", []int32{172, 241, 103, 250, 596, 865}, []Span{{0, 1}, {0, 1}, {0, 1}, {0, 1}, {1, 3}, {3, 5}}},
		{"llama-3", "\u0663\u0664\u0665\u0666 \u00bd\u00b2\u2167", []int32{117413, 124079, 124043, 149, 99, 220, 27154, 30556, 71567, 100}, []Span{{0, 1}, {1, 2}, {2, 3}, {3, 4}, {3, 4}, {4, 5}, {5, 6}, {6, 7}, {7, 8}, {7, 8}}},
		{"llama-3", "cafe\u0301 x", []int32{936, 1897, 54939, 865}, []Span{{0, 2}, {2, 4}, {4, 5}, {5, 7}}}, // no NFC in this file
		{"llama-3", "a\u0085b c\u0085\u0085d", []int32{64, 116360, 65, 272, 116360, 116360, 67}, []Span{{0, 1}, {1, 2}, {2, 3}, {3, 5}, {5, 6}, {6, 7}, {7, 8}}},
	} {
		if tokenizers[c.tokenizer] == nil {
			tokenizers[c.tokenizer] = realTokenizer(t, c.tokenizer)
		}
		e, err := tokenizers[c.tokenizer].Encode(c.text, "auto")
		if err != nil {
			t.Fatal(err)
		}
		var offsets []Span
		for _, s := range e.Offsets {
			offsets = append(offsets, Span{utf8.RuneCountInString(c.text[:s.Start]), utf8.RuneCountInString(c.text[:s.End])})
		}
		if !slices.Equal(e.IDs, c.ids) || !slices.Equal(offsets, c.offsets) {
			t.Errorf("%s: %+q\n got %v %v\nwant %v %v", c.tokenizer, c.text, e.IDs, offsets, c.ids, c.offsets)
		}
	}
}

// The pinned classes are Go's for every character that Go's tables and
// Unicode 16 both know, and no character is of two classes.
func TestUnicodeClasses(t *testing.T) {
	table := unicodeClasses()
	for _, set := range [][][2]rune{letters, numbers} {
		last := rune(-1)
		for _, r := range set {
			if r[0] <= last || r[1] < r[0] {
				t.Fatalf("range %x follows %x", r, last)
			}
			last = r[1]
		}
	}
	known := rangetable.Assigned("15.0.0")
	n := map[class]int{}
	for r := range rune(utf8.MaxRune + 1) {
		got := other
		if int(r) < len(table) {
			got = table[r]
		}
		n[got]++
		want := other
		switch {
		case unicode.IsLetter(r):
			want = letter
		case unicode.IsNumber(r):
			want = number
		case r == '\n' || r == '\r':
			want = newline
		case unicode.IsSpace(r):
			want = space
		}
		if got != want && unicode.Is(known, r) {
			t.Errorf("%U is of class %d, in Go's tables of %d", r, got, want)
		}
	}
	// Counted with the library, a pattern for each class.
	if n[letter] != 141028 || n[number] != 1911 || n[space]+n[newline] != 25 {
		t.Errorf("%d letters, %d numbers, %d spaces; want 141028, 1911, 25", n[letter], n[number], n[space]+n[newline])
	}
}

const (
	qwenPattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`
	preTokenizer = `{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "` + qwenPattern + `"}, "behavior": "Isolated", "invert": false}, {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]}`
)

// made returns the files of a tokenizer whose ids 0 to 255 are the bytes, with
// the given words as further tokens, and merges that build them from the left.
func made(words []string, more, config string) fstest.MapFS {
	toByte := [256]string{}
	for r, b := range byteAlphabet {
		toByte[b] = string(r)
	}
	vocab, merges := []string{}, []string{}
	for b, s := range toByte {
		vocab = append(vocab, fmt.Sprintf("%q: %d", s, b))
	}
	seen := map[string]bool{}
	for _, w := range words {
		prefix := toByte[w[0]]
		for i := 1; i < len(w); i++ {
			left, right := prefix, toByte[w[i]]
			if prefix += right; seen[prefix] {
				continue
			}
			seen[prefix] = true
			merges = append(merges, fmt.Sprintf("%q", left+" "+right))
			vocab = append(vocab, fmt.Sprintf("%q: %d", prefix, len(vocab)))
		}
	}
	if more != "" {
		more = ", " + more
	}
	file := fmt.Sprintf(`{"pre_tokenizer": %s, "model": {"type": "BPE", "vocab": {%s}, "merges": [%s]}%s}`, preTokenizer, strings.Join(vocab, ", "), strings.Join(merges, ", "), more)
	fsys := fstest.MapFS{"tokenizer.json": {Data: []byte(file)}}
	if config != "" {
		fsys["tokenizer_config.json"] = &fstest.MapFile{Data: []byte(config)}
	}
	return fsys
}

func TestAddedTokens(t *testing.T) {
	fsys := made([]string{"the"}, `"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]}, "added_tokens": [
		{"id": 300, "content": "<think>"},
		{"id": 301, "content": "<think>>"},
		{"id": 302, "content": "word", "single_word": true},
		{"id": 303, "content": "<l>", "lstrip": true},
		{"id": 304, "content": "<r>", "rstrip": true},
		{"id": 305, "content": "e\u0301", "normalized": true},
		{"id": 306, "content": "<｜User｜>", "special": true}]`, "")
	tok, err := OpenTokenizer(fsys)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		want []int32
	}{
		{"<think>", []int32{300}},
		{"<think>>>", []int32{301, '>'}}, // the longest at a place
		{"<thin<think>", []int32{'<', 256, 'i', 'n', 300}},
		{"word", []int32{302}},
		{"a word.", []int32{'a', ' ', 302, '.'}},
		{"aword word_", []int32{'a', 'w', 'o', 'r', 'd', ' ', 'w', 'o', 'r', 'd', '_'}},
		{"a \t<l> b", []int32{'a', 303, ' ', 'b'}},
		{"a <r> \n b", []int32{'a', ' ', 304, 'b'}},
		{"<l> <l>", []int32{303, 303}},
		{"a\u00e9e\u0301", []int32{'a', 305, 305}}, // composed before it is looked for
		{"<｜User｜>the", []int32{306, 257}},
	} {
		e, err := tok.Encode(c.text, "auto")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(e.IDs, c.want) {
			t.Errorf("%q: %v, want %v", c.text, e.IDs, c.want)
		}
		checkOffsets(t, c.text, e)
	}
	e, _ := tok.Encode("a \t<l> b", "auto")
	if e.Offsets[1] != (Span{1, 6}) {
		t.Errorf("a token that strips holds %v, want {1 6}", e.Offsets[1])
	}
}

func TestBOS(t *testing.T) {
	added := `"added_tokens": [{"id": 300, "content": "<s>", "special": true}, {"id": 301, "content": "</s>", "special": true}]`
	template := `"post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing",
		"single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
		"special_tokens": {"<s>": {"id": "<s>", "ids": [300], "tokens": ["<s>"]}}}]}`
	for _, c := range []struct {
		name, more, config string
		bos, text          string
		want               []int32
		added, had         bool
	}{
		{"no template", added, "", "auto", "a", []int32{'a'}, false, false},
		{"template", added + "," + template, "", "auto", "a", []int32{300, 'a'}, true, false},
		{"template", added + "," + template, "", "", "a", []int32{300, 'a'}, true, false},
		{"template, text has it", added + "," + template, "", "auto", "<s>a", []int32{300, 'a'}, false, true},
		{"template, forced, text has it", added + "," + template, "", "true", "<s>a", []int32{300, 'a'}, false, true},
		{"template, not wanted", added + "," + template, "", "false", "a", []int32{'a'}, false, false},
		{"not wanted, text has it", added + "," + template, "", "false", "<s>a", []int32{300, 'a'}, false, true},
		{"empty text", added + "," + template, "", "auto", "", []int32{300}, true, false},
		{"add_bos_token", added, `{"add_bos_token": true, "bos_token": {"content": "<s>"}}`, "auto", "a", []int32{300, 'a'}, true, false},
		{"add_bos_token and template", added + "," + template, `{"add_bos_token": true, "bos_token": "<s>"}`, "auto", "a", []int32{300, 'a'}, true, false},
		{"add_bos_token = false", added + "," + template, `{"add_bos_token": false, "bos_token": "<s>"}`, "auto", "a", []int32{'a'}, false, false},
		{"Llama's class", added, `{"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "add_eos_token": true, "eos_token": "</s>"}`, "auto", "a", []int32{300, 'a', 301}, true, false},
		{"bos_token, forced", added, `{"bos_token": "<s>"}`, "true", "a", []int32{300, 'a'}, true, false},
		{"token of the configuration only", "", `{"bos_token": "<b>", "add_bos_token": true, "added_tokens_decoder": {"400": {"content": "<b>", "special": true}}}`, "auto", "a", []int32{400, 'a'}, true, false},
	} {
		tok, err := OpenTokenizer(made(nil, c.more, c.config))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		e, err := tok.Encode(c.text, c.bos)
		if err != nil || !slices.Equal(e.IDs, c.want) || e.AddedBOS != c.added || e.HadBOS != c.had {
			t.Errorf("%s: Encode(%q, %q) = %v, added %v, had %v, %v; want %v, %v, %v", c.name, c.text, c.bos, e.IDs, e.AddedBOS, e.HadBOS, err, c.want, c.added, c.had)
		}
		checkOffsets(t, c.text, e)
	}
	tok, err := OpenTokenizer(made(nil, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode("a", "true"); err == nil || !strings.Contains(err.Error(), "no BOS token") {
		t.Errorf("BOS forced on a tokenizer without one: %v", err)
	}
	if _, err := tok.Encode("a", "yes"); err == nil || !strings.Contains(err.Error(), "auto, true or false") {
		t.Errorf("a wrong add_bos: %v", err)
	}
}

// Every part that is not known is refused by its name.
func TestTokenizerRefusals(t *testing.T) {
	for _, c := range []struct{ file, config, want string }{
		{`{`, "", "tokenizer.json"},
		{`{"normalizer": {"type": "Lowercase"}}`, "", `"Lowercase"`},
		{`{"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}]}}`, "", `"NFKC"`},
		{`{"pre_tokenizer": {"type": "Metaspace"}}`, "", `"Metaspace"`},
		{`{"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated"}}`, "", `\s+`},
		{`{"pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated"}}`, "", "no Regex"},
		{`{"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "` + qwenPattern + `"}, "behavior": "MergedWithNext"}}`, "", "MergedWithNext"},
		{`{"pre_tokenizer": {"type": "ByteLevel", "use_regex": true}}`, "", "use_regex"},
		{`{"pre_tokenizer": {"type": "ByteLevel", "use_regex": false, "add_prefix_space": true}}`, "", "add_prefix_space"},
		{`{"pre_tokenizer": {"type": "ByteLevel", "use_regex": false}}`, "", "not a Split followed by ByteLevel"},
		{`{}`, "", "not a Split followed by ByteLevel"},
		{`{"pre_tokenizer": ` + preTokenizer + `}`, "", "no model"},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "Unigram", "vocab": {}}}`, "", `"Unigram"`},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "vocab": {}}}`, "", "empty"},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "byte_fallback": true, "vocab": {"a": 0}}}`, "", "byte_fallback"},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "dropout": 0.1, "vocab": {"a": 0}}}`, "", "dropout"},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "vocab": {"a": 0, "b": 0}}}`, "", `both "a" and "b"`},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "vocab": {"a": 0, "a": 1}}}`, "", "twice"},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "vocab": {"a": 2000000000}}}`, "", "out of range"},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "vocab": {"a": 0.5}}}`, "", "whole number"},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "vocab": ["a"]}}`, "", "not an object"},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}}`, "", "lacks"},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["ab"]}}`, "", "merge 0"},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a"]]}}`, "", "merge 0"},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "vocab": {"a": 0}}, "post_processor": {"type": "BertProcessing"}}`, "", `"BertProcessing"`},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "vocab": {"a": 0}}}`, `{"bos_token": "<s>"}`, `"<s>"`},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "vocab": {"a": 0}}}`, `{"add_bos_token": true}`, "no bos_token"},
		{`{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", "vocab": {"a": 0}}}`, `[]`, "tokenizer_config.json"},
	} {
		fsys := fstest.MapFS{"tokenizer.json": {Data: []byte(c.file)}}
		if c.config != "" {
			fsys["tokenizer_config.json"] = &fstest.MapFile{Data: []byte(c.config)}
		}
		if _, err := OpenTokenizer(fsys); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s\n got %v\nwant an error with %s", c.file, c.config, err, c.want)
		}
	}
	if _, err := OpenTokenizer(fstest.MapFS{}); err == nil || !strings.Contains(err.Error(), "no tokenizer.json") {
		t.Errorf("without tokenizer.json: %v", err)
	}
}

// Merges given as pairs are the same as merges given as strings, ranks decide
// before places, and ignore_merges takes a whole word that is a token.
func TestMergeOrder(t *testing.T) {
	for _, c := range []struct {
		model, text string
		want        []int32
	}{
		{`"merges": ["b c", "a b"], "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4}`, "abc", []int32{0, 4}},
		{`"merges": [["a", "b"], ["b", "c"]], "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4}`, "abc", []int32{3, 2}},
		{`"merges": ["a a"], "vocab": {"a": 0, "aa": 3}`, "aaaaa", []int32{3, 3, 0}},
		{`"merges": ["b c"], "vocab": {"a": 0, "b": 1, "c": 2, "bc": 4, "abc": 5}`, "abc", []int32{0, 4}},
		{`"ignore_merges": true, "merges": ["b c"], "vocab": {"a": 0, "b": 1, "c": 2, "bc": 4, "abc": 5}`, "abc", []int32{5}},
		{`"merges": ["a b", "b c", "a b"], "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4}`, "abc", []int32{0, 4}}, // the later rank of a pair counts
	} {
		file := `{"pre_tokenizer": ` + preTokenizer + `, "model": {"type": "BPE", ` + c.model + `}}`
		tok, err := OpenTokenizer(fstest.MapFS{"tokenizer.json": {Data: []byte(file)}})
		if err != nil {
			t.Fatal(err)
		}
		if e, err := tok.Encode(c.text, "auto"); err != nil || !slices.Equal(e.IDs, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.model, e.IDs, err, c.want)
		}
		if _, err := tok.Encode("x", "auto"); err == nil || !strings.Contains(err.Error(), "0x78") {
			t.Errorf("a byte without a token: %v", err)
		}
	}
}

// The heap for long words gives what looking at all pairs gives.
func TestLongWords(t *testing.T) {
	tok := tinyTokenizer(t)
	rng := newRand()
	for n := 2; n < 400; n += 7 {
		var word []byte
		for range n {
			word = append(word, "etaoinshr"[rng.IntN(9)])
		}
		var ids []int32
		for _, c := range word {
			ids = append(ids, tok.bpe.bytes[c])
		}
		for { // by the definition: the first pair of lowest rank
			best, at := noMerge, -1
			for i := 0; i+1 < len(ids); i++ {
				if m := tok.bpe.merges.get(ids[i], ids[i+1]); m.rank < best.rank {
					best, at = m, i
				}
			}
			if at < 0 {
				break
			}
			ids = append(append(slices.Clone(ids[:at]), best.id), ids[at+2:]...)
		}
		got, err := tok.Encode(string(word), "false")
		if err != nil || !slices.Equal(got.IDs, ids) {
			t.Fatalf("%q: %v, %v, want %v", word, got.IDs, err, ids)
		}
	}
}

func TestTokenSpan(t *testing.T) {
	// The bytes of "é" are two tokens that share it.
	e := Encoding{Offsets: []Span{{0, 0}, {0, 2}, {2, 4}, {2, 4}, {4, 6}, {6, 9}}}
	for _, c := range []struct{ a, b, start, end int }{
		{0, 2, 1, 3}, // the BOS holds nothing; the last that shares the character at 2
		{2, 4, 3, 4},
		{4, 6, 4, 5},
		{5, 8, 4, 5}, // a and b inside tokens
		{6, 9, 5, 6}, // past the last character: the number of tokens
		{7, 8, 5, 5}, // inside one token: start ≥ end
		{9, 12, 6, 6},
	} {
		if start, end := e.TokenSpan(c.a, c.b); start != c.start || end != c.end {
			t.Errorf("TokenSpan(%d, %d) = %d, %d, want %d, %d", c.a, c.b, start, end, c.start, c.end)
		}
	}
}
