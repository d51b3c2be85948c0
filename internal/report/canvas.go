package report

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"codeberg.org/go-pdf/fpdf"
	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// newCanvas returns a canvas of w × h points for one figure.
// format is "pdf" or "svg".
func newCanvas(format string, w, h vg.Length, title string) (vg.CanvasWriterTo, error) {
	switch format {
	case "pdf":
		return newPDF(w, h, title), nil
	case "svg":
		return &svgCanvas{vgsvg.New(w, h)}, nil
	}
	return nil, fmt.Errorf("figure format %q is not known: use \"pdf\" or \"svg\"", format)
}

// svgCanvas is gonum's SVG canvas with a font stack that every machine can
// resolve: Arial and Helvetica have the metrics of Liberation Sans.
type svgCanvas struct{ *vgsvg.Canvas }

func (c *svgCanvas) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	if _, err := c.Canvas.WriteTo(&b); err != nil {
		return 0, err
	}
	out := bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"),
		[]byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif;"))
	n, err := w.Write(out)
	return int64(n), err
}

// pdfCanvas is a vg.Canvas over one PDF page. gonum's own writer embeds whole
// fonts (200 kB a figure), knows only the Windows-1252 characters and stamps
// the time; this one embeds the glyphs in use, takes any text of the font and
// gives the same bytes for the same drawing.
type pdfCanvas struct {
	doc   *fpdf.Fpdf
	w, h  vg.Length
	fonts map[string]bool
	stack []pdfState
}

type pdfState struct{ color color.NRGBA }

func newPDF(w, h vg.Length, title string) *pdfCanvas {
	doc := fpdf.NewCustom(&fpdf.InitType{UnitStr: "pt", Size: fpdf.SizeType{Wd: w.Points(), Ht: h.Points()}})
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	doc.SetCatalogSort(true)
	doc.SetCreationDate(epoch)
	doc.SetModificationDate(epoch)
	doc.SetTitle(title, true)
	doc.SetMargins(0, 0, 0)
	doc.SetAutoPageBreak(false, 0)
	doc.AddPage()
	c := &pdfCanvas{doc: doc, w: w, h: h, fonts: map[string]bool{}, stack: make([]pdfState, 1)}
	c.op("1 j")
	vg.Initialize(c)
	return c
}

func (c *pdfCanvas) Size() (w, h vg.Length) { return c.w, c.h }

// op writes one line of PDF page description: numbers and operators.
func (c *pdfCanvas) op(parts ...any) {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(' ')
		}
		switch v := p.(type) {
		case string:
			b.WriteString(v)
		case vg.Length:
			b.WriteString(pdfNumber(v.Points()))
		case float64:
			b.WriteString(pdfNumber(v))
		}
	}
	c.doc.RawWriteStr(b.String())
}

func pdfNumber(x float64) string {
	s := strconv.FormatFloat(x, 'f', 3, 64)
	s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	if s == "-0" || s == "" {
		return "0"
	}
	return s
}

func (c *pdfCanvas) SetLineWidth(w vg.Length) { c.op(w, "w") }

func (c *pdfCanvas) SetLineDash(pattern []vg.Length, offset vg.Length) {
	parts := []any{"["}
	for _, p := range pattern {
		parts = append(parts, p)
	}
	c.op(append(parts, "]", offset, "d")...)
}

func (c *pdfCanvas) SetColor(col color.Color) {
	if col == nil {
		col = color.Black
	}
	n := color.NRGBAModel.Convert(col).(color.NRGBA)
	c.stack[len(c.stack)-1].color = n
	r, g, b := float64(n.R)/255, float64(n.G)/255, float64(n.B)/255
	c.op(r, g, b, "rg", r, g, b, "RG")
	c.doc.SetAlpha(float64(n.A)/255, "Normal")
}

func (c *pdfCanvas) Rotate(rad float64) {
	s, k := math.Sincos(rad)
	c.op(k, s, -s, k, 0.0, 0.0, "cm")
}

func (c *pdfCanvas) Translate(pt vg.Point) { c.op("1 0 0 1", pt.X, pt.Y, "cm") }
func (c *pdfCanvas) Scale(x, y float64)    { c.op(x, "0 0", y, "0 0 cm") }

func (c *pdfCanvas) Push() {
	c.stack = append(c.stack, c.stack[len(c.stack)-1])
	c.op("q")
}

func (c *pdfCanvas) Pop() {
	c.stack = c.stack[:len(c.stack)-1]
	c.op("Q")
}

