package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"clusterflow/graph"
	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
	"clusterflow/tasks"
)

const bos = "<｜begin▁of▁sentence｜>"

// worked are responses with the sentences that reference.md §1 makes of them,
// found by hand. A sentence that stands in the text more than once is meant in
// the order of its places.
var worked = []struct {
	text      string
	sentences []string
	inside    int // sentences that lie in one token of the made checkpoints
	cutOff    bool
}{
	{text: "<｜User｜>What is it?<｜Assistant｜><think>\nFirst I read the question. Then I plan the steps.\n\nIs 3.14 enough here? Yes, I think so!\n</think>\nThe answer is four, I believe.",
		sentences: []string{"First I read the question.", "Then I plan the steps.", "Is 3.14 enough here?", "Yes, I think so!"}},
	{text: "<think>Wait, let me check. The sum is ten... Too short. Wait, let me check. Done with it now.</think>",
		sentences: []string{"Wait, let me check.", "The sum is ten...", "Wait, let me check.", "Done with it now."}},
	{text: "<think>Größe π ist 2 cm³ lang. 数学 は 楽しい です; the cafe\u0301 is 😀 closed.\n</think>",
		sentences: []string{"Größe π ist 2 cm³ lang.", "数学 は 楽しい です;", "the cafe\u0301 is 😀 closed."}},
	{text: "<think>Let me try this first. But then I was cut", cutOff: true,
		sentences: []string{"Let me try this first.", "But then I was cut"}},
	{text: "Start at zero here. Next one follows soon.</think> It is the answer.",
		sentences: []string{"Start at zero here.", "Next one follows soon."}},
	{text: "<think></think> There is no thinking here."},
	{text: bos + "<think>This begins with a mark. So it gets none.</think>",
		sentences: []string{"This begins with a mark.", "So it gets none."}},
	{text: "<think>Now read this line. " + oneToken + " That was a token.</think>", inside: 3,
		sentences: []string{"Now read this line.", "¶one two three.", "four five six.", "seven eight nine.", "¶ That was a token."}},
}

func workedResponses() []response {
	out := make([]response, len(worked))
	for i, w := range worked {
		out[i] = response{Full: w.text, QuestionID: i}
	}
	return out
}

// wanted is what reference.md makes of one sentence.
type wanted struct {
	response, index int
	text            string
	bytes           [2]int
	tokens          [2]int
	row             []float64
}

// settings are those of a study that rows depend on.
type settings struct {
	addBOS   string
	exact    bool
	max      int
	dropCut  bool
	minWords int
}

// bruteForce computes the rows of one layer as reference.md §1 and §2 put it,
// one response at a time, and the mean vector.
func bruteForce(t testing.TB, source string, layer int, s settings) (rows []wanted, mean []float64) {
	t.Helper()
	ckpt, err := llm.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	tok, err := ckpt.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	mean = make([]float64, ckpt.Hidden())
	responses := 0
	for r, w := range worked {
		if w.cutOff && s.dropCut {
			continue
		}
		enc, err := tok.Encode(w.text, s.addBOS)
		if err != nil {
			t.Fatal(err)
		}
		n := len(enc.IDs)
		if s.max > 0 {
			n = min(n, s.max)
		}
		var states [][]float64
		show := func(_, _ int, m linalg.Matrix) error {
			for i := range m.Rows {
				row := make([]float64, m.Cols)
				for c, v := range m.Row(i) {
					row[c] = float64(v)
				}
				states = append(states, row)
			}
			return nil
		}
		err = ckpt.Forward(t.Context(), llm.Pass{Sequences: []llm.Sequence{{IDs: enc.IDs[:n], Layers: []int{layer}}}, Visit: show})
		if err != nil {
			t.Fatal(err)
		}
		// The token that holds a character is the last one whose offsets do.
		holder := func(at int) int {
			for i := len(enc.IDs) - 1; i >= 0; i-- {
				if o := enc.Offsets[i]; o.Start <= at && at < o.End {
					return i
				}
			}
			return len(enc.IDs)
		}
		average := func(from, to int) []float64 {
			out := make([]float64, ckpt.Hidden())
			for _, row := range states[from:to] {
				for c, v := range row {
					out[c] += v / float64(to-from)
				}
			}
			return out
		}
		at, index, first, last := 0, 0, -1, -1
		if think := strings.LastIndex(w.text, "<think>"); think >= 0 {
			at = think
		}
		for _, text := range w.sentences {
			a := at + strings.Index(w.text[at:], text)
			b := a + len(text)
			at = b
			if len(strings.Fields(text)) < s.minWords {
				continue
			}
			start, end := holder(a), holder(b)
			if start >= end || end > n {
				continue
			}
			if first < 0 {
				first = start
			}
			last = end
			from := start
			if !s.exact && start > 0 {
				from = start - 1
			}
			rows = append(rows, wanted{r, index, text, [2]int{a, b}, [2]int{from, end}, average(from, end)})
			index++
		}
		if first < 0 {
			continue
		}
		responses++
		for c, v := range average(first, last) {
			mean[c] += v
		}
	}
	for c := range mean {
		mean[c] /= float64(responses)
	}
	return rows, mean
}

