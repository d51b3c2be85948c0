package tasks

import (
	"encoding/json"
	"fmt"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/internal/judge"
)

// Asked is one request of a submit node and, where it is there, its answer.
type Asked struct {
	Key     string          `json:"key"`
	Task    string          `json:"task"` // title, accuracy, completeness, fit or similarity
	Rep     int             `json:"rep"`
	Cluster int             `json:"cluster"`          // what it asks about; 0 where it is about all of them
	Other   int             `json:"other,omitempty"`  // the second cluster of a similarity
	Rows    []int           `json:"rows,omitempty"`   // the sentences that it shows, in the order of its ids
	Tokens  int             `json:"tokens,omitempty"` // of the prompt; 0 for the offline judge
	Body    json.RawMessage `json:"body"`             // as it is sent
	Answer  *batch.Answer   `json:"answer,omitempty"`
}

// About reports whether a request is about a cluster: every request that
// compares all clusters is.
func (a *Asked) About(cluster int) bool {
	switch a.Task {
	case judge.TaskSimilarity:
		return a.Cluster == cluster || a.Other == cluster
	case judge.TaskCompleteness:
		return true
	}
	return a.Cluster == cluster
}

// Subject says in words what the request is about.
func (a *Asked) Subject() string {
	switch a.Task {
	case judge.TaskSimilarity:
		return fmt.Sprintf("clusters %d and %d", a.Cluster, a.Other)
	case judge.TaskCompleteness:
		return "all clusters"
	}
	return fmt.Sprintf("cluster %d", a.Cluster)
}

// Cost is what the request asks of the evaluator that an await node is for, which
// may be nil.
func (a *Asked) Cost(by *graph.Node, past Answered) (Ask, bool) {
	if by == nil || a.Tokens == 0 {
		return Ask{}, false
	}
	t, ok := by.Task.(*await)
	if !ok {
		return Ask{}, false
	}
	out := Ask{Evaluator: t.evaluator, Task: a.Task, Exact: true}
	out.count(request{Tokens: a.Tokens, Body: a.Body})
	out.expect(past)
	return out, true
}

// Messages are the role and text of each message of the request.
func (a *Asked) Messages() ([][2]string, error) {
	var body struct {
		Messages []struct{ Role, Content string } `json:"messages"`
	}
	if err := json.Unmarshal(a.Body, &body); err != nil {
		return nil, fmt.Errorf("request %.12s: %w", a.Key, err)
	}
	out := make([][2]string, len(body.Messages))
	for i, m := range body.Messages {
		out[i] = [2]string{m.Role, m.Content}
	}
	return out, nil
}

// ReadAsked reads the requests of a submit node's record, with the answers of
// the await node's, which may be nil.
func ReadAsked(blobs *cache.Blobs, submitted, awaited *cache.Record) ([]Asked, error) {
	asked, err := readLines[Asked](blobs, submitted, "requests")
	if err != nil || awaited == nil {
		return asked, err
	}
	answers, err := readLines[batch.Answer](blobs, awaited, "answers")
	if err != nil {
		return nil, err
	}
	byKey := make(map[string]*batch.Answer, len(answers))
	for i := range answers {
		byKey[answers[i].Key] = &answers[i]
	}
	for i := range asked {
		asked[i].Answer = byKey[asked[i].Key]
	}
	return asked, nil
}

func readLines[T any](blobs *cache.Blobs, r *cache.Record, output string) ([]T, error) {
	o, ok := r.Output(output)
	if !ok {
		return nil, fmt.Errorf("a record of %s has no output %s", r.Kind, output)
	}
	content, err := OpenOutput(blobs, o)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	return readJSONL[T](content)
}
