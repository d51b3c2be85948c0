package report

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// heatmapFigure draws size × layer, one panel per method and one row of panels
// per board when there are several boards. The colour scale is shared; best
// and worst are outlined per model; a clustering with empty clusters is grey
// and says how many.
func heatmapFigure(name string, bs []*board, key string) figure {
	m := metricByKey(key)
	var all []*cell
	methods := 0
	for _, b := range bs {
		all = append(all, b.Cells...)
		methods = max(methods, len(b.Methods))
	}
	most := 3 // panels side by side
	if len(bs) > 1 {
		most = 4
	}
	wrapped := (methods + most - 1) / most
	cols := (methods + wrapped - 1) / wrapped
	var plots []*plot.Plot // row by row
	rows := 0
	tallest := 0
	for _, b := range bs {
		for len(plots)%cols != 0 {
			plots = append(plots, nil)
		}
		lo, hi, _ := span(all, key)
		for _, method := range b.Methods {
			title := method
			if len(bs) > 1 {
				title = b.Model.Label + " · " + method
			}
			plots = append(plots, heatPanel(b, method, title, key, lo, hi, 36/cols))
		}
		tallest = max(tallest, len(b.Layers))
	}
	for len(plots)%cols != 0 {
		plots = append(plots, nil)
	}
	rows = len(plots) / cols
	width := fullWidth
	if cols == 1 {
		width = column + 0.9*vg.Inch
	}
	rowHeight := vg.Length(tallest)*14 + 52
	if rowHeight < 96 {
		rowHeight = 96
	}
	f := figure{Name: name, Title: m.Label + " by layer and number of clusters", W: width, H: rowHeight*vg.Length(rows) + 26}
	f.Draw = func(c draw.Canvas) {
		grid := make([][]*plot.Plot, rows)
		for j := range grid {
			grid[j] = plots[j*cols : (j+1)*cols]
		}
		body := draw.Crop(c, 4, -58, 22, -4)
		drawGrid(body, grid, 8)
		lo, hi, _ := span(all, key)
		bar := draw.Crop(c, c.Max.X-c.Min.X-48, -30, 60, -24)
		bar.Min.Y = max(bar.Min.Y, bar.Max.Y-150)
		colourBar(bar, lo, hi, m.Label)
		scope := "model"
		if key == "normalized_score" {
			scope = "method"
		}
		note := "Thick outline: best; dashed outline: worst of a " + scope + "."
		if slices.ContainsFunc(all, func(c *cell) bool { return c.empty() > 0 }) {
			note += " Grey: empty clusters, their number in brackets."
		}
		c.FillText(style(sans(smallText), darkGrey, draw.XLeft, draw.YBottom), vg.Point{X: c.Min.X + 4, Y: c.Min.Y + 6}, note)
	}
	return f
}

