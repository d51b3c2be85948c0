package tasks_test

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"clusterflow/internal/judge"
)

// graded is a study of the demo's traces, judged offline.
func graded(t testing.TB, layers, methods, clusters string, more, evaluation string) string {
	t.Helper()
	traces, err := filepath.Abs("../studies/demo/traces.json")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`
study { name = "s" }
dataset "d" {
  file       = %q
  n_examples = 8
}
model "m" {
  source = "builtin:tiny"
  layers = %s
}
grid {
  methods  = %s
  clusters = %s
}
evaluator "lex" { provider = "lexical" }
titles "auto" {
  evaluator            = evaluator.lex
  description_examples = 12
  n_trace_examples     = 1
  %s
}
evaluation "main" {
  titles = [titles.auto]
  judges = [evaluator.lex]
  %s
}
report { figures = [] }
`, traces, layers, methods, clusters, more, evaluation)
}

const smallEvaluation = `
  chunk_size = 4
  accuracy {
    inside  = 3
    outside = 3
  }
  completeness {
    examples = 21
  }`

// requestFiles are all requests of an apply by the address of their node.
func (a *applied) requestFiles() map[string][]request {
	out := map[string][]request{}
	for addr := range a.records {
		if strings.HasSuffix(addr, "/submit-titles") || strings.HasSuffix(addr, "/submit-eval") {
			out[addr] = a.requests(addr)
		}
	}
	return out
}

// What is asked is the same in every cache, and a new method, layer, size or
// repetition leaves every request that there was the same to the byte.
func TestRequestsStayTheSame(t *testing.T) {
	dir := t.TempDir()
	small := graded(t, "[1]", `["spherical_kmeans"]`, "[3]", "repetitions = 2", smallEvaluation)
	a := newBench(t).apply(dir, small)
	again := newBench(t).apply(dir, small)
	for addr := range a.requestFiles() {
		if a.digest(addr, "requests").Digest != again.digest(addr, "requests").Digest {
			t.Errorf("%s: two caches give two request files", addr)
		}
	}
	for i, o := range a.records["report"].Outputs {
		if again.records["report"].Outputs[i].Digest != o.Digest {
			t.Errorf("%s of the report differs in another cache", o.Name)
		}
	}
	large := newBench(t).apply(dir, graded(t, "[0, 1]", `["pca_kmeans", "spherical_kmeans"]`, "[5, 3]", "repetitions = 3", smallEvaluation))
	now := large.requestFiles()
	compared := 0
	for addr, was := range a.requestFiles() {
		body := map[string]request{}
		for _, r := range now[addr] {
			body[r.Key] = r
		}
		for _, r := range was {
			compared++
			n, ok := body[r.Key]
			if !ok || string(n.Body) != string(r.Body) || !slices.Equal(n.Rows, r.Rows) || n.Rep != r.Rep || n.Cluster != r.Cluster {
				t.Fatalf("%s: the %s request of cluster %d, repetition %d is another in the larger study", addr, r.Task, r.Cluster, r.Rep)
			}
		}
	}
	if compared < 30 {
		t.Errorf("%d requests compared", compared)
	}

	pairedSamples(t, large)
	demands(t, large)
	sharedExamples(t, large)
}

// sharedExamples: all repetitions of a clustering's titles see the same
// sentences and ask apart; half of the sentences are the nearest ones.
func sharedExamples(t *testing.T, a *applied) {
	t.Helper()
	for addr, rs := range a.requestFiles() {
		if !strings.HasSuffix(addr, "/submit-titles") {
			continue
		}
		train := strings.TrimSuffix(addr, "auto/submit-titles") + "train"
		labels := a.labels(train)
		distance, err := a.tensor(train, "labels", "distances").Float32()
		if err != nil {
			t.Fatal(err)
		}
		first := map[int]request{}
		keys := map[string]bool{}
		for _, r := range rs {
			keys[r.Key] = true
			f, ok := first[r.Cluster]
			if !ok {
				first[r.Cluster] = r
				var members []int
				for row, l := range labels {
					if int(l) == r.Cluster {
						members = append(members, row)
					}
				}
				slices.SortStableFunc(members, func(a, b int) int { return int(math.Copysign(1, float64(distance[a]-distance[b]))) })
				if len(r.Rows) != min(12, len(members)) {
					t.Errorf("%s, cluster %d of %d sentences: %d are shown", addr, r.Cluster, len(members), len(r.Rows))
				}
				for _, row := range members[:min(6, len(members))] {
					if !slices.Contains(r.Rows, row) {
						t.Errorf("%s, cluster %d: row %d is among the nearest half and not shown", addr, r.Cluster, row)
					}
				}
				for _, row := range r.Rows {
					if !slices.Contains(members, row) {
						t.Errorf("%s, cluster %d: row %d is shown and lies in cluster %d", addr, r.Cluster, row, labels[row])
					}
				}
				continue
			}
			if !slices.Equal(f.Rows, r.Rows) || string(f.Body) != string(r.Body) {
				t.Errorf("%s, cluster %d: repetition %d shows other sentences than the first", addr, r.Cluster, r.Rep)
			}
		}
		if len(keys) != len(rs) {
			t.Errorf("%s: %d requests have %d keys", addr, len(rs), len(keys))
		}
	}
}

