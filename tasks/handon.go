package tasks

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
)

// eachAsked hands the requests of every submit node whose requests are written
// to fn, and counts the nodes whose are not.
func eachAsked(p *graph.Plan, blobs *cache.Blobs, fn func(rs []Asked) error) (unwritten int, err error) {
	for _, s := range p.Steps {
		if k := s.Node.Kind(); k != kindSubmitTitles.Name && k != kindSubmitEval.Name {
			continue
		}
		if s.State != graph.Cached {
			unwritten++
			continue
		}
		rs, err := ReadAsked(blobs, s.Record, nil)
		if err != nil {
			return unwritten, fmt.Errorf("the requests of %s: %w; apply the study to make them again", s.Node.Addr, err)
		}
		if err := fn(rs); err != nil {
			return unwritten, err
		}
	}
	return unwritten, nil
}

// ExportAnswers writes the answers to the requests of a study as it stands, one
// JSON object a line; see batch.Handed. It returns how many there are, how many
// requests have none, and how many nodes have not written theirs.
func (o *Office) ExportAnswers(ctx context.Context, p *graph.Plan, w io.Writer) (answers, without, unwritten int, err error) {
	b := bufio.NewWriterSize(w, 1<<20)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	seen := map[string]bool{}
	unwritten, err = eachAsked(p, o.store.Blobs(), func(rs []Asked) error {
		var keys, bodies []string
		for _, r := range rs {
			if !seen[r.Key] {
				seen[r.Key] = true
				keys, bodies = append(keys, r.Key), append(bodies, cache.Sum(r.Body).String())
			}
		}
		n := 0
		err := o.desk.Export(ctx, keys, func(i int, line []byte) error {
			n++
			return enc.Encode(batch.Handed{Key: keys[i], Body: bodies[i], Line: string(line)})
		})
		answers, without = answers+n, without+len(keys)-n
		return err
	})
	return answers, without, unwritten, errors.Join(err, b.Flush())
}

// Imported is what became of imported answers.
type Imported struct {
	batch.Imported
	Ours  int      // of those taken, answers to requests of the study as it stands
	Other []string // requests of the study that were asked in other words under the same key: left out
}

// ImportAnswers takes over the answers that ExportAnswers wrote. Those to
// requests that the study does not know are taken as well: its requests are
// written one after the other, and a later grid may ask for them.
func (o *Office) ImportAnswers(ctx context.Context, p *graph.Plan, r io.Reader) (got Imported, err error) {
	bodies := map[string]string{}
	if _, err := eachAsked(p, o.store.Blobs(), func(rs []Asked) error {
		for _, r := range rs {
			bodies[r.Key] = cache.Sum(r.Body).String()
		}
		return nil
	}); err != nil {
		return got, err
	}
	in := json.NewDecoder(bufio.NewReaderSize(r, 1<<20))
	n := 0
	next := func() (batch.Handed, bool, error) {
		for {
			var h batch.Handed
			err := in.Decode(&h)
			if err == io.EOF {
				return h, false, nil
			}
			if n++; err != nil {
				return h, false, fmt.Errorf("answer %d cannot be read: %w", n, err)
			}
			if known, ok := bodies[h.Key]; ok && h.Body != "" && known != h.Body {
				got.Other = append(got.Other, h.Key)
				continue
			}
			return h, true, nil
		}
	}
	before := func(failed []string) error {
		keys := map[string]bool{}
		for _, k := range failed {
			keys[k] = true
		}
		return o.withdraw("answers that it lacks were imported", keys, nil)
	}
	got.Imported, err = o.desk.Import(ctx, next, before)
	for _, k := range got.Taken {
		if _, ok := bodies[k]; ok {
			got.Ours++
		}
	}
	return got, err
}
