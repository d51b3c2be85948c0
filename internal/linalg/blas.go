package linalg

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
)

// BackendInfo says which library computes matrix products, and why that one.
type BackendInfo struct {
	Name    string   // "OpenBLAS 0.3.21 SkylakeX" or "gonum"
	Path    string   // the library's file or soname; "" for gonum
	How     string   // how it was chosen, in a sentence for the doctor
	Unused  []string // what else was found and cannot be used, and why
	Problem string   // what went wrong although the user asked for a library; else ""
}

// Backend returns the library that [Gemm] uses. It is looked for once, on the
// first call: the library named by CLUSTERFLOW_BLAS (a path, "openblas",
// "onednn", "mkl", "blis" or "gonum"), else the first of oneDNN, OpenBLAS, MKL
// and BLIS that the system's loader finds and that multiplies rightly, else
// gonum's own Go code. OpenBLAS with kernels below this processor's, which an
// OPENBLAS_CORETYPE in the environment can bring about, comes last.
//
// No clock decides: results have other bits with another library, so the same
// machine must choose the same one every time. [CompareBackends] measures.
//
// oneDNN has no product in float64; those run on the first other library that
// was found, else on gonum.
func Backend() BackendInfo { return backend().info }

type loadedBackend struct {
	info  BackendInfo
	sgemm gemmFunc[float32]
	dgemm gemmFunc[float64] // nil where the library has none

	all []loadedBackend // that could have been chosen, this one among them
}

// backend is the process's one BLAS: a shared library can be loaded once only,
// and results must not change half-way.
var backend = sync.OnceValue(func() loadedBackend {
	b := findBackend()
	if b.dgemm == nil {
		b.dgemm = goBackend().dgemm
	}
	return b
})

// library is a BLAS that can be loaded at run time.
type library struct {
	name  string   // for CLUSTERFLOW_BLAS
	title string   // for people
	files []string // names for the system's loader, best first
}

func findBackend() loadedBackend {
	asked := os.Getenv("CLUSTERFLOW_BLAS")
	if asked == "" {
		return searchBackend()
	}
	how := "CLUSTERFLOW_BLAS=" + asked
	if strings.EqualFold(asked, "gonum") {
		found := goBackend()
		found.info.How = how
		return found
	}
	files := []string{asked}
	for _, lib := range libraries() {
		if strings.EqualFold(asked, lib.name) {
			files = lib.files
		}
	}
	found, err := loadFirst(files)
	if err != nil {
		found = goBackend()
		found.info.How = "the library named by CLUSTERFLOW_BLAS could not be used"
		found.info.Problem = fmt.Sprintf("loading the BLAS named by CLUSTERFLOW_BLAS: %v; unset it to search the system's libraries, or set it to gonum", err)
		return found
	}
	found.info.How = how + coreNote(found)
	return found
}

// searchBackend takes the first of what the system's loader finds.
func searchBackend() loadedBackend {
	var found []loadedBackend
	var unused []string
	for _, lib := range libraries() {
		b, err := loadFirst(lib.files)
		switch {
		case err == nil:
			found = append(found, b)
		case b.info.Path != "":
			unused = append(unused, fmt.Sprintf("%s is not used: %v", lib.title, err))
		}
	}
	if len(found) == 0 {
		b := goBackend()
		b.info.How = "no BLAS library found (Debian, Ubuntu: apt install libopenblas0), so products run on gonum's Go code, many times slower"
		b.info.Unused = unused
		return b
	}
	b := found[0]
	b.info.How = "found by the system's loader" + coreNote(b)
	if len(found) > 1 && weakKernels(b) {
		why := fmt.Sprintf("found by the system's loader; %s was found too%s", b.info.Name, coreNote(b))
		b = found[1]
		b.info.How = why
	}
	for _, o := range found {
		if b.dgemm == nil && o.dgemm != nil {
			b.dgemm = o.dgemm
			b.info.Name += " (float64: " + o.info.Name + ")"
		}
	}
	b.info.Unused, b.all = unused, found
	return b
}

// weakKernels reports whether a library is OpenBLAS with kernels for older
// vector instructions than the processor has.
func weakKernels(b loadedBackend) bool {
	if !strings.HasPrefix(b.info.Name, "OpenBLAS") {
		return false
	}
	wide := []string{"skylakex", "cooperlake", "sapphirerapids"}
	core := strings.ToLower(b.info.Name[strings.LastIndexByte(b.info.Name, ' ')+1:])
	switch openBLASCore() {
	case "SKYLAKEX":
		return !slices.Contains(wide, core)
	case "HASWELL":
		return !slices.Contains(append(wide, "haswell", "zen"), core)
	}
	return false
}

// CompareBackends measures the libraries among which [Backend] chose on a small
// product, in about a tenth of a second, and says how much faster each other
// one is. It says nothing where there was no choice.
func CompareBackends() []string {
	b := backend()
	if len(b.all) < 2 {
		return nil
	}
	speed := compareSpeed(b.all)
	var own float64
	for i, o := range b.all {
		if o.info.Path == b.info.Path {
			own = speed[i]
		}
	}
	var lines []string
	for i, o := range b.all {
		if o.info.Path != b.info.Path {
			lines = append(lines, fmt.Sprintf("%s was found too%s; a test product ran %.2f times as fast (CLUSTERFLOW_BLAS=%s takes it)", o.info.Name, coreNote(o), speed[i]/own, o.info.Path))
		}
	}
	return lines
}

// loadFirst loads the first library of these files that is there.
func loadFirst(files []string) (loadedBackend, error) {
	var missing error
	for _, file := range files {
		b, err := loadBLAS(file)
		if err == nil || b.info.Path != "" {
			return b, err
		}
		if missing == nil {
			missing = err
		}
	}
	return loadedBackend{}, missing
}

// coreNote says which of OpenBLAS's kernels were asked for, and by whom.
func coreNote(b loadedBackend) string {
	if !strings.HasPrefix(b.info.Name, "OpenBLAS") {
		return ""
	}
	core, best := os.Getenv(coreVariable), openBLASCore()
	switch {
	case core == "":
		return ""
	case coreSetHere() || strings.EqualFold(core, best):
		return ", " + coreVariable + "=" + core
	}
	note := ", " + coreVariable + "=" + core + " from the environment"
	if best != "" {
		note += "; without it " + best + ", the best for this processor, would be set"
	}
	return note
}
