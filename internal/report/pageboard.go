package report

import (
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
)

// boardView is one model under one pair of titles and judge.
type boardView struct {
	Index        int
	Name         string
	B            *board
	Best         *headline
	Forest       template.HTML
	NForest      int
	Heats        []heatView
	MoreHeats    int
	ScaleLo      string
	ScaleHi      string
	NormNote     string
	Groups       []chartGroup
	MoreGroups   []string
	MethodCharts []chartGroup
	MoreMethods  int
	Empty        int // clusterings with empty clusters
	Comparison   *comparisonView
}

type heatView struct {
	Method string
	SVG    template.HTML
}

// headline is the best clustering of a board in words.
type headline struct {
	Method   string
	Layer, K int
	Link     string
	Score    string
	Interval string
	Boot     string // interval over responses
	Reps     int
	Parts    []scorePart
	Sizes    int   // sizes with a score for this method and layer
	SameSize []int // those of them that cannot be told apart from K
	Alike    int   // other clusterings of the board
	Others   int
}

type scorePart struct {
	Label, Value, Interval string
	Percent                string
}

// chartGroup is the seven charts of one layer or of one method, or the chart
// of methods of one layer.
type chartGroup struct {
	Name   string
	Open   bool
	Legend []legendEntry
	Charts []template.HTML
}

type legendEntry struct {
	Name, Class string
	Mark        template.HTML
}

func (v *pageView) boards(bs []*board, links map[*cell]string) {
	for _, m := range metrics {
		v.Data.Metrics = append(v.Data.Metrics, metricData{m.Key, m.Label, m.Doc})
	}
	for i := range viridis {
		v.Data.Viridis = append(v.Data.Viridis, hex(viridis[i]))
	}
	chartBytes, heatCells := 0, 0
	for _, b := range bs {
		bv := &boardView{Index: b.Index, B: b, Name: boardName(b, bs)}
		bv.Best = newHeadline(b, links)
		bv.Comparison = comparison(v.D, b)
		var scored []*cell
		for _, c := range ranked(b.Cells) {
			if _, ok := c.stat("final_score"); ok && len(scored) < forestRows {
				scored = append(scored, c)
			}
			if c.empty() > 0 {
				bv.Empty++
			}
		}
		if len(scored) > 1 {
			bv.Forest, bv.NForest = forest(scored, links), len(scored)
		}
		v.heats(bv, links, &heatCells)
		v.charts(bv, &chartBytes)
		v.Boards = append(v.Boards, bv)
	}
}

// boardName is the model, with titles and judge where several pairs exist.
func boardName(b *board, bs []*board) string {
	for _, o := range bs {
		if o.Titles != b.Titles || o.Judge != b.Judge {
			return fmt.Sprintf("%s · titles %s, judge %s", b.Model.Label, b.Titles, b.Judge)
		}
	}
	return b.Model.Label
}

func newHeadline(b *board, links map[*cell]string) *headline {
	best := bestOf(b.Cells, "final_score", 1)
	if best == nil {
		return nil
	}
	s, _ := best.stat("final_score")
	h := &headline{Method: best.Method, Layer: best.Layer, K: best.K, Link: links[best], Score: n3(s.Mean), Reps: s.N,
		Alike: b.alike(best), Others: len(b.Cells) - 1}
	if s.N > 1 {
		h.Interval = n3(s.CI95[0]) + "–" + n3(s.CI95[1])
	}
	if ci, ok := best.Score.Intervals["final_score"]; ok {
		h.Boot = n3(ci[0]) + "–" + n3(ci[1])
	}
	for _, c := range b.series(best.Layer, best.Method) {
		if _, ok := c.stat("final_score"); ok {
			h.Sizes++
		}
	}
	if bc := best.Res.R.BestCluster; bc != nil && bc.Size == best.K {
		h.SameSize = bc.Indistinguishable
	}
	for _, key := range []string{"avg_f1", "avg_confidence", "semantic_orthogonality_score"} {
		s, ok := best.stat(key)
		if !ok {
			continue
		}
		p := scorePart{Label: metricByKey(key).Label, Value: n3(s.Mean), Percent: strconv.FormatFloat(min(max(s.Mean, 0), 1)*100, 'f', 1, 64)}
		if s.N > 1 {
			p.Interval = n3(s.CI95[0]) + "–" + n3(s.CI95[1])
		}
		h.Parts = append(h.Parts, p)
	}
	return h
}

