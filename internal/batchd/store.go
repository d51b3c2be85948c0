package batchd

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// On disk:
//
//	files/ID.json     a file's record, written after its content
//	files/ID.data     its content
//	batches/ID.json   a batch's record, replaced at every change of status
//	batches/ID.out    result lines so far, good ones; moved to files/ at the end
//	batches/ID.err    result lines so far, the others
//
// Records are written to a temporary name, synced and renamed.

// file is one stored file.
type file struct {
	Seq       int64  `json:"seq"`
	ID        string `json:"id"`
	Bytes     int64  `json:"bytes"`
	CreatedAt int64  `json:"created_at"`
	Filename  string `json:"filename"`
	Purpose   string `json:"purpose"`
}

// object is the file as clients see it.
func (f *file) object() map[string]any {
	return map[string]any{
		"id": f.ID, "object": "file", "bytes": f.Bytes, "created_at": f.CreatedAt,
		"filename": f.Filename, "purpose": f.Purpose, "status": "processed", "status_details": nil,
	}
}

func (f *file) order() (int64, string) { return f.Seq, f.ID }

func (s *Server) fileRecord(id string) string { return filepath.Join(s.opts.Dir, "files", id+".json") }
func (s *Server) fileData(id string) string   { return filepath.Join(s.opts.Dir, "files", id+".data") }
func (s *Server) batchRecord(id string) string {
	return filepath.Join(s.opts.Dir, "batches", id+".json")
}
func (s *Server) partial(id, kind string) string {
	return filepath.Join(s.opts.Dir, "batches", id+"."+kind)
}

// load reads all records. What an upload left unfinished is removed.
func (s *Server) load() error {
	for _, sub := range []string{"files", "batches"} {
		dir := filepath.Join(s.opts.Dir, sub)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("reading the batch server's state: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			id, isRecord := strings.CutSuffix(e.Name(), ".json")
			switch {
			case strings.HasSuffix(e.Name(), ".tmp"):
				os.Remove(path)
			case isRecord && sub == "files":
				f := new(file)
				if err := readJSON(path, f); err != nil {
					return err
				}
				s.files[id] = f
				s.seq = max(s.seq, f.Seq)
			case isRecord:
				b := new(batch)
				if err := readJSON(path, b); err != nil {
					return err
				}
				s.batches[id] = b
				s.seq = max(s.seq, b.Seq)
			}
		}
	}
	return nil
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("reading the batch server's state in %s: %w", path, err)
	}
	return nil
}

// writeJSON replaces a record, on disk when it returns.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return publish(f, path, err)
}

// publish syncs and closes f and gives it its name, unless err says that
// writing it failed.
func publish(f *os.File, path string, err error) error {
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// addFile records content that stands at its place already. s.mu is held.
func (s *Server) addFile(f *file) error {
	s.seq++
	f.Seq, f.CreatedAt = s.seq, s.opts.Clock().Unix()
	if err := writeJSON(s.fileRecord(f.ID), f); err != nil {
		return err
	}
	s.files[f.ID] = f
	return nil
}

// removeFile deletes a file that no batch at work needs.
func (s *Server) removeFile(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		if b.InputFileID == id && !b.ended() {
			return &Error{Status: http.StatusConflict, Param: "id", Message: fmt.Sprintf("File %s is the input of batch %s, which is %s.", id, b.ID, b.Status)}
		}
	}
	if err := os.Remove(s.fileRecord(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(s.files, id)
	if err := os.Remove(s.fileData(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// page cuts a list, newest first unless the query says order=asc, to the
// query's limit and after, and returns it as OpenAI's list object.
func page[T interface {
	order() (int64, string)
	object() map[string]any
}](r *http.Request, all []T, limit, most int) (map[string]any, error) {
	q := r.URL.Query()
	if v := q.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > most {
			return nil, invalid("limit", "", "limit must be a number from 1 to %d, not %q.", most, v)
		}
		limit = n
	}
	slices.SortFunc(all, func(a, b T) int {
		x, _ := a.order()
		y, _ := b.order()
		if q.Get("order") == "asc" {
			return cmp.Compare(x, y)
		}
		return cmp.Compare(y, x)
	})
	if after := q.Get("after"); after != "" {
		i := slices.IndexFunc(all, func(t T) bool { _, id := t.order(); return id == after })
		if i < 0 {
			return nil, invalid("after", "", "after names %q, which is not in the list.", after)
		}
		all = all[i+1:]
	}
	more := len(all) > limit
	if more {
		all = all[:limit]
	}
	data := make([]map[string]any, len(all))
	for i, t := range all {
		data[i] = t.object()
	}
	list := map[string]any{"object": "list", "data": data, "has_more": more, "first_id": nil, "last_id": nil}
	if len(data) > 0 {
		list["first_id"], list["last_id"] = data[0]["id"], data[len(data)-1]["id"]
	}
	return list, nil
}
