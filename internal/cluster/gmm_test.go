package cluster

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"clusterflow/internal/linalg"
)

// naiveGaussians is a mixture as textbooks have it, in float64.
type naiveGaussians struct {
	weights []float64
	means   [][]float64
	covs    [][][]float64 // regularised
}

// naiveOf has the clusters' weights, means and covariances.
func naiveOf(x linalg.Matrix, resp [][]float64, full bool, reg float64) *naiveGaussians {
	g, d := &naiveGaussians{}, x.Cols
	for j := range resp[0] {
		w, mean := 10*epsilon, make([]float64, d)
		for i := range resp {
			w += resp[i][j]
			for c, v := range x.Row(i) {
				mean[c] += resp[i][j] * float64(v)
			}
		}
		for c := range mean {
			mean[c] /= w
		}
		cov := make([][]float64, d)
		for a := range cov {
			cov[a] = make([]float64, d)
			for b := range cov[a] {
				if a != b && !full {
					continue
				}
				for i := range resp {
					cov[a][b] += resp[i][j] * (float64(x.Row(i)[a]) - mean[a]) * (float64(x.Row(i)[b]) - mean[b]) / w
				}
			}
			cov[a][a] += reg
		}
		g.weights, g.means, g.covs = append(g.weights, w/float64(x.Rows)), append(g.means, mean), append(g.covs, cov)
	}
	return g
}

// expect returns responsibilities and the mean log-likelihood. Densities are by
// Gaussian elimination.
func (g *naiveGaussians) expect(x linalg.Matrix) (resp [][]float64, likelihood float64) {
	for i := range x.Rows {
		lp := make([]float64, len(g.weights))
		for j := range lp {
			a := make([][]float64, x.Cols)
			for c := range a {
				a[c] = append(slices.Clone(g.covs[j][c]), float64(x.Row(i)[c])-g.means[j][c])
			}
			logDet, sum := 0.0, 0.0
			for p := range a { // of a positive definite matrix: no pivots
				logDet += math.Log(a[p][p])
				sum += a[p][x.Cols] * a[p][x.Cols] / a[p][p]
				for r := p + 1; r < len(a); r++ {
					by := a[r][p] / a[p][p]
					for c := p; c <= x.Cols; c++ {
						a[r][c] -= by * a[p][c]
					}
				}
			}
			lp[j] = math.Log(g.weights[j]) - 0.5*(float64(x.Cols)*math.Log(2*math.Pi)+logDet+sum)
		}
		most, total := slices.Max(lp), 0.0
		for _, v := range lp {
			total += math.Exp(v - most)
		}
		total = most + math.Log(total)
		likelihood += total / float64(x.Rows)
		for j := range lp {
			lp[j] = math.Exp(lp[j] - total)
		}
		resp = append(resp, lp)
	}
	return resp, likelihood
}

// Every iteration gives what the definition gives, near the origin and where
// float32 cancels: far from it, with components that are small against their
// distances, and with duplicates.
func TestEMAgainstDefinition(t *testing.T) {
	near, _ := blobs(linalg.Rand(5, "blobs"), 4, 40, 6, 0.8)
	far, _ := blobs(linalg.Rand(6, "blobs"), 4, 40, 6, 1e-3)
	moved := near.Clone()
	for i := range moved.Data {
		moved.Data[i] += 30
	}
	twice := near.Clone()
	for i := 1; i < 50; i++ {
		copy(twice.Row(i), twice.Row(0))
	}
	for name, x := range map[string]linalg.Matrix{"near": near, "small": far, "moved": moved, "duplicates": twice} {
		for _, full := range []bool{false, true} {
			labels := make([]int32, x.Rows)
			resp := make([][]float64, x.Rows)
			for i := range labels {
				labels[i] = int32(i * 7 % 5 % 3) // a bad start, so that something happens
				resp[i] = make([]float64, 3)
				resp[i][labels[i]] = 1
			}
			g, err := hardMixture(x, labels, 3, full, columnMeans(x, 1), 1e-6, 1)
			if err != nil {
				t.Fatal(err)
			}
			naive := naiveOf(x, resp, full, 1e-6)
			last := math.Inf(-1)
			for iteration := 1; iteration <= 12; iteration++ {
				fits, err := runEM(t.Context(), x, []*gaussians{g}, emOptions{maxIter: 1, tol: 0, reg: 1e-6, threads: 2})
				if err != nil {
					t.Fatal(err)
				}
				resp, want := naive.expect(x)
				if got := fits[0].likelihood; math.Abs(got-want) > 1e-3*max(1, math.Abs(want)) {
					t.Fatalf("%s, full %v, iteration %d: log-likelihood %v, want %v", name, full, iteration, got, want)
				}
				if want < last-1e-6 && (name == "near" || name == "moved") { // reg_covar has a say in the others
					t.Errorf("%s, full %v: the likelihood fell from %v to %v", name, full, last, want)
				}
				last = want
				naive = naiveOf(x, resp, full, 1e-6)
			}
			labels, _ = g.assign(x, 2)
			resp, _ = naive.expect(x)
			for i, l := range labels {
				if name == "small" { // components share a blob, and hardly differ
					break
				}
				if p := resp[i]; p[l] < slices.Max(p)-1e-3 {
					t.Errorf("%s, full %v: row %d has label %d of posteriors %v", name, full, i, l, p)
				}
			}
		}
	}
}

