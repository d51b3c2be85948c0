package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"clusterflow/internal/cluster"
)

// TestModelsInPython runs the code of docs/models-in-python.md on models of every
// method and compares its labels of rows near to those that the models were
// fitted to with those of predict.
func TestModelsInPython(t *testing.T) {
	python := pythonWith(t, "numpy")
	b := newBench(t)
	var methods []string
	for _, m := range cluster.Methods {
		if m.Predict != nil {
			methods = append(methods, m.Name)
		}
	}
	b.edit(`methods  = ["spherical_kmeans"]`, `methods  = ["`+strings.Join(methods, `", "`)+`"]`)
	b.edit(`clusters = [2, 3]`, `clusters = [4]`)
	b.must(0, ``, "apply", "--quiet", "--only", "train", "study.hcl")
	b.must(0, ``, "show", "study.hcl", "tiny/1/rows", "--export", "rows")
	for _, m := range methods {
		b.must(0, ``, "show", "study.hcl", "tiny/1/"+m+"/4/train", "--export", m)
	}

	page, err := os.ReadFile("../../docs/models-in-python.md")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, block := range regexp.MustCompile("(?s)```python\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if !strings.HasPrefix(block[1], "# with PyTorch") {
			code.WriteString(block[1])
		}
	}
	b.write("page.py", code.String())
	b.write("compare.py", `
from page import *
import sys
assert abs(loss - json.load(open("sae_topk/info.json"))["info"]["loss_all_rows"]) < 1e-5, loss
raw = rows["activations"]
centred = np.linalg.norm(raw - sae["activation_mean"], axis=1)
assert abs(sae["activation_norm"][0] / centred.mean() - 1) < 1e-5
assert abs(np.linalg.norm(vector) / centred.mean() - 1) < 1e-4
rng = np.random.default_rng(1)
new = np.concatenate([raw] * 5) + 0.3 * centred.mean() / raw.shape[1]**0.5 * rng.standard_normal((5 * len(raw), raw.shape[1]))
np.save("new.npy", new.astype(np.float32))
new = np.load("new.npy")
for method in sys.argv[1:]:
    model, meta = load(method + "/model.safetensors")
    with open(method + "/new.txt", "w") as f:
        f.writelines(f"{label}\n" for label in predict(new, model, meta))
    own, _ = load(method + "/predicted.safetensors")
    assert (predict(raw, model, meta) == own["labels"]).all(), method
assert abs(decode(raw, sae, meta) - raw).mean() < abs(raw - sae["activation_mean"]).mean()
`)
	runIn(t, b, python, append([]string{"compare.py"}, methods...)...)
	for _, m := range methods {
		p := b.must(0, ``, "predict", "study.hcl", "tiny/1/"+m+"/4/train", "--activations", "new.npy")
		if want := b.read(m + "/new.txt"); p.out != want {
			t.Errorf("%s: predict and the page differ in %d of 190 labels", m, differing(p.out, want))
		}
	}
}

func differing(a, b string) int {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	n := max(len(x), len(y)) - min(len(x), len(y))
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			n++
		}
	}
	return n
}

// pythonWith is a Python that has the modules; without one the test is skipped.
func pythonWith(t *testing.T, modules ...string) string {
	t.Helper()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import "+strings.Join(modules, ", ")).Run() == nil {
			return python
		}
	}
	t.Skip("needs a python3 with " + strings.Join(modules, ", "))
	return ""
}

func runIn(t *testing.T, b *bench, program string, args ...string) string {
	t.Helper()
	c := exec.Command(program, args...)
	c.Dir = b.dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestConvertModels takes models to the reference's formats by
// docs/convert_models.py. scikit-learn and PyTorch must label rows with them as
// predict does, and they must come back as they were.
func TestConvertModels(t *testing.T) {
	python := pythonWith(t, "numpy", "sklearn")
	docs, err := filepath.Abs("../../docs")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	runIn(t, b, python, "-c", `import numpy as np
r = np.random.default_rng(2)
at = r.integers(0, 3, 60)
x = 2 + 3 * r.standard_normal((3, 8))[at] + r.standard_normal((60, 8))
np.save("rows.npy", x.astype("f4"))
np.save("new.npy", (x + r.standard_normal((60, 8))).astype("f4"))
open("sentences.jsonl", "w").writelines('{"text": "Sentence %d."}\n' % i for i in range(60))`)
	b.write("mine.hcl", strings.Replace(strings.Replace(strings.Replace(activationsStudy, "%s", "rows.npy", 1),
		`"spherical_kmeans", "pca_kmeans"`, `"spherical_kmeans", "pca_kmeans", "gmm", "pca_gmm", "agglomerative", "pca_agglomerative", "sae_topk"`, 1), "[2]", "[3]", 1))
	b.must(0, ``, "apply", "--quiet", "--only", "train", "mine.hcl")
	methods := []string{"spherical_kmeans", "pca_kmeans", "gmm", "pca_gmm", "agglomerative", "pca_agglomerative"}
	if exec.Command(python, "-c", "import torch").Run() == nil {
		methods = append(methods, "sae_topk")
	}
	for _, m := range methods {
		b.must(0, ``, "show", "mine.hcl", "mine/4/"+m+"/3/train", "--export", m)
	}
	b.write("convert.py", `
import sys
import numpy as np
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import convert_models as c

def labels(method, data):
    x = np.load("new.npy") - c.array(data["activation_mean"])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if method == "sae_topk":
        return np.argmax((x - c.array(data["b_dec"])) @ c.array(data["encoder_weight"]).T + c.array(data["encoder_bias"]), 1)
    centers = data["cluster_centers"]
    if "pca" in data:
        x, centers = data["pca"].transform(x), data["pca"].transform(centers)
    if "agglomerative" in method:
        return np.argmax(x @ c.unit(centers).T, 1)
    return data[{"pca_kmeans": "kmeans", "pca_gmm": "gmm"}.get(method, "model")].predict(x)

for method in sys.argv[2:]:
    file = method + (".pt" if method == "sae_topk" else ".pkl")
    c.main([method + "/model.safetensors", file])
    with open(method + "/theirs.txt", "w") as f:
        f.writelines("%d\n" % label for label in labels(method, c.open_reference(file)))
    c.main([file, method + ".safetensors"])
    c.main([method + ".safetensors", "again-" + file])
    c.main(["again-" + file, "again.safetensors"])
    assert open("again.safetensors", "rb").read() == open(method + ".safetensors", "rb").read(), method
`)
	runIn(t, b, python, append([]string{"convert.py", docs}, methods...)...)
	for _, m := range methods {
		want := b.must(0, ``, "predict", "mine.hcl", "mine/4/"+m+"/3/train", "--activations", "new.npy").out
		if got := b.read(m + "/theirs.txt"); got != want {
			t.Errorf("%s: %d of 60 labels differ in the reference's format", m, differing(got, want))
		}
		if got := b.must(0, ``, "predict", "--model", m+".safetensors", "--activations", "new.npy").out; got != want {
			t.Errorf("%s: %d of 60 labels differ after the way back", m, differing(got, want))
		}
	}
}
