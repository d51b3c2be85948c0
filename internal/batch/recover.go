package batch

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	openai "github.com/sashabaranov/go-openai"
)

// findFile decides about an upload whose reply was never seen: if the file is
// there in full it is used, otherwise the requests are unsent again. No batch
// was asked for, so nothing can be bought twice here, and one look is enough.
//
// The look is one page: go-openai's file list takes no cursor. The API's page
// holds the 10,000 newest files, ours among them.
func (s *session) findFile(ctx context.Context, in *intent) error {
	var list openai.FilesList
	err := s.call(ctx, "listing files", s.opts.Timeout, func(ctx context.Context) error {
		var err error
		list, err = s.client(s.e).ListFiles(ctx)
		return soft(err, len(list.Files) > 0)
	})
	if err != nil && !unlisted(err) {
		return err
	}
	var spare []string
	for _, f := range list.Files {
		switch {
		case f.FileName != in.fileName() || f.ID == "":
		case in.FileID == "" && int64(f.Bytes) == in.Bytes:
			in.FileID = f.ID
		default:
			spare = append(spare, f.ID)
		}
	}
	if in.FileID != "" {
		in.State = uploaded
		err = s.save(in)
	} else {
		err = s.finish(in, dropped, "the upload did not arrive")
	}
	if err != nil {
		return err
	}
	for _, id := range spare {
		s.deleteFile(ctx, id)
	}
	return nil
}

// unlisted reports whether err says that a server has no such list.
func unlisted(err error) bool {
	st := status(err)
	return st == http.StatusNotFound || st == http.StatusMethodNotAllowed || st == http.StatusNotImplemented
}

// findBatch decides about a create call whose reply was never seen. A batch
// that carries the intent's id, or was made from its file, is the one. If there
// is none, the list is read again after the grace period, because lists lag;
// only then the batch is created again. Where the server does not list, or the
// API key is another one now and its list another list, nobody knows.
func (s *session) findBatch(ctx context.Context, in *intent) (wait time.Time, err error) {
	if again := in.Looked.Add(s.grace()); !in.Looked.IsZero() && s.now().Before(again) {
		return again, nil
	}
	pl := s.peer.poll(in.ID)
	if s.now().Before(pl.next) {
		if pl.lost != "" {
			s.uncertain[in.ID] = pl.lost
		}
		return pl.next, nil
	}
	found, err := s.lookFor(ctx, in)
	why := ""
	switch {
	case unlisted(err):
		why = "the server does not list its batches"
	case err != nil:
		return time.Time{}, err
	case found != nil:
		s.note("found batch %s at %s after its create call was cut off", found.ID, in.Host)
		return time.Time{}, s.adopt(in, *found)
	case in.KeyMark != keyMark(in.ID, s.e.APIKey):
		why = "the API key is another one now, which may not show that batch"
	case in.Looked.IsZero():
		in.Looked = s.now()
		if err := s.save(in); err != nil {
			return time.Time{}, err
		}
		s.note("no batch of %d requests at %s after its create call was cut off; looking again in %s before it is created", in.Requests, in.Host, s.grace())
		return in.Looked.Add(s.grace()), nil
	}
	pl.lost = why
	if why != "" {
		s.uncertain[in.ID] = why
		pl.backOff(s)
		return pl.next, nil
	}
	return time.Time{}, s.create(ctx, in)
}

// lookBack is how much older than the intent a batch may look: the server's
// clock need not be ours.
const lookBack = 24 * time.Hour

// lookFor reads the list of batches back to the time of the intent. It returns
// the oldest batch that is the intent's.
func (s *session) lookFor(ctx context.Context, in *intent) (*openai.Batch, error) {
	var found []openai.Batch
	seen := make(map[string]bool)
	limit := 100
	var after *string
	for {
		var page openai.ListBatchResponse
		err := s.call(ctx, "listing batches", s.opts.Timeout, func(ctx context.Context) error {
			var err error
			page, err = s.client(s.e).ListBatch(ctx, after, &limit)
			return soft(err, true)
		})
		if err != nil {
			if after != nil && unlisted(err) {
				return nil, fmt.Errorf("reading the list of batches at %s to its end: %v; nothing is sent before that", in.Host, err)
			}
			return nil, err
		}
		fresh := 0
		for _, b := range page.Data {
			if b.ID == "" || seen[b.ID] {
				continue
			}
			seen[b.ID] = true
			fresh++
			if id, _ := b.Metadata[metadataKey].(string); id == in.ID || b.InputFileID != "" && b.InputFileID == in.FileID {
				found = append(found, b)
			}
		}
		n := len(page.Data)
		if fresh == 0 || !page.HasMore && n < limit {
			break
		}
		first, last := page.Data[0], page.Data[n-1]
		// Newest first, as documented, and past the intent: it cannot follow.
		if first.CreatedAt > last.CreatedAt && time.Unix(int64(last.CreatedAt), 0).Before(in.Created.Add(-lookBack)) {
			break
		}
		after = &last.ID
	}
	if len(found) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(found, func(a, b openai.Batch) int { return a.CreatedAt - b.CreatedAt })
	for _, b := range found[1:] {
		s.note("batch %s at %s holds the same requests as %s; cancel it there if it still runs", b.ID, in.Host, found[0].ID)
	}
	return &found[0], nil
}
