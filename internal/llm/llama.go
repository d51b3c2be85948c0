package llm

// configureLlama configures Llama (arXiv 2302.13971; 2407.21783 for 3 and
// 3.1): no biases unless attention_bias or mlp_bias asks for them, and, from
// 3.1 on, rope_scaling of type llama3, which [rope] knows.
func configureLlama(f *configFile, c *Config) error {
	c.QKVBias, c.OutBias = f.AttentionBias, f.AttentionBias
	c.MLPBias = f.MLPBias
	return nil
}