// near fails unless got is want up to float32 rounding.
func near(t testing.TB, what string, got []float32, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s has %d components, want %d", what, len(got), len(want))
	}
	for c := range want {
		if math.Abs(float64(got[c])-want[c]) > 2e-5*(1+math.Abs(want[c])) {
			t.Fatalf("%s: component %d is %v, want %v", what, c, got[c], want[c])
		}
	}
}

func TestRowsAgainstBruteForce(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "responses.json", workedResponses())
	qwen := makeCheckpoint(t, dir+"/qwen", "qwen2", 1)
	llama := makeCheckpoint(t, dir+"/llama", "llama", 2)
	for _, test := range []struct {
		name, source, model, dataset string
		s                            settings
		check                        func(info tasks.DataInfo) bool
	}{
		{"builtin", "builtin:tiny", "", "", settings{addBOS: "auto", minWords: 3},
			func(i tasks.DataInfo) bool {
				return i.HadBOS == 1 && i.AddedBOS == 7 && i.CutOff == 1 && i.NoSentences == 1 && i.InsideToken == 0
			}},
		{"qwen2", qwen, "", "", settings{addBOS: "auto", minWords: 3},
			func(i tasks.DataInfo) bool { return i.InsideToken == 3 && i.PastMax == 0 && i.CutTokens == 0 }},
		{"llama", llama, "", "", settings{addBOS: "auto", minWords: 3}, func(i tasks.DataInfo) bool { return i.InsideToken == 3 }},
		{"exact", qwen, `span = "exact"`, "", settings{addBOS: "auto", exact: true, minWords: 3}, nil},
		{"no BOS", llama, `add_bos = false`, "", settings{addBOS: "false", minWords: 3},
			func(i tasks.DataInfo) bool { return i.AddedBOS == 0 }},
		{"max_tokens", qwen, `max_tokens = 24`, "", settings{addBOS: "true", max: 24, minWords: 3},
			func(i tasks.DataInfo) bool { return i.CutTokens > 2 && i.PastMax > 2 }},
		{"no cut-off responses, longer sentences", "builtin:tiny", "", "truncated = \"drop\"\n min_words = 5", settings{addBOS: "auto", dropCut: true, minWords: 5},
			func(i tasks.DataInfo) bool { return i.CutOff == 0 && i.Responses == len(worked)-1 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "max_tokens" {
				test.model += "\n add_bos = true"
			}
			a := newBench(t).apply(dir, extraction(test.source, "[0, 2]", test.model, test.dataset), "rows")
			got := a.sentences("m/sentences")
			for _, layer := range []int{0, 2} {
				addr := fmt.Sprintf("m/%d/rows", layer)
				rows, mean := a.matrix(addr, "activations", "activations"), a.tensor(addr, "activations", "mean")
				wantRows, wantMean := bruteForce(t, test.source, layer, test.s)
				if len(got) != len(wantRows) || rows.Rows != len(wantRows) {
					t.Fatalf("%d sentences and %d rows, want %d", len(got), rows.Rows, len(wantRows))
				}
				for i, w := range wantRows {
					g := got[i]
					text := worked[w.response].text
					chars := [2]int{utf8.RuneCountInString(text[:w.bytes[0]]), utf8.RuneCountInString(text[:w.bytes[1]])}
					if g.ID != i || g.Response != w.response || g.Index != w.index || g.Text != w.text || g.QuestionID != strconv.Itoa(w.response) ||
						g.Bytes != w.bytes || g.Chars != chars || g.Tokens != w.tokens {
						t.Errorf("sentence %d is %+v\nwant %d/%d %q, bytes %v, chars %v, tokens %v", i, g, w.response, w.index, w.text, w.bytes, chars, w.tokens)
					}
					near(t, fmt.Sprintf("layer %d, %q", layer, w.text), rows.Row(i), w.row)
				}
				f, err := mean.Float32()
				if err != nil {
					t.Fatal(err)
				}
				near(t, fmt.Sprintf("mean of layer %d", layer), f, wantMean)
			}
			if info := a.info("m/sentences"); test.check != nil && !test.check(info) {
				t.Errorf("counts are %+v", info)
			}
		})
	}
}

