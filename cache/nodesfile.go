package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// The nodes of a large run lie in a file of their own, <study id>.nodes-<sum>,
// so that a heartbeat, or a run that changed nothing, need not write them again.
// The sum is of the content: the file never changes, and the run file, which is
// replaced after it was written, names the one that counts.

// inlineNodes is how many bytes of nodes a run file may hold itself.
const inlineNodes = 64 << 10

// nodesBegin begins a nodes file, so that it is JSON too.
const nodesBegin = `{"nodes":{`

// laterNodes is where the nodes of a run are while they have not been read: in
// text, or in an open file, which stays readable when it is replaced.
type laterNodes struct {
	text []byte
	file *os.File
}

func (l laterNodes) none() bool { return l.text == nil && l.file == nil }

// read returns what follows nodesOpen; name is that of the file.
func (l laterNodes) read(name string) ([]byte, error) {
	if l.file == nil {
		return l.text, nil
	}
	st, err := l.file.Stat()
	if err != nil {
		return nil, err
	}
	text := make([]byte, st.Size())
	if _, err := l.file.ReadAt(text, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if !strings.HasSuffix(name, nodesMark+sumOf(text)) || !bytes.HasPrefix(text, []byte(nodesBegin)) {
		return nil, fmt.Errorf("%s does not have the content that its name says", name)
	}
	return text[len(nodesBegin):], nil
}

const nodesMark = ".nodes-"

func sumOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// openNodes opens the file of the nodes for LoadNodes.
func (r *Run) openNodes(dir string) error {
	if !isNodesFile(r.NodesFile, r.StudyID) {
		return fmt.Errorf("%q cannot be the file of its nodes", r.NodesFile)
	}
	f, err := os.Open(filepath.Join(dir, "runs", r.NodesFile))
	r.later.file = f
	return err
}

func isNodesFile(name, studyID string) bool {
	sum, ok := strings.CutPrefix(name, studyID+nodesMark)
	return ok && len(sum) == 16 && strings.Trim(sum, "0123456789abcdef") == ""
}

// writeRun replaces the run file at path, after the file of the nodes if they
// are many and not there yet.
func writeRun(dir, path string, r *Run) error {
	fail := func(err error) error { return fmt.Errorf("state of study %s: %w", r.StudyID, err) }
	name := ""
	var nodes []byte
	if !r.later.none() && r.later.file != nil {
		name = r.NodesFile
	} else {
		var err error
		if nodes, err = encodeNodes(r); err != nil {
			return fail(err)
		}
		if len(nodes) > inlineNodes {
			text := append(append([]byte(nodesBegin), nodes...), '\n')
			name = r.StudyID + nodesMark + sumOf(text)
			at := filepath.Join(dir, "runs", name)
			if st, err := os.Lstat(at); err != nil || !st.Mode().IsRegular() || st.Size() != int64(len(text)) {
				if err := replaceFile(at, text); err != nil {
					return err
				}
			}
		}
	}
	text, err := encodeHead(r, name)
	if err != nil {
		return fail(err)
	}
	if name == "" && !(r.later.none() && len(r.Nodes) == 0) {
		text = joinRun(text, nodes)
	}
	if err := replaceFile(path, append(text, '\n')); err != nil {
		return err
	}
	return removeNodesBut(dir, r.StudyID, name)
}

// removeNodesBut removes the files of nodes that the study's run file no longer
// names.
func removeNodesBut(dir, studyID, name string) error {
	entries, err := os.ReadDir(filepath.Join(dir, "runs"))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.Name() != name && isNodesFile(e.Name(), studyID) {
			errs = append(errs, os.Remove(filepath.Join(dir, "runs", e.Name())))
		}
	}
	return errors.Join(errs...)
}
