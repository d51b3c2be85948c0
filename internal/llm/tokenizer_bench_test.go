package llm

import (
	"os"
	"path/filepath"
	"testing"
)

func BenchmarkEncode(b *testing.B) {
	texts := realResponses(b)
	for _, name := range []string{"qwen2.5", "llama-3"} {
		b.Run(name, func(b *testing.B) {
			tok := realTokenizer(b, name)
			bytes, tokens := 0, 0
			for _, text := range texts {
				bytes += len(text)
			}
			b.SetBytes(int64(bytes))
			for b.Loop() {
				tokens = 0
				for _, text := range texts {
					e, err := tok.Encode(text, "auto")
					if err != nil {
						b.Fatal(err)
					}
					tokens += len(e.IDs)
				}
			}
			b.ReportMetric(float64(tokens), "tokens")
		})
	}
}

func BenchmarkOpenTokenizer(b *testing.B) {
	dir := os.DirFS(filepath.Dir(sharedFile(b, "data/tokenizers/llama-3/tokenizer.json")))
	for b.Loop() {
		if _, err := OpenTokenizer(dir); err != nil {
			b.Fatal(err)
		}
	}
}
