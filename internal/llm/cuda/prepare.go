package cuda

import (
	"slices"
	"sync"
	"time"

	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
)

// pack makes the batches: sequences in the order of their length, so that few
// rows of a batch are done for nothing. It returns the position of each row, and
// three numbers for each piece of attention (kernels/attention.cu).
func (f *forward) pack() (longest int, positions, pieces []int32) {
	var order []int
	for i, q := range f.pass.Sequences {
		if len(q.Layers) > 0 && len(q.IDs) > 0 {
			order = append(order, i)
			longest = max(longest, len(q.IDs))
			f.total += len(q.IDs) * (q.Last() + 1)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return len(f.pass.Sequences[b].IDs) - len(f.pass.Sequences[a].IDs)
	})
	queries := 64 // that a block of attention takes at a time
	if f.attendsOnHopper() {
		queries = 128
	}
	limit := max(f.batchRows, longest)
	if f.int8 != nil { // whose batches need more memory for a row
		limit = max(f.piece, longest)
	}
	at := 0
	for len(order) > 0 {
		b := &batch{at: at, last: -1, piecesAt: len(pieces) / 3}
		var rest []int
		for _, i := range order {
			q := f.pass.Sequences[i]
			if n := len(q.IDs); b.tokens+n <= limit {
				b.seqs, b.first = append(b.seqs, i), append(b.first, b.tokens)
				for j := range n {
					positions = append(positions, int32(j))
				}
				for from := 0; from < n; from += queries {
					pieces = append(pieces, int32(b.tokens), int32(n), int32(from))
					b.pieces++
				}
				b.tokens += n
				b.last = max(b.last, q.Last())
			} else {
				rest = append(rest, i)
			}
		}
		b.rows = (b.tokens + f.piece - 1) / f.piece * f.piece
		at += b.rows
		positions = append(positions, make([]int32, at-len(positions))...)
		f.rows = max(f.rows, b.rows)
		f.batches, order = append(f.batches, b), rest
	}
	return longest, positions, pieces
}

// prepare takes the memory of the card and puts the embeddings there.
func (f *forward) prepare() error {
	c := f.config
	longest, positions, pieces := f.pack()
	if len(f.batches) == 0 {
		return nil
	}
	end := f.batches[len(f.batches)-1]
	all := int64(end.at+end.rows) * int64(c.Hidden) * 4
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	rows, gated := int64(f.rows), int64(f.piece)
	if f.int8 != nil {
		gated = rows
	}
	cos, sin := c.Rotations(longest)
	maxSpans := 0
	for _, b := range f.batches {
		spans := 0
		for _, i := range b.seqs {
			spans += len(f.pass.Sequences[i].Means)
		}
		maxSpans = max(maxSpans, spans)
	}
	between := func(fused bool) int64 { // rows between a product and what follows it
		if fused {
			return 0
		}
		return int64(f.piece)
	}
	list := []struct {
		to    *address
		what  string
		bytes int64
	}{
		{&f.normed.data, "the inputs of layers", rows * int64(up(c.Hidden)) * int64(f.size)},
		{&f.qkv, "queries, keys and values", between(f.turnsOnHopper()) * int64(q+2*kv) * 4},
		{&f.turned.data, "turned queries, keys and values", rows * int64(c.Heads+2*c.KVHeads) * int64(f.wide) * int64(f.size)},
		{&f.heads.data, "the heads' outputs", rows * int64(up(q)) * int64(f.size)},
		{&f.broad, "the MLP", between(f.onHopper()) * int64(2*c.Inter) * 4},
		{&f.gated.data, "the MLP", gated * int64(up(c.Inter)) * int64(f.size)},
		{&f.cos, "rotations", int64(len(cos)) * 4},
		{&f.sin, "rotations", int64(len(sin)) * 4},
		{&f.ids, "token ids", rows * 4},
		{&f.positions, "positions", int64(len(positions)) * 4},
		{&f.pieces, "pieces of attention", int64(len(pieces)) * 4},
		{&f.spans, "sentences", int64(maxSpans) * 8},
		{&f.pooled, "means of sentences", int64(maxSpans) * int64(c.Hidden) * 4},
	}
	for _, l := range list {
		var err error
		if *l.to, err = f.mem.take(f, l.what, l.bytes); err != nil {
			return err
		}
	}
	if f.int8 != nil {
		if err := f.int8.take(f); err != nil {
			return err
		}
	}
	for _, l := range []struct {
		in   *input
		rows int
		ld   int
	}{{&f.normed, f.rows, up(c.Hidden)}, {&f.turned, f.rows, (c.Heads + 2*c.KVHeads) * f.wide}, {&f.heads, f.rows, up(q)}, {&f.gated, f.piece, up(c.Inter)}} {
		var err error
		l.in.ld = l.ld
		if l.in.tensor, err = f.describe(&f.mem, l.in.data, l.rows, l.ld); err != nil {
			return err
		}
	}
	var err error
	// Heads narrower than a multiple of eight leave columns that only zeros
	// may stand in.
	if err := doing("clearing the heads' outputs", f.clear(f.heads.data, rows*int64(up(q))*int64(f.size))); err != nil {
		return err
	}
	if f.link, err = f.pin(2 * linkHalf); err != nil {
		return err
	}
	for i := range f.blocks {
		b, err := newWeights(f)
		if f.blocks[i] = b; err != nil {
			return err
		}
	}
	free, err := f.Free(f.mem.bytes + f.blocks[0].mem.bytes + f.blocks[1].mem.bytes)
	if err != nil {
		return err
	}
	table, err := f.ckpt.Embedding()
	if err != nil {
		return err
	}
	if all+int64(min(len(table.Data), end.at*4*c.Hidden)) <= free {
		f.states, err = f.mem.take(f, "the states", all)
	} else {
		if f.now, err = f.mem.take(f, "the states of a batch", rows*int64(c.Hidden)*4); err == nil {
			f.host, err = f.pin(all)
		}
	}
	if err != nil {
		return err
	}
	if err := f.upload("rotations", f.cos, linalg.Bytes(cos)); err != nil {
		return err
	}
	if err := f.upload("rotations", f.sin, linalg.Bytes(sin)); err != nil {
		return err
	}
	if err := f.upload("positions", f.positions, linalg.Bytes(positions)); err != nil {
		return err
	}
	if err := f.upload("pieces of attention", f.pieces, linalg.Bytes(pieces)); err != nil {
		return err
	}
	f.coming = f.blocks[0].bring(f, 0)
	begin := time.Now()
	err = f.embed(table)
	f.stages["embeddings"] = time.Since(begin).Seconds()
	return err
}

