package main

import "golang.org/x/sys/cpu"

//go:noescape
func fma512(n int)

//go:noescape
func fma256(n int)

// fmaLoop returns a loop of fused multiply-adds on registers alone, and the
// floating-point operations of one round: what no program can exceed.
func fmaLoop() (loop func(n int), operations float64, name string) {
	switch {
	case cpu.X86.HasAVX512F:
		return fma512, 2 * 24 * 16, "AVX-512"
	case cpu.X86.HasFMA && cpu.X86.HasAVX2:
		return fma256, 2 * 12 * 8, "AVX2"
	}
	return nil, 0, ""
}
