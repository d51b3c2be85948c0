//go:build (linux || darwin || freebsd) && (amd64 || arm64)

package linalg

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ebitengine/purego"
)

// blasNames lists the names under which OpenBLAS is looked for, best first.
func blasNames() []string {
	if runtime.GOOS == "darwin" {
		return []string{"libopenblas.dylib", "/opt/homebrew/opt/openblas/lib/libopenblas.dylib", "/usr/local/opt/openblas/lib/libopenblas.dylib"}
	}
	return []string{"libopenblas.so.0", "libopenblas.so"}
}

// loadBLAS loads the library and binds its products. OpenBLAS reads its
// settings from the environment while it is loaded, so they are set for that
// long, where the user has not set them.
func loadBLAS(path string) (loadedBackend, error) {
	defer setenv("OPENBLAS_NUM_THREADS", "1")()
	if core := openBLASCore(); core != "" && os.Getenv(coreVariable) == "" {
		setenv(coreVariable, core) // kept: it is what doctor reports
	}
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return loadedBackend{}, err
	}
	single, err := purego.Dlsym(lib, "cblas_sgemm")
	if err != nil {
		return loadedBackend{}, fmt.Errorf("%s has no cblas_sgemm, so it is no CBLAS library", path)
	}
	double, err := purego.Dlsym(lib, "cblas_dgemm")
	if err != nil {
		return loadedBackend{}, fmt.Errorf("%s has no cblas_dgemm, so it is no CBLAS library", path)
	}
	name := filepath.Base(path)
	if at, err := purego.Dlsym(lib, "openblas_set_num_threads"); err == nil {
		var setThreads func(int32)
		purego.RegisterFunc(&setThreads, at)
		setThreads(1)
		name = openBLASName(lib)
	}

	info := BackendInfo{Name: name, Path: path}
	return loadedBackend{info: info, sgemm: bindGemm[float32](single), dgemm: bindGemm[float64](double)}, nil
}

// bindGemm makes a Go function of a cblas_?gemm. The integers are passed 64
// bits wide, which suits libraries with 32-bit integers (they read the lower
// half) and with 64-bit ones.
func bindGemm[T float32 | float64](symbol uintptr) gemmFunc[T] {
	var cblas func(order, transA, transB, m, n, k int, alpha T, a *T, lda int, b *T, ldb int, beta T, c *T, ldc int)
	purego.RegisterFunc(&cblas, symbol)
	const rowMajor, noTrans, trans = 101, 111, 112
	op := func(t bool) int {
		if t {
			return trans
		}
		return noTrans
	}
	return func(transA, transB bool, m, n, k int, alpha T, a []T, lda int, b []T, ldb int, beta T, c []T, ldc int) {
		cblas(rowMajor, op(transA), op(transB), m, n, k, alpha, &a[0], lda, &b[0], ldb, beta, &c[0], ldc)
	}
}

// openBLASName returns "OpenBLAS VERSION KERNELS", as far as lib tells them.
func openBLASName(lib uintptr) string {
	ask := func(symbol string) string {
		at, err := purego.Dlsym(lib, symbol)
		if err != nil {
			return ""
		}
		var f func() string
		purego.RegisterFunc(&f, at)
		return f()
	}
	name := "OpenBLAS"
	// openblas_get_config begins "OpenBLAS 0.3.21 …".
	if config := strings.Fields(ask("openblas_get_config")); len(config) > 1 && config[0] == "OpenBLAS" {
		name += " " + config[1]
	}
	if core := ask("openblas_get_corename"); core != "" {
		name += " " + core
	}
	return name
}

// setenv sets a variable unless it is set, and returns what undoes that.
func setenv(name, value string) (restore func()) {
	if _, set := os.LookupEnv(name); set {
		return func() {}
	}
	if err := os.Setenv(name, value); err != nil {
		return func() {}
	}
	return func() { os.Unsetenv(name) }
}