// embed sets the states to rows of the embedding table. Only the rows that are
// there go to the card.
func (f *forward) embed(table llm.Weight) error {
	numbers := make([]int32, f.config.Vocab) // of an id among those that are there, from 1
	var found []int32
	ids := make([][]int32, len(f.batches))
	for k, b := range f.batches {
		ids[k] = make([]int32, 0, b.tokens)
		for _, i := range b.seqs {
			for _, id := range f.pass.Sequences[i].IDs {
				if numbers[id] == 0 {
					found = append(found, id)
					numbers[id] = int32(len(found))
				}
				ids[k] = append(ids[k], numbers[id]-1)
			}
		}
	}
	rows := rowsOf(table.Data, len(table.Data)/f.config.Vocab, found)
	var mem buffers
	defer func() {
		f.wait(work) //nolint:errcheck // what failed was told before
		mem.free(f)
	}()
	p, err := mem.take(f, "the embeddings", int64(len(rows)))
	if err != nil {
		return err
	}
	if err := f.upload("the embeddings", p, rows); err != nil {
		return err
	}
	for k, b := range f.batches {
		if err := f.upload("token ids", f.ids, linalg.Bytes(ids[k])); err != nil {
			return err
		}
		x := f.of(b)
		if err := f.launch("embed_"+kernelType(table.DType), b.tokens, 1, 256, 0, x, p, f.ids, f.config.Hidden); err != nil {
			return err
		}
		if err := f.away(b, x); err != nil {
			return err
		}
	}
	return f.sync("embedding tokens")
}

// rowsOf gathers rows of a table in a file, by several threads: most of the time
// goes to the file's pages.
func rowsOf(table []byte, size int, which []int32) []byte {
	rows := make([]byte, len(which)*size)
	var all sync.WaitGroup
	const part = 256
	for from := 0; from < len(which); from += part {
		all.Go(func() {
			for i, id := range which[from:min(from+part, len(which))] {
				copy(rows[(from+i)*size:], table[int(id)*size:][:size])
			}
		})
	}
	all.Wait()
	return rows
}
