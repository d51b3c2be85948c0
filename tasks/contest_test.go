package tasks_test

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"clusterflow/internal/judge"
)

// csvOutput reads a table of the report, as one map a row.
func (a *applied) csvOutput(name string) []map[string]string {
	a.t.Helper()
	rows, err := csv.NewReader(bytes.NewReader(a.output("report", name))).ReadAll()
	if err != nil {
		a.t.Fatal(err)
	}
	var out []map[string]string
	for _, row := range rows[1:] {
		m := map[string]string{}
		for i, v := range row {
			m[rows[0][i]] = v
		}
		out = append(out, m)
	}
	return out
}

func numeric(t testing.TB, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The best clustering of every judge is set against the next 15 and every null, and
// all p values of the report are corrected together.
func TestComparisons(t *testing.T) {
	text := graded(t, "[0, 1]", `["spherical_kmeans", "pca_kmeans", "random"]`, "[2, 3, 4, 5]", "repetitions = 2", smallEvaluation)
	text = strings.Replace(text, "judges = [evaluator.lex]", "judges = [evaluator.lex, evaluator.same]", 1)
	text = strings.Replace(text, `evaluation "main"`, `evaluator "same" { provider = "lexical" }`+"\n"+`evaluation "main"`, 1)
	a := newBench(t).apply(t.TempDir(), text)

	final := map[string]map[string]float64{} // by judge and clustering
	for _, row := range a.csvOutput("scores.csv") {
		if row["metric"] != "final_score" {
			continue
		}
		if final[row["judge"]] == nil {
			final[row["judge"]] = map[string]float64{}
		}
		addr := strings.Join([]string{row["model"], row["layer"], row["method"], row["size"]}, "/")
		final[row["judge"]][addr] = numeric(t, row["mean"])
		lo, hi := numeric(t, row["responses_lo"]), numeric(t, row["responses_hi"])
		if !(lo < hi) || lo < 0 || hi > 1 {
			t.Errorf("%s has the interval %g to %g over responses", addr, lo, hi)
		}
	}
	if len(final) != 2 || len(final["lex"]) != 24 {
		t.Fatalf("%v", final)
	}
	rows := a.csvOutput("comparisons.csv")
	var all []judge.Comparison
	for name, scores := range final {
		ranked := sortedKeys(scores)
		slices.SortStableFunc(ranked, func(x, y string) int { return cmp.Compare(scores[y], scores[x]) })
		shown, best := map[string]bool{}, ""
		for _, row := range rows {
			if row["judge"] != name {
				continue
			}
			shown[row["other"]], best = true, row["best"]
			d := numeric(t, row["difference"])
			if scores[row["best"]] != scores[ranked[0]] || math.Abs(d-(scores[ranked[0]]-scores[row["other"]])) > 1e-12 || d < 0 {
				t.Errorf("%v, and the best is %s with %g", row, ranked[0], scores[ranked[0]])
			}
			if lo, hi := numeric(t, row["ci_lo"]), numeric(t, row["ci_hi"]); lo > d+0.05 || hi < d-0.05 {
				t.Errorf("%v: the interval is far from the difference", row)
			}
		}
		for rank, addr := range ranked {
			if addr == best {
				continue
			}
			switch random := strings.Contains(addr, "/random/"); {
			case (random || scores[addr] > scores[ranked[16]]) && !shown[addr]:
				t.Errorf("%s, number %d, is not compared", addr, rank+1)
			case !random && scores[addr] < scores[ranked[15]] && shown[addr]:
				t.Errorf("%s, number %d, is compared", addr, rank+1)
			}
		}
	}
	for _, row := range rows {
		all = append(all, judge.Comparison{P: numeric(t, row["p"])})
	}
	judge.Holm(all)
	for i, row := range rows {
		if got := numeric(t, row["p_holm"]); math.Abs(got-all[i].Holm) > 1e-12 {
			t.Errorf("%v: corrected for all %d it would be %g", row, len(rows), all[i].Holm)
		}
	}
}
