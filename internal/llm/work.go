package llm

// Work is the number of floating-point operations of a pass over so many tokens
// through the first blocks, with squares the sum of the squared lengths of their
// sequences: two for each weight and token, and for attention to what precedes
// a token two for the scores and two for the sum, over half of each square.
func (c *Checkpoint) Work(tokens, squares float64, blocks int) float64 {
	f := c.Config
	weights := float64(f.blockElements())
	return float64(blocks) * (2*weights*tokens + 2*float64(f.Heads*f.HeadDim)*squares)
}
