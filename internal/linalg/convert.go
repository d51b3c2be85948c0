package linalg

import "math"

// BF16ToF32 returns the value of the bfloat16 with the given bits, exactly.
func BF16ToF32(bits uint16) float32 { return math.Float32frombits(uint32(bits) << 16) }

// F16ToF32 returns the value of the IEEE 754 binary16 with the given bits,
// exactly; infinities and NaNs stay what they are.
func F16ToF32(bits uint16) float32 {
	sign := uint32(bits&0x8000) << 16
	exp := uint32(bits>>10) & 0x1f
	frac := uint32(bits & 0x3ff)
	switch exp {
	case 0: // zero or subnormal: frac · 2⁻²⁴
		v := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
}

// F32ToBF16 returns the bits of the bfloat16 nearest to v, ties to even.
func F32ToBF16(v float32) uint16 {
	bits := math.Float32bits(v)
	if v != v {
		return uint16(bits>>16) | 0x40 // stay a NaN when the low bits go
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// RoundBF16 returns the bfloat16 nearest to v, ties to even.
func RoundBF16(v float32) float32 { return BF16ToF32(F32ToBF16(v)) }

// RoundF16 returns the IEEE 754 binary16 nearest to v, ties to even: infinite
// from 65520 on, and below 2⁻¹⁴ a multiple of 2⁻²⁴.
func RoundF16(v float32) float32 {
	bits := math.Float32bits(v)
	switch size := bits &^ (1 << 31); {
	case size >= 0x7f800000: // infinite or not a number
		return v
	case size >= 0x477ff000: // 65520, half a step above the largest
		return math.Float32frombits(bits&(1<<31) | 0x7f800000)
	case size < 0x38800000: // below 2⁻¹⁴: adding 2⁻¹ rounds to a multiple of 2⁻²⁴
		sum := math.Float32frombits(size) + 0.5
		return math.Float32frombits(math.Float32bits(sum-0.5) | bits&(1<<31))
	}
	return math.Float32frombits((bits + 0xfff + bits>>13&1) &^ 0x1fff)
}

// F32ToF16 returns the bits of the IEEE 754 binary16 nearest to v, ties to even.
func F32ToF16(v float32) uint16 {
	bits := math.Float32bits(RoundF16(v))
	sign := uint16(bits >> 16 & 0x8000)
	switch size := bits &^ (1 << 31); {
	case size > 0x7f800000:
		return sign | 0x7e00
	case size == 0x7f800000:
		return sign | 0x7c00
	case size < 0x38800000:
		return sign | uint16(math.Float32frombits(size)*(1<<24))
	default:
		return sign | uint16(size>>13-(127-15)<<10)
	}
}
