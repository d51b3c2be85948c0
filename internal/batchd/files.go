package batchd

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Limits of the API.
const (
	maxFileBytes     = 200_000_000
	maxLines         = 50_000
	maxListFiles     = 10_000
	maxListBatch     = 100
	defaultListBatch = 20
)

// uploadFile stores a multipart upload: a field purpose, which has to be
// "batch", and a part file, in either order.
func (s *Server) uploadFile(w http.ResponseWriter, r *http.Request) (err error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return invalid("", "", "An upload is a multipart form with the parts purpose and file: %v.", err)
	}
	var f *file
	var content *os.File
	purpose := ""
	defer func() {
		if content != nil {
			content.Close()
			os.Remove(content.Name())
		}
	}()
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return invalid("file", "", "The upload broke off: %v.", err)
		}
		switch part.FormName() {
		case "purpose":
			b, err := io.ReadAll(io.LimitReader(part, 100))
			if err != nil {
				return invalid("purpose", "", "The upload broke off: %v.", err)
			}
			purpose = string(b)
		case "file":
			if content != nil {
				return invalid("file", "", "An upload has one file.")
			}
			if content, err = os.CreateTemp(filepath.Join(s.opts.Dir, "files"), "*.tmp"); err != nil {
				return err
			}
			disk := &diskWriter{w: content}
			n, err := io.Copy(disk, io.LimitReader(part, maxFileBytes+1))
			switch {
			case disk.err != nil:
				return fmt.Errorf("storing an upload: %w", disk.err)
			case err != nil:
				return invalid("file", "", "The upload broke off: %v.", err)
			case n > maxFileBytes:
				return &Error{Status: http.StatusRequestEntityTooLarge, Param: "file", Message: fmt.Sprintf("A batch file may have at most %d MB.", maxFileBytes/1_000_000)}
			}
			f = &file{ID: newID("file-"), Bytes: n, Filename: filepath.Base(part.FileName())}
		}
	}
	switch {
	case purpose == "":
		return invalid("purpose", "", "'purpose' is a required property.")
	case purpose != "batch":
		return invalid("purpose", "", "This server takes files with purpose 'batch', not %q.", purpose)
	case f == nil:
		return invalid("file", "", "'file' is a required property.")
	case f.Bytes == 0:
		return invalid("file", "empty_file", "The file is empty.")
	case !strings.HasSuffix(f.Filename, ".jsonl"):
		return invalid("file", "invalid_file_format", "Invalid file format for batch: the name must end in .jsonl, not %q.", f.Filename)
	}
	f.Purpose = purpose
	done := content
	content = nil
	if err := publish(done, s.fileData(f.ID), nil); err != nil {
		return fmt.Errorf("storing an upload: %w", err)
	}
	s.mu.Lock()
	err = s.addFile(f)
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("storing an upload: %w", err)
	}
	return reply(w, http.StatusOK, f.object())
}

// diskWriter remembers that writing, not reading, failed.
type diskWriter struct {
	w   io.Writer
	err error
}

func (d *diskWriter) Write(b []byte) (int, error) {
	n, err := d.w.Write(b)
	d.err = errors.Join(d.err, err)
	return n, err
}

func (s *Server) listFiles(w http.ResponseWriter, r *http.Request) error {
	purpose := r.URL.Query().Get("purpose")
	s.mu.Lock()
	var all []*file
	for _, f := range s.files {
		if purpose == "" || f.Purpose == purpose {
			all = append(all, f) // a file never changes
		}
	}
	s.mu.Unlock()
	list, err := page(r, all, maxListFiles, maxListFiles)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, list)
}

func (s *Server) find(id string) (*file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.files[id]
	if !ok {
		return nil, notFound("File object", id)
	}
	return f, nil
}

func (s *Server) getFile(w http.ResponseWriter, r *http.Request) error {
	f, err := s.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, f.object())
}

func (s *Server) getContent(w http.ResponseWriter, r *http.Request) error {
	f, err := s.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	data, err := os.Open(s.fileData(f.ID))
	if err != nil {
		return err
	}
	defer data.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	if s.opts.Faults != nil && s.opts.Faults.TwiceLines && f.Purpose != "batch" {
		return copyTwice(w, data)
	}
	w.Header().Set("Content-Length", strconv.FormatInt(f.Bytes, 10))
	w.WriteHeader(http.StatusOK)
	if _, err := io.Copy(w, data); err != nil {
		s.opts.Log.Info("download broke off", "file", f.ID, "error", err)
	}
	return nil
}

func (s *Server) deleteFile(w http.ResponseWriter, r *http.Request) error {
	f, err := s.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := s.removeFile(f.ID); err != nil {
		return err
	}
	return reply(w, http.StatusOK, map[string]any{"id": f.ID, "object": "file", "deleted": true})
}
