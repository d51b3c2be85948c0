// Package cells keeps measurements in a file, one JSON object a line, so that a
// grid can be measured in several runs.
package cells

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Read returns the cells of a file, none if it is not there or path is "".
func Read[T any](path string) ([]T, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var cells []T
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		var c T
		if err := dec.Decode(&c); err == io.EOF {
			return cells, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: cell %d: %w", path, len(cells)+1, err)
		}
		cells = append(cells, c)
	}
}

// Append adds a cell to the file; nothing for the path "".
func Append(path string, cell any) error {
	if path == "" {
		return nil
	}
	line, err := json.Marshal(cell)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}
