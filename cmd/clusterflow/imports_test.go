package main

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// imports is the layout of the project: which of our own packages each package
// may import. Packages that are not listed may import none.
var imports = map[string][]string{
	"graph":                {"cache"},
	"internal/report":      {"internal/judge"},
	"internal/batchd":      {"internal/judge"},
	"internal/batch":       {"internal/price"},
	"internal/llm":         {"internal/hub", "internal/linalg"},
	"internal/cluster":     {"internal/linalg"},
	"internal/llm/llmtest": {"internal/linalg"},
	"internal/llm/worker":  {"internal/linalg", "internal/llm"},
	"internal/llm/cuda":    {"internal/linalg", "internal/llm", "internal/llm/kernels"},
	"tasks": {
		"cache", "graph", "studies", "internal/batch", "internal/batchd", "internal/cluster",
		"internal/hub", "internal/judge", "internal/linalg", "internal/llm", "internal/price", "internal/report",
	},
	"bench/tokenize":        {"internal/llm"},
	"bench/extract":         {"internal/linalg", "internal/llm"},
	"bench/cluster":         {"bench/internal/cells", "internal/cluster", "internal/linalg"},
	"bench/exactness":       {"internal/cluster", "internal/linalg", "internal/llm"},
	"bench/scale":           {"bench/internal/loglog", "cache", "graph", "studies", "tasks"},
	"bench/rows":            {"bench/internal/cells", "bench/internal/loglog", "internal/cluster", "internal/linalg"},
	"bench/batches":         {"cache", "internal/batch", "internal/batchd"},
	"bench/internal/cells":  {},
	"bench/internal/loglog": {},
	"cmd/clusterflow": {
		"cache", "graph", "studies", "tasks", "internal/batch", "internal/batchd", "internal/cluster",
		"internal/hub", "internal/judge", "internal/linalg", "internal/llm", "internal/llm/worker", "internal/price", "internal/report",
	},
}

// heavy lists the one package that may import each large dependency.
var heavy = map[string]string{
	"github.com/spf13/cobra":            "cmd/clusterflow",
	"github.com/vbauerster/mpb":         "cmd/clusterflow",
	"github.com/hashicorp/hcl":          "studies",
	"github.com/zclconf/go-cty":         "studies",
	"github.com/dgraph-io/badger":       "cache",
	"github.com/ebitengine/purego":      "internal/linalg",
	"github.com/sashabaranov/go-openai": "internal/batch",
	"github.com/tiktoken-go/tokenizer":  "internal/price",
	"gonum.org/v1/plot":                 "internal/report",
	"gorgonia.org/cu":                   "internal/llm/cuda",
	"github.com/rogpeppe/go-internal":   "", // tests only
}

func TestImportsGoDownwardsOnly(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "clusterflow/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for dec.More() {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		seen++
		name := strings.TrimPrefix(p.ImportPath, "clusterflow/")
		for _, dep := range p.Imports {
			if own, ok := strings.CutPrefix(dep, "clusterflow/"); ok {
				inside := strings.HasPrefix(own, name+"/") // a package's own parts
				if !inside && !slices.Contains(imports[name], own) {
					t.Errorf("%s imports %s", name, own)
				}
			}
			for prefix, importer := range heavy {
				if (dep == prefix || strings.HasPrefix(dep, prefix+"/")) && name != importer {
					t.Errorf("%s imports %s, which only %s may", name, dep, importer)
				}
			}
		}
	}
	if seen < len(imports) {
		t.Errorf("saw %d packages; the table lists %d", seen, len(imports))
	}
}
