package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// Config is the shape of a decoder, as its config.json gives it.
type Config struct {
	ModelType string
	Hidden    int // width of the residual stream
	Inter     int // width of the MLP
	Layers    int // number of blocks
	Heads     int // query heads
	KVHeads   int // key and value heads; divides Heads
	HeadDim   int // width of a head, even
	Vocab     int // rows of the embedding
	Context   int // max_position_embeddings; 0 where the file does not say

	Eps       float64 // of the RMSNorms
	RopeTheta float64
	Llama3    *Llama3Scaling // nil for unscaled rotary frequencies

	QKVBias, OutBias, MLPBias bool
	QKNorm                    bool // RMSNorm over each head's query and key
}

// Llama3Scaling is rope_scaling of type "llama3".
type Llama3Scaling struct {
	Factor          float64 `json:"factor"`
	LowFreqFactor   float64 `json:"low_freq_factor"`
	HighFreqFactor  float64 `json:"high_freq_factor"`
	OriginalContext float64 `json:"original_max_position_embeddings"`
}

// configFile is what is used of config.json.
type configFile struct {
	ModelType     string          `json:"model_type"`
	Hidden        int             `json:"hidden_size"`
	Inter         int             `json:"intermediate_size"`
	Layers        int             `json:"num_hidden_layers"`
	Heads         int             `json:"num_attention_heads"`
	KVHeads       *int            `json:"num_key_value_heads"`
	HeadDim       *int            `json:"head_dim"`
	Vocab         int             `json:"vocab_size"`
	Context       int             `json:"max_position_embeddings"`
	Act           string          `json:"hidden_act"`
	Eps           *float64        `json:"rms_norm_eps"`
	RopeTheta     *float64        `json:"rope_theta"`
	RopeScaling   json.RawMessage `json:"rope_scaling"`
	RopeParams    json.RawMessage `json:"rope_parameters"` // transformers 5
	Rotary        *float64        `json:"partial_rotary_factor"`
	AttentionBias bool            `json:"attention_bias"`
	MLPBias       bool            `json:"mlp_bias"`

	UseSlidingWindow bool     `json:"use_sliding_window"`
	SlidingWindow    *int     `json:"sliding_window"`
	MaxWindowLayers  *int     `json:"max_window_layers"`
	LayerTypes       []string `json:"layer_types"`

	Quantization json.RawMessage `json:"quantization_config"`
}

// parseConfig reads config.json and checks that the model can be run.
func parseConfig(data []byte) (Config, error) {
	var f configFile
	if err := json.Unmarshal(data, &f); err != nil {
		return Config{}, err
	}
	arch, ok := architectureOf(f.ModelType)
	if !ok {
		return Config{}, fmt.Errorf("its model_type is %q; this program runs %s", f.ModelType, architectureList())
	}
	if present(f.Quantization) {
		return Config{}, errors.New("its weights are quantised (quantization_config); give the checkpoint in bf16, f16 or f32")
	}
	if f.Act != "" && f.Act != "silu" && f.Act != "swish" {
		return Config{}, fmt.Errorf("its hidden_act is %q; silu can be run", f.Act)
	}
	if f.Rotary != nil && *f.Rotary != 1 {
		return Config{}, fmt.Errorf("its partial_rotary_factor is %g; only 1 can be run", *f.Rotary)
	}
	c := Config{
		ModelType: f.ModelType,
		Hidden:    f.Hidden, Inter: f.Inter, Layers: f.Layers, Heads: f.Heads, KVHeads: f.Heads,
		Vocab: f.Vocab, Context: f.Context, Eps: 1e-6, RopeTheta: 10000,
	}
	if f.KVHeads != nil {
		c.KVHeads = *f.KVHeads
	}
	if f.Eps != nil {
		c.Eps = *f.Eps
	}
	if f.RopeTheta != nil {
		c.RopeTheta = *f.RopeTheta
	}
	if f.HeadDim != nil {
		c.HeadDim = *f.HeadDim
	} else if c.Heads > 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
	if err := c.setRope(f.RopeScaling, "rope_scaling"); err != nil {
		return Config{}, err
	}
	if err := c.setRope(f.RopeParams, "rope_parameters"); err != nil {
		return Config{}, err
	}
	if err := arch.configure(&f, &c); err != nil {
		return Config{}, err
	}
	return c, c.check(f.HeadDim == nil)
}

// setRope takes rotary settings other than rope_theta.
func (c *Config) setRope(data json.RawMessage, field string) error {
	if !present(data) {
		return nil
	}
	var s struct {
		RopeType string   `json:"rope_type"`
		Type     string   `json:"type"`
		Theta    *float64 `json:"rope_theta"`
		Rotary   *float64 `json:"partial_rotary_factor"`
		Llama3Scaling
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	if s.Theta != nil {
		c.RopeTheta = *s.Theta
	}
	if s.Rotary != nil && *s.Rotary != 1 {
		return fmt.Errorf("%s: partial_rotary_factor is %g; only 1 can be run", field, *s.Rotary)
	}
	kind := s.RopeType
	if kind == "" {
		kind = s.Type
	}
	switch kind {
	case "default":
	case "llama3":
		l := s.Llama3Scaling
		if !(l.Factor > 0 && l.LowFreqFactor > 0 && l.HighFreqFactor > l.LowFreqFactor && l.OriginalContext > 0) {
			return fmt.Errorf("%s: type llama3 needs factor, low_freq_factor, a larger high_freq_factor and original_max_position_embeddings, all above 0", field)
		}
		c.Llama3 = &l
	case "":
		return fmt.Errorf("%s does not say its rope_type; default and llama3 can be run", field)
	default:
		return fmt.Errorf("%s is of type %q; default and llama3 can be run", field, kind)
	}
	return nil
}

// check holds the bounds that the rest of the package relies on.
func (c Config) check(divided bool) error {
	const most = 1 << 24
	for _, n := range []struct {
		field string
		value int
	}{
		{"hidden_size", c.Hidden}, {"intermediate_size", c.Inter}, {"num_hidden_layers", c.Layers},
		{"num_attention_heads", c.Heads}, {"num_key_value_heads", c.KVHeads}, {"head_dim", c.HeadDim}, {"vocab_size", c.Vocab},
	} {
		if n.value < 1 || n.value > most {
			return fmt.Errorf("%s is %d, or missing; it must be 1 to %d", n.field, n.value, most)
		}
	}
	switch {
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("num_attention_heads = %d is not a multiple of num_key_value_heads = %d", c.Heads, c.KVHeads)
	case divided && !c.QKNorm && c.Hidden%c.Heads != 0:
		return fmt.Errorf("hidden_size = %d is not a multiple of num_attention_heads = %d, and there is no head_dim", c.Hidden, c.Heads)
	case c.HeadDim%2 != 0:
		return fmt.Errorf("head_dim = %d is odd; rotary positions need pairs", c.HeadDim)
	case !(c.Eps >= 0) || math.IsInf(c.Eps, 0):
		return fmt.Errorf("rms_norm_eps = %g is not a small number from 0", c.Eps)
	case !(c.RopeTheta > 0) || math.IsInf(c.RopeTheta, 0):
		return fmt.Errorf("rope_theta = %g is not above 0", c.RopeTheta)
	}
	return nil
}

// present reports whether a JSON member is there and not null.
func present(data json.RawMessage) bool {
	return len(data) > 0 && !bytes.Equal(data, []byte("null"))
}
