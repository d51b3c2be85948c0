package llm

import "math"

// rope holds the rotations of rotary position embeddings (arXiv 2104.09864):
// at position p, the pair of elements j and j + headDim/2 of a head turns by
// p·frequency[j]. Angles are computed in float64: at position 4,096 the angle
// itself would be off by 2e-4 in float32.
type rope struct {
	half     int
	cos, sin []float32 // [positions, half]
}

func newRope(c Config, positions int) *rope {
	r := &rope{half: c.HeadDim / 2}
	r.cos, r.sin = make([]float32, positions*r.half), make([]float32, positions*r.half)
	freq := c.frequencies()
	for p := range positions {
		for j, f := range freq {
			sin, cos := math.Sincos(float64(p) * f)
			r.cos[p*r.half+j], r.sin[p*r.half+j] = float32(cos), float32(sin)
		}
	}
	return r
}

// frequencies returns the angles per position, [headDim/2]. With llama3
// scaling, wavelengths above original/low are stretched by factor, those below
// original/high are left, and those between are blended.
func (c Config) frequencies() []float64 {
	freq := make([]float64, c.HeadDim/2)
	for j := range freq {
		freq[j] = math.Pow(c.RopeTheta, -float64(2*j)/float64(c.HeadDim))
		s := c.Llama3
		if s == nil {
			continue
		}
		turns := s.OriginalContext * freq[j] / (2 * math.Pi) // within the original context
		switch {
		case turns < s.LowFreqFactor:
			freq[j] /= s.Factor
		case turns <= s.HighFreqFactor:
			smooth := (turns - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
			freq[j] = (1-smooth)*freq[j]/s.Factor + smooth*freq[j]
		}
	}
	return freq
}

// turn rotates one head, [headDim], at a position.
func (r *rope) turn(head []float32, position int) {
	cos, sin := r.cos[position*r.half:][:r.half], r.sin[position*r.half:][:r.half]
	a, b := head[:r.half], head[r.half:][:r.half]
	for j, c := range cos {
		x, y, s := a[j], b[j], sin[j]
		a[j] = x*c - y*s
		b[j] = y*c + x*s
	}
}