func (v *pageView) heats(bv *boardView, links map[*cell]string, used *int) {
	b := bv.B
	index := map[*cell]int{}
	var bd boardData
	for i, c := range b.Cells {
		index[c] = i
		bd.Names = append(bd.Names, fmt.Sprintf("%s, layer %d, %d clusters", c.Method, c.Layer, c.K))
		bd.Method = append(bd.Method, c.Method)
		bd.Empty = append(bd.Empty, c.empty())
		var row []*float64
		for _, m := range metrics {
			var x *float64
			if s, ok := c.stat(m.Key); ok {
				x = round3(s.Mean)
			}
			row = append(row, x)
		}
		bd.Values = append(bd.Values, row)
	}
	if *used+len(b.Cells) > maxHeatCells && *used > 0 {
		bv.MoreHeats = len(b.Methods)
		v.Data.Boards = append(v.Data.Boards, boardData{})
		return
	}
	*used += len(b.Cells)
	v.Data.Boards = append(v.Data.Boards, bd)
	lo, hi, ok := span(b.Cells, "final_score")
	if ok {
		bv.ScaleLo, bv.ScaleHi = n3(lo), n3(hi)
	}
	for _, m := range b.Methods {
		bv.Heats = append(bv.Heats, heatView{m, heatChart(b, m, "final_score", index, links)})
	}
	var norm []string
	for _, m := range b.Methods {
		best, _ := b.extremes("normalized_score", m)
		final, _ := b.extremes("final_score", m)
		if best != nil && (final == nil || final.Method == m && final != best) {
			norm = append(norm, fmt.Sprintf("%s: layer %d, %d clusters", m, best.Layer, best.K))
		}
	}
	if len(norm) > 0 {
		bv.NormNote = "By the paper's normalised score, which scales each part over one method's layers and sizes, the best cells are " + strings.Join(norm, "; ") + "."
	}
}

// charts draws every metric against size: per layer with a line per method, and
// per method with a line per layer; and the methods side by side per layer. The
// layer of the best clustering comes first and open.
func (v *pageView) charts(bv *boardView, used *int) {
	b := bv.B
	layers := slices.Clone(b.Layers)
	if best := bestOf(b.Cells, "final_score", 1); best != nil {
		i := slices.Index(layers, best.Layer)
		layers = append([]int{best.Layer}, slices.Delete(layers, i, i+1)...)
	}
	add := func(name string, lines []line) {
		if len(lines) == 0 {
			return
		}
		if *used > maxChartBytes {
			bv.MoreGroups = append(bv.MoreGroups, name)
			return
		}
		g := chartGroup{Name: name, Open: len(bv.Groups) == 0}
		for _, l := range lines {
			var mark drawing
			mark.add(`<svg class="mark %s" viewBox="0 0 24 12" aria-hidden="true"><path class="ln" d="M1 6H23"/>`, l.Class)
			mark.marker(l.Shape, "p", 12, 6, 3.2)
			if l.Shape%4 == 0 {
				mark.add(`</circle></svg>`)
			} else {
				mark.add(`</path></svg>`)
			}
			g.Legend = append(g.Legend, legendEntry{l.Name, l.Class, template.HTML(mark.b.String())})
		}
		var cells []*cell
		for _, l := range lines {
			cells = append(cells, l.Cells...)
		}
		for _, m := range metrics[:panelMetrics] {
			lo, hi, _ := band(cells, m.Key)
			svg := lineChart(m, lines, b.Sizes, lo, hi)
			*used += len(svg)
			g.Charts = append(g.Charts, svg)
		}
		bv.Groups = append(bv.Groups, g)
	}
	for _, layer := range layers {
		var lines []line
		for i, m := range b.Methods {
			if cells := b.series(layer, m); len(cells) > 0 {
				class := methodRank(m)
				if class >= len(methodOrder) || strings.Contains(m, "@") {
					class = (class + i) % len(methodOrder)
				}
				lines = append(lines, line{m, "m" + strconv.Itoa(class), class, cells, bestOf(cells, "final_score", 1)})
			}
		}
		add(fmt.Sprintf("Layer %d", layer), lines)
	}
	if len(b.Layers) > 1 {
		for _, m := range b.Methods {
			var lines []line
			for i, layer := range b.Layers {
				if cells := b.series(layer, m); len(cells) > 0 {
					step := i * 11 / max(len(b.Layers)-1, 1)
					lines = append(lines, line{fmt.Sprintf("layer %d", layer), "l" + strconv.Itoa(step), i, cells, bestOf(cells, "final_score", 1)})
				}
			}
			add(m+", all layers", lines)
		}
	}
	for _, layer := range layers {
		if len(bv.MethodCharts) >= 40 {
			bv.MoreMethods++
			continue
		}
		var at []*cell
		for _, m := range b.Methods {
			series := b.series(layer, m)
			best := bestOf(series, "final_score", 1)
			if best == nil && len(series) > 0 {
				best = series[0]
			}
			if best != nil {
				at = append(at, best)
			}
		}
		bv.MethodCharts = append(bv.MethodCharts, chartGroup{Name: fmt.Sprintf("Layer %d", layer), Open: len(bv.MethodCharts) == 0, Charts: []template.HTML{methodsChart(at)}})
	}
}
