package tasks

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/llm"
	"clusterflow/studies"
)

// sentences splits the responses of a dataset, tokenizes them and finds the
// tokens of each sentence. Outputs: "sentences" (JSONL of Sentence, in file
// order), "traces" (JSONL of Trace), "order" (JSON, see place), "info" (JSON,
// DataInfo) and one "shard/i" (JSONL of shardLine) per 512 responses by rank.
type sentences struct {
	study   *studies.Study
	model   *studies.Model
	from    *checkpoint
	builtin string // identity of a built-in tokenizer, "" for files
	shards  int
}

// shardLine is one response of a shard: what a forward pass needs to know.
type shardLine struct {
	Response int      `json:"response"`
	IDs      []int32  `json:"ids"`
	Spans    [][2]int `json:"spans"` // tokens of each sentence, end exclusive
	Mean     [2]int   `json:"mean"`  // tokens from the first sentence to the last
}

// place says where the rows of one response lie. Places stand in file order.
type place struct {
	Response int `json:"response"`
	Shard    int `json:"shard"`
	Line     int `json:"line"`  // in the shard
	Row      int `json:"row"`   // first row in the shard
	Count    int `json:"count"` // sentences; 0 is left out of the mean vector
}

// DataInfo counts what became of the responses.
type DataInfo struct {
	Responses    int  `json:"responses"`
	Sentences    int  `json:"sentences"`
	Tokens       int  `json:"tokens"`
	CutOff       int  `json:"cut_off"`       // responses whose thinking was not closed
	LeftOut      int  `json:"left_out"`      // responses left out for that reason
	InsideToken  int  `json:"inside_token"`  // sentences skipped: both ends in one token
	PastMax      int  `json:"past_max"`      // sentences skipped: beyond max_tokens
	CutTokens    int  `json:"cut_tokens"`    // responses that max_tokens cut
	NoSentences  int  `json:"no_sentences"`  // responses without a sentence
	HadBOS       int  `json:"had_bos"`       // responses that begin with the BOS token already
	AddedBOS     int  `json:"added_bos"`     // responses that got one
	Imported     bool `json:"imported"`      // from an activations block
	RandomLabels bool `json:"random_labels"` // the model's weights are random
}

func (t *sentences) Kind() string    { return kindSentences.Name }
func (t *sentences) Version() string { return kindSentences.Version }

func (t *sentences) Params() []cache.Line {
	var p params
	d, m := t.model.Dataset, t.model
	set(&p, "n_examples", d.NExamples)
	set(&p, "truncated", d.Truncated)
	set(&p, "min_words", d.MinWords)
	set(&p, "seed", t.study.Seed)
	set(&p, "span", m.Span)
	set(&p, "add_bos", m.AddBOS)
	set(&p, "max_tokens", m.MaxTokens)
	p.add("shard", shardSize, "")
	if t.builtin != "" {
		p.add("tokenizer", t.builtin, m.Source.Origin())
	}
	return p.lines
}

func (t *sentences) Run(ctx context.Context, job *graph.Job) error {
	all, err := ReadResponses(t.model.Dataset.File.V)
	if err != nil {
		return err
	}
	tok, err := t.from.tokenizer()
	if err != nil {
		return err
	}
	ranked := selected(all, t.model.Dataset, t.study.Seed.V)
	if want := (len(ranked) + shardSize - 1) / shardSize; want != t.shards {
		return fmt.Errorf("%s changed while apply was running: it now makes %d shards, planned were %d; apply again", t.model.Dataset.File.V, want, t.shards)
	}
	info := DataInfo{Responses: len(ranked), LeftOut: cutOff(all, t.model.Dataset), RandomLabels: t.builtin != ""}
	lines := make([]shardLine, len(ranked))
	found := make([][]Sentence, len(ranked))
	for rank, r := range ranked {
		if err := ctx.Err(); err != nil {
			return err
		}
		if lines[rank], found[rank], err = t.encode(tok, r, &info); err != nil {
			return fmt.Errorf("response %d of %s: %w", r.Index, t.model.Dataset.File.V, err)
		}
		job.Progress(graph.Progress{Done: int64(rank + 1), Total: int64(len(ranked)), Unit: "responses"})
	}
	if info.Sentences == 0 {
		return fmt.Errorf("%s: no sentence of at least %d words in %d responses", t.model.Dataset.File.V, t.model.Dataset.MinWords.V, len(ranked))
	}
	return t.write(job, ranked, lines, found, info)
}

