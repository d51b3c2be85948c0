// Package loglog draws how things grow: lines over two logarithmic axes, as an
// SVG file.
package loglog

import (
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/dustin/go-humanize"
)

// Line is one measured quantity. Points are in rising order of X, and above 0.
type Line struct {
	Name string
	X, Y []float64
}

// colors can be told apart by most people with a colour vision deficiency
// (Okabe and Ito, Color Universal Design, 2008).
var colors = []string{"#000000", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9"}

// Exponent is the e of y ~ x^e between the line's last two points, NaN with
// fewer.
func (l Line) Exponent() float64 {
	n := len(l.X)
	if n < 2 {
		return math.NaN()
	}
	return math.Log(l.Y[n-1]/l.Y[n-2]) / math.Log(l.X[n-1]/l.X[n-2])
}

// Write draws the lines into a file. The dotted line has slope 1: linear growth.
// The legend gives each line's exponent, of the letter that stands for x.
func Write(path, xName, letter, unit string, lines []Line) error {
	const width, height, left, top, right, bottom = 720, 440, 70, 20, 230, 50
	lowX, highX, lowY, highY := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, l := range lines {
		for i := range l.X {
			lowX, highX = min(lowX, math.Log10(l.X[i])), max(highX, math.Log10(l.X[i]))
			lowY, highY = min(lowY, math.Log10(l.Y[i])), max(highY, math.Log10(l.Y[i]))
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
			x(v), y(lowY), y(highY), y(lowY)+18, humanize.Comma(int64(math.Round(math.Pow(10, v)))))
	}
	for v := lowY; v <= highY; v++ {
		fmt.Fprintf(&b, `<line x1="%[1]g" y1="%[2]g" x2="%[3]g" y2="%[2]g" stroke="#dddddd"/><text x="%[4]g" y="%[5]g" text-anchor="end">%[6]g %[7]s</text>`+"\n",
			x(lowX), y(v), x(highX), x(lowX)-6, y(v)+4, math.Pow(10, v), unit)
	}
	fmt.Fprintf(&b, `<text x="%g" y="%d" text-anchor="middle">%s</text>`+"\n", x((lowX+highX)/2), height-10, xName)
	end := min(highX, lowX+highY-lowY)
	fmt.Fprintf(&b, `<line x1="%g" y1="%g" x2="%g" y2="%g" stroke="#999999" stroke-dasharray="2 4"/>`+"\n", x(lowX), y(lowY), x(end), y(lowY+end-lowX))
	for i, l := range lines {
		color := colors[i%len(colors)]
		var points strings.Builder
		for j := range l.X {
			fmt.Fprintf(&points, "%.1f,%.1f ", x(math.Log10(l.X[j])), y(math.Log10(l.Y[j])))
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.TrimSpace(points.String()), color)
		at := top + 20 + 22*i
		grows := ""
		if e := l.Exponent(); !math.IsNaN(e) {
			grows = fmt.Sprintf(" (%s^%.2f)", letter, e)
		}
		fmt.Fprintf(&b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="2"/>`, width-right+14, at, width-right+36, at, color)
		fmt.Fprintf(&b, `<text x="%d" y="%d">%s%s</text>`+"\n", width-right+42, at+4, l.Name, grows)
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