// Starts that run in step do not change each other, but for rounding.
func TestEMInStep(t *testing.T) {
	x, truth := blobs(linalg.Rand(9, "blobs"), 5, 60, 12, 0.3)
	x = unit(t, x)
	for _, name := range []string{"gmm", "pca_gmm"} {
		m, _ := ByName(name)
		in := inputFor(t, m, x, 5, 2)
		in.Options = map[string]any{"n_init": 4}
		model, err := m.Fit(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if !sameGrouping(model.Labels, truth) || model.Info["converged"] != 1 || model.Info["starts"] != 4 {
			t.Errorf("%s: the blobs were not found: %v", name, model.Info)
		}
		points := x
		if m.Space == "pca" {
			points = in.Coords
		}
		g, err := loadGaussians(model.Tensors, m.Space == "pca")
		if err != nil {
			t.Fatal(err)
		}
		if again, ll := g.assign(points, 1); !slices.Equal(again, model.Labels) || ll != model.Info["log_likelihood"] {
			t.Errorf("%s: loaded again it gives other labels or log-likelihood %v, was %v", name, ll, model.Info["log_likelihood"])
		}
	}
}

func TestMixtureOddInput(t *testing.T) {
	x, _ := blobs(linalg.Rand(2, "blobs"), 3, 30, 5, 0.5)
	constant := x.Clone()
	for i := range constant.Rows {
		constant.Row(i)[2] = 4
	}
	same := linalg.NewMatrix(40, 5)
	for i := range same.Data {
		same.Data[i] = 0.25
	}
	two := x.Clone() // two distinct rows
	for i := range two.Rows {
		copy(two.Row(i), x.Row(i%2))
	}
	huge := x.Clone() // one large cluster, one row far away
	huge.Row(3)[1] = 1e4
	for _, name := range []string{"gmm", "pca_gmm"} {
		m, _ := ByName(name)
		fit := func(x linalg.Matrix, k int, options map[string]any) (*Model, error) {
			return m.Fit(t.Context(), Input{X: x, Coords: x, K: k, Seed: 1, Threads: 2, Options: options})
		}
		for what, c := range map[string]struct {
			x linalg.Matrix
			k int
		}{"a constant column": {constant, 3}, "equal rows": {same, 3}, "fewer distinct rows than clusters": {two, 4}, "N = k": {x.Slice(0, 8), 8}, "one cluster": {x, 1}, "an outlier": {huge, 2}} {
			r, err := fit(c.x, c.k, map[string]any{"n_init": 2})
			if what == "equal rows" || what == "fewer distinct rows than clusters" {
				if err == nil || !strings.Contains(err.Error(), "of the rows are distinct") {
					t.Errorf("%s, %s: %v", name, what, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s, %s: %v", name, what, err)
				continue
			}
			if ll := r.Info["log_likelihood"]; math.IsNaN(ll) || math.IsInf(ll, 0) {
				t.Errorf("%s, %s: log-likelihood %v", name, what, ll)
			}
			for i, l := range r.Labels {
				if slices.Equal(c.x.Row(i), c.x.Row(0)) && l != r.Labels[0] {
					t.Errorf("%s, %s: equal rows 0 and %d have labels %d and %d", name, what, i, r.Labels[0], l)
				}
			}
		}
		if r, err := fit(x, 3, map[string]any{"init_rows": 40, "n_init": 2}); err != nil || r.Info["pilot_rows"] != 40 || len(r.Labels) != x.Rows {
			t.Errorf("%s with a pilot: %v", name, err)
		}
		bad := x.Clone()
		bad.Row(11)[0] = float32(math.NaN())
		var row *RowError
		if _, err := fit(bad, 2, nil); !errors.As(err, &row) || row.Row != 11 {
			t.Errorf("%s, no number: %v", name, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := m.Fit(ctx, Input{X: x, Coords: x, K: 2, Threads: 1}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s cancelled: %v", name, err)
		}
	}
}

// A fit that leaves settled components out of its steps never loses likelihood,
// ends where steps of all components end, and takes fewer updates to get there.
func TestEMLeavesOutSettledComponents(t *testing.T) {
	apart, _ := blobs(linalg.Rand(31, "blobs"), 8, 150, 6, 1.2) // three of eight far from all others: they settle at once
	for i := range apart.Rows {
		if blob := i % 8; blob < 3 {
			apart.Row(i)[blob] += 9
		}
	}
	for _, full := range []bool{false, true} {
		labels := make([]int32, apart.Rows)
		for i := range labels {
			if labels[i] = int32(i % 8); labels[i] >= 3 {
				labels[i] = int32(3 + i/8%5) // the others begin mixed
			}
		}
		run := func(tol float64, iterations int) *emFit {
			t.Helper()
			g, err := hardMixture(apart, labels, 8, full, columnMeans(apart, 1), 1e-6, 1)
			if err != nil {
				t.Fatal(err)
			}
			fits, err := runEM(t.Context(), apart, []*gaussians{g}, emOptions{maxIter: iterations, tol: tol, threads: 2})
			if err != nil {
				t.Fatal(err)
			}
			return fits[0]
		}
		f := run(1e-4, 400)
		if !f.converged || !f.whole {
			t.Errorf("full %v: converged %v, last step of all components %v", full, f.converged, f.whole)
		}
		if plain := run(0, f.iterations); f.updates > plain.updates*9/10 || f.likelihood < plain.likelihood-1e-3 {
			t.Errorf("full %v: log-likelihood %v after %d updates, with steps of all components %v after %d", full, f.likelihood, f.updates, plain.likelihood, plain.updates)
		}
		last := math.Inf(-1)
		for iterations := 1; iterations <= min(30, f.iterations); iterations++ {
			now := run(1e-4, iterations).likelihood
			if now < last-1e-5 {
				t.Errorf("full %v: iteration %d fell from %v to %v", full, iterations, last, now)
			}
			last = now
		}
	}
}

// The race leaves starts behind and keeps the one that would have won.
func TestRaceKeepsTheWinner(t *testing.T) {
	x, _ := blobs(linalg.Rand(53, "blobs"), 12, 60, 5, 0.5)
	for _, method := range []string{"gmm", "pca_gmm"} {
		m, _ := ByName(method)
		fit := func(options map[string]any) *Model {
			t.Helper()
			in := inputFor(t, m, x, 12, 2)
			options["n_init"], options["tol"] = int64(8), 1e-5
			in.Options = options
			model, err := m.Fit(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			return model
		}
		raced, full := fit(map[string]any{}), fit(map[string]any{"race": false})
		if raced.Info["starts_outrun"] < 3 || full.Info["starts_outrun"] != 0 {
			t.Errorf("%s: %v of 8 starts outrun, without the race %v", method, raced.Info["starts_outrun"], full.Info["starts_outrun"])
		}
		if !slices.Equal(raced.Labels, full.Labels) || raced.Info["iterations"] != full.Info["iterations"] || raced.Info["converged"] != 1 {
			t.Errorf("%s: the race ends with %v, all starts with %v", method, raced.Info, full.Info)
		}
	}
}