// encode tokenizes one response and finds its sentences.
func (t *sentences) encode(tok *llm.Tokenizer, r Response, info *DataInfo) (shardLine, []Sentence, error) {
	line := shardLine{Response: r.Index, IDs: []int32{}, Spans: [][2]int{}}
	enc, err := tok.Encode(r.Text, t.model.AddBOS.V)
	if err != nil {
		return line, nil, err
	}
	if !r.Closed {
		info.CutOff++
	}
	if enc.HadBOS {
		info.HadBOS++
	}
	if enc.AddedBOS {
		info.AddedBOS++
	}
	limit := len(enc.IDs)
	if most := t.model.MaxTokens.V; most > 0 && limit > most {
		limit = most
		info.CutTokens++
	}
	info.Tokens += limit
	var out []Sentence
	first, last := -1, 0
	spans := llm.Sentences(r.Text, r.Think.Start, r.Think.End, t.model.Dataset.MinWords.V)
	chars := llm.CharSpans(r.Text, spans)
	for i, s := range spans {
		start, end := enc.TokenSpan(s.Start, s.End)
		if start >= end {
			info.InsideToken++
			continue
		}
		if end > limit {
			info.PastMax++
			continue
		}
		if first < 0 {
			first = start
		}
		last = max(last, end)
		from := start
		if t.model.Span.V == "with_previous" && start > 0 {
			from--
		}
		line.Spans = append(line.Spans, [2]int{from, end})
		out = append(out, Sentence{
			Response: r.Index, Index: len(out), QuestionID: r.QuestionID, Category: r.Category,
			Text: r.Text[s.Start:s.End], Bytes: [2]int{s.Start, s.End},
			Chars: [2]int{chars[i].Start, chars[i].End}, Tokens: [2]int{from, end},
		})
	}
	if len(out) == 0 {
		info.NoSentences++
		return line, nil, nil
	}
	info.Sentences += len(out)
	line.IDs, line.Mean = enc.IDs[:limit], [2]int{first, last}
	return line, out, nil
}

// write stores the outputs: shards by rank, everything else in file order.
func (t *sentences) write(job *graph.Job, ranked []Response, lines []shardLine, found [][]Sentence, info DataInfo) error {
	places := make([]place, len(ranked))
	rankOf := make(map[int]int, len(ranked))
	for s := range t.shards {
		from, to := s*shardSize, min((s+1)*shardSize, len(ranked))
		row := 0
		for rank := from; rank < to; rank++ {
			places[rank] = place{ranked[rank].Index, s, rank - from, row, len(found[rank])}
			rankOf[ranked[rank].Index] = rank
			row += len(found[rank])
		}
		if err := job.Write("shard/"+strconv.Itoa(s), func(w io.Writer) error { return writeJSONL(w, lines[from:to]) }); err != nil {
			return err
		}
	}
	slices.SortFunc(places, func(a, b place) int { return a.Response - b.Response })
	var all []Sentence
	var traces []Trace
	for _, p := range places {
		rank := rankOf[p.Response]
		for _, s := range found[rank] {
			s.ID = len(all)
			all = append(all, s)
		}
		r := ranked[rank]
		traces = append(traces, Trace{r.Index, r.QuestionID, r.Category, r.Question, r.Text[r.Think.Start:r.Think.End], r.Closed})
	}
	order, err := json.Marshal(places)
	if err != nil {
		return err
	}
	facts, err := json.Marshal(info)
	if err != nil {
		return err
	}
	for _, err := range []error{
		job.Write("sentences", func(w io.Writer) error { return writeJSONL(w, all) }),
		job.Write("traces", func(w io.Writer) error { return writeJSONL(w, traces) }),
		job.Put("order", order),
		job.Put("info", facts),
	} {
		if err != nil {
			return err
		}
	}
	job.Note("sentences", strconv.Itoa(info.Sentences))
	job.Note("tokens", strconv.Itoa(info.Tokens))
	job.Note("data", strings.Join(info.facts()[3:], ", "))
	return nil
}
