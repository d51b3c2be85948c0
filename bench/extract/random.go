package main

import (
	"math"
	"strings"

	"clusterflow/internal/linalg"
)

// random writes a tensor of nearly normal numbers in bfloat16: sums of four
// uniform ones, from a generator of the tensor's own (xorshift64*, Vigna 2016),
// because a billion of them are needed.
func random(w *linalg.SafetensorsWriter, spec linalg.TensorSpec, seed uint64) error {
	n, in := 1, spec.Shape[len(spec.Shape)-1]
	for _, d := range spec.Shape {
		n *= d
	}
	mean, deviation := 0.0, 1/math.Sqrt(float64(in))
	switch {
	case strings.Contains(spec.Name, "embed_tokens"):
		deviation = 1
	case strings.HasSuffix(spec.Name, "bias"):
		deviation = 0.5
	case len(spec.Shape) == 1:
		mean, deviation = 1, 0.1
	}
	state := (seed + 1) * 0x9e3779b97f4a7c15
	scale := float32(deviation * math.Sqrt(3) / 65536) // four uniform 16-bit numbers have deviation 65536/√3
	buf := make([]byte, 0, 1<<16)
	for i := range n {
		state ^= state >> 12
		state ^= state << 25
		state ^= state >> 27
		bits := state * 0x2545f4914f6cdd1d
		sum := int32(bits&0xffff) + int32(bits>>16&0xffff) + int32(bits>>32&0xffff) + int32(bits>>48) - 4*32768
		v := linalg.F32ToBF16(float32(sum)*scale + float32(mean))
		if buf = append(buf, byte(v), byte(v>>8)); len(buf) == cap(buf) || i == n-1 {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	return nil
}
