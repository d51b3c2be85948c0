package linalg

import (
	"syscall"
	"unsafe"
)

// Release tells the system that part of a tensor's [Tensor.Raw] will not be
// read again soon, so that its pages no longer count as this process's memory.
// They stay valid: a later read fetches them anew.
func (s *Safetensors) Release(part []byte) { s.advise(part, syscall.MADV_DONTNEED) }

// Prefetch tells the system that part of a tensor will be read soon.
func (s *Safetensors) Prefetch(part []byte) { s.advise(part, syscall.MADV_WILLNEED) }

// advise gives advice about the pages of part. Advice that cannot be given
// changes no result, so errors are not reported.
func (s *Safetensors) advise(part []byte, advice int) {
	if len(part) == 0 || len(s.mapped) == 0 {
		return
	}
	base, at := uintptr(unsafe.Pointer(&s.mapped[0])), uintptr(unsafe.Pointer(&part[0]))
	if at < base || at-base > uintptr(len(s.mapped)) {
		return // not of this file
	}
	page := uintptr(syscall.Getpagesize())
	from := (at - base) / page * page
	to := min(at-base+uintptr(len(part)), uintptr(len(s.mapped)))
	_ = syscall.Madvise(s.mapped[from:to], advice)
}
