package batch

import (
	"context"
	"slices"
)

// Reopen takes back the answers among keys whose stored result file is missing
// or damaged, and returns how many there are. Their batches are open again: the
// next Advance downloads the file once more and buys nothing. What the server
// no longer has is sent again only where answers cost nothing.
func (d *Desk) Reopen(ctx context.Context, e Evaluator, keys []string) (int, error) {
	p := d.peers.get(e.Identity())
	if err := p.lock(ctx); err != nil {
		return 0, err
	}
	defer p.unlock()
	broken := make(map[string]bool) // by blob
	back := make(map[string]row)    // by key
	for i, key := range keys {
		if i%rowsPerWrite == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		var r row
		if _, err := d.get(rowPrefix+key, &r); err != nil {
			return 0, err
		}
		if r.State != answered || r.Intent == "" { // no server has what was imported
			continue
		}
		if _, seen := broken[r.Blob]; !seen {
			f, err := d.files.Open(r.Blob)
			if err == nil {
				f.Close()
			}
			broken[r.Blob] = err != nil
		}
		if broken[r.Blob] {
			back[key] = r.bound(r.Intent)
		}
	}
	// The batches first: an open batch with answered rows does no harm.
	reopened := make(map[string]bool)
	for _, key := range keys {
		r, ok := back[key]
		if !ok || reopened[r.Intent] {
			continue
		}
		reopened[r.Intent] = true
		in := new(intent)
		if ok, err := d.get(intentPrefix+r.Intent, in); err != nil || !ok || in.State == dropped {
			if err != nil {
				return 0, err
			}
			continue
		}
		if in.State = fetched; !in.Direct { // else nobody has it but the stored file
			in.State, in.Output, in.Error = sent, "", ""
		}
		if err := d.put(map[string]any{intentPrefix + in.ID: in, openPrefix + in.ID: in.ID}); err != nil {
			return 0, err
		}
	}
	for part := range slices.Chunk(keys, d.chunk) {
		values := make(map[string]any)
		for _, key := range part {
			if r, ok := back[key]; ok {
				values[rowPrefix+key] = r
			}
		}
		if len(values) == 0 {
			continue
		}
		if err := d.put(values); err != nil {
			return 0, err
		}
	}
	return len(back), nil
}
