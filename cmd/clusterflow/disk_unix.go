//go:build unix

package main

import "golang.org/x/sys/unix"

// freeSpace is the number of bytes that a user may still write below path.
func freeSpace(path string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(existing(path), &st); err != nil {
		return 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil
}