// pairedSamples: completeness asks the same sentences of every clustering of a
// dataset, and accuracy takes sentences in one order for all.
func pairedSamples(t *testing.T, a *applied) {
	t.Helper()
	asked := map[int][]int{} // rows of completeness by repetition
	before := map[int]map[int][]int{}
	for _, addr := range sortedKeys(a.requestFiles()) {
		if !strings.HasSuffix(addr, "/submit-eval") {
			continue
		}
		labels := a.labels(strings.TrimSuffix(addr, "auto/lex/submit-eval") + "train")
		rows := map[int][]int{}
		taken := map[[2]int]map[int]bool{} // by repetition and cluster
		for _, r := range a.requests(addr) {
			switch r.Task {
			case judge.TaskCompleteness:
				rows[r.Rep] = append(rows[r.Rep], r.Rows...)
			case judge.TaskAccuracy:
				id := [2]int{r.Rep, r.Cluster}
				if taken[id] == nil {
					taken[id] = map[int]bool{}
				}
				for _, row := range r.Rows {
					taken[id][row] = true
				}
			}
		}
		for rep, rs := range rows {
			if asked[rep] == nil {
				asked[rep] = rs
			}
			if !slices.Equal(asked[rep], rs) {
				t.Errorf("%s: completeness of repetition %d asks other sentences than elsewhere", addr, rep)
			}
		}
		// A row that was taken precedes, in the order of its repetition, every
		// row of its side that was not.
		for id, rows := range taken {
			if before[id[0]] == nil {
				before[id[0]] = map[int][]int{}
			}
			count := map[bool]int{}
			for row := range rows {
				inside := int(labels[row]) == id[1]
				count[inside]++
				for other, l := range labels {
					if (int(l) == id[1]) == inside && !rows[other] {
						before[id[0]][row] = append(before[id[0]][row], other)
					}
				}
			}
			size := 0
			for _, l := range labels {
				if int(l) == id[1] {
					size++
				}
			}
			if count[true] != min(3, size) || count[false] != min(3, len(labels)-size) {
				t.Errorf("%s: cluster %d is graded on %d and %d sentences", addr, id[1], count[true], count[false])
			}
		}
	}
	if len(asked) != 3 || slices.Equal(asked[0], asked[1]) {
		t.Errorf("the repetitions ask %v", asked)
	}
	for rep, edges := range before {
		if row := cycle(edges); row >= 0 {
			t.Errorf("repetition %d: no order of the sentences gives these accuracy samples, see row %d", rep, row)
		}
	}
}

// cycle returns a node of a cycle, or -1.
func cycle(edges map[int][]int) int {
	state := map[int]int{} // 1 open, 2 done
	var visit func(n int) bool
	visit = func(n int) bool {
		if state[n] > 0 {
			return state[n] == 1
		}
		state[n] = 1
		if slices.ContainsFunc(edges[n], visit) {
			return true
		}
		state[n] = 2
		return false
	}
	for n := range edges {
		if visit(n) {
			return n
		}
	}
	return -1
}

// demands: the plan says how many requests there will be.
func demands(t *testing.T, a *applied) {
	t.Helper()
	for addr, rs := range a.requestFiles() {
		got := map[string]int{}
		for _, r := range rs {
			got[r.Task]++
		}
		await := strings.Replace(addr, "/submit-", "/await-", 1) // which sends them
		if want := a.graph.Node(await).Demand; !maps.Equal(got, want) {
			t.Errorf("%s asks %v, planned were %v", addr, got, want)
		}
	}
}

// The mode fit and each repetition's titles are planned right as well.
func TestDemandOfFit(t *testing.T) {
	a := newBench(t).apply(t.TempDir(), graded(t, "[1]", `["spherical_kmeans"]`, "[3]", "repetitions = 2",
		"completeness {\n mode = \"fit\"\n examples = 7\n}\n orthogonality {\n repetitions = \"each\"\n}\n accuracy {\n examples = 2\n}"), "score")
	demands(t, a)
	eval := a.requests("m/1/spherical_kmeans/3/auto/lex/submit-eval")
	labels := a.labels("m/1/spherical_kmeans/3/train")
	n := 0
	for _, r := range eval {
		if r.Task == judge.TaskFit {
			n++
			if len(r.Rows) != 1 || int(labels[r.Rows[0]]) != r.Cluster {
				t.Errorf("row %v of cluster %d is rated against category %d", r.Rows, labels[r.Rows[0]], r.Cluster)
			}
		}
	}
	if n != 14 {
		t.Errorf("%d fit requests, want 7 in each of 2 repetitions", n)
	}
}
