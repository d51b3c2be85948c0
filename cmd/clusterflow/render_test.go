package main

import (
	"encoding/json"
	"encoding/xml"
	"html"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestGraphRenders puts graphs through Graphviz: every box and edge that the
// JSON form names is in the drawing, with its text.
func TestGraphRenders(t *testing.T) {
	dot, err := exec.LookPath("dot")
	if err != nil {
		t.Skip("needs Graphviz's dot")
	}
	b := newBench(t)
	b.must(0, `^16 run`, "apply", "--quiet", "study.hcl")
	b.edit("clusters = [2, 3]", "clusters = [2, 4]")
	for _, full := range []bool{false, true} {
		args := []string{"graph", "study.hcl"}
		if full {
			args = append(args, "--full")
		}
		var want struct {
			Nodes []struct{ Label string }
			Edges []struct{ From, To string }
		}
		if err := json.Unmarshal([]byte(b.must(0, `^\{`, append(args, "--format", "json")...).out), &want); err != nil {
			t.Fatal(err)
		}
		draw := exec.Command(dot, "-Tsvg")
		draw.Stdin = strings.NewReader(b.must(0, `^digraph`, args...).out)
		svg, err := draw.Output()
		if err != nil {
			t.Fatalf("dot refuses the graph: %v", err)
		}
		var picture any
		if err := xml.Unmarshal(svg, &picture); err != nil {
			t.Errorf("the drawing is no XML: %v", err)
		}
		text := html.UnescapeString(string(svg))
		for class, n := range map[string]int{"node": len(want.Nodes), "edge": len(want.Edges)} {
			if got := len(regexp.MustCompile(`class="`+class+`"`).FindAllString(text, -1)); got != n || n == 0 {
				t.Errorf("full %v: %d of class %s are drawn, want %d", full, got, class, n)
			}
		}
		for _, n := range want.Nodes {
			if !strings.Contains(text, ">"+n.Label+"<") {
				t.Errorf("full %v: no box says %q", full, n.Label)
			}
		}
		if !strings.Contains(text, ">small: 16 nodes: ") {
			t.Errorf("full %v: the title is missing", full)
		}
	}
}
