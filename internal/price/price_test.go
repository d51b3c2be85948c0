package price

import (
	"strings"
	"sync"
	"testing"
)

func TestPricesOfModelsSnapshotsAndVendors(t *testing.T) {
	for model, want := range map[string]Price{
		"gpt-4o":                    {2.5, 10, 0.5},
		"gpt-4o-2024-08-06":         {2.5, 10, 0.5},
		"gpt-4o-2024-05-13":         {5, 15, 0.5},
		"openai/GPT-4.1-mini":       {0.4, 1.6, 0.5},
		"azure/o4-mini-2025-04-16":  {1.1, 4.4, 0.5},
		"gpt-4o-mini-2024-07-18":    {0.15, 0.6, 0.5},
		"gpt-5-nano":                {0.05, 0.4, 0.5},
		"gpt-4.1-nano-2025-04-14":   {0.1, 0.4, 0.5},
		"some-vendor/o3-2025-04-16": {2, 8, 0.5},
	} {
		if got, ok := Of(model); !ok || got != want {
			t.Errorf("%s costs %v, %v; want %v", model, got, ok, want)
		}
	}
	for _, model := range []string{"", "gpt", "gpt-4o-audio", "llama-3.1-8b", "gpt-4o-2024", "lexical-1"} {
		if p, ok := Of(model); ok {
			t.Errorf("%q has a price, %v", model, p)
		}
	}
	for _, m := range Models() {
		p, ok := Of(m)
		if !ok || p.Input <= 0 || p.Output <= p.Input {
			t.Errorf("%s: %v, %v", m, p, ok)
		}
	}
}

func TestCost(t *testing.T) {
	p := Price{Input: 2.5, Output: 10, Batch: 0.5}
	if got := p.Of(1_000_000, 100_000, false); got != 3.5 {
		t.Errorf("one by one: %g", got)
	}
	if got := p.Of(1_000_000, 100_000, true); got != 1.75 {
		t.Errorf("in a batch: %g", got)
	}
}

func TestDollars(t *testing.T) {
	for usd, want := range map[float64]string{
		0: "$0", 0.00042: "$0.00042", 0.5: "$0.50", 12.345: "$12.35", 100: "$100", 2345.6: "$2,346", 1234567: "$1,234,567",
	} {
		if got := Dollars(usd); got != want {
			t.Errorf("%g is %s, want %s", usd, got, want)
		}
	}
}

// The counts are those of OpenAI's tiktoken for o200k_base.
func TestTokens(t *testing.T) {
	for text, want := range map[string]int{
		"":                             0,
		"hello world":                  2,
		"tiktoken is great!":           6,
		"お誕生日おめでとう":                    8,
		"2 + 2 = 4":                    7,
		"antidisestablishmentarianism": 6,
	} {
		if got := Tokens(text); got != want {
			t.Errorf("%q has %d tokens, want %d", text, got, want)
		}
	}
	var wg sync.WaitGroup
	long := strings.Repeat("So, let me think about this again. ", 500)
	want := Tokens(long)
	for range 8 {
		wg.Go(func() {
			if got := Tokens(long); got != want {
				t.Errorf("%d tokens beside others, %d alone", got, want)
			}
		})
	}
	wg.Wait()
}

func TestPromptCountsMessagesAndSchema(t *testing.T) {
	bare := `{"model":"m","messages":[{"role":"system","content":"hello world"},{"role":"user","content":"hello world"}],"max_completion_tokens":700`
	n, err := Prompt([]byte(bare + "}"))
	if want := perAnswer + 2*(perMessage+2); err != nil || n != want {
		t.Errorf("%d tokens, %v; want %d", n, err, want)
	}
	with, err := Prompt([]byte(bare + `,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object"}}}}`))
	if want := n + Tokens(`{"type":"object"}`); err != nil || with != want {
		t.Errorf("%d tokens with a schema, %v; want %d", with, err, want)
	}
	if most, err := Limit([]byte(bare + "}")); err != nil || most != 700 {
		t.Errorf("limit %d, %v", most, err)
	}
	if _, err := Prompt([]byte("{")); err == nil {
		t.Error("half a body was counted")
	}
}
