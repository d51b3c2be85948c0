package batchd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	"clusterflow/internal/judge"
)

// Lexical is the offline judge: an honest baseline without a language model. It
// answers the chat completion request body in the JSON form that the prompt
// asks for, reading nothing of the prompt but the data block that
// judge.ReadData finds. The same data gets the same answer, byte for byte. Safe
// for concurrent use.
//
// What it does is class-based term weighting over the terms of a sentence (see
// lexical_terms.go), which mark functions and not subjects:
//
//   - A title is made from the terms that the sentences of a cluster have
//     significantly more, or less, often than usual. The description lists them
//     with both shares, so that it says in words all that the judge knows.
//   - Yes or No, a category or None, and a fit are decided by the description
//     alone: each listed term adds the logarithm of how much more often it is
//     present, or absent, in the category than among the sentences at hand.
//   - The similarity of two categories is the cosine of their term weights.
//
// A description that lists no shares, such as a person's or a model's, is read
// as the terms and the words that it contains.
func Lexical(ctx context.Context, body []byte) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	user, err := lastUserMessage(body)
	if err != nil {
		return "", fmt.Errorf("lexical judge: %w", err)
	}
	d, err := judge.ReadData(user)
	if err != nil {
		return "", fmt.Errorf("lexical judge: it answers only prompts of clusterflow: %w", err)
	}
	l := lexicalJudge{t: lexicalTable(), terse: terse(body)}
	var answer any
	switch d.Task {
	case judge.TaskTitle:
		answer = l.title(d)
	case judge.TaskAccuracy:
		answer, err = l.accuracy(d)
	case judge.TaskCompleteness:
		answer = l.completeness(d)
	case judge.TaskFit:
		answer, err = l.fit(d)
	case judge.TaskSimilarity:
		answer, err = l.similarity(d)
	default:
		err = fmt.Errorf("no answer to task %q", d.Task)
	}
	if err != nil {
		return "", fmt.Errorf("lexical judge: %w", err)
	}
	b, err := json.Marshal(answer)
	return string(b), err
}

// lexicalTable is built once; nothing changes it afterwards.
var lexicalTable = sync.OnceValue(newTermTable)

// terse reports whether a request holds its answer to a schema without
// explanations.
func terse(body []byte) bool {
	var request struct {
		ResponseFormat struct {
			JSONSchema struct {
				Schema json.RawMessage `json:"schema"`
			} `json:"json_schema"`
		} `json:"response_format"`
	}
	if json.Unmarshal(body, &request) != nil {
		return false
	}
	schema := request.ResponseFormat.JSONSchema.Schema
	return len(schema) > 0 && !bytes.Contains(schema, []byte(`"explanation"`))
}

// lastUserMessage takes the text of the last user message of a chat completion
// request; the content may be a string or a list of parts.
func lastUserMessage(body []byte) (string, error) {
	var request struct {
		Messages []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return "", fmt.Errorf("the request is no chat completion request: %w", err)
	}
	for i := len(request.Messages) - 1; i >= 0; i-- {
		m := request.Messages[i]
		if m.Role != "user" {
			continue
		}
		var text string
		if err := json.Unmarshal(m.Content, &text); err == nil {
			return text, nil
		}
		var parts []struct {
			Text string `json:"text"`
		}
		if err := json.Unmarshal(m.Content, &parts); err != nil {
			return "", errors.New("the content of the user message is neither a text nor a list of parts")
		}
		for _, p := range parts {
			text += p.Text
		}
		return text, nil
	}
	return "", errors.New("the request has no user message")
}

// The settings of the judge. They were set once, by reason and by trying on
// sentences of known kinds, and answers depend on them.
const (
	yesAbove    = 0.25 // evidence (in nats) that a Yes needs
	damping     = 0.7  // terms overlap, so their evidence is not independent
	mixWeight   = 25   // how many sentences the usual share counts for beside those at hand
	assignAbove = 0.2  // posterior that a category needs
)

type lexicalJudge struct {
	t     *termTable
	terse bool // without explanations
}

type listAnswer struct {
	Answers []itemAnswer `json:"answers"`
}

type itemAnswer struct {
	ID          int     `json:"id"`
	Explanation *string `json:"explanation,omitempty"`
	Answer      string  `json:"answer,omitempty"`
	Category    string  `json:"category,omitempty"`
	Confidence  *int    `json:"confidence,omitempty"`
}

type scoreAnswer struct {
	Explanation *string `json:"explanation,omitempty"`
	Score       int     `json:"score"`
}

