package llm

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"clusterflow/internal/linalg"
)

//go:generate go test -run TestTinyTokenizer -update .

var update = flag.Bool("update", false, "write tiny/tokenizer.json from testdata/tiny_corpus.txt")

func tinyTokenizer(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := OpenTokenizer(tinyFiles())
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func newRand() *rand.Rand { return linalg.Rand(1, "test") }

// The shipped tokenizer is what training on the shipped text gives; with
// -update it is written.
func TestTinyTokenizer(t *testing.T) {
	corpus, err := os.ReadFile("testdata/tiny_corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := trainTokenizer(t, string(corpus), tinyVocab)
	if *update {
		if err := os.WriteFile("tiny/tokenizer.json", want, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("tiny/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("tiny/tokenizer.json is not what its text gives; run go generate")
	}
	tok := tinyTokenizer(t)
	if tok.Size() != tinyVocab {
		t.Errorf("%d tokens, want %d", tok.Size(), tinyVocab)
	}
	e, err := tok.Encode(string(corpus), "auto")
	if err != nil {
		t.Fatal(err)
	}
	if !e.AddedBOS {
		t.Error("no BOS was added")
	}
	checkOffsets(t, string(corpus), e)
	if text, err := tok.Decode(e.IDs[1:]); err != nil || text != string(corpus) {
		t.Errorf("the text is not what its tokens decode to: %v", err)
	}
}

var tinySpecial = []string{"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"}

// trainTokenizer learns a byte-level BPE vocabulary of the given size from
// text: again and again, the pair of tokens that stands most often within
// words becomes a token; of equally frequent pairs, the first in byte order.
// The result is a tokenizer.json with Qwen2's pattern.
func trainTokenizer(t *testing.T, text string, size int) []byte {
	var names [256]string // of each byte, in the file
	for r, b := range byteAlphabet {
		names[b] = string(r)
	}
	tokens := make([]string, 256)
	for b := range 256 {
		tokens[b] = string([]byte{byte(b)})
	}
	counts := map[string]int{}
	for text != "" {
		n := splitter{1, unicodeClasses()}.next(text)
		counts[text[:n]]++
		text = text[n:]
	}
	type word struct {
		ids   []int
		count int
	}
	var words []word
	for w, n := range counts {
		ids := make([]int, len(w))
		for i := range len(w) {
			ids[i] = int(w[i])
		}
		words = append(words, word{ids, n})
	}
	type pair struct{ left, right int }
	var merges []string
	name := func(id int) string {
		var s strings.Builder
		for _, b := range []byte(tokens[id]) {
			s.WriteString(names[b])
		}
		return s.String()
	}
	for len(tokens) < size-len(tinySpecial) {
		pairs := map[pair]int{}
		for _, w := range words {
			for i := 0; i+1 < len(w.ids); i++ {
				pairs[pair{w.ids[i], w.ids[i+1]}] += w.count
			}
		}
		best, most := pair{}, 0
		for p, n := range pairs {
			if n > most || n == most && slices.Compare([]string{tokens[p.left], tokens[p.right]}, []string{tokens[best.left], tokens[best.right]}) < 0 {
				best, most = p, n
			}
		}
		if most < 2 {
			t.Fatalf("the text gives only %d tokens", len(tokens))
		}
		merges = append(merges, name(best.left)+" "+name(best.right))
		id := len(tokens)
		tokens = append(tokens, tokens[best.left]+tokens[best.right])
		for k, w := range words {
			out := w.ids[:0]
			for i := 0; i < len(w.ids); i++ {
				if i+1 < len(w.ids) && w.ids[i] == best.left && w.ids[i+1] == best.right {
					out = append(out, id)
					i++
				} else {
					out = append(out, w.ids[i])
				}
			}
			words[k].ids = out
		}
	}
	var file bytes.Buffer
	quote := func(s string) string {
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		if err := e.Encode(s); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out.String())
	}
	join := func(n int, item func(i int) string) {
		for i := range n {
			file.WriteString(item(i))
			if i+1 < n {
				file.WriteString(",")
			}
			file.WriteString("\n")
		}
	}
	fmt.Fprintf(&file, "{\n \"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n \"added_tokens\": [\n")
	join(len(tinySpecial), func(i int) string {
		return fmt.Sprintf(`  {"id": %d, "content": %s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": %v}`, len(tokens)+i, quote(tinySpecial[i]), i < 2)
	})
	fmt.Fprintf(&file, " ],\n \"normalizer\": {\"type\": \"NFC\"},\n \"pre_tokenizer\": %s,\n", preTokenizer)
	fmt.Fprintf(&file, ` "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": %[1]s, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"SpecialToken": {"id": %[1]s, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": %[1]s, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {%[1]s: {"id": %[1]s, "ids": [%[2]d], "tokens": [%[1]s]}}},`+"\n", quote(tinySpecial[0]), len(tokens))
	fmt.Fprintf(&file, " \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": false, \"use_regex\": false},\n")
	fmt.Fprintf(&file, " \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": false,\n \"vocab\": {\n")
	join(len(tokens), func(i int) string { return fmt.Sprintf("  %s: %d", quote(name(i)), i) })
	fmt.Fprintf(&file, " }, \"merges\": [\n")
	join(len(merges), func(i int) string { return "  " + quote(merges[i]) })
	fmt.Fprintf(&file, " ]}\n}\n")
	return file.Bytes()
}
