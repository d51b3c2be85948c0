package tasks

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
	"clusterflow/studies"
)

// importSentences reads the sentences of an activations block: JSONL with a
// "text" a line and optionally response, index, question_id and category.
// Outputs: "sentences", "traces" and "info", as task sentences makes them.
type importSentences struct{ block *studies.Activations }

func (t *importSentences) Kind() string    { return kindImport.Name }
func (t *importSentences) Version() string { return kindImport.Version }

func (t *importSentences) Params() []cache.Line {
	var p params
	p.add("what", "sentences", "")
	return p.lines
}

func (t *importSentences) Run(ctx context.Context, job *graph.Job) error {
	all, err := ReadSentences(t.block.Sentences.V)
	if err != nil {
		return err
	}
	traces := tracesOf(all)
	info, err := json.Marshal(DataInfo{Responses: len(traces), Sentences: len(all), Imported: true})
	if err != nil {
		return err
	}
	for _, err := range []error{
		job.Write("sentences", func(w io.Writer) error { return writeJSONL(w, all) }),
		job.Write("traces", func(w io.Writer) error { return writeJSONL(w, traces) }),
		job.Put("info", info),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// ReadSentences reads the sentences file of an activations block. Rows without
// a response are responses of their own.
func ReadSentences(path string) ([]Sentence, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	type line struct {
		Text       *string         `json:"text"`
		Response   *int            `json:"response"`
		QuestionID json.RawMessage `json:"question_id"`
		Category   string          `json:"category"`
	}
	lines, err := readJSONL[line](f)
	if err != nil {
		return nil, fmt.Errorf("reading sentences from %s: %w", path, err)
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("reading sentences from %s: the file holds no sentences", path)
	}
	out := make([]Sentence, len(lines))
	next := map[int]int{}
	own := 0 // from here on, numbers that no row names
	for _, l := range lines {
		if l.Response != nil {
			own = max(own, *l.Response+1)
		}
	}
	for i, l := range lines {
		if l.Text == nil {
			return nil, fmt.Errorf("reading sentences from %s: row %d has no text", path, i)
		}
		response := own + i
		if l.Response != nil {
			response = *l.Response
		}
		out[i] = Sentence{ID: i, Response: response, Index: next[response], QuestionID: scalar(l.QuestionID), Category: l.Category, Text: *l.Text}
		next[response]++
	}
	return out, nil
}

// tracesOf joins the sentences of each response, in the order of first rows.
func tracesOf(all []Sentence) []Trace {
	var out []Trace
	texts := map[int][]string{}
	at := map[int]int{}
	for _, s := range all {
		if _, ok := at[s.Response]; !ok {
			at[s.Response] = len(out)
			out = append(out, Trace{Response: s.Response, QuestionID: s.QuestionID, Category: s.Category, Closed: true})
		}
		texts[s.Response] = append(texts[s.Response], s.Text)
	}
	for i := range out {
		out[i].Text = strings.Join(texts[out[i].Response], " ")
	}
	return out
}

// importRows reads the rows of one layer of an activations block. Its output
// "activations" is as task rows makes it. The mean is the given one; without
// one it is the mean of the rows, or zero where the mean of centred rows is not
// known.
type importRows struct {
	block *studies.Activations
	file  studies.LayerFile
}

// unitTolerance is how far from 1 the length of a row may be that is said to be
// normalised: float16 rows have this much rounding.
const unitTolerance = 1e-2

func (t *importRows) Kind() string    { return kindImport.Name }
func (t *importRows) Version() string { return kindImport.Version }

func (t *importRows) Params() []cache.Line {
	var p params
	p.add("what", "rows", "")
	set(&p, "centered", t.block.Centered)
	set(&p, "normalized", t.block.Normalized)
	return p.lines
}

func (t *importRows) Run(ctx context.Context, job *graph.Job) error {
	var info DataInfo
	if err := readJSON(job, "info", &info); err != nil {
		return err
	}
	x, err := linalg.ReadMatrixFile(t.file.File.V)
	if err != nil {
		return err
	}
	if x.Rows != info.Sentences {
		return fmt.Errorf("%s has %d rows, but %s has %d sentences: the two must match line by line", t.file.File.V, x.Rows, t.block.Sentences.V, info.Sentences)
	}
	for i := range x.Rows {
		if c := nonFinite(x.Row(i)); c >= 0 {
			return fmt.Errorf("%s: row %d, component %d is not finite", t.file.File.V, i, c)
		}
		if norm := cluster.Norm(x.Row(i)); t.block.Normalized.V && math.Abs(norm-1) > unitTolerance {
			return fmt.Errorf("%s: row %d has the length %.4g, but the block says normalized = true; correct the one or the other", t.file.File.V, i, norm)
		}
	}
	mean := make([]float32, x.Cols)
	switch {
	case t.file.Mean.Set:
		m, err := linalg.ReadMatrixFile(t.file.Mean.V)
		if err != nil {
			return err
		}
		if m.Rows*m.Cols != x.Cols {
			return fmt.Errorf("%s holds %d numbers, the rows of %s have %d", t.file.Mean.V, m.Rows*m.Cols, t.file.File.V, x.Cols)
		}
		copy(mean, m.Data)
	case !t.block.Centered.V:
		sum := make([]float64, x.Cols)
		for i := range x.Rows {
			for c, v := range x.Row(i) {
				sum[c] += float64(v)
			}
		}
		for c := range mean {
			mean[c] = float32(sum[c] / float64(x.Rows))
		}
	}
	job.Note("rows", strconv.Itoa(x.Rows))
	job.Note("columns", strconv.Itoa(x.Cols))
	return writeActivations(job, x, mean)
}
