package llm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// pythonRuns makes checkpoints and their reference states in one process: it
// reads a list of {make, states, ids} and runs make_checkpoint.py and
// hidden_states.py of the folder given as its argument.
const pythonRuns = `
import importlib.util, json, sys, numpy
def module(name):
    spec = importlib.util.spec_from_file_location(name, sys.argv[1] + "/" + name + ".py")
    m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m)
    return m
make, states = module("make_checkpoint"), module("hidden_states")
for run in json.load(sys.stdin):
    sys.argv[1:] = run["make"]
    make.main()
    for ids, out in zip(run["ids"], run["out"]):
        numpy.save(out, states.forward(run["make"][0], ids))
`

// TestForwardAgainstPython compares every architecture and weight type with
// the float64 forward pass in numpy that lies beside the repository.
// LLM_REFERENCE_TOKENS sets the length of the longest sequence.
func TestForwardAgainstPython(t *testing.T) {
	script := sharedFile(t, "reference/hidden_states.py")
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import numpy").Run(); err != nil {
		t.Skipf("needs %s with numpy: %v", python, err)
	}
	longest := 400
	if s := os.Getenv("LLM_REFERENCE_TOKENS"); s != "" {
		if _, err := fmt.Sscan(s, &longest); err != nil {
			t.Fatal(err)
		}
	}
	type run struct {
		name string
		Make []string  `json:"make"`
		IDs  [][]int32 `json:"ids"`
		Out  []string  `json:"out"`
	}
	var runs []run
	dir := t.TempDir()
	for _, arch := range [][]string{
		{"qwen2", "--shards", "2", "--rope-theta", "1000000"},
		{"llama", "--rope-scaling", "llama3", "--rope-theta", "500000"},
		{"qwen3", "--head-dim", "20"},
	} {
		for _, dtype := range []string{"f32", "bf16", "f16"} {
			r := run{name: arch[0] + " " + dtype}
			at := filepath.Join(dir, fmt.Sprint(len(runs)))
			r.Make = append([]string{at, "--arch"}, arch...)
			r.Make = append(r.Make, "--dtype", dtype, "--hidden", "84", "--heads", "6", "--kv-heads", "3", "--inter", "203", "--layers", "3", "--vocab", "301", "--seed", "5")
			for _, n := range []int{1, 37, longest} {
				r.IDs = append(r.IDs, randomIDs(n, 301))
				r.Out = append(r.Out, fmt.Sprintf("%s-%d.npy", at, n))
			}
			runs = append(runs, r)
		}
	}
	input, err := json.Marshal(runs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", pythonRuns, filepath.Dir(script))
	cmd.Stdin = bytes.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the reference program: %v\n%s", err, out)
	}
	for _, r := range runs {
		c := openTest(t, r.Make[0])
		got := states(t, c, r.IDs, []int{0, 1, 2}, 2)
		worst := 0.0
		for i, path := range r.Out {
			for layer, want := range readStates(t, path, 3, len(r.IDs[i]), c.Hidden()) {
				e := relativeError(got[layer][i], want)
				if worst = max(worst, e); !(e < 1e-5) {
					t.Errorf("%s, %d tokens, layer %d: relative error %g", r.name, len(r.IDs[i]), layer, e)
				}
			}
		}
		t.Logf("%-10s worst relative error %.1e", r.name, worst)
	}
}

// readStates reads an array of float64 of the given shape from a .npy file.
func readStates(t *testing.T, path string, layers, tokens, hidden int) [][][]float64 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	body := data[10+int(binary.LittleEndian.Uint16(data[8:])):]
	if !bytes.Contains(data[:200], []byte("'<f8'")) || len(body) != 8*layers*tokens*hidden {
		t.Fatalf("%s is not float64 of shape [%d, %d, %d]", path, layers, tokens, hidden)
	}
	out := make([][][]float64, layers)
	for l := range out {
		out[l] = make([][]float64, tokens)
		for i := range out[l] {
			out[l][i] = make([]float64, hidden)
			for j := range out[l][i] {
				out[l][i][j] = math.Float64frombits(binary.LittleEndian.Uint64(body))
				body = body[8:]
			}
		}
	}
	return out
}
