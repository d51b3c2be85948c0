package report

import (
	"fmt"
	"html/template"
	"strconv"
)

// line is one line of a chart: a method on one layer, or a layer of one method.
type line struct {
	Name  string
	Class string // colour class of the page: m0…, l0…
	Shape int
	Cells []*cell
	Best  *cell
}

// lineChart draws one metric against the number of clusters, one line with a
// 95 % band per series. lo and hi are the range of the scale.
func lineChart(m metric, lines []line, ks []int, lo, hi float64) template.HTML {
	const w, h, left, right, top, bottom = 268.0, 190.0, 34.0, 6.0, 26.0, 36.0
	var d drawing
	label := m.Label + " against the number of clusters:"
	for i, l := range lines {
		if best := bestOf(l.Cells, m.Key, 1); best != nil {
			s, _ := best.stat(m.Key)
			if i < 8 {
				label += fmt.Sprintf(" %s is highest at %d with %s;", l.Name, best.K, n3(s.Mean))
			}
		}
	}
	d.open("chart", w, h, "img", label)
	d.text(2, 14, "t", "start", m.Label)
	x := func(k int) float64 {
		return left + 8 + (w-left-right-16)*scaled(float64(k), float64(ks[0]), float64(ks[len(ks)-1]))
	}
	y := func(v float64) float64 { return h - bottom - (h-top-bottom)*scaled(min(max(v, lo), hi), lo, hi) }
	for _, t := range evenTicks(lo, hi) {
		d.line("grid", left, y(t.Value), w-right, y(t.Value))
		d.text(left-6, y(t.Value)+3.5, "n", "end", t.Label)
	}
	for _, t := range sizeTicks(ks, 10) {
		k := int(t.Value)
		d.line("tick", x(k), h-bottom, x(k), h-bottom+4)
		d.text(x(k), h-bottom+16, "n", "middle", t.Label)
	}
	d.line("axis", left, h-bottom, w-right, h-bottom)
	d.text((left+w-right)/2, h-4, "a", "middle", "number of clusters")
	drawn := false
	for _, l := range lines {
		var path, upper, lower, reps string
		var marks drawing
		points := 0
		for _, c := range l.Cells {
			s, ok := c.stat(m.Key)
			if !ok {
				continue
			}
			cmd := "L"
			if points == 0 {
				cmd = "M"
			}
			px := n1(x(c.K))
			path += cmd + px + " " + n1(y(s.Mean))
			upper += cmd + px + " " + n1(y(s.CI95[1]))
			lower = "L" + px + " " + n1(y(s.CI95[0])) + lower
			points++
			for _, v := range c.values(m.Key) {
				reps += "M" + px + " " + n1(y(v)) + "h0"
			}
			class, r := "p", 2.6
			if c == l.Best {
				class, r = "p best", 4.6
			}
			marks.marker(l.Shape, class, x(c.K), y(s.Mean), r)
			marks.endMarker(l.Shape, fmt.Sprintf("%s, %d clusters: %s", l.Name, c.K, interval(s.Mean, s.CI95, s.N)))
		}
		if points == 0 {
			continue
		}
		drawn = true
		d.add(`<g class="s %s">`, l.Class)
		if points > 1 {
			d.add(`<path class="band" d="%s%sz"/><path class="ln" d="%s"/>`, upper, lower, path)
		} else {
			d.add(`<path class="ln" d="%s%s"/>`, upper, lower)
		}
		d.add(`<path class="reps" d="%s"/>`, reps)
		d.b.WriteString(marks.b.String())
		d.add(`</g>`)
	}
	if !drawn {
		d.text((left+w-right)/2, h/2, "a", "middle", "not measured")
	}
	return d.close()
}

// forest draws the clusterings with the highest final scores, mean and
// interval, so that one sees how little the first differs from the next.
func forest(cells []*cell, links map[*cell]string) template.HTML {
	const w, left, right, row, top = 640.0, 250.0, 60.0, 22.0, 22.0
	h := top + row*float64(len(cells)) + 24
	lo, hi, ok := band(cells, "final_score")
	if !ok {
		return ""
	}
	var d drawing
	d.open("chart forest", w, h, "group", "The clusterings with the highest final scores, with 95 % intervals over repetitions")
	x := func(v float64) float64 { return left + (w-left-right)*scaled(min(max(v, lo), hi), lo, hi) }
	for _, t := range evenTicks(lo, hi) {
		d.line("grid", x(t.Value), top-4, x(t.Value), h-22)
		d.text(x(t.Value), h-8, "n", "middle", t.Label)
	}
	d.text(left, 12, "a", "start", "final score, mean and 95 % interval over repetitions")
	for i, c := range cells {
		s, _ := c.stat("final_score")
		y := top + row*(float64(i)+0.5)
		name := fmt.Sprintf("%s · layer %d · k = %d", clip(c.Method, 24), c.Layer, c.K)
		if to := links[c]; to != "" {
			d.add(`<a href="#%s">`, esc(to))
			d.text(left-12, y+4, "r", "end", name)
			d.add(`</a>`)
		} else {
			d.text(left-12, y+4, "r", "end", name)
		}
		d.add(`<g class="s m%d">`, min(methodRank(c.Method), 7))
		d.line("ci", x(s.CI95[0]), y, x(s.CI95[1]), y)
		d.marker(methodRank(c.Method), "p", x(s.Mean), y, 4)
		d.endMarker(methodRank(c.Method), name+": "+interval(s.Mean, s.CI95, s.N))
		d.add(`</g>`)
		d.text(w-right+8, y+4, "n", "start", n3(s.Mean))
	}
	return d.close()
}

// methodsChart sets the methods of one layer side by side, each at its best
// size.
func methodsChart(cells []*cell) template.HTML {
	const w, left, right, row, top = 640.0, 190.0, 20.0, 46.0, 8.0
	h := top + row*float64(len(cells)) + 34
	var d drawing
	d.open("chart methods", w, h, "img", "Semantic orthogonality, completeness and precision of each method at its best number of clusters")
	x := func(v float64) float64 { return left + (w-left-right)*min(max(v, 0), 1) }
	for _, t := range evenTicks(0, 1) {
		d.line("grid", x(t.Value), top, x(t.Value), h-32)
		d.text(x(t.Value), h-18, "n", "middle", t.Label)
	}
	d.text((left+w-right)/2, h-3, "a", "middle", "mean over repetitions (0–1), line: 95 % interval")
	for i, c := range cells {
		y := top + row*float64(i)
		if i > 0 {
			d.line("grid", 0, y, w-right, y)
		}
		d.text(left-12, y+row/2-2, "r", "end", clip(c.Method, 26))
		d.text(left-12, y+row/2+12, "n", "end", "k = "+strconv.Itoa(c.K))
		for j, m := range methodMeasures {
			s, ok := c.stat(m.Key)
			py := y + row*(float64(j)+1)/4
			if !ok {
				d.text(x(0)+2, py+3, "n", "start", "not measured: "+m.Label)
				continue
			}
			d.add(`<g class="s %s">`, [...]string{"m2", "m3", "m4"}[j])
			d.line("stem", x(0), py, x(s.Mean), py)
			d.line("ci", x(s.CI95[0]), py, x(s.CI95[1]), py)
			d.marker(j, "p", x(s.Mean), py, 4)
			d.endMarker(j, fmt.Sprintf("%s, k = %d, %s: %s", c.Method, c.K, m.Label, interval(s.Mean, s.CI95, s.N)))
			d.add(`</g>`)
		}
	}
	return d.close()
}
