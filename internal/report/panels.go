package report

import (
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// panelsFigure draws the seven metrics of one method on one layer against the
// number of clusters: mean, 95 % band over repetitions, each repetition as a
// dot, and the best size marked.
func panelsFigure(name string, b *board, layer int, method string) figure {
	cells := b.series(layer, method)
	best := bestOf(cells, "final_score", 1)
	var plots []*plot.Plot
	for _, m := range metrics[:panelMetrics] {
		plots = append(plots, metricPanel(cells, best, m, okabeIto[min(methodRank(method), len(okabeIto)-1)]))
	}
	f := figure{
		Name: name, Title: fmt.Sprintf("%s, %s, layer %d", b.Model.Label, method, layer),
		W: fullWidth, H: 3.5 * vg.Inch,
	}
	f.Draw = func(c draw.Canvas) {
		c.FillText(style(bold(boldText), color.Black, draw.XLeft, draw.YTop), vg.Point{X: c.Min.X + 4, Y: c.Max.Y - 4}, f.Title)
		body := draw.Crop(c, 4, -6, 4, -20)
		drawGrid(body, [][]*plot.Plot{plots[:4], append(plots[4:7:7], nil)}, 10)
		corner := draw.Crop(body, (body.Max.X-body.Min.X)*3/4+26, 0, 0, -(body.Max.Y-body.Min.Y)/2-12)
		panelLegend(corner, cells, best, okabeIto[min(methodRank(method), len(okabeIto)-1)])
	}
	return f
}

func metricPanel(cells []*cell, best *cell, m metric, ink color.NRGBA) *plot.Plot {
	p := newPlot("", "number of clusters", m.Label)
	lo, hi, any := band(cells, m.Key)
	var ks []int
	for _, c := range cells {
		ks = append(ks, c.K)
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = sizeTicks(ks, 6), evenTicks(lo, hi)
	margin := max(float64(ks[len(ks)-1]-ks[0])*0.05, 0.5)
	p.X.Min, p.X.Max = float64(ks[0])-margin, float64(ks[len(ks)-1])+margin
	p.Y.Min, p.Y.Max = lo, hi
	p.Add(plotFunc(func(c draw.Canvas, p *plot.Plot) {
		trX, trY := p.Transforms(&c)
		gridLines(c, p)
		if !any {
			c.FillText(style(sans(smallText), darkGrey, draw.XCenter, draw.YCenter), c.Center(), "not measured")
			return
		}
		if best != nil {
			x := trX(float64(best.K))
			c.StrokeLine2(draw.LineStyle{Color: darkGrey, Width: 0.6, Dashes: []vg.Length{2, 2}}, x, c.Min.Y, x, c.Max.Y)
		}
		var mean, upper, lower []vg.Point
		for _, cl := range cells {
			s, ok := cl.stat(m.Key)
			if !ok {
				continue
			}
			x := trX(float64(cl.K))
			mean = append(mean, vg.Point{X: x, Y: trY(s.Mean)})
			upper = append(upper, vg.Point{X: x, Y: trY(min(max(s.CI95[1], lo), hi))})
			lower = append(lower, vg.Point{X: x, Y: trY(max(min(s.CI95[0], hi), lo))})
		}
		fillBand(c, lower, upper, ink)
		for _, cl := range cells {
			for _, v := range cl.values(m.Key) {
				dot(c, vg.Point{X: trX(float64(cl.K)), Y: trY(v)}, 0.9, color.NRGBA{ink.R, ink.G, ink.B, 140})
			}
		}
		c.StrokeLines(draw.LineStyle{Color: ink, Width: 1.2}, mean)
		for _, pt := range mean {
			dot(c, pt, 1.8, ink)
		}
		if best != nil {
			if s, ok := best.stat(m.Key); ok {
				pt := vg.Point{X: trX(float64(best.K)), Y: trY(s.Mean)}
				dot(c, pt, 3.4, color.White)
				ring(c, pt, 3.4, ink)
				dot(c, pt, 1.8, ink)
			}
		}
	}))
	return p
}

func gridLines(c draw.Canvas, p *plot.Plot) {
	_, trY := p.Transforms(&c)
	for _, t := range p.Y.Tick.Marker.Ticks(p.Y.Min, p.Y.Max) {
		c.StrokeLine2(draw.LineStyle{Color: color.NRGBA{0xe2, 0xe2, 0xe2, 255}, Width: 0.4}, c.Min.X, trY(t.Value), c.Max.X, trY(t.Value))
	}
}

// fillBand fills between two lines; one point becomes a bar.
func fillBand(c draw.Canvas, lower, upper []vg.Point, ink color.NRGBA) {
	if len(lower) == 0 {
		return
	}
	if len(lower) == 1 {
		c.StrokeLine2(draw.LineStyle{Color: ink, Width: 0.8}, lower[0].X, lower[0].Y, upper[0].X, upper[0].Y)
		return
	}
	var path vg.Path
	path.Move(lower[0])
	for _, pt := range lower[1:] {
		path.Line(pt)
	}
	for i := len(upper) - 1; i >= 0; i-- {
		path.Line(upper[i])
	}
	path.Close()
	c.SetColor(color.NRGBA{ink.R, ink.G, ink.B, 50})
	c.Fill(path)
}

func dot(c draw.Canvas, pt vg.Point, r vg.Length, col color.Color) {
	var path vg.Path
	path.Move(vg.Point{X: pt.X + r, Y: pt.Y})
	path.Arc(pt, r, 0, 2*math.Pi)
	path.Close()
	c.SetColor(col)
	c.Fill(path)
}

func ring(c draw.Canvas, pt vg.Point, r vg.Length, col color.Color) {
	var path vg.Path
	path.Move(vg.Point{X: pt.X + r, Y: pt.Y})
	path.Arc(pt, r, 0, 2*math.Pi)
	path.Close()
	c.SetColor(col)
	c.SetLineWidth(1)
	c.SetLineDash(nil, 0)
	c.Stroke(path)
}

// panelLegend explains the marks in the corner that seven panels leave free.
func panelLegend(c draw.Canvas, cells []*cell, best *cell, ink color.NRGBA) {
	reps := 0
	for _, cl := range cells {
		reps = max(reps, len(cl.Score.AllResults))
	}
	left := c.Min.X
	y := c.Max.Y - 12
	line := func(label string, mark func(x, y vg.Length)) {
		mark(left, y+2)
		c.FillText(style(sans(smallText), color.Black, draw.XLeft, draw.YBottom), vg.Point{X: left + 24, Y: y - 1}, label)
		y -= 13
	}
	line(fmt.Sprintf("mean of %s", plural(reps, "repetition")), func(x, y vg.Length) {
		c.StrokeLine2(draw.LineStyle{Color: ink, Width: 1.2}, x, y, x+18, y)
		dot(c, vg.Point{X: x + 9, Y: y}, 1.8, ink)
	})
	if reps > 1 {
		line("95 % interval", func(x, y vg.Length) {
			c.SetColor(color.NRGBA{ink.R, ink.G, ink.B, 50})
			c.Fill(rectangle(x, y-3, x+18, y+4))
		})
		line("one repetition", func(x, y vg.Length) {
			dot(c, vg.Point{X: x + 9, Y: y}, 0.9, color.NRGBA{ink.R, ink.G, ink.B, 140})
		})
	}
	if best != nil {
		line(fmt.Sprintf("best size, k = %d", best.K), func(x, y vg.Length) {
			ring(c, vg.Point{X: x + 9, Y: y}, 3.4, ink)
			dot(c, vg.Point{X: x + 9, Y: y}, 1.8, ink)
		})
	}
	small := style(sans(6), darkGrey, draw.XLeft, draw.YBottom)
	for _, s := range []string{"Intervals cover the judge's noise", "for one clustering, not the", "clustering's own."} {
		c.FillText(small, vg.Point{X: left, Y: y - 4}, s)
		y -= 8
	}
}

// methodMeasures are the bars of the comparison of methods.
var methodMeasures = []struct {
	Key, Label string
	Color      color.NRGBA
}{
	{"semantic_orthogonality_score", "semantic orthogonality", okabeIto[2]},
	{"avg_confidence", "completeness", okabeIto[3]},
	{"avg_precision", "precision", okabeIto[4]},
}

// methodsFigure sets the methods of one layer side by side, each at its best
// size.
func methodsFigure(name string, b *board, layer int) figure {
	var at []*cell
	for _, m := range b.Methods {
		if series := b.series(layer, m); len(series) > 0 {
			if best := bestOf(series, "final_score", 1); best != nil {
				at = append(at, best)
			} else {
				at = append(at, series[0])
			}
		}
	}
	p := newPlot("", "method at its best number of clusters (k)", "mean over repetitions (0–1)")
	var ticks plot.ConstantTicks
	for i, c := range at {
		ticks = append(ticks, plot.Tick{Value: float64(i), Label: c.Method})
	}
	p.X.Tick.Marker = ticks
	p.X.Tick.LineStyle.Width = 0
	p.X.Label.Padding = smallText + 6 // room for the sizes
	p.X.Min, p.X.Max = -0.5, float64(len(at))-0.5
	p.Y.Min, p.Y.Max = 0, 1
	p.Y.Tick.Marker = evenTicks(0, 1)
	p.Add(plotFunc(func(c draw.Canvas, p *plot.Plot) {
		trX, trY := p.Transforms(&c)
		gridLines(c, p)
		unit := trX(1) - trX(0)
		w := min(unit*0.25, 22)
		for i, cl := range at {
			c.FillText(style(sans(smallText), color.Black, draw.XCenter, draw.YTop), vg.Point{X: trX(float64(i)), Y: c.Min.Y - 1.3*smallText}, fmt.Sprintf("k = %d", cl.K))
			for j, m := range methodMeasures {
				s, ok := cl.stat(m.Key)
				x := trX(float64(i)) + w*(vg.Length(j)-1.5)
				if !ok {
					c.FillText(style(sans(6), darkGrey, draw.XCenter, draw.YBottom), vg.Point{X: x + w/2, Y: trY(0) + 2}, "n/a")
					continue
				}
				c.SetColor(m.Color)
				c.Fill(rectangle(x+0.5, trY(0), x+w-0.5, trY(s.Mean)))
				if s.N > 1 {
					whisker(c, x+w/2, trY(max(s.CI95[0], 0)), trY(min(s.CI95[1], 1)))
				}
			}
		}
	}))
	width := max(column, min(fullWidth, vg.Length(len(at))*0.97*vg.Inch+0.6*vg.Inch))
	f := figure{Name: name, W: width, H: 2.5 * vg.Inch, Title: fmt.Sprintf("%s, layer %d: methods at their best size", b.Model.Label, layer)}
	f.Draw = func(c draw.Canvas) {
		c.FillText(style(bold(labelText), color.Black, draw.XLeft, draw.YTop), vg.Point{X: c.Min.X + 4, Y: c.Max.Y - 4}, fmt.Sprintf("%s, layer %d", b.Model.Label, layer))
		x := c.Min.X + 4
		sty := style(sans(smallText), color.Black, draw.XLeft, draw.YCenter)
		for _, m := range methodMeasures {
			c.SetColor(m.Color)
			c.Fill(rectangle(x, c.Max.Y-26, x+7, c.Max.Y-19))
			c.FillText(sty, vg.Point{X: x + 10, Y: c.Max.Y - 22.5}, m.Label)
			x += 10 + sty.Width(m.Label) + 12
		}
		p.Draw(draw.Crop(c, 4, -4, 4, -36))
	}
	return f
}

func whisker(c draw.Canvas, x, lo, hi vg.Length) {
	sty := draw.LineStyle{Color: color.Black, Width: 0.7}
	c.StrokeLine2(sty, x, lo, x, hi)
	c.StrokeLine2(sty, x-2, lo, x+2, lo)
	c.StrokeLine2(sty, x-2, hi, x+2, hi)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
