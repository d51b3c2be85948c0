package tasks

import (
	"clusterflow/graph"
	"clusterflow/internal/cluster"
	result "clusterflow/internal/report"
)

// comparison gathers the labels of a study to compare them.
type comparison struct {
	known  map[*graph.Node]*result.Stability // by the cell's train node
	groups map[cellPlace][]partition
	order  []cellPlace
}

// cellPlace is where clusterings can be compared: on the same rows, at one size.
type cellPlace struct {
	model    string
	layer, k int
}

type partition struct {
	method string
	labels []int32
}

func newComparison() *comparison {
	return &comparison{known: map[*graph.Node]*result.Stability{}, groups: map[cellPlace][]partition{}}
}

// stability takes in a cell's labels, and compares them with those of its other
// seeds; nil where it has none.
func (c *comparison) stability(job *graph.Job, s scored, mine *clustering) (*result.Stability, error) {
	if known, ok := c.known[s.train]; ok {
		return known, nil
	}
	at := cellPlace{s.mat.label, s.layer, s.k}
	if c.groups[at] == nil {
		c.order = append(c.order, at)
	}
	c.groups[at] = append(c.groups[at], partition{s.method, mine.labels})
	c.known[s.train] = nil
	if len(s.again) == 0 || labelsOutput(s.eval) != "labels" { // other seeds' labels are the trained ones
		return nil, nil
	}
	all := [][]int32{mine.labels}
	for _, n := range s.again {
		other, err := readLabels(job, n.Addr+" labels", mine.sentences)
		if err != nil {
			return nil, err
		}
		all = append(all, other.labels)
	}
	out, pairs := &result.Stability{Seeds: len(all)}, 0.0
	for i, a := range all {
		for _, b := range all[i+1:] {
			agree := cluster.Agree(a, b)
			out.ARI += agree.ARI
			out.AMI += agree.AMI
			pairs++
		}
	}
	out.ARI /= pairs
	out.AMI /= pairs
	c.known[s.train] = out
	return out, nil
}

// agreement compares the methods of each place, pair by pair.
func (c *comparison) agreement() []result.Agreement {
	var out []result.Agreement
	for _, at := range c.order {
		all := c.groups[at]
		for i, a := range all {
			for _, b := range all[i+1:] {
				out = append(out, result.Agreement{
					Model: at.model, Layer: at.layer, K: at.k, A: a.method, B: b.method, ARI: cluster.AdjustedRand(a.labels, b.labels),
				})
			}
		}
	}
	return out
}
