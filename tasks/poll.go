package tasks

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/judge"
	"clusterflow/internal/linalg"
)

// Poll is what people can be asked about a clustering: which category, by title
// and description, each of some sentences belongs to. Neither the ids of sentences
// nor the order of categories tells anything about the clusters.
type Poll struct {
	Address    string           // of the titles, such as r1/12/gmm/20/auto
	Categories []judge.Category // of the first repetition, in an order of chance
	Judges     []PollJudge
	sentences  []Sentence
	labels     []int32
	mark       string // what the ids are made from
}

// PollJudge is what an evaluator said about the same question.
type PollJudge struct {
	Name     string
	Assigned map[int]int // category id by row, judge.None for none
}

// PollSentence is a sentence of a poll.
type PollSentence struct {
	ID, Text string
	Row      int
}

// ReadPoll reads a poll from the score nodes of a clustering's titles, of which
// there is one per judge. record gives the record of a cached node.
func ReadPoll(blobs *cache.Blobs, addr string, scores []*graph.Node, record func(*graph.Node) (*cache.Record, error)) (*Poll, error) {
	p := &Poll{Address: addr}
	for i, n := range scores {
		r, err := record(n)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			if err := p.read(blobs, n, record); err != nil {
				return nil, err
			}
		}
		content, ok := r.Output("score")
		if !ok {
			return nil, fmt.Errorf("%s has no score", n.Addr)
		}
		f, err := OpenOutput(blobs, content)
		if err != nil {
			return nil, err
		}
		var s scoreFile
		err = json.NewDecoder(f).Decode(&s)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("reading the score of %s: %w", n.Addr, err)
		}
		p.Judges = append(p.Judges, PollJudge{n.Attr("judge"), assignments(s.SizeResult)})
	}
	return p, nil
}

// read takes sentences, labels and titles from what a score node reads.
func (p *Poll) read(blobs *cache.Blobs, n *graph.Node, record func(*graph.Node) (*cache.Record, error)) error {
	from := map[string]cache.Output{}
	maker := map[string]*cache.Record{}
	for _, in := range n.Inputs {
		r, err := record(in.From)
		if err != nil {
			return err
		}
		o, ok := r.Output(in.Output)
		if !ok {
			return fmt.Errorf("%s has no output %s", in.From.Addr, in.Output)
		}
		from[in.Name], maker[in.Name] = o, r
	}
	var err error
	if p.sentences, err = readLines[Sentence](blobs, maker["sentences"], "sentences"); err != nil {
		return err
	}
	if p.labels, err = labelsIn(blobs, from["labels"]); err != nil {
		return fmt.Errorf("the labels of %s: %w", p.Address, err)
	}
	if len(p.labels) != len(p.sentences) {
		return fmt.Errorf("%s has %d labels of %d sentences", p.Address, len(p.labels), len(p.sentences))
	}
	asked, err := ReadAsked(blobs, maker["title-requests"], maker["titles"])
	if err != nil {
		return err
	}
	for _, a := range asked {
		if a.Rep != 0 || a.Answer == nil {
			continue
		}
		if title, description, err := judge.ParseTitle(a.Answer.Content); err == nil {
			p.Categories = append(p.Categories, judge.Category{ID: a.Cluster, Title: title, Description: description})
		}
	}
	if len(p.Categories) == 0 {
		return fmt.Errorf("%s has no titles in its first repetition", p.Address)
	}
	p.mark = from["sentences"].Digest.String() + from["labels"].Digest.String()
	rng := linalg.Rand(0, "poll categories", p.mark)
	rng.Shuffle(len(p.Categories), func(i, j int) { p.Categories[i], p.Categories[j] = p.Categories[j], p.Categories[i] })
	return nil
}

// labelsIn reads an output of train that has labels.
func labelsIn(blobs *cache.Blobs, o cache.Output) ([]int32, error) {
	var st *linalg.Safetensors
	var err error
	if o.Inline != nil {
		st, err = linalg.ParseSafetensors(o.Inline)
	} else {
		st, err = linalg.OpenSafetensors(blobs.Path(o.Digest))
	}
	if err != nil {
		return nil, err
	}
	defer st.Close()
	t, ok := st.Tensor("labels")
	if !ok {
		return nil, errors.New("there are none")
	}
	out, err := t.Int32()
	return slices.Clone(out), err
}

// assignments are the categories of the first repetition.
func assignments(r judge.SizeResult) map[int]int {
	out := map[int]int{}
	if len(r.AllResults) == 0 || r.AllResults[0].CompletenessDetailed == nil {
		return out
	}
	d := r.AllResults[0].CompletenessDetailed
	for _, list := range [][]judge.Categorized{d.Correct, d.Incorrect, d.Missed, d.Untitled} {
		for _, c := range list {
			if id, err := strconv.Atoi(c.Assigned); err == nil {
				out[c.SentenceID] = id
			} else {
				out[c.SentenceID] = judge.None
			}
		}
	}
	return out
}

// id is the name of a sentence in a poll. It begins with a letter that no number
// has, because a spreadsheet would turn 0012345678 or 12e4567890 into one.
func (p *Poll) id(row int) string {
	return "s" + cache.Sum(fmt.Appendf(nil, "poll %s row %d", p.mark, row)).String()[:10]
}

// Sample draws n sentences, about as many of each cluster that has a title, in an
// order of chance. Sentences that every judge was asked about come first, so that
// people and judges can be compared.
func (p *Poll) Sample(n int, seed int64) []PollSentence {
	rng := linalg.Rand(seed, "poll", p.mark)
	titled := map[int32]bool{}
	for _, c := range p.Categories {
		titled[int32(c.ID)] = true
	}
	byCluster := map[int32][]int{}
	for _, row := range rng.Perm(len(p.sentences)) {
		if l := p.labels[row]; titled[l] {
			byCluster[l] = append(byCluster[l], row)
		}
	}
	clusters := slices.Sorted(maps.Keys(byCluster))
	for _, l := range clusters {
		slices.SortStableFunc(byCluster[l], func(a, b int) int { return cmp.Compare(p.unjudged(a), p.unjudged(b)) })
	}
	var rows []int
	for i := 0; len(rows) < n; i++ { // one of each cluster, and again
		before := len(rows)
		for _, l := range clusters {
			if i < len(byCluster[l]) && len(rows) < n {
				rows = append(rows, byCluster[l][i])
			}
		}
		if len(rows) == before {
			break
		}
	}
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	out := make([]PollSentence, len(rows))
	for i, row := range rows {
		out[i] = PollSentence{p.id(row), p.sentences[row].Text, row}
	}
	return out
}

// unjudged is how many judges were not asked about a sentence.
func (p *Poll) unjudged(row int) int {
	n := 0
	for _, j := range p.Judges {
		if _, ok := j.Assigned[row]; !ok {
			n++
		}
	}
	return n
}

// Rows gives the row of every sentence id.
func (p *Poll) Rows() map[string]int {
	out := make(map[string]int, len(p.sentences))
	for row := range p.sentences {
		out[p.id(row)] = row
	}
	return out
}

// Label is the cluster of a sentence.
func (p *Poll) Label(row int) int { return int(p.labels[row]) }

// Response is which response a sentence is of.
func (p *Poll) Response(row int) int { return p.sentences[row].Response }
