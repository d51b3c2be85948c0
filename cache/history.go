package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Past is one finished apply, as the history keeps it.
type Past struct {
	StudyID  string         `json:"study_id"`
	Study    string         `json:"study,omitempty"`
	File     string         `json:"file,omitempty"`
	User     string         `json:"user,omitempty"`
	Host     string         `json:"host,omitempty"`
	Version  string         `json:"version,omitempty"` // of the program
	Flags    []string       `json:"flags,omitempty"`   // as given, "--jobs=2"
	Started  time.Time      `json:"started"`
	Finished time.Time      `json:"finished"`
	Seconds  float64        `json:"seconds"`
	Counts   map[string]int `json:"counts,omitempty"` // nodes by outcome: ran, cached, spared, failed, blocked, waiting, pending
	Exit     int            `json:"exit"`
	Error    string         `json:"error,omitempty"`
}

// pastErrorLimit keeps a line of the history short, in bytes.
const pastErrorLimit = 2 << 10

// The history, runs/history.jsonl, is one line per apply of any study and is
// only ever appended to.
func historyPath(dir string) string { return filepath.Join(dir, "runs", "history.jsonl") }

// AppendHistory adds a line to the history of the cache at dir. A line that an
// earlier process left unfinished is closed first, so that it spoils only
// itself. The new line is written at once and synced.
func AppendHistory(dir string, p Past) error {
	if len(p.Error) > pastErrorLimit {
		p.Error = strings.ToValidUTF8(p.Error[:pastErrorLimit], "") + "…"
	}
	line, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("writing the history: %w", err)
	}
	path := historyPath(dir)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return writeError(path, err)
	}
	line = append(line, '\n')
	if end, err := f.Seek(0, io.SeekEnd); err == nil && end > 0 {
		last := []byte{'\n'}
		if _, err := f.ReadAt(last, end-1); err == nil && last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	_, err = f.Write(line)
	if err == nil {
		err = f.Sync()
	}
	return writeError(path, errors.Join(err, f.Close()))
}

// History returns the finished applies of a study, oldest first, and how many
// lines of the whole history could not be read: torn by a crash, or damaged. A
// last line without an end is being written and is not counted.
func (r *Reader) History(studyID string) (past []Past, bad int, err error) {
	text, err := os.ReadFile(historyPath(r.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading the history: %w", err)
	}
	for len(text) > 0 {
		line, rest, whole := bytes.Cut(text, []byte{'\n'})
		text = rest
		if !whole {
			break
		}
		var p Past
		if err := json.Unmarshal(line, &p); err != nil || p.StudyID == "" {
			bad++
			continue
		}
		if p.StudyID == studyID {
			past = append(past, p)
		}
	}
	return past, bad, nil
}
