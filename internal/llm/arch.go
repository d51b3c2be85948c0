package llm

import "strings"

// architecture is a kind of decoder that can be run. They all are pre-norm
// blocks with RMSNorm, rotary positions, grouped-query attention and SwiGLU;
// what tells them apart stands in one file each.
type architecture struct {
	modelType string // model_type of config.json
	// configure sets what is particular to the architecture, and refuses
	// settings that would need other code.
	configure func(file *configFile, c *Config) error
}

// architectures is what can be run.
var architectures = []architecture{
	{"qwen2", configureQwen2}, // qwen2.go: Qwen2, Qwen2.5, QwQ, R1-Distill-Qwen
	{"llama", configureLlama}, // llama.go: Llama 2, 3, 3.1, 3.3, R1-Distill-Llama
	{"qwen3", configureQwen3}, // qwen3.go: Qwen3, dense
}

func architectureOf(modelType string) (architecture, bool) {
	for _, a := range architectures {
		if a.modelType == modelType {
			return a, true
		}
	}
	return architecture{}, false
}

// Architectures returns the model_type values that can be run.
func Architectures() []string {
	var names []string
	for _, a := range architectures {
		names = append(names, a.modelType)
	}
	return names
}

func architectureList() string { return strings.Join(Architectures(), ", ") }
