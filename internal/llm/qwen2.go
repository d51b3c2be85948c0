package llm

import "fmt"

// configureQwen2 configures Qwen2 (arXiv 2407.10671): biases on the query, key
// and value projections and nowhere else.
//
// Its files can ask for a sliding window (use_sliding_window) in the layers
// from max_window_layers on; the published models do not use it, and it is
// refused here.
func configureQwen2(f *configFile, c *Config) error {
	c.QKVBias = true
	return refuseWindow(f, c)
}

// refuseWindow refuses the sliding window of the Qwen models where a layer
// uses it.
func refuseWindow(f *configFile, c *Config) error {
	for i, kind := range f.LayerTypes {
		if kind != "full_attention" && i < c.Layers {
			return fmt.Errorf("layer %d has attention of type %q (layer_types), which cannot be run here; full_attention can", i, kind)
		}
	}
	if len(f.LayerTypes) > 0 || !f.UseSlidingWindow || f.SlidingWindow == nil {
		return nil
	}
	from := 28 // transformers' default
	if f.MaxWindowLayers != nil {
		from = *f.MaxWindowLayers
	}
	if from < c.Layers {
		return fmt.Errorf("use_sliding_window is on for the layers from %d, with a window of %d tokens; sliding windows cannot be run here, and full attention would give other states", from, *f.SlidingWindow)
	}
	return nil
}
