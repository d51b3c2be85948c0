// Command tokenize measures the tokenizer beside Hugging Face's own, one thread
// each, in one run, and compares their ids: @huggingface/tokenizers, which is
// JavaScript, and, where it is there, tokenizers, the npm binding of the Rust
// library that transformers uses. Give it the folder that they are installed in:
//
//	npm install --prefix /tmp/peers @huggingface/tokenizers@0.2.0 tokenizers@0.23.2
//	go run ./bench/tokenize -tokenizer DIR -responses FILE -node-modules /tmp/peers/node_modules
//
// With -random N it also compares ids of N made texts of combining marks, emoji,
// white space and control characters of every kind, scripts of both directions,
// numerals, line ends and pieces of added tokens.
package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"clusterflow/internal/llm"
)

//go:embed peer.mjs
var peerProgram []byte

func main() {
	var b bench
	flag.StringVar(&b.dir, "tokenizer", "", "`folder` with tokenizer.json and tokenizer_config.json")
	flag.StringVar(&b.responses, "responses", "", "JSON `file`, a list of objects with full_response")
	flag.StringVar(&b.modules, "node-modules", "node_modules", "the `folder` that npm installed the peers in")
	flag.IntVar(&b.passes, "passes", 5, "times that all texts are tokenized; the first and the fastest are shown")
	flag.IntVar(&b.random, "random", 0, "compare the ids of this `number` of random texts as well")
	flag.Uint64Var(&b.seed, "seed", 1, "of the random texts")
	flag.Parse()
	if err := b.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "tokenize:", err)
		os.Exit(1)
	}
}

type bench struct {
	dir, responses, modules string
	passes, random          int
	seed                    uint64
}

// times are the seconds that loading and each pass over all texts took.
type times struct {
	Load   float64   `json:"load"`
	Passes []float64 `json:"passes"`
}

func (b *bench) run(ctx context.Context) error {
	if b.dir == "" || b.responses == "" || b.passes < 1 {
		return fmt.Errorf("-tokenizer and -responses are needed, and at least one pass; see -help")
	}
	runtime.GOMAXPROCS(1)
	texts, err := readTexts(b.responses)
	if err != nil {
		return err
	}
	ours, ids, err := b.own(texts)
	if err != nil {
		return err
	}
	tokens, bytes := 0, 0
	for i := range texts {
		tokens, bytes = tokens+len(ids[i]), bytes+len(texts[i])
	}
	fmt.Printf("%s: %d texts, %d bytes, %d tokens; one thread each\n\n", b.dir, len(texts), bytes, tokens)
	fmt.Println("| | loading | first pass | fastest pass | M tokens/s | against clusterflow, first / fastest |")
	fmt.Println("|---|---|---|---|---|---|")
	row := func(name string, t times) {
		fastest := slices.Min(t.Passes)
		fmt.Printf("| %s | %.2f s | %.3f s | %.3f s | %.2f | %.1f / %.1f times the time |\n", name, t.Load, t.Passes[0], fastest,
			float64(tokens)/fastest/1e6, t.Passes[0]/ours.Passes[0], fastest/slices.Min(ours.Passes))
	}
	row("clusterflow", ours)
	type comparison struct {
		name string
		ids  [][]int32
	}
	var peers []comparison
	for _, name := range []string{"@huggingface/tokenizers", "tokenizers"} {
		if _, err := os.Stat(filepath.Join(b.modules, name)); err != nil {
			fmt.Printf("| %s | not installed in %s | | | | |\n", name, b.modules)
			continue
		}
		t, got, err := b.peer(ctx, name, texts, b.passes)
		if err != nil {
			return err
		}
		row(name, t)
		peers = append(peers, comparison{name, got})
	}
	fmt.Println()
	for _, p := range peers {
		fmt.Printf("ids of %s: %d of %d texts differ\n", p.name, differing(ids, p.ids), len(texts))
	}
	if b.random == 0 {
		return nil
	}
	made := randomTexts(rand.New(rand.NewPCG(b.seed, 0)), b.random)
	if _, ids, err = b.own(made); err != nil {
		return err
	}
	for _, p := range peers {
		_, got, err := b.peer(ctx, p.name, made, 1)
		if err != nil {
			return err
		}
		fmt.Printf("ids of %s, random texts of seed %d: %d of %d differ\n", p.name, b.seed, differing(ids, got), len(made))
	}
	return nil
}

// own tokenizes with the package under test.
func (b *bench) own(texts []string) (times, [][]int32, error) {
	begin := time.Now()
	tok, err := llm.OpenTokenizer(os.DirFS(b.dir))
	if err != nil {
		return times{}, nil, err
	}
	t := times{Load: time.Since(begin).Seconds()}
	ids := make([][]int32, len(texts))
	for range b.passes {
		begin := time.Now()
		for i, text := range texts {
			e, err := tok.Encode(text, "false")
			if err != nil {
				return times{}, nil, err
			}
			ids[i] = e.IDs
		}
		t.Passes = append(t.Passes, time.Since(begin).Seconds())
	}
	return t, ids, nil
}

// peer tokenizes with an npm package.
func (b *bench) peer(ctx context.Context, name string, texts []string, passes int) (times, [][]int32, error) {
	var t times
	dir, err := os.MkdirTemp("", "tokenize-")
	if err != nil {
		return t, nil, err
	}
	defer os.RemoveAll(dir)
	program, input, output := filepath.Join(dir, "peer.mjs"), filepath.Join(dir, "texts.json"), filepath.Join(dir, "ids.jsonl")
	raw, err := json.Marshal(texts)
	if err != nil {
		return t, nil, err
	}
	if err := os.WriteFile(input, raw, 0o644); err != nil {
		return t, nil, err
	}
	if err := os.WriteFile(program, peerProgram, 0o644); err != nil {
		return t, nil, err
	}
	modules, err := filepath.Abs(b.modules)
	if err != nil {
		return t, nil, err
	}
	tokenizer, err := filepath.Abs(b.dir)
	if err != nil {
		return t, nil, err
	}
	c := exec.CommandContext(ctx, "node", program, name, modules, tokenizer, input, output, strconv.Itoa(passes))
	c.Env = append(os.Environ(), "RAYON_NUM_THREADS=1", "TOKENIZERS_PARALLELISM=false")
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return t, nil, fmt.Errorf("running %s in node: %w", name, err)
	}
	if err := json.Unmarshal(out, &t); err != nil || len(t.Passes) == 0 {
		return t, nil, fmt.Errorf("what %s printed is not its times: %q", name, out)
	}
	ids, err := readIDs(output)
	if err == nil && len(ids) != len(texts) {
		err = fmt.Errorf("%s tokenized %d texts of %d", name, len(ids), len(texts))
	}
	return t, ids, err
}

func readTexts(path string) ([]string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []struct {
		Text string `json:"full_response"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	texts := make([]string, len(list))
	for i := range list {
		texts[i] = list[i].Text
	}
	return texts, nil
}

func readIDs(path string) ([][]int32, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out [][]int32
	for d := json.NewDecoder(bufio.NewReader(f)); d.More(); {
		var ids []int32
		if err := d.Decode(&ids); err != nil {
			return nil, err
		}
		out = append(out, ids)
	}
	return out, nil
}

func differing(a, b [][]int32) int {
	n := 0
	for i := range a {
		if !slices.Equal(a[i], b[i]) {
			n++
		}
	}
	return n
}
