package report

import (
	"bytes"
	"context"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// figure is one drawing for a paper, in either format.
type figure struct {
	Name  string // file name without extension, relative to the report's directory
	Title string
	W, H  vg.Length
	Draw  func(draw.Canvas)
}

const (
	fullWidth = 7 * vg.Inch   // both columns of a paper
	column    = 3.4 * vg.Inch // one column
	smallText = vg.Length(7)
	labelText = vg.Length(8)
	boldText  = vg.Length(9)
)

// figuresOf lists the figures in the order in which they are written.
func figuresOf(bs []*board, dirs []string) []figure {
	var out []figure
	byDir := map[string][]*board{}
	var dirOrder []string
	for i, b := range bs {
		dir := "figures/" + dirs[i]
		if byDir[dir] == nil {
			dirOrder = append(dirOrder, dir)
		}
		byDir[dir] = append(byDir[dir], b)
		for _, key := range []string{"final_score", "normalized_score"} {
			if _, _, ok := span(b.Cells, key); ok {
				out = append(out, heatmapFigure(dir+fileName(b.Model.Label)+"_heatmap_"+key, []*board{b}, key))
			}
		}
		for _, layer := range b.Layers {
			for _, m := range b.Methods {
				if len(b.series(layer, m)) > 0 {
					name := fmt.Sprintf("%s%s_%s_layer%d_metrics", dir, fileName(m), fileName(b.Model.Label), layer)
					out = append(out, panelsFigure(name, b, layer, m))
				}
			}
			out = append(out, methodsFigure(fmt.Sprintf("%s%s_layer%d_methods", dir, fileName(b.Model.Label), layer), b, layer))
		}
	}
	for _, dir := range dirOrder {
		if group := byDir[dir]; len(group) > 1 {
			for _, key := range []string{"final_score", "normalized_score"} {
				out = append(out, heatmapFigure(dir+"all_models_heatmap_"+key, group, key))
			}
		}
	}
	return out
}

// renderFigures draws every figure in every format.
func renderFigures(ctx context.Context, figs []figure, formats []string) ([]File, error) {
	formats = slices.Clone(formats)
	slices.Sort(formats)
	var out []File
	for _, f := range figs {
		for _, format := range slices.Compact(formats) {
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("drawing figure %s: %w", f.Name, err)
			}
			c, err := newCanvas(format, f.W, f.H, f.Title)
			if err != nil {
				return nil, err
			}
			dc := draw.New(c)
			dc.SetColor(color.White)
			dc.Fill(dc.Rectangle.Path())
			f.Draw(dc)
			var b bytes.Buffer
			if _, err := c.WriteTo(&b); err != nil {
				return nil, fmt.Errorf("drawing figure %s.%s: %w", f.Name, format, err)
			}
			out = append(out, File{Path: f.Name + "." + format, Content: b.Bytes()})
		}
	}
	return out, nil
}

// fileName makes one path element of a label or model id.
func fileName(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_.@", r) {
			return r
		}
		return '_'
	}, s)
	if strings.Trim(s, ".") == "" {
		return "_" + s
	}
	return s
}

func sans(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

func bold(size vg.Length) font.Font {
	f := sans(size)
	f.Weight = xfont.WeightBold
	return f
}

func style(f font.Font, c color.Color, x text.XAlignment, y text.YAlignment) draw.TextStyle {
	return draw.TextStyle{Color: c, Font: f, XAlign: x, YAlign: y, Handler: plot.DefaultTextHandler}
}

var darkGrey = color.NRGBA{0x55, 0x55, 0x55, 255}

// newPlot is an empty set of axes in the style of the figures.
func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	p.Title.Text = title
	p.Title.TextStyle.Font = bold(labelText)
	p.Title.Padding = 3
	p.X.Label.Text, p.Y.Label.Text = x, y
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle.Font = sans(labelText)
		a.Label.Padding = 2
		a.Tick.Label.Font = sans(smallText)
		a.LineStyle.Width = 0.5
		a.Tick.LineStyle.Width = 0.5
		a.Tick.Length = 3
		a.Padding = 0
	}
	return p
}

// sizeTicks labels cluster sizes at their own values, at most n of them.
func sizeTicks(sizes []int, n int) plot.ConstantTicks {
	step := (len(sizes) + n - 1) / max(n, 1)
	var t plot.ConstantTicks
	for i, k := range sizes {
		label := ""
		if i%max(step, 1) == 0 {
			label = strconv.Itoa(k)
		}
		t = append(t, plot.Tick{Value: float64(k), Label: label})
	}
	return t
}

// evenTicks puts ticks between lo and hi at a step of 0.05, 0.1 or 0.2.
func evenTicks(lo, hi float64) plot.ConstantTicks {
	step := 0.2
	if hi-lo < 0.35 {
		step = 0.05
	} else if hi-lo < 0.65 {
		step = 0.1
	}
	var t plot.ConstantTicks
	for v := math.Ceil(lo/step-1e-9) * step; v <= hi+1e-9; v += step {
		v = math.Round(v/step) * step
		label := strconv.FormatFloat(math.Abs(v), 'f', 2, 64)
		if step >= 0.1 {
			label = strconv.FormatFloat(math.Abs(v), 'f', 1, 64)
		}
		if v < -1e-9 {
			label = "−" + label
		}
		t = append(t, plot.Tick{Value: v, Label: label})
	}
	return t
}

// plotFunc is a plot.Plotter from a function.
type plotFunc func(c draw.Canvas, p *plot.Plot)

func (f plotFunc) Plot(c draw.Canvas, p *plot.Plot) { f(c, p) }

// drawGrid draws the plots in rows with their axes aligned.
func drawGrid(c draw.Canvas, plots [][]*plot.Plot, pad vg.Length) {
	tiles := draw.Tiles{Rows: len(plots), Cols: len(plots[0]), PadX: pad, PadY: pad}
	for j, row := range plot.Align(plots, tiles, c) {
		for i, tile := range row {
			if plots[j][i] != nil {
				plots[j][i].Draw(tile)
			}
		}
	}
}

func rectangle(x0, y0, x1, y1 vg.Length) vg.Path {
	return vg.Rectangle{Min: vg.Point{X: x0, Y: y0}, Max: vg.Point{X: x1, Y: y1}}.Path()
}
