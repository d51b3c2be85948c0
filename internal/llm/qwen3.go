package llm

// configureQwen3 configures the dense Qwen3 models (arXiv 2505.09388): an
// RMSNorm over each head's query and key before the rotation, a head_dim of its
// own, and no biases unless attention_bias asks for them. The sliding window
// is Qwen2's.
func configureQwen3(f *configFile, c *Config) error {
	c.QKNorm = true
	c.QKVBias, c.OutBias = f.AttentionBias, f.AttentionBias
	if f.HeadDim == nil {
		c.HeadDim = 128 // transformers' default
	}
	return refuseWindow(f, c)
}
