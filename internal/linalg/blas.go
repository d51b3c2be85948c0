package linalg

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// BackendInfo says which library computes matrix products, and why that one.
type BackendInfo struct {
	Name    string   // "OpenBLAS 0.3.21 SkylakeX" or "gonum"
	Path    string   // the library's file or soname; "" for gonum
	How     string   // how it was chosen, in a sentence for the doctor
	Others  []string // what else was found and why it was not chosen
	Problem string   // what went wrong although the user asked for a library; else ""
}

// Backend returns the library that [Gemm] uses. It is looked for once, on the
// first call: the library named by CLUSTERFLOW_BLAS (a path, "openblas",
// "onednn", "mkl", "blis" or "gonum"), else the first of OpenBLAS, oneDNN, MKL
// and BLIS that the system's loader finds and that multiplies rightly, unless a
// later one is clearly faster, else gonum's own Go code.
//
// oneDNN has no product in float64; those run on the first other library that
// was found, else on gonum.
func Backend() BackendInfo { return backend().info }

type loadedBackend struct {
	info  BackendInfo
	sgemm gemmFunc[float32]
	dgemm gemmFunc[float64] // nil where the library has none
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

// clearlyFaster is by how much a library must beat one that stands before it
// in the list to be taken instead. A smaller margin would let the noise of a
// busy machine choose, and results have other bits with another library.
const clearlyFaster = 1.25

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

// searchBackend compares what the system's loader finds.
func searchBackend() loadedBackend {
	var found []loadedBackend
	var others []string
	for _, lib := range libraries() {
		b, err := loadFirst(lib.files)
		switch {
		case err == nil:
			found = append(found, b)
		case b.info.Path != "":
			others = append(others, fmt.Sprintf("%s is not used: %v", lib.title, err))
		}
	}
	if len(found) == 0 {
		b := goBackend()
		b.info.How = "no BLAS library found (Debian, Ubuntu: apt install libopenblas0), so products run on gonum's Go code, many times slower"
		b.info.Others = others
		return b
	}
	best := 0
	speed := make([]float64, len(found))
	if len(found) > 1 {
		best, speed = fastest(found, compareSpeed)
	}
	b := found[best]
	b.info.How = "found by the system's loader" + coreNote(b)
	if best > 0 {
		b.info.How += fmt.Sprintf(", and over %g times as fast as what comes before it", clearlyFaster)
	}
	for i, o := range found {
		if i == best {
			continue
		}
		others = append(others, fmt.Sprintf("%s was found too%s; a test product ran %.2f times as fast, and from %g times it would be taken", o.info.Name, coreNote(o), speed[i]/speed[best], clearlyFaster))
		if b.dgemm == nil && o.dgemm != nil {
			b.dgemm = o.dgemm
			b.info.Name += " (float64: " + o.info.Name + ")"
		}
	}
	b.info.Others = others
	return b
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
