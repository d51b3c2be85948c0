package main

import (
	"fmt"
	"math"
	"os"
	"strings"
)

// row is what was measured of one size.
type row struct {
	nodes   int
	results []result // by column
}

// measurements are what is measured, in the order of the table.
var measurements = []string{"ninja, nothing to do", "plan, nothing to do", "apply, nothing to do", "plan, a leaf changed", "plan, a root changed"}

// plotColor are the lines' colours: those of Okabe and Ito, which most people
// with a colour vision deficiency can tell apart.
var plotColor = []string{"#000000", "#0072B2", "#009E73", "#D55E00", "#CC79A7"}

// writePlot draws wall time against nodes, both logarithmic: a straight line of
// slope 1, such as the dotted one, is linear growth. The legend gives each
// line's slope between the two largest sizes.
func writePlot(path string, rows []row) error {
	const width, height, left, top, right, bottom = 720, 440, 70, 20, 230, 50
	lowX, highX := math.Log10(float64(rows[0].nodes)), math.Log10(float64(rows[len(rows)-1].nodes))
	lowY, highY := math.Inf(1), math.Inf(-1)
	for _, r := range rows {
		for _, x := range r.results {
			s := math.Log10(x.wall.Seconds())
			lowY, highY = min(lowY, s), max(highY, s)
		}
	}
	lowX, highX, lowY, highY = math.Floor(lowX+0.1), math.Ceil(highX-0.1), math.Floor(lowY), math.Ceil(highY)
	x := func(v float64) float64 { return left + (width-left-right)*(v-lowX)/(highX-lowX) }
	y := func(v float64) float64 { return height - bottom - (height-top-bottom)*(v-lowY)/(highY-lowY) }

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	for v := lowX; v <= highX; v++ {
		fmt.Fprintf(&b, `<line x1="%[1]g" y1="%[2]g" x2="%[1]g" y2="%[3]g" stroke="#dddddd"/><text x="%[1]g" y="%[4]g" text-anchor="middle">%[5]s</text>`+"\n",
			x(v), y(lowY), y(highY), y(lowY)+18, thousands(int(math.Pow(10, v))))
	}
	for v := lowY; v <= highY; v++ {
		fmt.Fprintf(&b, `<line x1="%[1]g" y1="%[2]g" x2="%[3]g" y2="%[2]g" stroke="#dddddd"/><text x="%[4]g" y="%[5]g" text-anchor="end">%[6]g s</text>`+"\n",
			x(lowX), y(v), x(highX), x(lowX)-6, y(v)+4, math.Pow(10, v))
	}
	fmt.Fprintf(&b, `<text x="%g" y="%d" text-anchor="middle">nodes</text>`+"\n", x((lowX+highX)/2), height-10)
	end := min(highX, lowX+highY-lowY)
	fmt.Fprintf(&b, `<line x1="%g" y1="%g" x2="%g" y2="%g" stroke="#999999" stroke-dasharray="2 4"/>`+"\n", x(lowX), y(lowY), x(end), y(lowY+end-lowX))
	for i, name := range measurements {
		var points strings.Builder
		for _, r := range rows {
			fmt.Fprintf(&points, "%.1f,%.1f ", x(math.Log10(float64(r.nodes))), y(math.Log10(r.results[i].wall.Seconds())))
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.TrimSpace(points.String()), plotColor[i])
		at := top + 20 + 22*i
		fmt.Fprintf(&b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="2"/>`, width-right+14, at, width-right+36, at, plotColor[i])
		fmt.Fprintf(&b, `<text x="%d" y="%d">%s%s</text>`+"\n", width-right+42, at+4, name, slope(rows, i))
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// slope is how a column grows between the two largest sizes, as the exponent of
// a power.
func slope(rows []row, column int) string {
	if len(rows) < 2 {
		return ""
	}
	a, b := rows[len(rows)-2], rows[len(rows)-1]
	e := math.Log(b.results[column].wall.Seconds()/a.results[column].wall.Seconds()) / math.Log(float64(b.nodes)/float64(a.nodes))
	return fmt.Sprintf(" (n^%.2f)", e)
}
