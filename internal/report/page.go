package report

import (
	"github.com/dustin/go-humanize"

	"bytes"
	"embed"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"

	"clusterflow/internal/judge"
)

//go:embed page/index.tmpl page/style.css page/script.js
var pageFiles embed.FS

// Bounds on what the page embeds. Beyond them the page says what it left to the
// result files, so that a study of thousands of clusterings still opens.
const (
	maxDetails     = 24
	maxDetailBytes = 6 << 20
	maxChartBytes  = 5 << 20
	maxHeatCells   = 12000
	maxScoreRows   = 300
	maxTrainRows   = 200
	maxFigureLinks = 80
	forestRows     = 10
)

// pageView is what the template shows.
type pageView struct {
	D          Data
	Title      string
	CSS        template.CSS
	JS         template.JS
	Lead       string
	Facts      []fact
	Warnings   []string
	Boards     []*boardView
	Several    bool // several boards: name them
	Metrics    []metric
	Viridis    []string
	Details    []template.HTML
	DetailList []detailView
	MoreDetail int
	Scores     []scoreRow
	MoreScores int
	Training   []trainRow
	Agreement  []agreementView
	Kappas     []kappaView
	Qualities  []struct{ Key, Label, Short, Doc string }
	MoreTrain  int
	Answers    []answerRow
	Failures   []failureRow
	Settings   []settingGroup
	Overridden int
	Figures    []string // files, when they are few enough to link
	Vars       []string
	NFigures   int
	Example    string // a result file to show in the Python lines
	Python     string
	Data       pageData
}

type scoreRow struct {
	Model, Judge string
	Layer, K     int
	Method, Link string
	Values       []scoreValue
	Empty        int
}

type scoreValue struct{ Mean, Half string }

type trainRow struct {
	Model, Method, Fit, Backend, Differ string
	Layer, K, Empty                     int
	Quality                             []string // one per quality measure
}

type answerRow struct {
	Board, Kind                               string
	Asked, Answered, Failed, Requests, FailRq int
	Percent                                   string
	Reasons                                   string
}

type failureRow struct {
	Name, Kinds   string
	Failed, Asked int
}

type settingGroup struct {
	Name string
	Rows []Setting
}

// pageData is the JSON that the script reads.
type pageData struct {
	Metrics []metricData          `json:"metrics"`
	Viridis []string              `json:"viridis"`
	Boards  []boardData           `json:"boards"`
	Details map[string]detailData `json:"details"`
}

type metricData struct {
	Key   string `json:"key"`
	Label string `json:"label"`
	Doc   string `json:"doc"`
}

type boardData struct {
	Names  []string     `json:"names"`
	Method []string     `json:"method"`
	Empty  []int        `json:"empty"`
	Values [][]*float64 `json:"values"` // by cell, by metric
}

func renderPage(d Data, bs []*board, files []File) ([]byte, error) {
	tmpl, err := template.New("index.tmpl").Funcs(template.FuncMap{
		"join": joinInts, "inc": func(i int) int { return i + 1 }, "comma": comma, "plural": plural,
	}).ParseFS(pageFiles, "page/index.tmpl")
	if err != nil {
		return nil, err
	}
	css, err := pageFiles.ReadFile("page/style.css")
	if err != nil {
		return nil, err
	}
	js, err := pageFiles.ReadFile("page/script.js")
	if err != nil {
		return nil, err
	}
	v := &pageView{D: d, Title: d.Study + ": clusterflow report", CSS: template.CSS(css), JS: template.JS(js),
		Several: len(bs) > 1, Metrics: metrics, Qualities: qualities}
	for i := range 12 {
		v.Viridis = append(v.Viridis, hex(gradient((float64(i)+0.5)/12)))
	}
	links, err := v.details(tmpl, bs)
	if err != nil {
		return nil, err
	}
	v.boards(bs, links)
	v.summary(bs)
	v.tables(bs, links)
	v.agreements(d)
	v.kappas(d)
	v.fileList(files)
	var out bytes.Buffer
	if err := tmpl.Execute(&out, v); err != nil {
		return nil, err
	}
	return bytes.ToValidUTF8(out.Bytes(), []byte("\ufffd")), nil
}

