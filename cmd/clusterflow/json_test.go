package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestJSON reads what plan, apply and status print for programs.
func TestJSON(t *testing.T) {
	b := newBench(t)
	type node struct {
		Address  string         `json:"address"`
		Kind     string         `json:"kind"`
		State    string         `json:"state"`
		Reasons  []any          `json:"reasons"`
		Inputs   []string       `json:"inputs"`
		Requests map[string]int `json:"requests"`
		Key      string         `json:"key"`
	}
	type plan struct {
		Study  string         `json:"study"`
		Seed   int            `json:"seed"`
		Counts map[string]int `json:"counts"`
		Nodes  []node         `json:"nodes"`
	}
	read := func(args ...string) plan {
		t.Helper()
		r := b.run(append([]string{"plan", "--json", "study.hcl"}, args...)...)
		var p plan
		if err := json.Unmarshal([]byte(r.out), &p); err != nil || r.code != 0 || r.err != "" {
			t.Fatalf("plan --json: %v; %v", err, r)
		}
		return p
	}

	before := read()
	if before.Study != "small" || before.Seed != 7 || before.Counts["new"] != 16 || len(before.Nodes) != 16 {
		t.Errorf("plan of a new study: %+v", before)
	}
	seen := map[string]bool{}
	for _, n := range before.Nodes {
		if n.State != "new" || len(n.Reasons) == 0 || n.Kind == "" {
			t.Errorf("node of a new study: %+v", n)
		}
		for _, in := range n.Inputs {
			if !seen[in] {
				t.Errorf("%s stands before %s, which it reads", n.Address, in)
			}
		}
		if n.Kind == "await-titles" && n.Requests["title"] == 0 {
			t.Errorf("%s has no count of requests", n.Address)
		}
		seen[n.Address] = true
	}

	// apply: one event a line; every node starts and ends once, after what it
	// reads; the last line sums up.
	r := b.must(0, ``, "apply", "--json", "study.hcl")
	if r.err != "" {
		t.Errorf("apply --json writes to standard error: %s", r.err)
	}
	done := map[string]bool{}
	keys := map[string]string{}
	inputs := map[string][]string{}
	for _, n := range before.Nodes {
		inputs[n.Address] = n.Inputs
	}
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	for _, line := range lines[:len(lines)-1] {
		var e struct {
			Time, Event, Address, Kind, Key, Error string
			Outputs                                map[string]string
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in event %s", err, line)
		}
		if e.Time == "" || inputs[e.Address] == nil && e.Kind != "sentences" {
			t.Errorf("event of no node: %s", line)
		}
		switch e.Event {
		case "start":
			for _, in := range inputs[e.Address] {
				if !done[in] {
					t.Errorf("%s starts before %s is done", e.Address, in)
				}
			}
		case "done":
			if done[e.Address] || e.Key == "" || len(e.Outputs) == 0 {
				t.Errorf("odd end: %s", line)
			}
			done[e.Address] = true
			keys[e.Address] = e.Key
		case "progress", "waiting":
		default:
			t.Errorf("event %q in a run without trouble: %s", e.Event, line)
		}
	}
	if len(done) != 16 {
		t.Errorf("%d nodes are done, want 16", len(done))
	}
	var sum struct {
		Event       string
		Ran, Cached int
		Failed      int
		Report      string
		Runs        map[string]int
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sum); err != nil {
		t.Fatal(err)
	}
	if sum.Event != "summary" || sum.Ran != 16 || sum.Cached != 0 || sum.Failed != 0 || sum.Runs["train"] != 2 || sum.Report != "results/small/index.html" {
		t.Errorf("summary: %s", lines[len(lines)-1])
	}

	// The plan then knows the very keys that the run has recorded.
	after := read()
	if after.Counts["cached"] != 16 || len(after.Counts) != 1 {
		t.Errorf("counts after apply: %v", after.Counts)
	}
	for _, n := range after.Nodes {
		if n.State != "cached" || n.Key != keys[n.Address] || len(n.Reasons) != 0 {
			t.Errorf("%+v, recorded under %s", n, keys[n.Address])
		}
	}
	if some := read("--only", "train"); len(some.Nodes) != 5 {
		t.Errorf("--only train selects %d nodes, want 5", len(some.Nodes))
	}

	var status struct {
		Study string
		State string
		Nodes map[string]struct{ State, Kind, Key string }
	}
	r = b.must(0, ``, "status", "--json", "study.hcl")
	if err := json.Unmarshal([]byte(r.out), &status); err != nil {
		t.Fatal(err)
	}
	if status.Study != "small" || status.State != "done" || !slices.Equal(slices.Sorted(maps.Keys(status.Nodes)), slices.Sorted(maps.Keys(keys))) {
		t.Errorf("status: %s", r.out)
	}
	for addr, n := range status.Nodes {
		if n.State != "done" || n.Key != keys[addr] {
			t.Errorf("status of %s: %+v", addr, n)
		}
	}

	// A failure is an event, a part of the summary, and exit code 1.
	b.evaluators("https://evaluator.invalid/v1")
	b.write("study.hcl", strings.ReplaceAll(b.read("study.hcl"), "some-model", "gpt-4o")) // has a price
	r = b.must(1, `"event":"failed".*set the environment variable OPENAI_API_KEY`, "apply", "--json", "--yes", "--trust", "evaluator.invalid", "study.hcl")
	lines = strings.Split(strings.TrimSpace(r.out), "\n")
	var failed struct {
		Failed, Blocked int
		Failures        []struct {
			Error     string
			Addresses []string
		}
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &failed); err != nil {
		t.Fatal(err)
	}
	if failed.Failed != 2 || failed.Blocked != 7 || len(failed.Failures) == 0 || !strings.Contains(failed.Failures[0].Error, "OPENAI_API_KEY") {
		t.Errorf("summary of a failed run: %s", lines[len(lines)-1])
	}
}
