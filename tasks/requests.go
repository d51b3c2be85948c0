package tasks

import (
	"encoding/json"
	"fmt"
	"io"

	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/internal/judge"
	"clusterflow/internal/price"
)

// request is one line of a request file: what is sent, its request key, and
// what the question is about. Ids in a prompt count from 1; Rows[i] is the
// sentence behind id i+1.
type request struct {
	Key     string          `json:"key"`
	Task    string          `json:"task"` // of package judge
	Rep     int             `json:"rep"`
	Cluster int             `json:"cluster"`
	Other   int             `json:"other,omitempty"` // the second cluster of a similarity
	Rows    []int           `json:"rows,omitempty"`
	Traces  []int           `json:"traces,omitempty"` // the responses whose whole thinking is shown
	Tokens  int             `json:"tokens,omitempty"` // of the prompt; none for the offline judge, who costs nothing
	Body    json.RawMessage `json:"body"`
}

// newRequest asks a prompt of an evaluator. A repetition asks again, for an
// answer of its own. The tokens of the prompt are counted unless r has them.
func newRequest(e batch.Evaluator, p judge.Prompt, r request) request {
	limit := p.MaxTokens
	if batch.Reasoning(e.Model) {
		limit += judge.ReasoningReserve
	}
	q := batch.NewRequest(e, batch.PromptParts{
		System: p.System, User: p.User, SchemaName: p.SchemaName, Schema: p.Schema, MaxTokens: limit, Repetition: r.Rep,
	})
	r.Key, r.Body = q.Key, q.Body
	if r.Tokens == 0 && e.Provider != lexical {
		r.Tokens, _ = price.Prompt(q.Body) // of our own making, so it can be read
	}
	return r
}

// readRequests reads a request file without the bodies, which are large and
// which nobody but the sender needs.
func readRequests(job *graph.Job, input string) ([]request, error) {
	type head struct {
		request
		Body struct{} `json:"body"`
	}
	heads, err := readInput[head](job, input)
	if err != nil {
		return nil, err
	}
	out := make([]request, len(heads))
	for i, h := range heads {
		out[i] = h.request
		out[i].Body = nil
	}
	return out, nil
}

func readInput[T any](job *graph.Job, input string) ([]T, error) {
	in, err := job.Open(input)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := readJSONL[T](in)
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", input, job.Node.Addr, err)
	}
	return out, nil
}

// answered pairs a request with what came back.
type answered struct {
	request
	Answer batch.Answer
}

// readAnswers joins a request file and an answer file, which has one line per
// request in the same order.
func readAnswers(job *graph.Job, requests, answers string) ([]answered, error) {
	qs, err := readRequests(job, requests)
	if err != nil {
		return nil, err
	}
	as, err := readInput[batch.Answer](job, answers)
	if err != nil {
		return nil, err
	}
	if len(as) != len(qs) {
		return nil, fmt.Errorf("%s has %d answers to %d requests", job.Node.Addr, len(as), len(qs))
	}
	out := make([]answered, len(qs))
	for i := range qs {
		if as[i].Key != qs[i].Key {
			return nil, fmt.Errorf("%s: answer %d is to another request", job.Node.Addr, i)
		}
		out[i] = answered{qs[i], as[i]}
	}
	return out, nil
}

// putRequests stores a request file and counts what it asks.
func putRequests(job *graph.Job, rs []request) error {
	if err := job.Write("requests", func(w io.Writer) error { return writeJSONL(w, rs) }); err != nil {
		return err
	}
	sums := map[string]*Ask{}
	for _, r := range rs {
		if sums[r.Task] == nil {
			sums[r.Task] = &Ask{Task: r.Task}
		}
		sums[r.Task].count(r)
	}
	for _, a := range sums {
		a.note(job)
	}
	return nil
}

// clustering is the sentences of a clustering with their labels.
type clustering struct {
	sentences []Sentence
	labels    []int32
	distances []float32
	members   [][]int // rows per cluster, ascending
}

// readClustering reads the inputs "sentences" and "labels".
func readClustering(job *graph.Job) (*clustering, error) {
	sentences, err := readInput[Sentence](job, "sentences")
	if err != nil {
		return nil, err
	}
	return readLabels(job, "labels", sentences)
}

// readLabels reads a labels output of train.
func readLabels(job *graph.Job, input string, all []Sentence) (*clustering, error) {
	st, err := openTensors(job, input)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	c := &clustering{sentences: all}
	labels, ok1 := st.Tensor("labels")
	distances, ok2 := st.Tensor("distances")
	sizes, ok3 := st.Tensor("sizes")
	if !ok1 || !ok2 || !ok3 {
		return nil, fmt.Errorf("%s of %s lacks a tensor", input, job.Node.Addr)
	}
	if c.labels, err = labels.Int32(); err != nil {
		return nil, err
	}
	if c.distances, err = distances.Float32(); err != nil {
		return nil, err
	}
	if len(c.labels) != len(all) || len(c.distances) != len(all) {
		return nil, fmt.Errorf("%s of %s: %d labels of %d sentences", input, job.Node.Addr, len(c.labels), len(all))
	}
	counts, err := sizes.Int32()
	if err != nil {
		return nil, err
	}
	for _, l := range c.labels {
		if l < 0 || int(l) >= len(counts) {
			return nil, fmt.Errorf("%s of %s: a label of %d, with %d clusters", input, job.Node.Addr, l, len(counts))
		}
	}
	c.members = make([][]int, len(counts)) // clusters may be empty
	for i, l := range c.labels {
		c.members[l] = append(c.members[l], i)
	}
	return c, nil
}

// prompted gives sentences the ids 1, 2, … of a prompt.
func (c *clustering) prompted(rows []int) []judge.Sentence {
	texts := make([]string, len(rows))
	for i, r := range rows {
		texts[i] = c.sentences[r].Text
	}
	return judge.Numbered(texts)
}
