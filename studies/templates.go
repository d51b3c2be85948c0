package studies

import "embed"

// shipped holds the studies of this folder and the demo's corpus.
//
//go:embed *.hcl demo/*.json demo/*.jsonl
var shipped embed.FS

// Shipped is a study that `clusterflow init` can write.
type Shipped struct {
	Name string // "demo"
	File string // "demo.hcl"
	Doc  string // one line

	with []string // other files, beside File
}

// Templates lists the shipped studies, the one to begin with first.
func Templates() []Shipped {
	return []Shipped{
		{
			Name: "demo", File: "demo.hcl",
			Doc:  "the whole job offline in a minute, on a small corpus of reasoning traces",
			with: []string{"demo/traces.json", "demo/kinds.jsonl"},
		},
		{Name: "r1-llama-8b", File: "r1-llama-8b.hcl", Doc: "a real study: DeepSeek-R1-Distill-Llama-8B, judged by GPT-4o"},
		{Name: "r1-1.5b", File: "r1-1.5b.hcl", Doc: "the reference study, whole: seven methods, ten sizes, six layers of DeepSeek-R1-Distill-Qwen-1.5B"},
		{Name: "models", File: "models.hcl", Doc: "several models side by side, with variables, locals and for"},
	}
}

// Template gives the files of a shipped study by slash-separated path relative
// to its folder, nil for a name that Templates does not list.
func Template(name string) map[string][]byte {
	for _, t := range Templates() {
		if t.Name != name {
			continue
		}
		files := map[string][]byte{}
		for _, path := range append([]string{t.File}, t.with...) {
			b, err := shipped.ReadFile(path)
			if err != nil {
				panic(err) // embedded at build time; a test reads them all
			}
			files[path] = b
		}
		return files
	}
	return nil
}
