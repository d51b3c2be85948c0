package llm

import (
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// FuzzTokenizerFile: a foreign tokenizer.json is an error or a tokenizer whose
// encodings keep their promises.
func FuzzTokenizerFile(f *testing.F) {
	f.Add(made([]string{"the", " and"}, `"normalizer": {"type": "NFC"}, "added_tokens": [{"id": 300, "content": "<s>", "lstrip": true}]`, "")["tokenizer.json"].Data, []byte(`{"add_bos_token": true, "bos_token": "<s>"}`), "the <s> and é")
	f.Add([]byte(`{"pre_tokenizer": `+preTokenizer+`, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}}`), []byte(`{"added_tokens_decoder": {"7": {"content": "<x>"}}}`), "ab<x>ab")
	f.Add([]byte(`{"model": {"vocab": {"\u0120": -1, "\ud800": 1e9}, "merges": ["a b c", ""]}}`), []byte(`{"bos_token": {"content": 1}}`), "")
	f.Fuzz(func(t *testing.T, file, config []byte, text string) {
		tok, err := OpenTokenizer(fstest.MapFS{"tokenizer.json": {Data: file}, "tokenizer_config.json": {Data: config}})
		if err != nil {
			return
		}
		e, err := tok.Encode(text, "auto")
		if err != nil {
			return
		}
		checkOffsets(t, text, e)
		if _, err := tok.Decode(e.IDs); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzConfig: a foreign config.json is an error or a shape that can be run.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"model_type": "qwen2", ` + goodConfig + `}`))
	f.Add([]byte(`{"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192}, ` + goodConfig + `}`))
	f.Add([]byte(`{"model_type": "qwen3", "head_dim": 16777216, "layer_types": ["full_attention"], ` + goodConfig + `}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := parseConfig(file)
		if err != nil {
			return
		}
		if c.Layers < 1 || c.Heads%c.KVHeads != 0 || c.HeadDim%2 != 0 || c.HeadDim < 2 || len(c.parts(nil)) < 9 {
			t.Fatalf("%+v", c)
		}
		if c.HeadDim <= 4096 {
			newRope(c, 3)
		}
	})
}

// FuzzRoundTrip: what is encoded decodes to the text, in NFC where the
// tokenizer normalises and the text is UTF-8.
func FuzzRoundTrip(f *testing.F) {
	f.Add("Let me think... it's 3.14\r\n\r\n  x \t\u00a0y<think>'ſ'S \u0344\u0958e\u0301\u1100\u1161\u11a8 \U0001f44d\U0001f3fd")
	f.Add("a\u0323\u0302\u0301\xff\xc3z\u0f73\u0f71<｜User｜>\x00\u200d\ufeff\u2028")
	f.Add("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaathethethethe            the")
	tok := tinyTokenizer(f)
	plain, err := OpenTokenizer(made([]string{"the", " and"}, "", ""))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := plain.Encode(text, "auto")
		if err != nil {
			t.Fatal(err)
		}
		checkOffsets(t, text, e)
		if got, err := plain.Decode(e.IDs); err != nil || got != text {
			t.Fatalf("%q came back as %q, %v", text, got, err)
		}
		if e, err = tok.Encode(text, "false"); err != nil {
			t.Fatal(err)
		}
		checkOffsets(t, text, e)
		got, err := tok.Decode(e.IDs)
		if err != nil {
			t.Fatal(err)
		}
		checkNormalized(t, tok, text, got)
	})
}

// checkNormalized holds that got is text in NFC, by x/text where that agrees: it
// bounds runs of combining marks by U+034F, and knows characters that are newer
// than the version in use. Added tokens are cut out before normalisation.
func checkNormalized(t *testing.T, tok *Tokenizer, text, got string) {
	t.Helper()
	if !tok.nfc {
		if got != text {
			t.Fatalf("%+q came back as %+q", text, got)
		}
		return
	}
	if containsToken(tok, text) || !utf8.ValidString(text) || len([]rune(text)) > 30 || strings.ContainsFunc(text, func(r rune) bool { return !normalizes(r) }) {
		return
	}
	if want := norm.NFC.String(text); got != want {
		t.Fatalf("%+q came back as %+q, want %+q", text, got, want)
	}
}

// FuzzRealRoundTrip is FuzzRoundTrip with the published tokenizers.
func FuzzRealRoundTrip(f *testing.F) {
	f.Add("Let me think... it's 3.14159\r\n\r\n  x \t\u00a0y<think>'ſ'S \u0344\u0958e\u0301\u1100\u1161\u11a8 \U0001f44d\U0001f3fd")
	f.Add("<|im_start|>user\n你好，世界！<|im_end|><|eot_id|> العربية \u0663\u0664\u0665\u0666 \ufeff\u0085\u1ac5\u0301")
	toks := []*Tokenizer{realTokenizer(f, "qwen2.5"), realTokenizer(f, "llama-3")}
	f.Fuzz(func(t *testing.T, text string) {
		for _, tok := range toks {
			e, err := tok.Encode(text, "false")
			if err != nil {
				t.Fatal(err)
			}
			checkOffsets(t, text, e)
			got, err := tok.Decode(e.IDs)
			if err != nil {
				t.Fatal(err)
			}
			checkNormalized(t, tok, text, got)
		}
	})
}

func containsToken(tok *Tokenizer, text string) (found bool) {
	tok.raw.cut(text, func(_, _ int, id int32) { found = found || id >= 0 })
	return found
}

// A run of more marks than x/text's bound is composed without U+034F.
func TestLongMarks(t *testing.T) {
	text := "x"
	for range 100 {
		text += "\u0301"
	}
	if got := normalizeNFC(text, 0).text; got != text {
		t.Errorf("%d characters became %d", utf8.RuneCountInString(text), utf8.RuneCountInString(got))
	}
	if got, want := normalizeNFC("a\u0301\u0323"+text[1:], 0).text, "\u1ea1\u0301"+text[1:]; got != want {
		t.Errorf("%+q, want %+q", got, want)
	}
}
