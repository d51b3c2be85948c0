//go:build !unix

package batchd

import (
	"fmt"
	"os"
	"path/filepath"
)

// lockDir opens the lock file; this system offers no lock that ends with the
// process, so two servers on one directory are not kept apart here.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the batch server's directory: %w", err)
	}
	return f, nil
}