// details renders the clusterings that the page shows in full: the best of
// every board, then the best of every method and layer by falling score, as
// far as the bounds allow. It returns where each of them is found.
func (v *pageView) details(tmpl *template.Template, bs []*board) (map[*cell]string, error) {
	type pick struct {
		b *board
		c *cell
	}
	var picks, rest []pick
	chosen := map[*cell]bool{}
	owner := map[*cell]*board{}
	total := 0
	var perSeries []*cell
	for _, b := range bs {
		top := bestOf(b.Cells, "final_score", 1)
		if top == nil && len(b.Cells) > 0 {
			top = b.Cells[0]
		}
		if top != nil {
			picks = append(picks, pick{b, top})
			chosen[top] = true
		}
		for _, layer := range b.Layers {
			for _, m := range b.Methods {
				series := b.series(layer, m)
				best := bestOf(series, "final_score", 1)
				if best == nil && len(series) > 0 {
					best = series[0]
				}
				if best != nil {
					total++
					perSeries = append(perSeries, best)
					owner[best] = b
				}
			}
		}
	}
	for _, c := range ranked(perSeries) {
		if !chosen[c] {
			rest = append(rest, pick{owner[c], c})
		}
	}
	links := map[*cell]string{}
	v.Data.Details = map[string]detailData{}
	size := 0
	for i, p := range append(picks, rest...) {
		if i >= maxDetails || size > maxDetailBytes {
			break
		}
		name := ""
		if v.Several {
			name = boardName(p.b, bs)
		}
		dv := newDetail(p.b, p.c, name)
		dv.Best = i < len(picks)
		var out bytes.Buffer
		if err := tmpl.ExecuteTemplate(&out, "detail", struct {
			detailView
			Open bool
		}{dv, i == 0}); err != nil {
			return nil, err
		}
		size += out.Len()
		links[p.c] = dv.ID
		v.Details = append(v.Details, template.HTML(out.String()))
		v.DetailList = append(v.DetailList, dv)
		v.Data.Details[dv.ID] = dv.data
	}
	v.MoreDetail = total - len(v.Details)
	return links, nil
}

// fileList names the files beside the page.
func (v *pageView) fileList(files []File) {
	for _, f := range files {
		switch {
		case strings.HasPrefix(f.Path, "figures/"):
			v.NFigures++
			v.Figures = append(v.Figures, f.Path)
		case strings.HasPrefix(f.Path, "vars/"):
			v.Vars = append(v.Vars, f.Path)
		}
	}
	slices.Sort(v.Figures)
	slices.Sort(v.Vars)
	if len(v.Figures) > maxFigureLinks {
		v.Figures = nil
	}
	v.Example = "vars/….json"
	size := "10"
	if len(v.Boards) > 0 && len(v.Vars) > 0 {
		v.Example = v.Vars[0]
		if s := v.Boards[0].B.Sizes; len(s) > 0 {
			size = strconv.Itoa(s[len(s)/2])
		}
	}
	v.Python = fmt.Sprintf(`import json
r = json.load(open(%q, encoding="utf-8"))
r["best_cluster"]["size"], r["best_cluster"]["avg_final_score"]
r["results_by_cluster_size"][%q]["statistics"]["final_score"]   # mean, std_dev, sem, ci_95, n

import pandas as pd
scores = pd.read_csv("scores.csv")
scores[scores.metric == "final_score"].pivot_table(index=["method", "layer"], columns="size", values="mean")`, v.Example, size)
	if len(v.Vars) > 40 {
		v.Vars = v.Vars[:40]
	}
}

func joinInts(list []int) string {
	parts := make([]string, len(list))
	for i, x := range list {
		parts[i] = strconv.Itoa(x)
	}
	return strings.Join(parts, ", ")
}

// comma writes 21951 as 21,951.
func comma(n int) string { return humanize.Comma(int64(n)) }

// sumAnswers adds up the answers of a clustering's repetitions by kind.
func sumAnswers(total map[string]judge.AnswerCount, reps []judge.Repetition) {
	for _, r := range reps {
		for kind, a := range r.Answers {
			t := total[kind]
			t.Asked += a.Asked
			t.Answered += a.Answered
			t.Failed += a.Failed
			t.Requests += a.Requests
			t.FailedRequests += a.FailedRequests
			for reason, n := range a.Reasons {
				if t.Reasons == nil {
					t.Reasons = map[string]int{}
				}
				t.Reasons[reason] += n
			}
			total[kind] = t
		}
	}
}
