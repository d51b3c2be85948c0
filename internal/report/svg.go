package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// drawing builds an inline SVG of the page. Text given to it is escaped;
// colours come from the page's classes, so that light and dark both work.
type drawing struct{ b strings.Builder }

// open starts a drawing of w × h units. label is read out in its place.
func (d *drawing) open(class string, w, h float64, role, label string) {
	fmt.Fprintf(&d.b, `<svg class="%s" viewBox="0 0 %s %s" style="--w:%s" role="%s" aria-label="%s">`,
		class, n1(w), n1(h), n1(w), role, html.EscapeString(label))
}

func (d *drawing) close() template.HTML {
	d.b.WriteString("</svg>")
	return template.HTML(d.b.String())
}

// add writes markup; every %s operand must be a number from n1, a class name
// or text from esc.
func (d *drawing) add(format string, args ...any) { fmt.Fprintf(&d.b, format, args...) }

// text writes a label. anchor is start, middle or end.
func (d *drawing) text(x, y float64, class, anchor, s string) {
	d.add(`<text x="%s" y="%s" class="%s" text-anchor="%s">%s</text>`, n1(x), n1(y), class, anchor, html.EscapeString(s))
}

func (d *drawing) line(class string, x1, y1, x2, y2 float64) {
	d.add(`<path class="%s" d="M%s %sL%s %s"/>`, class, n1(x1), n1(y1), n1(x2), n1(y2))
}

// n1 writes a coordinate with at most one decimal.
func n1(x float64) string {
	s := strconv.FormatFloat(math.Round(x*10)/10, 'f', 1, 64)
	s = strings.TrimSuffix(s, ".0")
	if s == "-0" {
		return "0"
	}
	return s
}

// n3 writes a score.
func n3(x float64) string { return strconv.FormatFloat(x, 'f', 3, 64) }

func esc(s string) string { return html.EscapeString(s) }

// marker writes the data point of series i: shapes differ as well as colours.
func (d *drawing) marker(i int, class string, x, y, r float64) {
	switch i % 4 {
	case 0:
		d.add(`<circle class="%s" cx="%s" cy="%s" r="%s">`, class, n1(x), n1(y), n1(r))
	case 1:
		d.add(`<path class="%s" d="M%s %sh%sv%sh-%sz">`, class, n1(x-r), n1(y-r), n1(2*r), n1(2*r), n1(2*r))
	case 2:
		d.add(`<path class="%s" d="M%s %sl%s %sh-%sz">`, class, n1(x), n1(y-1.2*r), n1(1.2*r), n1(2.1*r), n1(2.4*r))
	default:
		d.add(`<path class="%s" d="M%s %sl%s %sl-%s %sl-%s -%sz">`, class, n1(x), n1(y-1.3*r), n1(1.3*r), n1(1.3*r), n1(1.3*r), n1(1.3*r), n1(1.3*r), n1(1.3*r))
	}
}

func (d *drawing) endMarker(i int, title string) {
	tag := "path"
	if i%4 == 0 {
		tag = "circle"
	}
	d.add(`<title>%s</title></%s>`, esc(title), tag)
}

// interval says a statistic in words: "0.734 (0.701–0.767)".
func interval(mean float64, ci [2]float64, n int) string {
	switch n {
	case 0:
		return n3(mean)
	case 1:
		return n3(mean) + ", one repetition"
	}
	return fmt.Sprintf("%s (95 %% interval %s–%s, %d repetitions)", n3(mean), n3(ci[0]), n3(ci[1]), n)
}
