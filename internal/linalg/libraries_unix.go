//go:build (linux || darwin || freebsd) && (amd64 || arm64)

package linalg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ebitengine/purego"
)

// libraries lists what is looked for, the preferred first: in forward passes,
// with weights that come from memory, oneDNN is faster than OpenBLAS, though not
// on products as small as those of compareSpeed.
func libraries() []library {
	if runtime.GOOS == "darwin" {
		return []library{{"openblas", "OpenBLAS", []string{"libopenblas.dylib", "/opt/homebrew/opt/openblas/lib/libopenblas.dylib", "/usr/local/opt/openblas/lib/libopenblas.dylib"}}}
	}
	return []library{
		{"onednn", "oneDNN", []string{"libdnnl.so.3", "libdnnl.so.2"}},
		{"openblas", "OpenBLAS", []string{"libopenblas.so.0", "libopenblas.so"}},
		{"mkl", "MKL", []string{"libmkl_rt.so.2", "libmkl_rt.so.1", "libmkl_rt.so"}},
		{"blis", "BLIS", []string{"libblis.so.4", "libblis.so.3"}},
	}
}

// oneThread is the environment that a library is loaded with, because each
// reads it then: products are single-threaded, and MKL's must not depend on
// where in memory the matrices lie.
var oneThread = map[string]string{
	"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "BLIS_NUM_THREADS": "1",
	"MKL_NUM_THREADS": "1", "MKL_THREADING_LAYER": "SEQUENTIAL", "MKL_CBWR": "AUTO",
}

var coreByUs bool // coreVariable was set by loadBLAS

func coreSetHere() bool { return coreByUs }

// loadBLAS loads the library, binds its products and tests them, all in that
// environment: MKL reads its own on the first call. With an error about a
// library that is there, the backend's path is set.
func loadBLAS(path string) (loadedBackend, error) {
	for name, value := range oneThread {
		defer setenv(name, value)()
	}
	if core := openBLASCore(); core != "" && os.Getenv(coreVariable) == "" {
		coreByUs = os.Setenv(coreVariable, core) == nil // kept: it is what doctor reports
	}
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return loadedBackend{}, err
	}
	if symbol, err := purego.Dlsym(lib, "dnnl_sgemm"); err == nil {
		b := loadedBackend{info: BackendInfo{Name: oneDNNName(lib), Path: path}, sgemm: bindOneDNN(symbol)}
		return b, testProducts(b)
	}
	single, err1 := purego.Dlsym(lib, "cblas_sgemm")
	double, err2 := purego.Dlsym(lib, "cblas_dgemm")
	if err := errors.Join(err1, err2); err != nil {
		return loadedBackend{}, fmt.Errorf("%s has neither cblas_sgemm and cblas_dgemm nor dnnl_sgemm, so it is no library for matrix products", path)
	}
	name := filepath.Base(path)
	if at, err := purego.Dlsym(lib, "openblas_set_num_threads"); err == nil {
		var setThreads func(int32)
		purego.RegisterFunc(&setThreads, at)
		setThreads(1)
		name = openBLASName(lib)
	} else if version := ask(lib, "bli_info_get_version_str"); version != "" {
		name = "BLIS " + version
	} else if _, err := purego.Dlsym(lib, "MKL_Set_Num_Threads"); err == nil {
		name = "MKL"
	}
	b := loadedBackend{info: BackendInfo{Name: name, Path: path}, sgemm: bindGemm[float32](single), dgemm: bindGemm[float64](double)}
	return b, testProducts(b)
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

// bindOneDNN makes a Go function of dnnl_sgemm, which is row-major. oneDNN has
// no product in float64.
func bindOneDNN(symbol uintptr) gemmFunc[float32] {
	var gemm func(transA, transB byte, m, n, k int, alpha float32, a *float32, lda int, b *float32, ldb int, beta float32, c *float32, ldc int) int32
	purego.RegisterFunc(&gemm, symbol)
	op := func(t bool) byte {
		if t {
			return 'T'
		}
		return 'N'
	}
	return func(transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
		if status := gemm(op(transA), op(transB), m, n, k, alpha, &a[0], lda, &b[0], ldb, beta, &c[0], ldc); status != 0 {
			// It checks its arguments only, and Gemm has checked them.
			panic(fmt.Sprintf("dnnl_sgemm of %d × %d × %d failed with status %d", m, n, k, status))
		}
	}
}

// oneDNNName returns "oneDNN VERSION".
func oneDNNName(lib uintptr) string {
	at, err := purego.Dlsym(lib, "dnnl_version")
	if err != nil {
		return "oneDNN"
	}
	var version func() *struct{ Major, Minor, Patch int32 }
	purego.RegisterFunc(&version, at)
	v := version()
	return fmt.Sprintf("oneDNN %d.%d.%d", v.Major, v.Minor, v.Patch)
}

// openBLASName returns "OpenBLAS VERSION KERNELS", as far as lib tells them.
func openBLASName(lib uintptr) string {
	name := "OpenBLAS"
	// openblas_get_config begins "OpenBLAS 0.3.21 …".
	if config := strings.Fields(ask(lib, "openblas_get_config")); len(config) > 1 && config[0] == "OpenBLAS" {
		name += " " + config[1]
	}
	if core := ask(lib, "openblas_get_corename"); core != "" {
		name += " " + core
	}
	return name
}

// ask calls a function of lib that returns a text; "" if there is none.
func ask(lib uintptr, symbol string) string {
	at, err := purego.Dlsym(lib, symbol)
	if err != nil {
		return ""
	}
	var f func() string
	purego.RegisterFunc(&f, at)
	return f()
}

// setenv sets a variable and returns what undoes that.
func setenv(name, value string) (restore func()) {
	old, set := os.LookupEnv(name)
	if err := os.Setenv(name, value); err != nil {
		return func() {}
	}
	return func() {
		if set {
			os.Setenv(name, old)
		} else {
			os.Unsetenv(name)
		}
	}
}
