package tasks

import (
	"fmt"
	"strings"
	"sync"

	"clusterflow/graph"
	"clusterflow/studies"
)

// sampleBytes is how much text of a dataset is tokenized to estimate the rest.
const sampleBytes = 256 << 10

// survey is what tokenizing some responses of a model showed.
type survey struct {
	responses, bytes, tokens int
	squares                  float64 // sum of squared token counts
	hadBOS, addedBOS, cut    int
}

// surveyor tokenizes the first responses by rank, when it is first asked.
func surveyor(m *studies.Model, from *checkpoint, ranked []Response) func() survey {
	bytes, n := 0, 0
	texts := []string{}
	for ; n < len(ranked) && bytes < sampleBytes; n++ {
		bytes += len(ranked[n].Text)
		texts = append(texts, strings.Clone(ranked[n].Text)) // not to keep the whole file
	}
	return sync.OnceValue(func() survey {
		var s survey
		tok, err := from.tokenizer()
		if err != nil {
			return s // the check of the study has said so
		}
		for _, text := range texts {
			e, err := tok.Encode(text, m.AddBOS.V)
			if err != nil {
				return s
			}
			if e.HadBOS {
				s.hadBOS++
			}
			if e.AddedBOS {
				s.addedBOS++
			}
			k := len(e.IDs)
			if most := m.MaxTokens.V; most > 0 && k > most {
				k = most
				s.cut++
			}
			s.responses, s.bytes, s.tokens, s.squares = s.responses+1, s.bytes+len(text), s.tokens+k, s.squares+float64(k)*float64(k)
		}
		return s
	})
}

// Facts are the lines of a plan about the data of a study's models. They are
// exact where the sentences have been made, which info looks up by their node's
// address; else they are estimates from a part of the responses.
func (c *Compiled) Facts(info func(addr string) *DataInfo) []string {
	var out []string
	for _, m := range c.materials {
		if i := info(m.label + "/sentences"); i != nil {
			out = append(out, m.label+": "+strings.Join(i.facts(), " · ")+m.remark())
			continue
		}
		out = append(out, m.estimate())
	}
	return out
}

// facts says what became of the responses.
func (i *DataInfo) facts() []string {
	out := []string{count(i.Responses, "response", "responses"), count(i.Sentences, "sentence", "sentences")}
	if i.Imported {
		return out
	}
	out = append(out, count(i.Tokens, "token", "tokens"), bosFact(i.AddedBOS, i.HadBOS, i.Responses))
	return append(out, counted(
		fact{i.CutOff, "cut-off trace", " kept"}, fact{i.LeftOut, "cut-off trace", " left out"},
		fact{i.CutTokens, "response", " cut at max_tokens"}, fact{i.PastMax, "sentence", " beyond it left out"},
		fact{i.InsideToken, "sentence", " inside one token skipped"}, fact{i.NoSentences, "response", " without a sentence"},
	)...)
}

// fact is a number of things and what became of them.
type fact struct {
	n           int
	thing, what string
}

// counted are those of which there are any, as text.
func counted(facts ...fact) []string {
	var out []string
	for _, f := range facts {
		if f.n > 0 {
			out = append(out, count(f.n, f.thing, f.thing+"s")+f.what)
		}
	}
	return out
}

// bosFact says where BOS tokens come from.
func bosFact(added, had, of int) string {
	switch {
	case had == 0 && added == 0:
		return "no BOS"
	case had == 0:
		return "one BOS each"
	case had == of:
		return "each begins with BOS already, none added"
	}
	if had == 1 {
		return "1 begins with BOS already, none added to it"
	}
	return fmt.Sprintf("%s begin with BOS already, none added to them", thousands(had))
}

// estimate is what a plan says of data that has not been looked at in full.
func (m *material) estimate() string {
	out := []string{count(m.responses, "response", "responses"), "about " + count(m.sentences, "sentence", "sentences")}
	if m.model != nil {
		if s := m.survey(); s.responses > 0 {
			tokens := count(s.tokens, "token", "tokens")
			if s.responses < m.responses {
				tokens = "about " + count(roundTo2(float64(s.tokens)*float64(m.chars)/float64(s.bytes)), "token", "tokens")
			}
			out = append(out, tokens, bosFact(s.addedBOS, s.hadBOS, s.responses))
			if s.cut > 0 {
				out = append(out, "about "+count(s.cut*m.responses/s.responses, "response", "responses")+" cut at max_tokens")
			}
		}
	}
	out = append(out, counted(fact{m.cutOff, "cut-off trace", " kept"}, fact{m.leftOut, "cut-off trace", " left out"})...)
	return m.label + ": " + strings.Join(out, " · ") + m.remark()
}

func (m *material) remark() string {
	if m.random {
		return " · random weights"
	}
	return ""
}

// roundTo2 keeps two digits, or as many as thousands need.
func roundTo2(v float64) int {
	step := 1
	for v/float64(step) >= 1000 {
		step *= 10
	}
	return int(v/float64(step)+0.5) * step
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}

// ShardResponses is the number of responses that an extract node covers, 0 for
// other nodes.
func ShardResponses(n *graph.Node) int {
	t, ok := n.Task.(*extract)
	if !ok || t.mat == nil {
		return 0
	}
	return min(shardSize, t.mat.responses-t.shard*shardSize)
}

// LinkageWork estimates the floating-point operations of a linkage node; 0 for
// other nodes.
func LinkageWork(n *graph.Node) float64 {
	if t, ok := n.Task.(*linkage); ok {
		return t.work
	}
	return 0
}

// PassWork estimates the floating-point operations of an extract node if it is
// the only one of its shard in a pass, which nodes of the same shard share; 0
// for other nodes.
func PassWork(n *graph.Node) (shard string, work float64) {
	t, ok := n.Task.(*extract)
	if !ok || t.mat == nil {
		return "", 0
	}
	s := t.mat.survey()
	if s.bytes == 0 {
		return "", 0
	}
	part := float64(ShardResponses(n)) / float64(t.mat.responses)
	scale := part * float64(t.mat.chars) / float64(s.bytes)
	return fmt.Sprintf("%s %d", t.Group(), t.shard), t.mat.work(float64(s.tokens)*scale, s.squares*scale, t.layer+1)
}
