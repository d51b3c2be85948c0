package linalg

import "unsafe"

// Bytes returns the memory of numbers, in the machine's byte order, shared with
// them.
func Bytes[T float32 | int32](numbers []T) []byte {
	if len(numbers) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&numbers[0])), 4*len(numbers))
}
