//go:build cuda

package cuda

// #cgo CFLAGS: -D_GNU_SOURCE
// #cgo LDFLAGS: -ldl
// #include <cuda.h>
// #include <dlfcn.h>
// #include <stdlib.h>
// #include <string.h>
//
// // cuTensorMapEncodeTiled, which the headers of CUDA 11 lack: numbers of 16 bits,
// // tiles of 128 rows x 64, swizzled over 128 bytes, 256 bytes at a time to the
// // second cache, zeros outside.
// typedef CUresult (*describe_fn)(void *, int, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *,
//                                 const cuuint32_t *, const cuuint32_t *, int, int, int, int);
// static void *find_describe() { return dlsym(RTLD_DEFAULT, "cuTensorMapEncodeTiled"); }
// static CUresult call_describe(void *f, void *words, CUdeviceptr data, cuuint64_t rows, cuuint64_t cols) {
//     _Alignas(64) unsigned char map[128];
//     cuuint64_t dims[2] = {cols, rows}, strides[1] = {cols * 2};
//     cuuint32_t box[2] = {64, 128}, steps[2] = {1, 1};
//     CUresult r = ((describe_fn)f)(map, 1, 2, (void *)data, dims, strides, box, steps, 0, 3, 3, 0);
//     memcpy(words, map, sizeof map);
//     return r;
// }
//
// // cuBLAS is opened at run time; of its interface only these calls are used.
// typedef int (*create_fn)(void **);
// typedef int (*stream_fn)(void *, CUstream);
// typedef int (*version_fn)(void *, int *);
// typedef int (*gemm_fn)(void *, int, int, int, int, int, const void *, const void *, int, int,
//                        const void *, int, int, const void *, void *, int, int, int, int);
// static int call_create(void *f, void **h) { return ((create_fn)f)(h); }
// static int call_stream(void *f, void *h, CUstream s) { return ((stream_fn)f)(h, s); }
// static int call_version(void *f, void *h, int *v) { return ((version_fn)f)(h, v); }
// static int call_gemm(void *f, void *h, int m, int n, int k, float alpha, CUdeviceptr a, int at, int lda,
//                      CUdeviceptr b, int bt, int ldb, float beta, CUdeviceptr c, int ldc, int compute) {
//     return ((gemm_fn)f)(h, 1, 0, m, n, k, &alpha, (const void *)a, at, lda, (const void *)b, bt, ldb,
//                         &beta, (void *)c, 0, ldc, compute, -1);
// }
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"gorgonia.org/cu"
)

// plain says what to do about an error of the driver, where that is known.
func plain(err error) error {
	if errors.Is(err, cu.OutOfMemory) {
		return fmt.Errorf("the card has too little memory free: %w; allow less with --gpu-memory, or end what else uses the card", err)
	}
	if errors.Is(err, cu.JitCompilerNotFound) {
		return fmt.Errorf("%w: the driver's compiler, libnvidia-ptxjitcompiler.so.1, is missing; it is part of NVIDIA's driver", err)
	}
	return err
}

func status(doing string, r C.CUresult) error {
	if r == C.CUDA_SUCCESS {
		return nil
	}
	var words *C.char
	if C.cuGetErrorString(r, &words); words == nil {
		return fmt.Errorf("%s: the driver's error %d", doing, int(r))
	}
	return fmt.Errorf("%s: %s (the driver's error %d)", doing, C.GoString(words), int(r))
}

// allowShared lets a kernel use so many bytes of shared memory per block, more
// than the 48 KiB that need no permission. cu has no call for it.
func allowShared(fn cu.Function, bytes int) error {
	f := *(*C.CUfunction)(unsafe.Pointer(&fn))
	return status("asking for shared memory", C.cuFuncSetAttribute(f, C.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, C.int(bytes)))
}

// Attributes of a card.
const (
	multiprocessors = C.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
	sharedOfBlock   = C.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN // bytes
)

func attribute(d cu.Device, what string, which C.CUdevice_attribute) (int, error) {
	var n C.int
	err := status("asking for "+what, C.cuDeviceGetAttribute(&n, which, C.CUdevice(d)))
	return int(n), err
}

// canDescribe reports whether the driver, of CUDA 12 or newer, has the call that
// tensor makes.
func canDescribe() bool { return C.find_describe() != nil }

func (d *nvidia) tensor(data address, rows, ld int) ([]byte, error) {
	words := make([]byte, 128)
	err := status("describing a matrix", C.call_describe(C.find_describe(), unsafe.Pointer(&words[0]), C.CUdeviceptr(data), C.cuuint64_t(rows), C.cuuint64_t(ld)))
	return words, err
}

// pin takes page-locked memory, for which cu has no call.
func (d *nvidia) pin(bytes int64) (pinned, error) {
	var p unsafe.Pointer
	if err := status(fmt.Sprintf("taking %d bytes of page-locked memory", bytes), C.cuMemAllocHost(&p, C.size_t(max(1, bytes)))); err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), max(1, bytes)), nil
}

func (d *nvidia) unpin(p pinned) {
	if p != nil {
		C.cuMemFreeHost(unsafe.Pointer(&p[0]))
	}
}

// blas is cuBLAS.
type blas struct {
	handle, gemmEx unsafe.Pointer
	name           string
}

// openBlas finds cuBLAS; nil where there is none.
func openBlas(stream cu.Stream) *blas {
	for _, file := range []string{"libcublas.so.13", "libcublas.so.12", "libcublas.so.11"} {
		name := C.CString(file)
		lib := C.dlopen(name, C.RTLD_NOW|C.RTLD_GLOBAL)
		C.free(unsafe.Pointer(name))
		if lib == nil {
			continue
		}
		symbol := func(s string) unsafe.Pointer {
			c := C.CString(s)
			defer C.free(unsafe.Pointer(c))
			return C.dlsym(lib, c)
		}
		create, set, get, gemm := symbol("cublasCreate_v2"), symbol("cublasSetStream_v2"), symbol("cublasGetVersion_v2"), symbol("cublasGemmEx")
		b := &blas{gemmEx: gemm}
		if create == nil || set == nil || get == nil || gemm == nil || C.call_create(create, &b.handle) != 0 {
			continue
		}
		var version C.int
		C.call_version(get, b.handle, &version)
		if C.call_stream(set, b.handle, *(*C.CUstream)(unsafe.Pointer(&stream))) != 0 {
			continue
		}
		b.name = fmt.Sprintf("cuBLAS %d.%d.%d", version/10000, version/100%100, version%100)
		return b
	}
	return nil
}

// Types of numbers and of sums in cuBLAS.
const (
	typeFloat, typeF16, typeBF16 = 0, 2, 14
	computeFloat                 = 68
	computeFloatPedantic         = 69
)

// gemm sets c = a·bᵀ + beta·c, with a [m, k], b [n, k] and c [m, n] by rows.
func (l *blas) gemm(c, a, b address, m, n, k, lda, ldb, ldc int, kind, compute int, beta float32) error {
	// By columns, which cuBLAS works in, c is its transpose: b'ᵀ·a'.
	r := C.call_gemm(l.gemmEx, l.handle, C.int(n), C.int(m), C.int(k), 1,
		C.CUdeviceptr(b), C.int(kind), C.int(ldb), C.CUdeviceptr(a), C.int(kind), C.int(lda), C.float(beta), C.CUdeviceptr(c), C.int(ldc), C.int(compute))
	if r != 0 {
		return fmt.Errorf("%s refused a product [%d, %d]·[%d, %d]ᵀ with its status %d", l.name, m, k, n, k, int(r))
	}
	return nil
}
