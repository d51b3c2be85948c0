package linalg

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/cpu"
)

// BackendInfo says which library computes matrix products, and why that one.
type BackendInfo struct {
	Name    string // "OpenBLAS 0.3.21 SkylakeX" or "gonum"
	Path    string // the library's file or soname; "" for gonum
	How     string // how it was chosen, in a sentence for the doctor
	Problem string // what went wrong although the user asked for a library; else ""
}

// Backend returns the library that [Gemm] uses. It is looked for once, on the
// first call: the library named by CLUSTERFLOW_BLAS (a path, or "gonum"), else
// OpenBLAS where the system's loader finds it, else gonum's own Go code.
func Backend() BackendInfo { return backend().info }

type loadedBackend struct {
	info  BackendInfo
	sgemm gemmFunc[float32]
	dgemm gemmFunc[float64]
}

// backend is the process's one BLAS: a shared library can be loaded once only,
// and results must not change half-way.
var backend = sync.OnceValue(findBackend)

func findBackend() loadedBackend {
	fallback := goBackend()
	asked := os.Getenv("CLUSTERFLOW_BLAS")
	switch {
	case strings.EqualFold(asked, "gonum"):
		fallback.info.How = "CLUSTERFLOW_BLAS=gonum"
		return fallback
	case asked != "":
		found, err := loadBLAS(asked)
		if err != nil {
			fallback.info.How = "the library named by CLUSTERFLOW_BLAS could not be used"
			fallback.info.Problem = fmt.Sprintf("loading the BLAS named by CLUSTERFLOW_BLAS: %v; unset it to search the system's libraries, or set it to gonum", err)
			return fallback
		}
		found.info.How = "CLUSTERFLOW_BLAS=" + asked + coreNote(found)
		return found
	}
	for _, name := range blasNames() {
		if found, err := loadBLAS(name); err == nil {
			found.info.How = "found by the system's loader as " + name + coreNote(found)
			return found
		}
	}
	fallback.info.How = "no OpenBLAS found (Debian, Ubuntu: apt install libopenblas0), so products run on gonum's Go code, many times slower"
	return fallback
}

func coreNote(b loadedBackend) string {
	if core := os.Getenv(coreVariable); core != "" && strings.HasPrefix(b.info.Name, "OpenBLAS") {
		return ", " + coreVariable + "=" + core
	}
	return ""
}

// coreVariable names OpenBLAS's environment variable for the kernels to use.
const coreVariable = "OPENBLAS_CORETYPE"

// openBLASCore returns the name of the best kernels of OpenBLAS that this
// processor can run, or "" to leave the choice to OpenBLAS. It chooses by
// processor model, and takes its slowest kernels for models younger than
// itself; choosing by instruction set does not age.
func openBLASCore() string {
	if runtime.GOARCH != "amd64" {
		return ""
	}
	switch {
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512CD && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL:
		return "SKYLAKEX"
	case cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		return "HASWELL"
	}
	return ""
}

// CPUFeatures returns the vector instruction sets of this processor that
// matter to the speed of matrix products, in a fixed order.
func CPUFeatures() []string {
	all := []struct {
		name string
		has  bool
	}{
		{"sse4.1", cpu.X86.HasSSE41},
		{"avx", cpu.X86.HasAVX},
		{"avx2", cpu.X86.HasAVX2},
		{"fma", cpu.X86.HasFMA},
		{"avx512f", cpu.X86.HasAVX512F},
		{"avx512bw", cpu.X86.HasAVX512BW},
		{"avx512dq", cpu.X86.HasAVX512DQ},
		{"avx512vl", cpu.X86.HasAVX512VL},
		{"avx512vnni", cpu.X86.HasAVX512VNNI},
		{"avx512bf16", cpu.X86.HasAVX512BF16},
		{"amx-bf16", cpu.X86.HasAMXBF16},
		{"asimd", cpu.ARM64.HasASIMD},
		{"asimddp", cpu.ARM64.HasASIMDDP},
		{"sve", cpu.ARM64.HasSVE},
	}
	var names []string
	for _, f := range all {
		if f.has {
			names = append(names, f.name)
		}
	}
	return names
}

// MeasureGFLOPS returns the speed of [Gemm] on one thread, in 10⁹ floating
// point operations a second, measured over about a fifth of a second after a
// warm-up. It returns 0 if ctx ends first.
func MeasureGFLOPS(ctx context.Context) float64 {
	const m, n, k = tileRows, tileCols, 1024
	a, b, c := NewMatrix(m, k), NewMatrix(n, k), NewMatrix(m, n)
	for i := range a.Data {
		a.Data[i] = float32(i%7) - 3
	}
	for i := range b.Data {
		b.Data[i] = float32(i%5) - 2
	}
	Gemm(1, false, true, 1, a, b, 0, c)
	start := time.Now()
	for calls := 1; ; calls++ {
		if ctx.Err() != nil {
			return 0
		}
		Gemm(1, false, true, 1, a, b, 0, c)
		if t := time.Since(start); t > 200*time.Millisecond {
			return 2 * m * n * k * float64(calls) / t.Seconds() / 1e9
		}
	}
}
