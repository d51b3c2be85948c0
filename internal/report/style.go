package report

import (
	"fmt"
	"image/color"
	"math"
)

// viridis is matplotlib's map of that name at ten even steps (van der Walt and
// Smith, 2015, CC0): uniform to the eye, readable in grey and by the colour
// blind.
var viridis = [...]color.NRGBA{
	{0x44, 0x01, 0x54, 255}, {0x48, 0x28, 0x78, 255}, {0x3e, 0x49, 0x89, 255}, {0x31, 0x68, 0x8e, 255},
	{0x26, 0x82, 0x8e, 255}, {0x1f, 0x9e, 0x89, 255}, {0x35, 0xb7, 0x79, 255}, {0x6d, 0xcd, 0x59, 255},
	{0xb4, 0xde, 0x2c, 255}, {0xfd, 0xe7, 0x25, 255},
}

// okabeIto are the qualitative colours of Okabe and Ito (2008), chosen for the
// colour blind, in the order of methodOrder; black comes last of the methods, and
// greys are for the nulls.
var okabeIto = [...]color.NRGBA{
	{0xd5, 0x5e, 0x00, 255}, {0xcc, 0x79, 0xa7, 255}, {0x00, 0x72, 0xb2, 255}, {0xe6, 0x9f, 0x00, 255},
	{0x00, 0x9e, 0x73, 255}, {0x56, 0xb4, 0xe9, 255}, {0x00, 0x00, 0x00, 255},
	{0x6b, 0x6b, 0x6b, 255}, {0x9a, 0x9a, 0x9a, 255}, {0xbd, 0xbd, 0xbd, 255},
}

// greyCell fills a clustering that has empty clusters.
var greyCell = color.NRGBA{0xc9, 0xc9, 0xc9, 255}

// gradient returns the viridis colour of t in [0, 1].
func gradient(t float64) color.NRGBA {
	if math.IsNaN(t) {
		return greyCell
	}
	x := min(max(t, 0), 1) * float64(len(viridis)-1)
	i := min(int(x), len(viridis)-2)
	f := x - float64(i)
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a) + f*(float64(b)-float64(a)))) }
	a, b := viridis[i], viridis[i+1]
	return color.NRGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), 255}
}

// inkOn is black or white, whichever reads better on c (relative luminance of
// WCAG 2.1).
func inkOn(c color.NRGBA) color.NRGBA {
	lin := func(v uint8) float64 {
		s := float64(v) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	if 0.2126*lin(c.R)+0.7152*lin(c.G)+0.0722*lin(c.B) > 0.19 {
		return color.NRGBA{0, 0, 0, 255}
	}
	return color.NRGBA{255, 255, 255, 255}
}

func hex(c color.NRGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// scaled maps v to [0, 1] between lo and hi; the middle when they are equal.
func scaled(v, lo, hi float64) float64 {
	if hi-lo < 1e-12 {
		return 0.5
	}
	return (v - lo) / (hi - lo)
}
