package report

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"clusterflow/internal/judge"
)

func render(t *testing.T, d Data, figures ...string) map[string][]byte {
	t.Helper()
	files, err := Render(context.Background(), d, figures)
	if err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("REPORT_OUT"); dir != "" { // to look at what a test renders
		for _, f := range files {
			p := filepath.Join(dir, filepath.FromSlash(t.Name()), filepath.FromSlash(f.Path))
			if err := os.MkdirAll(filepath.Dir(p), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, f.Content, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	out := map[string][]byte{}
	for _, f := range files {
		if out[f.Path] != nil {
			t.Errorf("%s is written twice", f.Path)
		}
		out[f.Path] = f.Content
	}
	return out
}

func paths(files map[string][]byte) []string {
	var out []string
	for p := range files {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

func TestFiles(t *testing.T) {
	got := paths(render(t, makeData(small), "svg"))
	want := []string{
		"agreement.csv",
		"clusters.csv",
		"comparisons.csv",
		"figures/pca_kmeans_tiny_layer2_metrics.svg",
		"figures/pca_kmeans_tiny_layer5_metrics.svg",
		"figures/spherical_kmeans_tiny_layer2_metrics.svg",
		"figures/spherical_kmeans_tiny_layer5_metrics.svg",
		"figures/tiny_heatmap_final_score.svg",
		"figures/tiny_heatmap_normalized_score.svg",
		"figures/tiny_layer2_methods.svg",
		"figures/tiny_layer5_methods.svg",
		"index.html",
		"judging.csv",
		"scores.csv",
		"training.csv",
		"vars/pca_kmeans_results_tiny-id_layer2.json",
		"vars/pca_kmeans_results_tiny-id_layer5.json",
		"vars/spherical_kmeans_results_tiny-id_layer2.json",
		"vars/spherical_kmeans_results_tiny-id_layer5.json",
	}
	if !slices.Equal(got, want) {
		t.Errorf("files:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFilesOfSeveralPairsAndModels(t *testing.T) {
	s := small
	s.models, s.methods, s.layers, s.detail = []string{"a", "b"}, []string{"pca_kmeans"}, []int{2}, false
	s.pairs = [][2]string{{"auto", "judge"}, {"auto", "strict"}}
	d := makeData(s)
	for i := range d.Results { // two blocks of one model
		d.Results[i].R.ModelID = "same"
	}
	got := paths(render(t, d, "svg"))
	for _, want := range []string{
		"vars/pca_kmeans_results_same_layer2.json",
		"vars/b/pca_kmeans_results_same_layer2.json",
		"vars/auto-strict/pca_kmeans_results_same_layer2.json",
		"vars/auto-strict/b/pca_kmeans_results_same_layer2.json",
		"figures/all_models_heatmap_final_score.svg",
		"figures/auto-strict/all_models_heatmap_normalized_score.svg",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is missing among\n%s", want, strings.Join(got, "\n"))
		}
	}
	d.Results[1] = d.Results[0]
	d.Results[1].R.ClusteringMethod = d.Results[0].R.ClusteringMethod
	d.Results = append(d.Results[:2], d.Results[0])
	if _, err := Render(context.Background(), d, nil); err == nil || !strings.Contains(err.Error(), "same method, layer") {
		t.Errorf("two results under one name: error %v", err)
	}
	d = makeData(s)
	d.Results[0].Variant = "wide"
	if got := paths(render(t, d)); !slices.Contains(got, "vars/pca_kmeans@wide_results_a-id_layer2.json") {
		t.Errorf("a method block's label is not in the file name: %v", got)
	}
}

// TestResultFile checks the names of reference.md §6 ("Result files").
func TestResultFile(t *testing.T) {
	d := makeData(small)
	raw := render(t, d)["vars/pca_kmeans_results_tiny-id_layer5.json"]
	if !bytes.HasPrefix(raw, []byte("{\n  \"clustering_method\": \"pca_kmeans\",\n  \"model_id\": \"tiny-id\",\n  \"layer\": 5,\n")) {
		t.Errorf("the file begins with %.120q", raw)
	}
	var file map[string]any
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	keys := func(where string, v any, want string) map[string]any {
		t.Helper()
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("%s is %T, want an object", where, v)
		}
		for k := range strings.FieldsSeq(want) {
			if _, ok := m[k]; !ok {
				t.Errorf("%s has no %q", where, k)
			}
		}
		return m
	}
	keys("the file", file, "clustering_method model_id layer results_by_cluster_size best_cluster")
	keys("best_cluster", file["best_cluster"], "size avg_final_score avg_accuracy avg_precision avg_recall avg_f1 completeness avg_completeness orthogonality semantic_orthogonality statistics")
	size := keys("a size", keys("results_by_cluster_size", file["results_by_cluster_size"], "3 5 8")["5"], "all_results avg_final_score statistics normalized_score")
	reps := size["all_results"].([]any)
	if len(reps) != 3 {
		t.Errorf("%d repetitions, want 3", len(reps))
	}
	rep := keys("a repetition", reps[0], `avg_accuracy avg_f1 avg_precision avg_recall assigned_fraction avg_confidence
		category_counts category_avg_confidences completeness_detailed completeness_metrics accuracy_results_by_cluster detailed_results
		orthogonality semantic_orthogonality_matrix semantic_orthogonality_explanations semantic_orthogonality_score
		semantic_orthogonality_threshold categories final_score`)
	keys("a cluster", keys("detailed_results", rep["detailed_results"], "0")["0"], "title description size precision recall accuracy f1 examples")
	if cat := rep["categories"].([]any)[0].([]any); len(cat) != 3 {
		t.Errorf("a category has %d parts, want [id, title, description]", len(cat))
	}
	stats := keys("statistics", size["statistics"], strings.Join(judge.StatisticNames(), " "))
	ci := keys("a statistic", stats["final_score"], "mean std_dev sem ci_95")["ci_95"].([]any)
	if len(ci) != 2 {
		t.Errorf("ci_95 has %d values, want 2", len(ci))
	}
}

// TestResultFileKeepsTheNumbers reads a result file back.
func TestResultFileKeepsTheNumbers(t *testing.T) {
	d := makeData(small)
	var got judge.MethodResults
	if err := json.Unmarshal(render(t, d)["vars/spherical_kmeans_results_tiny-id_layer2.json"], &got); err != nil {
		t.Fatal(err)
	}
	want := d.Results[0].R
	for k, s := range got.ResultsByClusterSize {
		if s.NormalizedScore == nil || *s.NormalizedScore < 0 || *s.NormalizedScore > 1 {
			t.Errorf("size %s has normalised score %v, want one in 0..1", k, s.NormalizedScore)
		}
		w := want.ResultsByClusterSize[k]
		if !reflect.DeepEqual(s.Statistics, w.Statistics) {
			t.Errorf("size %s: statistics %v, want %v", k, s.Statistics, w.Statistics)
		}
		if w.NormalizedScore != nil {
			t.Error("Render changed its Data")
		}
	}
}

func TestRenderIsDeterministic(t *testing.T) {
	a := render(t, makeData(small), "pdf", "svg")
	for range 3 {
		b := render(t, makeData(small), "svg", "pdf")
		if !slices.Equal(paths(a), paths(b)) {
			t.Fatal("two renderings have different files")
		}
		for p := range a {
			if !bytes.Equal(a[p], b[p]) {
				t.Errorf("two renderings of %s differ", p)
			}
		}
	}
}

func TestFiguresParse(t *testing.T) {
	s := small
	s.models = []string{"模型", "b"} // no glyphs in the font: must still draw
	d := makeData(s)
	d.Results[0].Clusterings[1].Sizes[0] = 0
	for path, content := range render(t, d, "pdf", "svg") {
		switch {
		case strings.HasSuffix(path, ".svg"):
			dec := xml.NewDecoder(bytes.NewReader(content))
			texts := 0
			for {
				tok, err := dec.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%s is not XML: %v", path, err)
				}
				if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "text" {
					texts++
				}
			}
			if texts < 5 {
				t.Errorf("%s has %d labels", path, texts)
			}
			if bytes.Contains(content, []byte("NaN")) {
				t.Errorf("%s has a coordinate that is no number", path)
			}
		case strings.HasSuffix(path, ".pdf"):
			if !bytes.HasPrefix(content, []byte("%PDF-1.")) || !bytes.HasSuffix(bytes.TrimSpace(content), []byte("%%EOF")) {
				t.Errorf("%s is no PDF", path)
			}
			for _, m := range regexp.MustCompile(`/(CreationDate|ModDate) \((.*?)\)`).FindAllSubmatch(content, -1) {
				if !bytes.HasPrefix(m[2], []byte("D:20000101")) {
					t.Errorf("%s carries the date %s", path, m[2])
				}
			}
			if len(content) > 120<<10 {
				t.Errorf("%s has %d bytes: are whole fonts in it?", path, len(content))
			}
		}
	}
}

// voids are the elements and attributes in which HTML is no XML.
var voids = regexp.MustCompile(`<(meta|input|br)\b([^>]*)>`)

// markup checks that the page's elements nest, and returns its text.
func markup(t *testing.T, page []byte) string {
	t.Helper()
	x := regexp.MustCompile(`(?s)<(style|script)([^>]*)>.*?</(style|script)>`).ReplaceAll(page, nil)
	x = voids.ReplaceAll(x, []byte("<$1$2/>"))
	x = regexp.MustCompile(` (open|hidden)>`).ReplaceAll(x, []byte(">"))
	x = bytes.Replace(x, []byte("<!doctype html>"), nil, 1)
	dec := xml.NewDecoder(bytes.NewReader(x))
	dec.Entity = xml.HTMLEntity
	var text strings.Builder
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return text.String()
		}
		if err != nil {
			at := int(dec.InputOffset())
			t.Fatalf("the page does not nest: %v near %q", err, x[max(0, at-200):at])
		}
		if c, ok := tok.(xml.CharData); ok {
			text.Write(c)
		}
	}
}

func TestPage(t *testing.T) {
	d := makeData(small)
	page := render(t, d)["index.html"]
	text := markup(t, page)
	for _, want := range []string{
		"Protocol 2025-07, seed 42. 2 values of the protocol were overridden",
		"of 34,044 answers failed",
		"cannot be told apart from",
		"Neither holds what another seed or another judge could change",
		"Semantic orthogonality", "Centroid orthogonality", "Normalised score",
		"Stating the problem in one's own words",
		"response", "Overlapping pairs", "The judge found", "No category describes small talk.",
		"OpenBLAS 0.3.21 SKYLAKEX", "pd.read_csv", "arXiv 2510.07364",
		"3 sentences lie inside one token and were skipped.",
		"pca_kmeans, layer 2, 3 clusters against others, on the same responses", "0.125 to 0.375", "Agreement of the judge", "0.250–0.750 over responses",
	} {
		if want == "The judge found" {
			want = "the judge found that no category fits"
		}
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if n := bytes.Count(page, []byte(`<details class="detail"`)); n != 4 {
		t.Errorf("%d clusterings in full, want one for each of 2 methods × 2 layers", n)
	}
	if n := bytes.Count(page, []byte(`class="heat"`)); n != 2 {
		t.Errorf("%d heatmaps, want 2", n)
	}
	if n := bytes.Count(page, []byte(`<figure><svg class="chart"`)); n != 4*panelMetrics {
		t.Errorf("%d charts, want %d in each of 2 layers and 2 methods", n, panelMetrics)
	}
	if strings.Contains(text, "NaN") {
		t.Error("the page shows NaN")
	}
}

// TestPageAsksForNothing: it must open offline, so it names no other resource.
func TestPageAsksForNothing(t *testing.T) {
	page := string(render(t, makeData(small), "svg")["index.html"])
	for _, bad := range []string{"http:", "https:", "url(", "@import", "fetch(", "XMLHttpRequest", "<link", "<iframe", "<img", " src=", "<object", "<base"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	for _, m := range regexp.MustCompile(`href="([^"#][^"]*)"`).FindAllStringSubmatch(page, -1) {
		if strings.HasPrefix(m[1], "/") || strings.Contains(m[1], ":") {
			t.Errorf("the page links to %q", m[1])
		}
	}
}

func TestPageEscapes(t *testing.T) {
	const evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{.}}]]>--!><b onclick='x'>&amp;\u202eabc\u2028"
	d := makeData(small)
	d.Study, d.File, d.Protocol = evil, evil, evil
	d.Warnings, d.Notes = []string{evil}, []string{evil}
	d.Settings = append(d.Settings, Setting{evil, evil, evil, "x", evil})
	d.Models[0].Source = evil
	for i := range d.Results {
		r := &d.Results[i]
		r.TitledBy, r.Variant = evil, evil
		for k := range r.Clusterings {
			c := &r.Clusterings[k]
			c.Backend, c.Address = evil, evil
			c.Examples[0] = []Example{{Text: evil + strings.Repeat("x", 1<<16), Response: evil}, {Text: "bytes \xff\xfe"}}
			c.Traces[0] = Trace{Response: evil, Question: evil, Parts: []Part{{evil, 0}, {evil, -1}, {"", 1}}}
		}
		for _, s := range r.R.ResultsByClusterSize {
			for j := range s.AllResults {
				rep := &s.AllResults[j]
				rep.Categories[0] = judge.Triple{ID: "0", Title: evil, Description: evil}
				rep.DetailedResults["0"] = judge.ClusterDetail{Title: evil, Description: evil}
				rep.CompletenessDetailed.Missed[0] = judge.Categorized{SentenceText: evil, Explanation: evil, Assigned: "None", GroundTruth: evil}
				for key := range rep.SemanticOrthogonalityExplanations {
					rep.SemanticOrthogonalityExplanations[key] = evil
				}
				rep.Answers[evil] = judge.AnswerCount{Asked: 1, Failed: 1, Reasons: map[string]int{evil: 1}}
			}
		}
	}
	page := render(t, d, "svg", "pdf")["index.html"]
	markup(t, page)
	if n := bytes.Count(page, []byte("<script")); n != 2 {
		t.Errorf("%d script elements, want the data and the page's own", n)
	}
	for _, bad := range []string{"<img", "<b onclick", "<script>alert"} {
		if bytes.Contains(page, []byte(bad)) {
			t.Errorf("%q came through unescaped", bad)
		}
	}
	raw := regexp.MustCompile(`(?s)<script type="application/json" id="data">(.*?)</script>`).FindSubmatch(page)
	var data pageData
	if err := json.Unmarshal(raw[1], &data); err != nil {
		t.Fatalf("the page's data is not JSON: %v", err)
	}
	for id, det := range data.Details {
		if det.Names[0] != evil || det.Reps[0][0][0] != evil {
			t.Errorf("%s: the title came back as %q", id, det.Names[0])
		}
	}
}

func TestPageStaysSmall(t *testing.T) {
	s := sample{models: []string{"a", "b", "c"}, methods: methodOrder[:7], layers: []int{0, 3, 6, 9, 12, 15, 18, 21, 24, 27},
		sizes: []int{2, 3, 4, 5, 6}, reps: 2, pairs: [][2]string{{"auto", "judge"}}}
	page := render(t, makeData(s))["index.html"]
	if n := len(page); n > 15<<20 {
		t.Errorf("the page of 1,050 clusterings has %d MB", n>>20)
	}
	text := markup(t, page)
	for _, want := range []string{
		"186 more are left to clusters.csv and vars/.", // 3 × 7 × 10 − 24
		"750 lower ones are left to scores.csv.",       // 1050 − 300
		"850 more rows are in training.csv.",           // 1050 − 200
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

func TestWarnings(t *testing.T) {
	d := makeData(small)
	d.Models[0].Random = true
	d.Results[0].Lexical = true
	d.Warnings = []string{"Said by the caller."}
	d.Results[0].Clusterings[0].Backend = "gonum"
	d.Results[0].StatesBy, d.Results[1].StatesBy = []string{"a card", "cpu float32, gonum"}, []string{"a card"}
	d.Results[0].Clusterings[0].Sizes[0] = 0
	first := &d.Results[0]
	size := slices.Sorted(maps.Keys(first.R.ResultsByClusterSize))[0]
	delete(first.R.ResultsByClusterSize[size].AllResults[0].AccuracyResultsByCluster, "1")
	text := markup(t, render(t, d)["index.html"])
	for _, want := range []string{
		"1 of 64 titled clusters have no sentence that their titler did not see",
		"Said by the caller.",
		"The weights of tiny are random. Its clusters mean nothing",
		"lexical baseline",
		"2 backends (OpenBLAS 0.3.21 SKYLAKEX; gonum)",
		"The hidden states were computed in 2 ways (a card; cpu float32, gonum)",
		"180 of 34,044 answers failed (0.5 %)",
		"1 of 12 clusterings have empty clusters",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not warn %q", want)
		}
	}
}

// TestSparse renders data of which parts are missing.
func TestSparse(t *testing.T) {
	t.Run("nothing", func(t *testing.T) {
		markup(t, render(t, Data{}, "pdf")["index.html"])
	})
	t.Run("one size and repetition", func(t *testing.T) {
		s := small
		s.sizes, s.reps, s.layers, s.methods = []int{4}, 1, []int{0}, []string{"gmm"}
		d := makeData(s)
		text := markup(t, render(t, d, "pdf", "svg")["index.html"])
		if !strings.Contains(text, "one repetition, so no score has an interval") {
			t.Error("one repetition is not warned of")
		}
	})
	t.Run("no clusterings", func(t *testing.T) {
		d := makeData(small)
		for i := range d.Results {
			d.Results[i].Clusterings = nil
		}
		markup(t, render(t, d, "pdf")["index.html"])
	})
	t.Run("fit mode, nothing else asked", func(t *testing.T) {
		d := makeData(small)
		for i := range d.Results {
			r := &d.Results[i].R
			for k, s := range r.ResultsByClusterSize {
				for j := range s.AllResults {
					old := s.AllResults[j]
					s.AllResults[j] = judge.Repetition{Metrics: []string{"completeness"}, Mode: "fit", AvgConfidence: 0.5, AvgFitScore: 5, FinalScore: 0.5,
						Defined: []string{"avg_confidence", "avg_fit_score", "final_score"}, Categories: old.Categories, DetailedResults: old.DetailedResults,
						CompletenessResponses: []judge.FitResponse{{SentenceText: "So it is 4.", ClusterID: "0", CompletenessScore: 9, Explanation: "It fits."}}}
				}
				r.ResultsByClusterSize[k] = judge.Summarize(s.AllResults)
			}
			r.BestCluster = judge.Best(r.ResultsByClusterSize)
		}
		text := markup(t, render(t, d, "pdf", "svg")["index.html"])
		for _, want := range []string{"not measured", "How well sentences fit", "9/10"} {
			if !strings.Contains(text, want) {
				t.Errorf("the page does not say %q", want)
			}
		}
	})
	t.Run("no final score", func(t *testing.T) {
		d := makeData(small)
		for i := range d.Results {
			r := &d.Results[i].R
			for k := range r.ResultsByClusterSize {
				r.ResultsByClusterSize[k] = judge.Summarize([]judge.Repetition{{}})
			}
			r.BestCluster = nil
		}
		text := markup(t, render(t, d, "pdf", "svg")["index.html"])
		if !strings.Contains(text, "No clustering has a final score.") {
			t.Error("the page does not say that there is no score")
		}
	})
}

func TestTables(t *testing.T) {
	d := makeData(small)
	d.Results[0].Clusterings[0].Sizes[1] = 0
	d.Agreement = []Agreement{{"tiny", 5, 8, "spherical_kmeans", "pca_kmeans", 0.5}, {"tiny", 5, 3, "spherical_kmeans", "pca_kmeans", 0.25}}
	delete(d.Results[0].R.ResultsByClusterSize["3"].AllResults[0].DetailedResults, "1")
	files := render(t, d)
	read := func(name string) [][]string {
		rows, err := csv.NewReader(bytes.NewReader(files[name])).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return rows
	}
	scores := read("scores.csv")
	if got, want := strings.Join(scores[0], ","), "model,model_id,layer,method,size,titles,judge,metric,mean,std_dev,sem,ci_lo,ci_hi,n,responses_lo,responses_hi"; got != want {
		t.Errorf("scores.csv has the columns %s", got)
	}
	if got, want := len(scores)-1, 12*(len(judge.StatisticNames())+1); got != want { // 2 layers × 2 methods × 3 sizes
		t.Errorf("scores.csv has %d rows, want %d", got, want)
	}
	s := d.Results[0].R.ResultsByClusterSize["3"].Statistics["avg_accuracy"]
	want := []string{"tiny", "tiny-id", "2", "spherical_kmeans", "3", "auto", "judge", "avg_accuracy", number(s.Mean), number(s.StdDev), number(s.SEM), number(s.CI95[0]), number(s.CI95[1]), "3", "0.25", "0.75"}
	if !slices.Equal(scores[2], want) && !slices.ContainsFunc(scores, func(r []string) bool { return slices.Equal(r, want) }) {
		t.Errorf("scores.csv has no row %v", want)
	}
	if rows := read("comparisons.csv"); len(rows) != 3 || !slices.Equal(rows[1], []string{"tiny", "auto", "judge", "final_score", "tiny/2/pca_kmeans/3", "0.75", "tiny/2/pca_kmeans/6", "0.5", "0.25", "0.125", "0.375", "0.001", "0.002"}) {
		t.Errorf("comparisons.csv: %v", rows)
	}
	if rows := read("judging.csv"); len(rows) != 3 || !slices.Equal(rows[2], []string{"tiny", "2", "pca_kmeans", "3", "auto", "judges", "judge, other", "completeness", "", "1", "20"}) {
		t.Errorf("judging.csv: %v", rows)
	}
	clusters := read("clusters.csv")
	if got, want := len(clusters)-1, 4*3*(3+5+8); got != want { // results × repetitions × clusters
		t.Errorf("clusters.csv has %d rows, want %d", got, want)
	}
	if row := clusters[2]; row[8] != "1" || row[9] != "" || row[11] != "0" || row[14] != "" {
		t.Errorf("the empty cluster's row is %v", row)
	}
	if training := read("training.csv"); len(training)-1 != 12 || training[1][10] != "1" {
		t.Errorf("training.csv: %d rows, first %v", len(training)-1, training[1])
	} else if got, want := training[1][13:], []string{"0.25", "1234.5678", "", "", "0.75", "0.625"}; !slices.Equal(got, want) {
		t.Errorf("training.csv: quality %v, want %v", got, want)
	}
	if !strings.Contains(string(files["index.html"]), "<td>0.375</td>") {
		t.Error("the page lacks the methods' mean agreement over sizes")
	}
	want = []string{"tiny", "5", "8", "spherical_kmeans", "pca_kmeans", "0.5"}
	if agreement := read("agreement.csv"); len(agreement) != 3 || !slices.Equal(agreement[1], want) {
		t.Errorf("agreement.csv: %v, want %v", agreement, want)
	}
}

func TestRenderErrors(t *testing.T) {
	if _, err := Render(context.Background(), makeData(small), []string{"png"}); err == nil || !strings.Contains(err.Error(), `"png" is not known`) {
		t.Errorf("an unknown format: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Render(ctx, makeData(small), []string{"svg"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context: %v", err)
	}
	d := makeData(small)
	s := d.Results[0].R.ResultsByClusterSize["3"]
	s.AvgFinalScore = math.NaN()
	d.Results[0].R.ResultsByClusterSize["3"] = s
	if _, err := Render(context.Background(), d, nil); err == nil || !strings.Contains(err.Error(), "vars/spherical_kmeans_results_tiny-id_layer2.json") {
		t.Errorf("a score that JSON cannot hold: %v", err)
	}
}

func TestBand(t *testing.T) {
	at := func(lo, mean, hi float64) []*cell {
		return []*cell{{Norm: math.NaN(), Score: judge.SizeResult{Statistics: map[string]judge.Stat{"m": {Mean: mean, CI95: [2]float64{lo, hi}, N: 3}}}}}
	}
	for _, c := range []struct{ lo, mean, hi, wantLo, wantHi float64 }{
		{0.62, 0.65, 0.68, 0.6, 0.8},  // widened to two tenths
		{0.31, 0.5, 0.69, 0.3, 0.7},   // to the next tenths
		{-0.4, 0.05, 0.5, 0, 0.5},     // an interval never stretches the scale beyond 0 …
		{0.8, 0.99, 1.4, 0.8, 1},      // … or 1
		{1, 1, 1, 0.8, 1},             // no room above
		{0, 0, 0, 0, 0.2},             // no room below
		{-0.2, -0.15, 0.1, -0.2, 0.1}, // a mean below 0 is shown
	} {
		lo, hi, ok := band(at(c.lo, c.mean, c.hi), "m")
		if !ok || math.Abs(lo-c.wantLo) > 1e-9 || math.Abs(hi-c.wantHi) > 1e-9 {
			t.Errorf("band of %v (%v–%v) is %v–%v, want %v–%v", c.mean, c.lo, c.hi, lo, hi, c.wantLo, c.wantHi)
		}
	}
}

func TestExtremes(t *testing.T) {
	b := boards(makeData(small))[0]
	best, worst := b.extremes("final_score", "pca_kmeans")
	for _, c := range b.Cells {
		s, _ := c.stat("final_score")
		hi, _ := best.stat("final_score")
		lo, _ := worst.stat("final_score")
		if s.Mean > hi.Mean || s.Mean < lo.Mean {
			t.Errorf("%s layer %d size %d scores %v, outside %v–%v", c.Method, c.Layer, c.K, s.Mean, lo.Mean, hi.Mean)
		}
	}
	for _, m := range b.Methods { // the normalised score ranks within a method
		best, worst := b.extremes("normalized_score", m)
		if best.Method != m || worst.Method != m {
			t.Errorf("the normalised extremes of %s are in %s and %s", m, best.Method, worst.Method)
		}
	}
}

func TestIndent(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{}`, "{}\n"},
		{`[]`, "[]\n"},
		{`{"a":[1,null,2.5e-3],"b":[]}`, "{\n  \"a\": [1, null, 2.5e-3],\n  \"b\": []\n}\n"},
		{`[[1],["]",{"k":"a,\"b:["}]]`, "[\n  [1],\n  [\n    \"]\",\n    {\n      \"k\": \"a,\\\"b:[\"\n    }\n  ]\n]\n"},
	} {
		if got := string(indent([]byte(c.in))); got != c.want {
			t.Errorf("indent(%s) = %q, want %q", c.in, got, c.want)
		}
	}
}

func FuzzIndent(f *testing.F) {
	f.Add([]byte(`{"a":[1,[2,"x\\"]],"b":{"c":[{}]}}`))
	f.Add([]byte(`"\\\""`))
	f.Fuzz(func(t *testing.T, src []byte) {
		var want bytes.Buffer
		if json.Compact(&want, src) != nil {
			return
		}
		var got bytes.Buffer
		if err := json.Compact(&got, indent(want.Bytes())); err != nil {
			t.Fatalf("indent(%q): %v", want.Bytes(), err)
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("indent(%q) holds %q", want.Bytes(), got.Bytes())
		}
	})
}

func TestSmallWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{comma(21951), "21,951"}, {comma(999), "999"}, {comma(1234567), "1,234,567"},
		{shortNumber(0.734), ".73"}, {shortNumber(0.999), "1.00"}, {shortNumber(-0.004), ".00"}, {shortNumber(-0.216), "−.22"},
		{percent(1, 5000), "< 0.1 %"}, {percent(1, 0), "–"}, {percent(3, 8), "37.5 %"},
		{fileName("../a b"), ".._a_b"}, {fileName(".."), "_.."}, {fileName("gmm@wide"), "gmm@wide"},
		{clip("añb", 2), "añ […]"}, {clip("añb", 3), "añb"},
		{pdfNumber(-0.0001), "0"}, {pdfNumber(10), "10"}, {pdfNumber(2.5), "2.5"},
		{hex(gradient(0)), "#440154"}, {hex(gradient(1)), "#fde725"}, // ends of matplotlib's viridis
		{fmt.Sprint(inkOn(gradient(0)).R, inkOn(gradient(1)).R), "255 0"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
