// Package kernels holds the CUDA kernels of the forward pass: their sources and
// the PTX that nvcc makes of them, for cards of compute capability 8.0 and
// newer, and faster products for capability 9.0 (Hopper) alone.
package kernels

//go:generate nvcc -arch=compute_80 -ptx -o kernels.ptx kernels.cu
//go:generate nvcc -arch=compute_90 -ptx -o hopper.ptx hopper.cu

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"strings"
)

//go:embed kernels.ptx
var ptx string

//go:embed hopper.ptx
var hopper string

// PTX is the module, as text.
func PTX() string { return ptx }

// HopperPTX is the module of hopper.cu, as text. Its tensor cores' instructions are
// those of the target sm_90a, which the CUDA 11.8 that it is made with does not know
// by name, but hands on.
func HopperPTX() string {
	lines := strings.Split(hopper, "\n")
	for i, l := range lines {
		switch {
		case strings.HasPrefix(l, ".version "):
			lines[i] = ".version 8.0"
		case strings.HasPrefix(l, ".target "):
			lines[i] = ".target sm_90a"
			return strings.Join(lines, "\n")
		}
	}
	return hopper
}

// InHopper reports whether a kernel is in that module.
func InHopper(kernel string) bool { return strings.Contains(hopper, ".entry "+kernel+"(") }

// Version names the kernels by their content.
func Version() string {
	sum := sha256.Sum256([]byte(ptx + hopper))
	return hex.EncodeToString(sum[:6])
}

// Hopper is how the kernels of hopper.cu are started: how many threads a block has,
// and the shared memory that it takes. The number of blocks is even.
const (
	HopperThreads = 384
	HopperShared  = 1024 + 4*3*128*64*2 + 2*4*8
)

// Gemm returns the kernel for products of numbers of that kind, on a card that
// lets a block have so many bytes of shared memory; the part of the result that
// a block of 256 threads makes; and the shared memory that it takes (gemm.cu, and
// int8.cu for "int8").
func Gemm(number string, limit int) (name string, tall, broad, shared int) {
	if number == "float" {
		return "gemm_float", 64, 64, 0
	}
	for _, slice := range []int{64, 32} {
		shared = 3 * (128 + 256) * (slice + 8) * 2
		name = fmt.Sprintf("gemm_%s_%d", number, slice)
		if shared <= limit {
			break
		}
	}
	return name, 128, 256, shared
}

// Attention returns the kernel for attention over heads of that width, of numbers of
// that kind, and the shared memory that it takes (attention.cu, attention_float.cu).
func Attention(number string, wide int) (name string, shared int) {
	name = fmt.Sprintf("attention_%s_%d", number, wide)
	if number == "float" {
		queries := 64
		if wide > 128 {
			queries = 32
		}
		return name, ((queries+32)*(wide+4) + queries*32) * 4
	}
	keys := 64
	if wide > 128 {
		keys = 32
	}
	return name, 2 * max(2*keys, 64) * (wide + 8) * 2
}
