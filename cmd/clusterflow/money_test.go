package main

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
)

// planCost is the money of a plan.
func (b *bench) planCost(args ...string) costJSON {
	b.t.Helper()
	var p planJSON
	r := b.must(0, "", append([]string{"plan", "--json", "study.hcl"}, args...)...)
	if err := json.Unmarshal([]byte(r.out), &p); err != nil {
		b.t.Fatal(err)
	}
	if p.Cost == nil {
		return costJSON{}
	}
	return *p.Cost
}

// TestMoney takes a study with prices from its plan to its bill, against a Batch
// API server in another process.
func TestMoney(t *testing.T) {
	b := newBench(t)
	_, base := b.startBatchd("--listen", "127.0.0.1:0", "--dir", "served")
	b.evaluators(base)
	b.must(0, `^JUDGE +title +`+base+` +10 requests at most$`, "plan", "study.hcl") // a server here costs nothing
	const priced = "\n  price {\n    input = 1000\n    output = 4000\n  }\n"
	b.edit("evaluator \"titler\" {\n", "evaluator \"titler\" {"+priced)
	b.edit("evaluator \"judge\" {\n", "evaluator \"judge\" {"+priced)

	guess := b.planCost()
	if len(guess.Asks) != 4 || guess.ExpectedUSD <= 0 || guess.MostUSD <= guess.ExpectedUSD {
		t.Fatalf("%+v", guess)
	}
	b.must(0, `title .* 10 requests at most +\S+k \+ \S+ +tokens +\$\d`, "plan", "study.hcl")
	b.must(0, `expected cost \$[\d.]+, at most \$[\d.]+$`, "plan", "study.hcl")

	// A budget below the cost stops apply before anything is sent.
	b.edit("seed = 7", "seed = 7\n  budget_usd = 1")
	b.must(0, `✗ budget_usd = 1 \(study.hcl:4\) leaves \$1.00, less than the expected cost: apply will send nothing`, "plan", "study.hcl")
	b.must(1, `budget_usd = 1 .* so nothing is sent`, "apply", "--yes", "study.hcl")
	if l := readLedger(t, base); l.batches != 0 {
		t.Fatalf("%d batches against the budget", l.batches)
	}
	b.edit("  budget_usd = 1\n", "  budget_usd = 10000\n")
	b.must(1, `--max-cost 1 leaves \$1.00, and this is expected to cost`, "apply", "--yes", "--max-cost", "1", "study.hcl")
	b.must(1, `--max-cost -3: give a sum`, "apply", "--max-cost", "-3", "study.hcl")

	// Once the requests are written the counts are exact, and the estimates were
	// near.
	b.must(0, `^7 run`, "apply", "--quiet", "--only", "submit-titles", "study.hcl")
	exact := b.planCost()
	if a, e := guess.Asks[0], exact.Asks[0]; !e.Exact || a.Exact || e.Task != "title" || e.Requests != 10 ||
		math.Abs(float64(a.PromptTokens)/float64(e.PromptTokens)-1) > 0.1 {
		t.Errorf("titles were estimated as %+v, and are %+v", a, e)
	}

	b.must(0, `^── tiny/1/spherical_kmeans/2/auto/submit-titles · title · cluster 0 · repetition 0 · \w+ · [\d.k]+ \+ about \d+ tokens · about \$[\d.]+, at most \$[\d.]+$`, "prompts", "study.hcl", "tiny/1/spherical_kmeans/2", "--most", "1")
	b.must(0, `^4 requests: \S+k \+ about \d+ tokens · about \$\d`, "prompts", "study.hcl", "tiny/1/spherical_kmeans/2", "--most", "1")

	r := b.must(0, `^Money: \$[\d.]+ spent so far$`, "apply", "--quiet", "--yes", "study.hcl")
	if !matches(`^judge \(some-model\): 18 of 18 requests answered · \S+k \+ \S+ tokens, prompts counted as \S+k · \$\d`, r.out) {
		t.Errorf("%v", r)
	}
	readLedger(t, base).once(t)
	bill := b.planCost()
	if len(bill.Asks) != 0 || len(bill.Bills) != 2 {
		t.Fatalf("afterwards: %+v", bill)
	}
	spent := 0.0
	for _, x := range bill.Bills {
		spent += x.SpentUSD
		if want := (float64(x.Prompt)*1000 + float64(x.Completion)*4000) / 1e6 / 2; math.Abs(x.SpentUSD-want) > 1e-9 || x.FlightUSD != 0 {
			t.Errorf("%+v: want %g", x, want)
		}
	}
	b.must(0, `^Money: \$[\d.]+ spent so far$`, "status", "study.hcl")
	b.must(0, `^0 run · 16 cached`, "apply", "--quiet", "study.hcl")
	if again := b.planCost(); len(again.Bills) != 2 || again.Bills[0] != bill.Bills[0] {
		t.Errorf("after an apply that did nothing the bills are %+v", again.Bills)
	}

	// What was spent counts against the budget: a third repetition has to fit
	// into the rest.
	b.edit("  budget_usd = 10000\n", "  budget_usd = "+strings.TrimPrefix(jsonNumber(spent+0.001), "$")+"\n")
	b.edit("repetitions          = 2", "repetitions          = 3")
	b.must(1, `budget_usd = .* leaves \$0.001, and this is expected to cost`, "apply", "--yes", "study.hcl")
}