// A sentence that ends beyond max_tokens is left out, wherever the cut falls.
func TestMaxTokens(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "responses.json", workedResponses())
	b := newBench(t)
	counts := map[int]bool{}
	for most := 16; most <= 36; most++ {
		a := b.apply(dir, extraction("builtin:tiny", "[0]", fmt.Sprint("max_tokens = ", most), ""), "rows")
		want, _ := bruteForce(t, "builtin:tiny", 0, settings{addBOS: "auto", max: most, minWords: 3})
		got := a.sentences("m/sentences")
		if !slices.EqualFunc(got, want, func(g tasks.Sentence, w wanted) bool { return g.Text == w.text && g.Tokens == w.tokens }) {
			t.Errorf("max_tokens = %d: %d sentences, want %d", most, len(got), len(want))
		}
		counts[len(got)] = true
	}
	if len(counts) < 5 {
		t.Errorf("the cuts leave %v sentences", sortedKeys(counts))
	}
}

// An extraction that was interrupted goes on after the last finished block, and
// one that may not hold its states in memory keeps them in files: both make the
// same rows, and leave no unfinished work.
func TestExtractionGoesOn(t *testing.T) {
	dir := t.TempDir()
	var many []response
	for i := range 250 {
		for j, r := range workedResponses() {
			r.QuestionID = 8*i + j
			many = append(many, r)
		}
	}
	write(t, dir, "responses.json", many)
	text := extraction(makeCheckpoint(t, dir+"/qwen", "qwen2", 1), "[0, 2]", "", "n_examples = \"all\"")
	whole := newBench(t).apply(dir, text, "rows")
	need := whole.graph.Node("m/2/extract/0").Need
	if need.Least >= need.Memory {
		t.Fatalf("it needs %+v", need)
	}

	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	shards := 4 // of 2,000 responses
	b.watch = func(e graph.Event) {
		if e.Record != nil && strings.HasPrefix(e.Node.Addr, "m/0/extract/") {
			if shards--; shards == 0 {
				cancel()
			}
		}
	}
	a, err := b.tryWith(ctx, dir, text, "rows")
	if !errors.Is(err, context.Canceled) || slices.Contains(a.ran, "m/2/extract/0") {
		t.Fatalf("interrupted after block 0: ran %v, %v", a.ran, err)
	}
	scratch := func(b *bench) []string {
		names, err := filepath.Glob(filepath.Join(b.store.Dir(), "scratch", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if len(scratch(b)) == 0 {
		t.Error("nothing was left to go on with")
	}
	b.watch = nil
	later := b.apply(dir, text, "rows")

	small := newBench(t)
	small.apply(dir, text, "sentences")
	small.memory = need.Least
	small.apply(dir, text, "extract")
	small.memory = 0
	inFiles := small.apply(dir, text, "rows")
	for what, other := range map[string]*applied{"interrupted": later, "in files": inFiles} {
		for _, addr := range []string{"m/0/rows", "m/2/rows"} {
			if got, want := other.digest(addr, "activations").Digest, whole.digest(addr, "activations").Digest; got != want {
				t.Errorf("%s: %s has other activations", what, addr)
			}
		}
		if left := scratch(other.bench); len(left) > 0 {
			t.Errorf("%s: left in scratch: %v", what, left)
		}
	}
	// A pass that went on tells nothing of this machine's speed.
	if fresh, rest := whole.note("m/2/extract/0", tasks.NotePassWork), later.note("m/2/extract/0", tasks.NotePassWork); fresh == "" || rest != "" {
		t.Errorf("operations of the whole pass %q, of the one that went on %q", fresh, rest)
	}
}

// A sentence that comes twice in a response has the states of its own place.
func TestRepeatedSentence(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "responses.json", workedResponses())
	a := newBench(t).apply(dir, extraction("builtin:tiny", "[1]", "", ""), "rows")
	rows := a.matrix("m/1/rows", "activations", "activations")
	var places []int
	for i, s := range a.sentences("m/sentences") {
		if s.Text == "Wait, let me check." {
			places = append(places, i)
		}
	}
	if len(places) != 2 {
		t.Fatalf("rows %v, want two", places)
	}
	if slices.Equal(rows.Row(places[0]), rows.Row(places[1])) {
		t.Error("both places have the same activation")
	}
}

// extraction is a study of one model "m" on responses.json.
func extraction(source, layers, model, dataset string) string {
	return fmt.Sprintf(`
study { name = "s" }
dataset "d" {
  file = "responses.json"
  %s
}
model "m" {
  source = %q
  layers = %s
  %s
}
grid {
  methods  = ["spherical_kmeans"]
  clusters = [2]
}`, dataset, source, layers, model)
}

func (a *applied) computed(addr, want string) {
	a.t.Helper()
	if !slices.Contains(a.ran, addr) {
		if want != "" {
			a.t.Errorf("%s was cached, want %s responses computed", addr, want)
		}
		return
	}
	if got := a.note(addr, "responses computed"); got != want {
		a.t.Errorf("%s computed %s responses, want %q", addr, got, want)
	}
}

// sameAsFresh holds the rows of some layers to those that a new cache gives.
func (a *applied) sameAsFresh(dir, text string, layers ...int) {
	a.t.Helper()
	fresh := newBench(a.t).apply(dir, text, "rows")
	for _, l := range layers {
		addr := fmt.Sprintf("m/%d/rows", l)
		if a.digest(addr, "activations").Digest != fresh.digest(addr, "activations").Digest {
			a.t.Errorf("%s differs from that of a new cache", addr)
		}
	}
	if a.digest("m/sentences", "sentences").Digest != fresh.digest("m/sentences", "sentences").Digest {
		a.t.Error("the sentences differ from those of a new cache")
	}
}

// What has been computed of a response is never computed again, and the rows
// are those of a new cache to the bit.
func TestIncrementalExtraction(t *testing.T) {
	dir := t.TempDir()
	all := shortResponses(530)
	all[3].Full = "<think>Yes.</think>" // without a sentence
	write(t, dir, "responses.json", all)
	b := newBench(t)
	study := func(layers, n string) string {
		return extraction("builtin:tiny", layers, "", "n_examples = "+n)
	}

	a := b.apply(dir, study("[0]", "40"), "rows")
	a.computed("m/0/extract/0", responses(a, 40))

	more := b.apply(dir, study("[0]", "60"), "rows") // the shard grows
	more.computed("m/0/extract/0", strconv.Itoa(atoi(t, responses(more, 60))-atoi(t, responses(a, 40))))
	more.sameAsFresh(dir, study("[0]", "60"), 0)

	layer := b.apply(dir, study("[0, 1]", "60"), "rows")
	layer.computed("m/0/extract/0", "")
	layer.computed("m/1/extract/0", responses(layer, 60))
	layer.sameAsFresh(dir, study("[0, 1]", "60"), 0, 1)

	third := b.apply(dir, study("[0, 1]", "521"), "rows") // a second shard, of 9
	third.computed("m/0/extract/0", strconv.Itoa(512-60-noSentences(third)+noSentences(layer)))
	third.computed("m/1/extract/1", "9")

	fourth := b.apply(dir, study("[0, 1]", "525"), "rows")
	fourth.computed("m/0/extract/0", "") // the first shard is full and stays
	fourth.computed("m/0/extract/1", "4")
	fourth.computed("m/1/extract/1", "4")

	edited := fourth.sentences("m/sentences")[20].Response
	all[edited].Full = strings.Replace(all[edited].Full, "number", "figure", 1)
	write(t, dir, "responses.json", all)
	edit := b.apply(dir, study("[0, 1]", "525"), "rows")
	counts := map[string]int{}
	for _, addr := range edit.ran {
		if strings.Contains(addr, "/extract/") {
			counts[addr[:strings.Index(addr, "/extract")]] += atoi(t, edit.note(addr, "responses computed"))
		}
	}
	if counts["m/0"] != 1 || counts["m/1"] != 1 || len(edit.ran) != 5 { // sentences, one shard and the rows of two layers
		t.Errorf("one response edited: %v, ran %v", counts, edit.ran)
	}
	edit.sameAsFresh(dir, study("[0, 1]", "525"), 0, 1)

	if again := b.apply(dir, study("[0, 1]", "525"), "rows"); len(again.ran) > 0 {
		t.Errorf("an unchanged study ran %v", again.ran)
	}
}

// noSentences is 1 where the response without a sentence was drawn.
func noSentences(a *applied) int { return a.info("m/sentences").NoSentences }

func responses(a *applied, n int) string { return strconv.Itoa(n - noSentences(a)) }

func atoi(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A shard whose responses have no sentence is a shard all the same.
func TestShardWithoutSentences(t *testing.T) {
	dir := t.TempDir()
	all := shortResponses(513)
	write(t, dir, "responses.json", all)
	study := extraction("builtin:tiny", "[0]", "", "n_examples = 513")
	first := newBench(t).apply(dir, study, "rows")
	// The last response by rank: the one that 512 examples do not have.
	have := map[int]bool{}
	for _, s := range newBench(t).apply(dir, extraction("builtin:tiny", "[0]", "", "n_examples = 512"), "sentences").sentences("m/sentences") {
		have[s.Response] = true
	}
	for i := range all {
		if !have[i] {
			all[i].Full = "<think>No.</think>"
		}
	}
	write(t, dir, "responses.json", all)
	second := newBench(t).apply(dir, study, "rows")
	if got, was := len(second.sentences("m/sentences")), len(first.sentences("m/sentences")); got != was-2 {
		t.Errorf("%d sentences, before %d", got, was)
	}
	if rows := second.matrix("m/0/rows", "activations", "activations"); rows.Rows != 1024 {
		t.Errorf("%d rows, want 1024", rows.Rows)
	}
	second.computed("m/0/extract/1", "0")
}

// More examples begin with the same ones, and rows stand in file order.
func TestExamplesArePrefixStable(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "responses.json", shortResponses(100))
	b := newBench(t)
	drawn := func(n string, more string) []int {
		var out []int
		for i, s := range b.apply(dir, extraction("builtin:tiny", "[0]", "", "n_examples = "+n+"\n"+more), "sentences").sentences("m/sentences") {
			if s.ID != i {
				t.Errorf("row %d has the id %d", i, s.ID)
			}
			if len(out) == 0 || out[len(out)-1] != s.Response {
				out = append(out, s.Response)
			}
		}
		return out
	}
	var before []int
	for _, n := range []int{10, 25, 60, 100} {
		now := drawn(strconv.Itoa(n), "")
		if len(now) != n || !slices.IsSorted(now) {
			t.Errorf("n_examples = %d drew %v", n, now)
		}
		for _, r := range before {
			if !slices.Contains(now, r) {
				t.Errorf("n_examples = %d has not response %d, which fewer examples have", n, r)
			}
		}
		before = now
	}
	if all := drawn(`"all"`, ""); len(all) != 100 {
		t.Errorf("all examples are %d", len(all))
	}
	if first := drawn("10", ""); slices.Equal(first, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
		t.Error("the first ten of the file are no random draw")
	}
}
