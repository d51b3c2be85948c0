package tasks

import (
	"fmt"

	"clusterflow/graph"
	"clusterflow/internal/llm"
)

// Averaged is what the activation of a sentence is the mean of.
type Averaged struct {
	Before string // the token before the sentence, where that is in the mean
	Text   string // what the other tokens stand for in the response
}

// AveragedTokens says which tokens the activations of some sentences are means
// of. The node is the one that made the sentences, from the files that are there
// now. It is nil for sentences that another program made.
func AveragedTokens(n *graph.Node, of []Sentence) ([]Averaged, error) {
	t, ok := n.Task.(*sentences)
	if !ok {
		return nil, nil
	}
	all, err := ReadResponses(t.model.Dataset.File.V)
	if err != nil {
		return nil, err
	}
	tok, err := t.from.tokenizer()
	if err != nil {
		return nil, err
	}
	encoded := map[int]llm.Encoding{}
	out := make([]Averaged, len(of))
	for i, s := range of {
		if s.Response >= len(all) || s.Bytes[1] > len(all[s.Response].Text) {
			return nil, fmt.Errorf("%s has no sentence %d of response %d: it is not the file that the sentences were made from", t.model.Dataset.File.V, s.Index, s.Response)
		}
		text := all[s.Response].Text
		e, ok := encoded[s.Response]
		if !ok {
			if e, err = tok.Encode(text, t.model.AddBOS.V); err != nil {
				return nil, err
			}
			encoded[s.Response] = e
		}
		start, end := e.TokenSpan(s.Bytes[0], s.Bytes[1])
		if s.Tokens[0] < start {
			if out[i].Before, err = tok.Decode(e.IDs[s.Tokens[0]:start]); err != nil {
				return nil, err
			}
		}
		out[i].Text = text[e.Offsets[start].Start:e.Offsets[end-1].End]
	}
	return out, nil
}
