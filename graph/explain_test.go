package graph_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"clusterflow/graph"
)

// plan of a diamond with a tail: top → left, right → join → tail, and other → join.
func diamond(l *log, top, left, other string) []*graph.Node {
	a := node("top", &step{kind: "k", text: top, log: l})
	b := node("left", &step{kind: "k", text: left, log: l}, a)
	c := node("right", &step{kind: "k", text: "r", log: l}, a)
	o := node("other", &step{kind: "k", text: other, log: l})
	j := node("join", &step{kind: "k", text: "j", log: l}, b, c, o)
	return []*graph.Node{a, b, c, o, j, node("tail", &step{kind: "k", text: "t", log: l}, j)}
}

func TestDownstreamSaysWhatACutoffSpares(t *testing.T) {
	l := &log{}
	b := newBench(t)
	b.apply(diamond(l, "a", "b", "o")...)
	for _, c := range []struct {
		name   string
		nodes  []*graph.Node
		from   string
		spares int
		want   string // address: fate spares
	}{
		{"nothing changed", diamond(l, "a", "b", "o"), "top", 4, "left: reads 0, right: reads 0, join: may be spared 1, tail: may be spared 0"},
		{"the root changed", diamond(l, "x", "b", "o"), "top", 4, "left: may be spared 0, right: may be spared 0, join: may be spared 1, tail: may be spared 0"},
		// left runs anyway, so nothing behind it is spared for top alone.
		{"a branch changed too", diamond(l, "x", "y", "o"), "top", 1, "left: runs anyway 0, right: may be spared 0, join: may be spared 1, tail: may be spared 0"},
		// join waits for other as well.
		{"another root", diamond(l, "x", "b", "y"), "top", 2, "left: may be spared 0, right: may be spared 0, join: may be spared 1, tail: may be spared 0"},
		{"the last node", diamond(l, "a", "b", "o"), "tail", 0, ""},
	} {
		p := b.full(c.nodes...)
		s, err := p.Step(c.from)
		if err != nil {
			t.Fatal(err)
		}
		touched, spares := p.Downstream(s)
		var got []string
		for _, x := range touched {
			got = append(got, fmt.Sprintf("%s: %s %d", x.Step.Node.Addr, x.Fate, x.Spares))
		}
		slices.Sort(got)
		want := strings.Split(c.want, ", ")
		slices.Sort(want)
		if strings.Join(got, ", ") != strings.Join(want, ", ") || spares != c.spares {
			t.Errorf("%s: spares %d, %q; want %d, %q", c.name, spares, got, c.spares, want)
		}
	}
}

func TestExplainFindsEveryRoot(t *testing.T) {
	l := &log{}
	b := newBench(t)
	b.apply(diamond(l, "a", "b", "o")...)
	p := b.full(diamond(l, "x", "b", "y")...)
	s, err := p.Step("tail")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range p.Explain(s, nil).Cascades {
		got = append(got, fmt.Sprintf("%s (%s) > %s", c.Root.Addr, c.Root.Reasons[0], strings.Join(c.Path, " > ")))
	}
	want := []string{"top (text a → x (test.hcl:7)) > left > join", "other (text o → y (test.hcl:7)) > join"}
	if !slices.Equal(got, want) {
		t.Errorf("roots %q, want %q", got, want)
	}
	if _, err := p.Step("nowhere"); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a step that is not there: %v", err)
	}
}
