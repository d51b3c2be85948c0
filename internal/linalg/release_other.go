//go:build !linux

package linalg

// Release and Prefetch advise the system where it can be advised.
func (s *Safetensors) Release(part []byte) {}

func (s *Safetensors) Prefetch(part []byte) {}
