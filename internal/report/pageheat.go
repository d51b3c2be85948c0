package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
)

// heatChart draws layers × sizes of one method for the page. Cells carry their
// index in board.Cells, by which the script recolours them for other metrics.
func heatChart(b *board, method, key string, index map[*cell]int, links map[*cell]string) template.HTML {
	const cw, ch, left, top, bottom = 38.0, 26.0, 34.0, 4.0, 36.0
	w := left + cw*float64(len(b.Sizes)) + 4
	h := top + ch*float64(len(b.Layers)) + bottom
	lo, hi, _ := span(b.Cells, key)
	best, worst := b.extremes(key, method)
	var d drawing
	d.open("heat", w, h, "group", fmt.Sprintf("%s of %s by layer and number of clusters", metricByKey(key).Label, method))
	for j, layer := range b.Layers {
		d.text(left-6, top+ch*(float64(len(b.Layers)-1-j)+0.5)+4, "n", "end", strconv.Itoa(layer))
	}
	for i, k := range b.Sizes {
		d.text(left+cw*(float64(i)+0.5), h-bottom+15, "n", "middle", strconv.Itoa(k))
	}
	d.text(left+cw*float64(len(b.Sizes))/2, h-5, "a", "middle", "number of clusters")
	d.add(`<text class="a" text-anchor="middle" transform="translate(9 %s) rotate(-90)">layer</text>`, n1((top+h-bottom)/2))
	first := true
	for _, c := range b.Cells {
		if c.Method != method {
			continue
		}
		x := left + cw*float64(slices.Index(b.Sizes, c.K))
		y := top + ch*float64(len(b.Layers)-1-slices.Index(b.Layers, c.Layer))
		s, ok := c.stat(key)
		class := "cell"
		switch c {
		case best:
			class += " best"
		case worst:
			class += " worst"
		}
		fill, ink, label := "var(--hole)", "var(--ink)", "–"
		if ok {
			label = shortNumber(s.Mean)
			col := gradient(scaled(s.Mean, lo, hi))
			fill, ink = hex(col), hex(inkOn(col))
		}
		ty := y + ch/2 + 4
		empty := c.empty()
		if empty > 0 {
			class += " empty"
			fill, ink = "var(--grey)", "var(--ink)"
			ty -= 4.5
		}
		tab := "-1"
		if first {
			tab, first = "0", false
		}
		href := ""
		if to := links[c]; to != "" {
			href = ` data-to="` + esc(to) + `"`
		}
		d.add(`<g class="%s" data-i="%d" tabindex="%s"%s><title>%s</title><rect x="%s" y="%s" width="%s" height="%s" style="fill:%s"/><text x="%s" y="%s" style="fill:%s">%s</text>`,
			class, index[c], tab, href, esc(cellTitle(c, key)), n1(x+1), n1(y+1), n1(cw-2), n1(ch-2), fill, n1(x+cw/2), n1(ty), ink, label)
		if empty > 0 {
			d.add(`<text class="e" x="%s" y="%s">%d empty</text>`, n1(x+cw/2), n1(y+ch-5), empty)
		}
		d.add(`</g>`)
	}
	return d.close()
}

func cellTitle(c *cell, key string) string {
	t := fmt.Sprintf("%s, layer %d, %d clusters. %s: ", c.Method, c.Layer, c.K, metricByKey(key).Label)
	if s, ok := c.stat(key); ok {
		t += interval(s.Mean, s.CI95, s.N)
	} else {
		t += "not measured"
	}
	if n := c.empty(); n > 0 {
		t += fmt.Sprintf(". %d of %d clusters are empty", n, c.K)
	}
	return t
}

// matrixSteps is how many colours a similarity matrix has.
const matrixSteps = 12

// matrixChart draws a symmetric [n, n] matrix of overlaps in [0, 1], NaN for
// unknown. marked pairs get a frame. One path per colour keeps 50 × 50 small.
func matrixChart(id, label string, ids []string, overlap func(i, j int) float64, marked func(i, j int) bool) template.HTML {
	n := len(ids)
	cs := min(max(math.Floor(340/float64(max(n, 1))), 6), 30)
	left, top := 24.0, 20.0
	size := cs * float64(n)
	var d drawing
	d.open("matrix", left+size+4, top+size+4, "img", label)
	paths := make([]strings.Builder, matrixSteps+1)
	var frames strings.Builder
	for i := range n {
		for j := range n {
			x, y := left+cs*float64(j), top+cs*float64(i)
			step := matrixSteps
			if v := overlap(i, j); i != j && !math.IsNaN(v) {
				step = min(int(min(max(v, 0), 1)*matrixSteps), matrixSteps-1)
			} else if i == j {
				continue
			}
			fmt.Fprintf(&paths[step], "M%s %sh%sv%sh-%sz", n1(x), n1(y), n1(cs), n1(cs), n1(cs))
			if marked != nil && marked(i, j) {
				fmt.Fprintf(&frames, "M%s %sh%sv%sh-%sz", n1(x+1), n1(y+1), n1(cs-2), n1(cs-2), n1(cs-2))
			}
		}
	}
	d.add(`<g data-m="%s" data-n="%d" data-cs="%s" data-x="%s" data-y="%s">`, esc(id), n, n1(cs), n1(left), n1(top))
	for step := range paths {
		if paths[step].Len() > 0 {
			d.add(`<path class="k%d" d="%s"/>`, step, paths[step].String())
		}
	}
	if frames.Len() > 0 {
		d.add(`<path class="frame" d="%s"/>`, frames.String())
	}
	d.add(`</g>`)
	every := int(math.Ceil(11 / cs))
	for i, name := range ids {
		if i%every == 0 {
			d.text(left-4, top+cs*(float64(i)+0.5)+3, "n", "end", name)
			d.text(left+cs*(float64(i)+0.5), top-5, "n", "middle", name)
		}
	}
	return d.close()
}