func heatPanel(b *board, method, title, key string, lo, hi float64, maxTicks int) *plot.Plot {
	best, worst := b.extremes(key, method)
	p := newPlot(title, "number of clusters", "layer")
	var xt, yt plot.ConstantTicks
	step := 1 + (len(b.Sizes)-1)/maxTicks
	for i, k := range b.Sizes {
		label := ""
		if i%step == 0 {
			label = strconv.Itoa(k)
		}
		xt = append(xt, plot.Tick{Value: float64(i), Label: label})
	}
	for i, l := range b.Layers {
		yt = append(yt, plot.Tick{Value: float64(i), Label: strconv.Itoa(l)})
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = xt, yt
	p.X.Min, p.X.Max = -0.5, float64(len(b.Sizes))-0.5
	p.Y.Min, p.Y.Max = -0.5, float64(len(b.Layers))-0.5
	p.X.LineStyle.Width, p.Y.LineStyle.Width = 0, 0
	p.Add(plotFunc(func(c draw.Canvas, p *plot.Plot) {
		trX, trY := p.Transforms(&c)
		drawCell := func(cl *cell, outline bool) {
			i, j := slices.Index(b.Sizes, cl.K), slices.Index(b.Layers, cl.Layer)
			x0, x1 := trX(float64(i)-0.5), trX(float64(i)+0.5)
			y0, y1 := trY(float64(j)-0.5), trY(float64(j)+0.5)
			if outline {
				sty := draw.LineStyle{Color: color.Black, Width: 1.6}
				if cl != best {
					sty = draw.LineStyle{Color: color.Black, Width: 1.1, Dashes: []vg.Length{2.5, 1.5}}
				}
				in := sty.Width / 2
				frame := []vg.Point{{X: x0 + in, Y: y0 + in}, {X: x1 - in, Y: y0 + in}, {X: x1 - in, Y: y1 - in}, {X: x0 + in, Y: y1 - in}, {X: x0 + in, Y: y0 + in/2}}
				c.StrokeLines(draw.LineStyle{Color: color.White, Width: sty.Width}, frame)
				c.StrokeLines(sty, frame)
				return
			}
			s, ok := cl.stat(key)
			fill := greyCell
			if ok && cl.empty() == 0 {
				fill = gradient(scaled(s.Mean, lo, hi))
			}
			c.SetColor(fill)
			c.Fill(rectangle(x0, y0, x1+0.1, y1+0.1))
			label := "–"
			if ok {
				label = shortNumber(s.Mean)
			}
			lines := []string{label}
			if n := cl.empty(); n > 0 {
				lines = append(lines, fmt.Sprintf("(%d)", n))
			}
			size := min(smallText, (x1-x0)/1.75, (y1-y0)*0.8/vg.Length(len(lines)))
			if size < 3.5 {
				return
			}
			y := (y0+y1)/2 - size*0.06 + size*0.5*vg.Length(len(lines)-1)
			for _, line := range lines {
				c.FillText(style(sans(size), inkOn(fill), draw.XCenter, draw.YCenter), vg.Point{X: (x0 + x1) / 2, Y: y}, line)
				y -= size
			}
		}
		for _, cl := range b.Cells {
			if cl.Method == method {
				drawCell(cl, false)
			}
		}
		for _, cl := range []*cell{worst, best} {
			if cl != nil && cl.Method == method {
				drawCell(cl, true)
			}
		}
	}))
	return p
}

// shortNumber writes 0.734 as .73 and −0.2 as −.20: heatmap cells are narrow.
func shortNumber(v float64) string {
	s := strconv.FormatFloat(math.Abs(v), 'f', 2, 64)
	s = strings.TrimPrefix(s, "0")
	if v < 0 && s != ".00" {
		s = "−" + s
	}
	return s
}

// colourBar draws the scale along the height of c, labelled on the right.
func colourBar(c draw.Canvas, lo, hi float64, label string) {
	const steps = 64
	h := c.Max.Y - c.Min.Y
	x1 := c.Min.X + 8
	for i := range steps {
		c.SetColor(gradient((float64(i) + 0.5) / steps))
		c.Fill(rectangle(c.Min.X, c.Min.Y+h*vg.Length(i)/steps, x1, c.Min.Y+h*vg.Length(i+1)/steps+0.3))
	}
	tick := style(sans(smallText), color.Black, draw.XLeft, draw.YCenter)
	marks := []float64{lo, (lo + hi) / 2, hi}
	if hi-lo < 1e-12 {
		marks = marks[1:2]
	}
	for _, v := range marks {
		c.FillText(tick, vg.Point{X: x1 + 3, Y: c.Min.Y + h*vg.Length(scaled(v, lo, hi))}, strconv.FormatFloat(v, 'f', 2, 64))
	}
	c.FillText(style(sans(smallText), color.Black, draw.XRight, draw.YBottom), vg.Point{X: c.Max.X + 26, Y: c.Max.Y + 6}, label)
}