func jsonNumber(v float64) string {
	raw, _ := json.Marshal(v)
	return string(raw)
}

// TestSavings names the changes that save most, and what they save is what the
// changed study costs less.
func TestSavings(t *testing.T) {
	b := newBench(t)
	for _, role := range []string{"titler", "judge"} {
		b.edit("evaluator \""+role+"\" {\n  provider = \"lexical\"", "evaluator \""+role+"\" {\n  model = \"gpt-4o\"")
	}
	b.edit("clusters = [2, 3]", "clusters = [2, 3, 4, 5]")
	b.edit("repetitions          = 2", "repetitions          = 5")
	b.edit("examples = 6", "examples = 100")
	b.edit("examples = 20", "examples = \"all\"")
	b.edit("seed = 7", "seed = 7\n  budget_usd = 0.01")
	whole := b.planCost()
	saved := map[string]float64{}
	for _, line := range whole.Warnings {
		if change, usd, ok := strings.Cut(line, " saves about $"); ok {
			v, err := strconv.ParseFloat(usd, 64)
			if err != nil {
				t.Fatal(err)
			}
			saved[strings.TrimSpace(change)] = v
		}
	}
	if len(saved) != 3 {
		t.Fatalf("three savings should be named: %q", whole.Warnings)
	}
	if !matches(`completeness asks about every sentence \(study.hcl:\d+\): \d+ requests, \$\d`, strings.Join(whole.Warnings, "\n")) {
		t.Errorf("no warning about all sentences: %q", whole.Warnings)
	}
	before := b.read("study.hcl")
	for change, usd := range saved {
		switch {
		case strings.HasPrefix(change, "clusters = "):
			b.edit("clusters = [2, 3, 4, 5]", change)
		case strings.HasPrefix(change, "titles"):
			b.edit("repetitions          = 5", "repetitions = 3")
		case strings.HasPrefix(change, `evaluator "judge"`):
			b.edit("evaluator \"judge\" {\n  model = \"gpt-4o\"", "evaluator \"judge\" {\n  model = \"gpt-4.1-mini\"")
		case strings.HasPrefix(change, `evaluator "titler"`):
			b.edit("evaluator \"titler\" {\n  model = \"gpt-4o\"", "evaluator \"titler\" {\n  model = \"gpt-4.1-mini\"")
		case strings.Contains(change, "accuracy"):
			b.edit("examples = 100", "examples = 50")
		default:
			t.Fatalf("unknown saving %q", change)
		}
		if now := b.planCost().ExpectedUSD; math.Abs(whole.ExpectedUSD-now-usd) > 0.2*usd+0.005 {
			t.Errorf("%s was said to save $%.2f; $%.2f became $%.2f", change, usd, whole.ExpectedUSD, now)
		}
		b.write("study.hcl", before)
	}
}

// TestUnknownPrice sends nothing where nobody can say what it costs.
func TestUnknownPrice(t *testing.T) {
	b := newBench(t)
	b.evaluators("https://evaluator.invalid/v1")
	b.must(0, `✗ nobody here knows the price of evaluator titler \(some-model\), judge \(some-model\)`, "plan", "study.hcl")
	b.must(1, `nobody here knows the price of evaluator`, "apply", "--yes", "study.hcl")
}
