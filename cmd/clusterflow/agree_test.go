package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"clusterflow/internal/judge"
)

// table reads a CSV file of the bench.
func (b *bench) table(name string) [][]string {
	b.t.Helper()
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(b.read(name), "\ufeff"))).ReadAll()
	if err != nil {
		b.t.Fatal(err)
	}
	return rows
}

// A spreadsheet neither computes a sentence nor takes an id for a number.
func TestPlainCell(t *testing.T) {
	for text, want := range map[string]string{
		"= 3 apples": "'= 3 apples", "- so 4 left": "'- so 4 left", "+1": "'+1", "@a": "'@a",
		"": "", "So 3 - 1 = 2.": "So 3 - 1 = 2.", "×2": "×2",
	} {
		if got := plainCell(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestAgree(t *testing.T) {
	b := newBench(t)
	b.must(1, `has no result as the study stands`, "agree", "export", "study.hcl", "tiny/1/spherical_kmeans/3/auto")
	b.must(0, `Report`, "apply", "--quiet", "study.hcl")
	b.must(1, `holds 2 clusterings with titles; give one of them, such as tiny/1/spherical_kmeans/2/auto`, "agree", "export", "study.hcl", "tiny")
	b.must(1, `nobody grades tiny/1/rows`, "agree", "export", "study.hcl", "tiny/1/rows")
	const addr = "tiny/1/spherical_kmeans/3/auto"
	b.must(0, `^ratings.csv: 12 sentences to rate with a letter of ratings-categories.csv, or None$`, "agree", "export", "study.hcl", addr, "--n", "12")
	b.must(1, `ratings.csv is there already`, "agree", "export", "study.hcl", addr)

	rows, categories := b.table("ratings.csv"), b.table("ratings-categories.csv")
	if len(rows) != 13 || len(categories) != 4 || !slices.Equal(rows[0], ratingColumns) || categories[1][0] != "A" {
		t.Fatalf("%v\n%v", rows, categories)
	}
	// What is the truth, by the result file: sentence → cluster → title → letter.
	var results judge.MethodResults
	if err := json.Unmarshal([]byte(b.read("results/small/vars/spherical_kmeans_results_tiny_layer1.json")), &results); err != nil {
		t.Fatal(err)
	}
	rep := results.ResultsByClusterSize["3"].AllResults[0]
	letter := map[string]string{}
	for _, c := range rep.Categories {
		for _, row := range categories[1:] {
			if row[1] == c.Title && row[2] == c.Description {
				letter[c.ID] = row[0]
			}
		}
	}
	truth, judged := map[string]string{}, 0
	said := map[string]string{}
	for _, list := range [][]judge.Categorized{rep.CompletenessDetailed.Correct, rep.CompletenessDetailed.Incorrect, rep.CompletenessDetailed.Missed} {
		for _, c := range list {
			truth[c.SentenceText], said[c.SentenceText] = letter[c.GroundTruth], c.Assigned
		}
	}
	strata := map[string]int{}
	write := func(name string, rate func(i int, text string) string) {
		var out bytes.Buffer
		w := csv.NewWriter(&out)
		for i, row := range rows {
			row = slices.Clone(row)
			if i > 0 {
				row[2] = rate(i, row[1])
			}
			w.Write(row)
		}
		w.Flush()
		b.write(name, out.String())
	}
	write("anna.csv", func(_ int, text string) string {
		if truth[text] != "" {
			judged++
			strata[truth[text]]++
		}
		return truth[text]
	})
	if judged < 10 || len(strata) != 3 || strata["A"] < 3 || strata["B"] < 3 || strata["C"] < 3 {
		t.Errorf("the judge was asked about %d of 12 sentences; of each category %v", judged, strata)
	}
	r := b.must(0, `^anna, the clustering +Cohen’s kappa 1.000 \(1.000 to 1.000\) · 100 % agree · \d+ sentences$`, "agree", "import", "study.hcl", addr, "anna.csv")
	if !matches(`^anna, judge judge +(Cohen’s kappa|undefined)`, r.out) {
		t.Errorf("no agreement with the judge: %v", r)
	}

	// The judge's own answers as a rater's agree with the judge.
	write("copy.csv", func(_ int, text string) string {
		switch c := said[text]; c {
		case "", "None":
			return c
		default:
			return strings.ToLower(letter[c])
		}
	})
	write("ben.csv", func(i int, _ string) string { return letters(i % 3) })
	r = b.must(0, `^anna, copy, ben +Fleiss’ kappa `, "agree", "import", "study.hcl", addr, "anna.csv", "copy.csv", "ben.csv")
	if !matches(`^copy, judge judge +Cohen’s kappa 1.000`, r.out) || !matches(`^anna, ben +Cohen’s kappa`, r.out) {
		t.Errorf("%v", r)
	}
	var list []agreed
	if r := b.must(0, "", "agree", "import", "--json", "study.hcl", addr, "anna.csv", "ben.csv"); json.Unmarshal([]byte(r.out), &list) != nil || len(list) != 5 {
		t.Errorf("%v", r)
	}

	// Blinded: neither clusters nor their ids stand in the tables.
	for _, row := range rows[1:] {
		if len(row) != 3 || len(row[0]) != 11 || row[2] != "" {
			t.Errorf("%q", row)
		}
	}

	// Mistakes say where.
	for _, c := range []struct{ content, want string }{
		{"id,sentence\n", `bad.csv:1: the first line should name the columns id, sentence, category`},
		{"id;sentence;category\n", `bad.csv:1: .*separate them with commas`},
		{"id,sentence,category\nnope,x,A\n", `bad.csv:2: there is no sentence "nope"`},
		{"id,sentence,category\n" + rows[1][0] + ",x,Q\n", `bad.csv:2: category "Q": write a letter from A to C, or None`},
		{"id,sentence,category\n" + rows[1][0] + ",x,A\n" + rows[1][0] + ",x,B\n", `bad.csv:3: sentence \w+ is rated twice`},
		{"id,sentence,category\n" + rows[1][0] + ",x,\n", `bad.csv: no sentence is rated`},
	} {
		b.write("bad.csv", c.content)
		b.must(1, c.want, "agree", "import", "study.hcl", addr, "bad.csv")
	}
	b.must(1, `no such file`, "agree", "import", "study.hcl", addr, "missing.csv")
}