// why is an explanation, if explanations are wanted.
func (l lexicalJudge) why(text string) *string {
	if l.terse {
		return nil
	}
	return &text
}

func (l lexicalJudge) accuracy(d judge.Data) (any, error) {
	if d.Category == nil {
		return nil, errors.New("an accuracy prompt without a category")
	}
	sentences := l.read(d.Sentences)
	p := l.profile(*d.Category).against(sentences)
	out := listAnswer{Answers: []itemAnswer{}}
	for i, s := range sentences {
		a := itemAnswer{ID: d.Sentences[i].ID, Answer: "No", Explanation: l.why(p.explain(s))}
		if p.evidence(s) > yesAbove {
			a.Answer = "Yes"
		}
		out.Answers = append(out.Answers, a)
	}
	return out, nil
}

// completeness takes the category with the highest posterior, where every
// category and None are equally likely beforehand.
func (l lexicalJudge) completeness(d judge.Data) any {
	sentences := l.read(d.Sentences)
	profiles := make([]profile, len(d.Categories))
	for i, c := range d.Categories {
		profiles[i] = l.profile(c).against(sentences)
	}
	out := listAnswer{Answers: []itemAnswer{}}
	for i, s := range sentences {
		best, total, top := -1, 1.0, 1.0 // None
		for j, p := range profiles {
			odds := math.Exp(damping * p.evidence(s))
			total += odds
			if odds > top {
				best, top = j, odds
			}
		}
		posterior := top / total
		confidence := 0
		a := itemAnswer{ID: d.Sentences[i].ID, Category: "None", Confidence: &confidence, Explanation: l.why("no category stands out")}
		if best >= 0 && posterior > assignAbove {
			a.Category = strconv.Itoa(d.Categories[best].ID)
			a.Explanation = l.why(profiles[best].explain(s))
			confidence = max(1, int(math.Round(10*posterior)))
		}
		out.Answers = append(out.Answers, a)
	}
	return out
}

func (l lexicalJudge) fit(d judge.Data) (any, error) {
	if d.Category == nil || len(d.Sentences) != 1 {
		return nil, errors.New("a fit prompt without a category and one sentence")
	}
	p := l.profile(*d.Category)
	s := l.read(d.Sentences)[0]
	posterior := 1 / (1 + math.Exp(-damping*p.evidence(s)))
	return scoreAnswer{l.why(p.explain(s)), int(math.Round(10 * posterior))}, nil
}

// similarity is the cosine of the weights, negative ones as 0. A category in
// which nothing stands out is neither like nor unlike another one: 5; two of
// them are the same: 10.
func (l lexicalJudge) similarity(d judge.Data) (any, error) {
	if len(d.Categories) != 2 {
		return nil, fmt.Errorf("a similarity prompt with %d categories", len(d.Categories))
	}
	a, b := l.profile(d.Categories[0]), l.profile(d.Categories[1])
	switch {
	case len(a) == 0 && len(b) == 0:
		return scoreAnswer{l.why("nothing stands out in either description"), 10}, nil
	case len(a) == 0 || len(b) == 0:
		return scoreAnswer{l.why("nothing stands out in one of the descriptions"), 5}, nil
	}
	weights := map[string]float64{}
	for _, e := range b {
		weights[e.name] = e.weight()
	}
	var dot, aa, bb float64
	var shared []string
	for _, e := range a {
		w := e.weight()
		dot += w * weights[e.name]
		aa += w * w
		if w > 0 && weights[e.name] > 0 {
			shared = append(shared, e.name)
		}
	}
	for _, e := range b {
		bb += e.weight() * e.weight()
	}
	cosine := 0.0
	if aa > 0 && bb > 0 {
		cosine = max(0, min(1, dot/math.Sqrt(aa*bb)))
	}
	why := "no term is typical of both"
	if len(shared) > 0 {
		why = "typical of both: " + strings.Join(shared, ", ")
	}
	return scoreAnswer{l.why(why), int(math.Round(10 * cosine))}, nil
}

// sentenceTerms is a sentence as the judge sees it.
type sentenceTerms struct {
	terms terms
	words map[string]bool
}

func (l lexicalJudge) read(sentences []judge.Sentence) []sentenceTerms {
	out := make([]sentenceTerms, len(sentences))
	for i, s := range sentences {
		words := map[string]bool{}
		for _, w := range tokenize(s.Text) {
			words[w] = true
		}
		out[i] = sentenceTerms{l.t.of(s.Text), words}
	}
	return out
}
