package batchd

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Statuses of a batch. The last four are final.
const (
	validating = "validating"
	inProgress = "in_progress"
	finalizing = "finalizing"
	cancelling = "cancelling"
	completed  = "completed"
	failed     = "failed"
	expired    = "expired"
	cancelled  = "cancelled"
)

// batch is the record of one batch. Server.mu guards it.
type batch struct {
	Seq         int64             `json:"seq"`
	ID          string            `json:"id"`
	InputFileID string            `json:"input_file_id"`
	Endpoint    string            `json:"endpoint"`
	Window      string            `json:"completion_window"`
	Metadata    map[string]string `json:"metadata"`
	Status      string            `json:"status"`
	Errors      []lineError       `json:"errors,omitempty"`
	Times       map[string]int64  `json:"times"` // status_at → Unix seconds
	Total       int               `json:"total"`
	Completed   int               `json:"completed"`
	Failed      int               `json:"failed"`

	// End is the status to reach once the results are in place; the file ids
	// are drawn with it, so that a restart in between moves the same files.
	End      string `json:"end,omitempty"`
	OutputID string `json:"output_id,omitempty"`
	ErrorID  string `json:"error_id,omitempty"`
}

func (b *batch) ended() bool {
	switch b.Status {
	case completed, failed, expired, cancelled:
		return true
	}
	return false
}

func (b *batch) order() (int64, string) { return b.Seq, b.ID }

// object is the batch as clients see it.
func (b *batch) object() map[string]any {
	o := map[string]any{
		"id": b.ID, "object": "batch", "endpoint": b.Endpoint, "errors": nil,
		"input_file_id": b.InputFileID, "completion_window": b.Window, "status": b.Status,
		"output_file_id": nil, "error_file_id": nil, "metadata": b.Metadata,
		"request_counts": map[string]int{"total": b.Total, "completed": b.Completed, "failed": b.Failed},
	}
	for _, name := range []string{"created", "in_progress", "expires", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"} {
		o[name+"_at"] = nil
		if t, ok := b.Times[name]; ok {
			o[name+"_at"] = t
		}
	}
	if len(b.Errors) > 0 {
		o["errors"] = map[string]any{"object": "list", "data": b.Errors}
	}
	if b.ended() {
		if b.OutputID != "" {
			o["output_file_id"] = b.OutputID
		}
		if b.ErrorID != "" {
			o["error_file_id"] = b.ErrorID
		}
	}
	return o
}

// endpoint is the one that batches may name.
const endpoint = "/v1/chat/completions"

func (s *Server) createBatch(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		InputFileID string            `json:"input_file_id"`
		Endpoint    string            `json:"endpoint"`
		Window      string            `json:"completion_window"`
		Metadata    map[string]string `json:"metadata"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&in); err != nil {
		return invalid("", "", "The body of a create call is a JSON object: %v.", err)
	}
	switch {
	case in.InputFileID == "":
		return invalid("input_file_id", "missing_required_parameter", "Missing required parameter: 'input_file_id'.")
	case in.Endpoint != endpoint:
		return invalid("endpoint", "invalid_value", "This server has batches for %s, not for %q.", endpoint, in.Endpoint)
	case in.Window != "24h":
		return invalid("completion_window", "invalid_value", "The only completion_window is '24h', not %q.", in.Window)
	case len(in.Metadata) > 16:
		return invalid("metadata", "", "Metadata has at most 16 pairs, not %d.", len(in.Metadata))
	}
	for k, v := range in.Metadata {
		if len(k) > 64 || len(v) > 512 {
			return invalid("metadata", "", "Metadata keys have at most 64 characters and values 512; %.64q has more.", k)
		}
	}
	if in.Metadata == nil {
		in.Metadata = map[string]string{}
	}
	b, err := s.addBatch(&batch{
		InputFileID: in.InputFileID, Endpoint: in.Endpoint, Window: in.Window, Metadata: in.Metadata,
	})
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, b)
}

// addBatch records a new batch and starts on it. It returns its object.
func (s *Server) addBatch(b *batch) (map[string]any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil, &Error{Status: http.StatusServiceUnavailable, Type: "server_error", Message: "The server is stopping."}
	}
	f, ok := s.files[b.InputFileID]
	if !ok {
		return nil, invalid("input_file_id", "", "No such File object: %s", b.InputFileID)
	}
	if f.Purpose != "batch" {
		return nil, invalid("input_file_id", "invalid_purpose", "The input of a batch has to be a file with purpose 'batch'; %s has %q.", f.ID, f.Purpose)
	}
	s.seq++
	now := s.opts.Clock()
	b.Seq, b.ID, b.Status = s.seq, newID("batch_"), validating
	b.Times = map[string]int64{"created": now.Unix(), "expires": now.Add(s.opts.Window).Unix()}
	if err := writeJSON(s.batchRecord(b.ID), b); err != nil {
		return nil, fmt.Errorf("recording a batch: %w", err)
	}
	s.opts.Faults.made(b.ID)
	s.batches[b.ID] = b
	s.start(b)
	return b.object(), nil
}

// look returns the object of a batch, after change if that is not nil.
func (s *Server) look(id string, change func(*batch) error) (map[string]any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.batches[id]
	if !ok {
		return nil, notFound("Batch object", id)
	}
	if change != nil {
		if err := change(b); err != nil {
			return nil, err
		}
	}
	return b.object(), nil
}

func (s *Server) getBatch(w http.ResponseWriter, r *http.Request) error {
	b, err := s.look(r.PathValue("id"), nil)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, b)
}

func (s *Server) cancelBatch(w http.ResponseWriter, r *http.Request) error {
	b, err := s.look(r.PathValue("id"), func(b *batch) error {
		switch b.Status {
		case validating, inProgress:
			return s.become(b, cancelling)
		case cancelling:
			return nil
		}
		return &Error{Status: http.StatusConflict, Message: fmt.Sprintf("Cannot cancel a batch with status '%s'.", b.Status)}
	})
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, b)
}

func (s *Server) listBatches(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	all := make([]*batch, 0, len(s.batches))
	for _, b := range s.batches {
		if !s.opts.Faults.hidden(b.ID) {
			all = append(all, b)
		}
	}
	list, err := page(r, all, defaultListBatch, maxListBatch)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, list)
}

// become writes a change of status. s.mu is held.
func (s *Server) become(b *batch, status string) error {
	b.Status = status
	b.Times[status] = s.opts.Clock().Unix()
	if err := writeJSON(s.batchRecord(b.ID), b); err != nil {
		return fmt.Errorf("recording batch %s as %s: %w", b.ID, status, err)
	}
	s.opts.Log.Info("batch", "id", b.ID, "status", status, "completed", b.Completed, "failed", b.Failed, "total", b.Total)
	return nil
}
