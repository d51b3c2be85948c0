package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// shownMetrics are the columns of the scores.
var shownMetrics = []struct{ name, head string }{
	{"final_score", "final score"}, {"avg_f1", "F1"}, {"assigned_fraction", "assigned"}, {"semantic_orthogonality_score", "distinct"},
}

func (d *comparison) write(w io.Writer, paint painter) error {
	var b strings.Builder
	for _, s := range []struct {
		letter string
		*side
	}{{"A", d.A}, {"B", d.B}} {
		fmt.Fprintf(&b, "%s  %-8s %s, %s scored", paint.paint("1", s.letter), s.What, s.Name, count(s.Scored, "clustering", "clusterings"))
		if s.What == "study" && s.Clustering > s.Scored {
			fmt.Fprintf(&b, " of %s", thousands(s.Clustering))
		}
		b.WriteByte('\n')
	}
	b.WriteString("\nParameters\n")
	switch {
	case !d.Known:
		b.WriteString("  not known of both: results folders do not keep them, and a run only in its report\n")
	case len(d.Parameters) == 0:
		b.WriteString("  the same\n")
	}
	for _, p := range d.Parameters {
		origin := strings.Trim(p.OriginA+" | "+p.OriginB, " |")
		line := fmt.Sprintf("  %-44s %s → %s", p.Name, orNone(p.A), orNone(p.B))
		if origin != "" {
			line += "  " + paint.paint("2", "("+origin+")")
		}
		fmt.Fprintln(&b, line)
	}
	d.writeScores(&b, paint)
	d.writeBest(&b, paint)
	_, err := io.WriteString(w, b.String())
	return err
}

func orNone(v *string) string {
	if v == nil {
		return "–"
	}
	return oneLine(*v)
}

func (d *comparison) writeScores(b *strings.Builder, paint painter) {
	const most = 60
	if len(d.Scores) == 0 {
		b.WriteString("\nScores\n  neither has any yet\n")
		return
	}
	fmt.Fprintf(b, "\n%-46s", "Scores (A → B)")
	for _, m := range shownMetrics {
		fmt.Fprintf(b, "  %-15s", m.head)
	}
	b.WriteByte('\n')
	marked := false
	for i, r := range d.Scores {
		if i == most {
			fmt.Fprintf(b, "  … and %s; --json lists all\n", count(len(d.Scores)-most, "other", "others"))
			break
		}
		group, pair, _ := strings.Cut(r.Group, " ")
		name := fmt.Sprintf("%s/%d", group, r.Clusters)
		if pair != "" {
			name += " " + pair
		}
		fmt.Fprintf(b, "  %-44s", name)
		line := ""
		for _, m := range shownMetrics {
			line += fmt.Sprintf("  %-15s", scoreText(r.A, m.name)+" → "+scoreText(r.B, m.name))
		}
		if r.Apart {
			marked = true
			line += paint.paint("33", "  *")
		}
		fmt.Fprintln(b, strings.TrimRight(line, " "))
	}
	if marked {
		b.WriteString("  * the 95 % intervals of the final score, which cover the judge's noise only, do not overlap\n")
	}
}

func scoreText(m map[string]float64, name string) string {
	v, ok := m[name]
	if !ok {
		return "–"
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

func (d *comparison) writeBest(b *strings.Builder, paint painter) {
	const most = 30
	if len(d.Best) > 0 {
		b.WriteString("\nBest number of clusters, with the categories of the first repetition\n")
	}
	for i, g := range d.Best {
		if i == most {
			fmt.Fprintf(b, "  … and %s; --json lists all\n", count(len(d.Best)-most, "other", "others"))
			break
		}
		fmt.Fprintf(b, "  %s  %s → %s\n", paint.paint("1", g.Group), g.A, g.B)
		n := max(g.A.len(), g.B.len())
		for j := range n {
			fmt.Fprintf(b, "    %s\n", strings.TrimRight(column(g.A.category(j), 46)+" │ "+g.B.category(j), " "))
		}
	}
}

func (g *bestGroup) String() string {
	if g == nil {
		return "–"
	}
	return fmt.Sprintf("%d (%.3f)", g.Clusters, g.FinalScore)
}

func (g *bestGroup) len() int {
	if g == nil {
		return 0
	}
	return len(g.Categories)
}

func (g *bestGroup) category(i int) string {
	if i >= g.len() {
		return ""
	}
	return oneLine(g.Categories[i])
}

// column pads or cuts text to a width in characters.
func column(s string, width int) string {
	r := []rune(s)
	if len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return s + strings.Repeat(" ", width-len(r))
}