func (c *pdfCanvas) Stroke(p vg.Path) { c.path(p); c.op("S") }
func (c *pdfCanvas) Fill(p vg.Path)   { c.path(p); c.op("f") }

func (c *pdfCanvas) path(p vg.Path) {
	var at vg.Point
	open := false
	for _, e := range p {
		switch e.Type {
		case vg.MoveComp:
			c.op(e.Pos.X, e.Pos.Y, "m")
			at, open = e.Pos, true
		case vg.LineComp:
			c.op(e.Pos.X, e.Pos.Y, "l")
			at = e.Pos
		case vg.CurveComp:
			c1, c2 := at, at
			switch len(e.Control) {
			case 1: // a quadratic curve, raised to a cubic one
				q := e.Control[0]
				c1 = vg.Point{X: at.X + (q.X-at.X)*2/3, Y: at.Y + (q.Y-at.Y)*2/3}
				c2 = vg.Point{X: e.Pos.X + (q.X-e.Pos.X)*2/3, Y: e.Pos.Y + (q.Y-e.Pos.Y)*2/3}
			case 2:
				c1, c2 = e.Control[0], e.Control[1]
			}
			c.op(c1.X, c1.Y, c2.X, c2.Y, e.Pos.X, e.Pos.Y, "c")
			at = e.Pos
		case vg.ArcComp:
			at, open = c.arc(e, open), true
		case vg.CloseComp:
			c.op("h")
		}
	}
}

// arc draws a circular arc as cubic curves of at most a quarter turn each.
func (c *pdfCanvas) arc(e vg.PathComp, open bool) vg.Point {
	point := func(a float64) vg.Point {
		s, k := math.Sincos(a)
		return vg.Point{X: e.Pos.X + e.Radius*vg.Length(k), Y: e.Pos.Y + e.Radius*vg.Length(s)}
	}
	from := point(e.Start)
	if open {
		c.op(from.X, from.Y, "l")
	} else {
		c.op(from.X, from.Y, "m")
	}
	n := int(math.Ceil(math.Abs(e.Angle)/(math.Pi/2) - 1e-9))
	step := e.Angle / float64(max(n, 1))
	t := e.Radius * vg.Length(4.0/3*math.Tan(step/4))
	for i := range n {
		a := e.Start + float64(i)*step
		p0, p1 := point(a), point(a+step)
		s0, k0 := math.Sincos(a)
		s1, k1 := math.Sincos(a + step)
		c.op(p0.X-t*vg.Length(s0), p0.Y+t*vg.Length(k0), p1.X+t*vg.Length(s1), p1.Y-t*vg.Length(k1), p1.X, p1.Y, "c")
		from = p1
	}
	return from
}

func (c *pdfCanvas) FillString(f font.Face, pt vg.Point, text string) {
	style := ""
	if f.Font.Weight >= xfont.WeightSemiBold {
		style = "B"
	}
	if !c.fonts[style] {
		var ttf bytes.Buffer
		if _, err := f.Face.WriteSourceTo(nil, &ttf); err != nil {
			c.doc.SetError(fmt.Errorf("read font %s: %w", f.Name(), err))
			return
		}
		c.doc.AddUTF8FontFromBytes("figure", style, ttf.Bytes())
		c.fonts[style] = true
	}
	// The font is part of the state that Push and Pop save, so it is set for
	// every string.
	c.doc.SetFont("figure", style, f.Font.Size.Points())
	c.doc.Text(pt.X.Points(), (c.h - pt.Y).Points(), basicPlane(text))
}

// basicPlane replaces what the PDF font writer cannot hold (characters beyond
// U+FFFF and invalid bytes).
func basicPlane(s string) string {
	return strings.Map(func(r rune) rune {
		if r > 0xffff {
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

func (c *pdfCanvas) DrawImage(rect vg.Rectangle, img image.Image) {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		c.doc.SetError(err)
		return
	}
	name := "image" + strconv.Itoa(b.Len())
	opt := fpdf.ImageOptions{ImageType: "png"}
	c.doc.RegisterImageOptionsReader(name, opt, &b)
	size := rect.Size()
	c.doc.ImageOptions(name, rect.Min.X.Points(), (c.h - rect.Max.Y).Points(),
		size.X.Points(), size.Y.Points(), false, opt, 0, "")
}

func (c *pdfCanvas) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	if err := c.doc.Output(&b); err != nil {
		return 0, fmt.Errorf("write PDF figure: %w", err)
	}
	n, err := w.Write(b.Bytes())
	return int64(n), err
}
