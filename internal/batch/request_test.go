package batch

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

var parts = PromptParts{
	System: "You name functions.", User: "Sentences: <a> & ½", SchemaName: "title",
	Schema:    json.RawMessage(`{"type": "object", "properties": {"title": {"type": "string"}}}`),
	MaxTokens: 900, Repetition: 2,
}

func TestRequestBody(t *testing.T) {
	half := 0.5
	for _, tc := range []struct {
		name string
		e    Evaluator
		has  []string
		not  []string
	}{
		{"default", Evaluator{Model: "gpt-4o"},
			[]string{`"temperature":0}`, `"model":"gpt-4o"`, `"max_completion_tokens":900`, `"strict":true`, `"type":"json_schema"`, `"name":"title"`,
				`"schema":{"type":"object","properties":{"title":{"type":"string"}}}`, `{"role":"system","content":"You name functions."}`},
			[]string{"max_tokens", "reasoning_effort", "e-45"}},
		{"temperature", Evaluator{Model: "gpt-4o", Temperature: &half}, []string{`"temperature":0.5`}, nil},
		{"limit", Evaluator{Model: "gpt-4o", MaxCompletionTokens: 77}, []string{`"max_completion_tokens":77`}, []string{"900"}},
		{"reasoning", Evaluator{Model: "o4-mini", Temperature: &half, ReasoningEffort: "low"}, []string{`"reasoning_effort":"low"`}, []string{"temperature"}},
	} {
		var body map[string]any
		req := NewRequest(tc.e, parts)
		if err := json.Unmarshal(req.Body, &body); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		for _, s := range tc.has {
			if !strings.Contains(string(req.Body), s) {
				t.Errorf("%s: no %s in %s", tc.name, s, req.Body)
			}
		}
		for _, s := range tc.not {
			if strings.Contains(string(req.Body), s) {
				t.Errorf("%s: %s in %s", tc.name, s, req.Body)
			}
		}
	}
	plain := NewRequest(Evaluator{Model: "m"}, PromptParts{User: "hi"})
	if want := `{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":false,"temperature":0}`; string(plain.Body) != want {
		t.Errorf("plain body %s, want %s", plain.Body, want)
	}
}

// Families as reference.md section 5 lists them.
func TestReasoning(t *testing.T) {
	for model, want := range map[string]bool{
		"o1": true, "o3-mini": true, "o4-mini-2025-04-16": true, "gpt-5": true, "gpt-5-nano": true, "openai/o3": true,
		"gpt-4o": false, "gpt-4.1-mini": false, "olmo": false, "meta/llama-o1": false,
	} {
		if Reasoning(model) != want {
			t.Errorf("Reasoning(%q) = %v", model, !want)
		}
	}
}

// Answers are kept for ever under their request's key, so a key that changes
// throws away what was paid for: this digest must never change. It was made
// outside Go, as the SHA-256 of the ten lines that NewRequest describes.
func TestKeyIsFrozen(t *testing.T) {
	e := Evaluator{Provider: "openai", Model: "gpt-4o", BaseURL: "https://api.openai.com/v1"}
	const want = "b03073512349e15868dd782d9ac7bd5c0628e5aa68c6807a9e1d27f687bb9e64"
	if got := NewRequest(e, parts).Key; got != want {
		t.Errorf("key %s, want %s", got, want)
	}
}

func TestKeyHoldsWhatDecidesTheAnswer(t *testing.T) {
	base := Evaluator{Name: "judge", Provider: "openai", Model: "gpt-4o", BaseURL: "https://api.openai.com/v1"}
	key := NewRequest(base, parts).Key
	zero, one := 0.0, 1.0
	for name, tc := range map[string]struct {
		same bool
		edit func(e *Evaluator, p *PromptParts)
	}{
		"name":         {true, func(e *Evaluator, p *PromptParts) { e.Name = "titler" }},
		"API key":      {true, func(e *Evaluator, p *PromptParts) { e.APIKey, e.APIKeyEnv = "k", "K" }},
		"limits":       {true, func(e *Evaluator, p *PromptParts) { e.Limits = Limits{1, 1, 0, 0} }},
		"path of URL":  {true, func(e *Evaluator, p *PromptParts) { e.BaseURL = "https://API.openai.com/v2/" }},
		"no provider":  {true, func(e *Evaluator, p *PromptParts) { e.Provider = "" }},
		"temperature":  {false, func(e *Evaluator, p *PromptParts) { e.Temperature = &one }},
		"said 0":       {true, func(e *Evaluator, p *PromptParts) { e.Temperature = &zero }},
		"schema white": {true, func(e *Evaluator, p *PromptParts) { p.Schema = compact(p.Schema) }},
		"limit said":   {true, func(e *Evaluator, p *PromptParts) { e.MaxCompletionTokens = 900 }},
		"model":        {false, func(e *Evaluator, p *PromptParts) { e.Model = "gpt-4.1" }},
		"host":         {false, func(e *Evaluator, p *PromptParts) { e.BaseURL = "https://example.org/v1" }},
		"provider":     {false, func(e *Evaluator, p *PromptParts) { e.Provider = "lexical" }},
		"effort":       {false, func(e *Evaluator, p *PromptParts) { e.ReasoningEffort = "low" }},
		"limit":        {false, func(e *Evaluator, p *PromptParts) { p.MaxTokens = 901 }},
		"system":       {false, func(e *Evaluator, p *PromptParts) { p.System += " " }},
		"user":         {false, func(e *Evaluator, p *PromptParts) { p.User += " " }},
		"both":         {false, func(e *Evaluator, p *PromptParts) { p.System, p.User = "", p.System+p.User }},
		"schema name":  {false, func(e *Evaluator, p *PromptParts) { p.SchemaName = "t" }},
		"schema":       {false, func(e *Evaluator, p *PromptParts) { p.Schema = nil }},
		"repetition":   {false, func(e *Evaluator, p *PromptParts) { p.Repetition = 3 }},
	} {
		e, p := base, parts
		tc.edit(&e, &p)
		if got := NewRequest(e, p).Key == key; got != tc.same {
			t.Errorf("%s: key the same = %v, want %v", name, got, tc.same)
		}
	}
}

func TestEvaluatorHidesItsKey(t *testing.T) {
	e := Evaluator{Name: "judge", Model: "m", APIKey: "sk-secret"}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprintf("%v", e), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e), string(b)} {
		if strings.Contains(s, "sk-secret") {
			t.Errorf("the key shows: %s", s)
		}
	}
}
