package batchd

import (
	"bufio"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"clusterflow/internal/cluster"
	"clusterflow/internal/judge"
	"clusterflow/internal/linalg"
)

// chat is the body of a chat completion request with this prompt.
func chat(t *testing.T, p judge.Prompt) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"model": "lexical", "messages": []any{
		map[string]any{"role": "system", "content": p.System},
		map[string]any{"role": "user", "content": p.User},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// asked answers p and checks that the same prompt gets the same answer.
func asked(t *testing.T, p judge.Prompt) judge.Reply {
	t.Helper()
	body := chat(t, p)
	answer, err := Lexical(context.Background(), body)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Lexical(context.Background(), body); err != nil || again != answer {
		t.Fatalf("the same prompt is answered with\n%s\nand (%v)\n%s", answer, err, again)
	}
	return judge.Reply{Content: answer, FinishReason: "stop"}
}

func TestLexicalTermTable(t *testing.T) {
	table := newTermTable()
	if n := len(table.terms); n > 64 || n != shapes+2*len(table.kinds) {
		t.Fatalf("%d terms do not fit a set of 64", n)
	}
	if len(table.byName) != len(table.terms) {
		t.Errorf("%d names for %d terms", len(table.byName), len(table.terms))
	}
	for _, e := range table.terms {
		if e.usual <= 0 || e.usual >= 1 || strings.ContainsAny(e.name, ";:()\"") || strings.Contains(e.name, " such as ") {
			t.Errorf("term %+v cannot be written into a description", e)
		}
	}
	for word := range table.kindOf {
		if got := tokenize(word); len(got) != 1 || got[0] != word {
			t.Errorf("%q is in the table but no token: %q", word, got)
		}
	}
	// A name that the table lacks would come back as the term at position 0.
	for _, word := range strings.Fields("question hypothesis doubt planning checks conclusion facts problems corrects assumption reasons") {
		named := table.named(word)
		if len(named) == 0 || slices.Contains(named, 0) {
			t.Errorf("%q names the terms %v", word, named)
		}
	}
}

func TestLexicalTerms(t *testing.T) {
	table := newTermTable()
	for _, tc := range []struct {
		sentence, has, lacks string // names, separated by |
	}{
		{"Maybe it's 3.5 × 2 = 7, isn't it?", "hedges|hedges at the start|three numbers|an arithmetic sign|an equals sign|negation|a question mark at the end|6 to 9 words", "a number at the start|a colon"},
		{"Let’s check 1,000 again: it fits.", "the first person at the start|words of planning at the start|words of checking|a number|a colon|6 to 9 words", "two numbers|an arithmetic sign|an instruction at the start"},
		{"Check the sum.", "an instruction at the start|words of checking at the start", "no listed word at the start"},
		{"Whales breathe air.", "no listed word at the start|fewer than 6 words", "an instruction at the start|hedges"},
		{"42 is well-known.", "a number at the start", "no listed word at the start"},
		{"", "fewer than 6 words", "a number"},
		{"\xff\xfe '' ’", "fewer than 6 words", "a number"},
	} {
		set := table.of(tc.sentence)
		for _, name := range strings.Split(tc.has, "|") {
			if i, ok := table.byName[name]; !ok || set&(1<<i) == 0 {
				t.Errorf("%q lacks %q", tc.sentence, name)
			}
		}
		for _, name := range strings.Split(tc.lacks, "|") {
			if i, ok := table.byName[name]; !ok || set&(1<<i) != 0 {
				t.Errorf("%q has %q", tc.sentence, name)
			}
		}
	}
}

// TestLexicalAnswersEveryPrompt: the answers have the form that the parsers of
// internal/judge read, for every sentence.
func TestLexicalAnswersEveryPrompt(t *testing.T) {
	doubts := []string{
		"I'm not sure whether this holds.", "Hmm, is that what they want?", "Could the answer be seven?", "It is unclear who is meant.",
		"Maybe I misread the question?", "I wonder if that is the case.", "Does it matter which one comes first?", "Nobody says how long it takes.",
	}
	sums := []string{
		"3 + 4 = 7.", "Then 12 / 4 = 3.", "So 5 times 6 is 30.", "That leaves 100 - 58 = 42 euros.",
		"Adding 2 and 9 gives 11.", "7 × 8 = 56 metres.", "Half of 90 is 45.", "2 + 2 + 2 = 6.",
	}
	title := func(sentences []string) judge.Category {
		name, description, err := judge.ParseTitle(asked(t, judge.TitlePrompt(judge.TitleInput{Sentences: judge.Numbered(sentences)})).Content)
		if err != nil {
			t.Fatal(err)
		}
		return judge.Category{Title: name, Description: description}
	}
	a, b := title(doubts), title(sums)
	a.ID, b.ID = 3, 8
	if !strings.Contains(b.Description, "number") || !strings.Contains(a.Description, "question") {
		t.Errorf("descriptions:\n%+v\n%+v", a, b)
	}

	sentences := judge.Numbered([]string{"Is it clear what they mean?", "4 + 5 = 9.", "I'm unsure what to make of this.", "10 / 2 = 5 and 5 + 1 = 6."})
	verdicts, err := judge.ParseAccuracy(asked(t, judge.AccuracyPrompt(b, sentences, true)).Content, judge.IDs(sentences))
	if err != nil || len(verdicts) != 4 {
		t.Fatalf("%v: %v", verdicts, err)
	}
	for id, want := range map[int]bool{1: false, 2: true, 3: false, 4: true} {
		if verdicts[id].Yes != want || verdicts[id].Explanation == "" {
			t.Errorf("sentence %d is a sum: %+v, want %v", id, verdicts[id], want)
		}
	}
	assigned, err := judge.ParseCompleteness(asked(t, judge.CompletenessPrompt([]judge.Category{a, b}, sentences, true)).Content, judge.IDs(sentences), []int{3, 8})
	if err != nil || len(assigned) != 4 {
		t.Fatalf("%v: %v", assigned, err)
	}
	for id, want := range map[int]int{1: 3, 2: 8, 3: 3, 4: 8} {
		if assigned[id].Category != want {
			t.Errorf("sentence %d: %+v, want category %d", id, assigned[id], want)
		}
	}
	good, _, err1 := judge.ParseFit(asked(t, judge.FitPrompt(b, sentences[1], true)).Content)
	bad, _, err2 := judge.ParseFit(asked(t, judge.FitPrompt(b, sentences[0], true)).Content)
	if err1 != nil || err2 != nil || good <= bad {
		t.Errorf("fit of a sum %g (%v), of a doubt %g (%v)", good, err1, bad, err2)
	}
	same, _, err1 := judge.ParseSimilarity(asked(t, judge.SimilarityPrompt(a, a)).Content)
	other, _, err2 := judge.ParseSimilarity(asked(t, judge.SimilarityPrompt(a, b)).Content)
	if err1 != nil || err2 != nil || same != 10 || other > 3 {
		t.Errorf("similarity to itself %g (%v), to the other %g (%v)", same, err1, other, err2)
	}
}

// TestLexicalReadsForeignDescriptions: titles that a person or a model wrote
// list no shares.
func TestLexicalReadsForeignDescriptions(t *testing.T) {
	c := judge.Category{Title: "Expressing uncertainty", Description: "The sentence says that something is unclear, or asks whether it is so. A calculation is not included."}
	sentences := judge.Numbered([]string{"I'm not sure if that is right.", "3 + 4 = 7.", "Is it unclear to them?", "Whales breathe air."})
	got, err := judge.ParseAccuracy(asked(t, judge.AccuracyPrompt(c, sentences, true)).Content, judge.IDs(sentences))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[int]bool{1: true, 2: false, 3: true, 4: false} {
		if got[id].Yes != want {
			t.Errorf("%q: %+v, want %v", sentences[id-1].Text, got[id], want)
		}
	}
}

func TestLexicalWithoutAnythingToSay(t *testing.T) {
	empty := judge.Category{Title: "x", Description: nothingStandsOut}
	s := judge.Numbered([]string{"3 + 4 = 7."})
	got, err := judge.ParseAccuracy(asked(t, judge.AccuracyPrompt(empty, s, true)).Content, judge.IDs(s))
	if err != nil || got[1].Yes {
		t.Errorf("%+v, %v; want No", got, err)
	}
	a, err := judge.ParseCompleteness(asked(t, judge.CompletenessPrompt([]judge.Category{empty}, s, true)).Content, judge.IDs(s), []int{0})
	if err != nil || a[1].Category != judge.None {
		t.Errorf("%+v, %v; want None", a, err)
	}
	if _, _, err := judge.ParseTitle(asked(t, judge.TitlePrompt(judge.TitleInput{})).Content); err != nil {
		t.Errorf("title of nothing: %v", err)
	}
	if score, _, err := judge.ParseSimilarity(asked(t, judge.SimilarityPrompt(empty, empty)).Content); err != nil || score != 10 {
		t.Errorf("two empty descriptions: %g, %v", score, err)
	}
}

func TestLexicalRejects(t *testing.T) {
	message := func(content string) string {
		b, _ := json.Marshal(content)
		return `{"messages": [{"role": "user", "content": ` + string(b) + `}]}`
	}
	for _, tc := range []struct{ body, want string }{
		{``, "no chat completion"},
		{`{"messages": []}`, "no user message"},
		{`{"messages": [{"role": "user", "content": 3}]}`, "neither a text"},
		{message("Hello!"), "only prompts of clusterflow"},
		{message("BEGIN DATA\n{\"task\": \"accuracy\"}\nEND DATA"), "without a category"},
		{message("BEGIN DATA\n{\"task\": \"fit\"}\nEND DATA"), "without a category"},
		{message("BEGIN DATA\n{\"task\": \"similarity\"}\nEND DATA"), "0 categories"},
	} {
		if got, err := Lexical(context.Background(), []byte(tc.body)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %q, %v; want an error with %q", tc.body, got, err, tc.want)
		}
	}
	p := judge.TitlePrompt(judge.TitleInput{Sentences: judge.Numbered([]string{"one two three"})})
	user, _ := json.Marshal(p.User)
	if _, err := Lexical(context.Background(), []byte(`{"messages": [{"role": "user", "content": [{"type": "text", "text": `+string(user)+`}]}]}`)); err != nil {
		t.Errorf("content in parts: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Lexical(ctx, chat(t, p)); err == nil {
		t.Error("a cancelled context is answered")
	}
}

func FuzzLexical(f *testing.F) {
	f.Add("Included are sentences that often have: a number (80%, elsewhere 10%); a colon such as \"x\" (0%, elsewhere 100%).", "3 + 4 = 7?")
	f.Add("(1%, elsewhere 1%)", "\xff'’")
	f.Add(": a number (999999999999999999999%, elsewhere 0%)", "42")
	f.Fuzz(func(t *testing.T, description, sentence string) {
		c := judge.Category{Title: sentence, Description: description}
		s := judge.Numbered([]string{sentence, description})
		if _, err := judge.ParseAccuracy(asked(t, judge.AccuracyPrompt(c, s, true)).Content, judge.IDs(s)); err != nil {
			t.Fatal(err)
		}
		if _, err := judge.ParseCompleteness(asked(t, judge.CompletenessPrompt([]judge.Category{c}, s, true)).Content, judge.IDs(s), []int{0}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := judge.ParseFit(asked(t, judge.FitPrompt(c, s[0], true)).Content); err != nil {
			t.Fatal(err)
		}
		if _, _, err := judge.ParseSimilarity(asked(t, judge.SimilarityPrompt(c, judge.Category{Title: description, Description: sentence})).Content); err != nil {
			t.Fatal(err)
		}
		if _, _, err := judge.ParseTitle(asked(t, judge.TitlePrompt(judge.TitleInput{Sentences: s, Traces: []string{description}})).Content); err != nil {
			t.Fatal(err)
		}
	})
}

// TestLexicalRanksClusterings: on the demo corpus, whose sentences have known
// kinds, a clustering by the true kinds scores above k-means on TF-IDF rows of the
// same sentences, and that above a permutation of its labels: the paired 95 %
// bootstrap intervals over responses lie above 0.
func TestLexicalRanksClusterings(t *testing.T) {
	texts, kinds, responses := demoKinds(t)
	method, _ := cluster.ByName("tfidf_kmeans")
	m, err := method.Fit(t.Context(), cluster.Input{X: linalg.NewMatrix(len(texts), 1), K: slices.Max(kinds) + 1, Seed: 42, Texts: texts})
	if err != nil {
		t.Fatal(err)
	}
	words := make([]int, len(texts))
	for i, l := range m.Labels {
		words[i] = int(l)
	}
	shuffled := slices.Clone(words)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })

	index := map[int]int{}
	for _, r := range responses {
		if _, ok := index[r]; !ok {
			index[r] = len(index)
		}
	}
	w := judge.NewWeights(len(index), judge.Resamples, rand.New(rand.NewPCG(5, 6)))
	type scored struct {
		name       string
		result     judge.SizeResult
		replicates map[string][]float32
	}
	var ranked []scored
	for _, c := range []struct {
		name   string
		labels []int
	}{{"true kinds", kinds}, {"TF-IDF", words}, {"shuffled", shuffled}} {
		r := judge.Summarize([]judge.Repetition{scoreOf(t, texts, c.labels)})
		ranked = append(ranked, scored{c.name, r, judge.Bootstrap(r, func(row int) int { return index[responses[row]] }, w)})
		t.Logf("%-10s: F1 %.3f, final %.3f", c.name, r.Statistics["avg_f1"].Mean, r.AvgFinalScore)
	}
	for i, better := range ranked[:2] {
		worse := ranked[i+1]
		for _, metric := range []string{"avg_f1", "final_score"} {
			d := judge.Compare(better.result.Statistics[metric].Mean, worse.result.Statistics[metric].Mean, better.replicates[metric], worse.replicates[metric])
			t.Logf("%s less %s: %s %+.3f, %.3f to %.3f", better.name, worse.name, metric, d.Difference, d.CI95[0], d.CI95[1])
			if d.CI95[0] <= 0 {
				t.Errorf("%s is not told apart from %s by %s: %+v", better.name, worse.name, metric, d)
			}
		}
	}
}

// demoKinds reads the sentences of the demo corpus with the number of their
// kind and that of their response, in file order.
func demoKinds(t *testing.T) (texts []string, labels, responses []int) {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "studies", "demo", "kinds.jsonl"))
	if err != nil {
		t.Skipf("no demo corpus: %v", err)
	}
	defer f.Close()
	number := map[string]int{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var line struct {
			Kind, Text string
			Question   int `json:"question_id"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if _, ok := number[line.Kind]; !ok {
			number[line.Kind] = len(number)
		}
		texts, labels, responses = append(texts, line.Text), append(labels, number[line.Kind]), append(responses, line.Question)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(number) < 2 {
		t.Fatalf("%d kinds in the demo corpus", len(number))
	}
	return texts, labels, responses
}

// scoreOf titles and grades a clustering of texts with the lexical judge.
func scoreOf(t *testing.T, texts []string, labels []int) judge.Repetition {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	members := map[int][]int{}
	var rows []int
	for i, l := range labels {
		members[l] = append(members[l], i)
		rows = append(rows, i)
	}
	pick := func(rows []int) []judge.Item {
		items := make([]judge.Item, len(rows))
		for i, r := range rows {
			items[i] = judge.Item{Row: r, Text: texts[r], Cluster: labels[r]}
		}
		return items
	}
	traces := []string{strings.Join(texts[:20], " "), strings.Join(texts[len(texts)/2:len(texts)/2+20], " "), strings.Join(texts[len(texts)-20:], " ")}
	var answers []judge.TitleAnswer
	for c := range len(members) {
		s := judge.Items(pick(judge.DescriptionExamples(members[c], 200, rng)))
		answers = append(answers, judge.TitleAnswer{Cluster: c, Reply: asked(t, judge.TitlePrompt(judge.TitleInput{Sentences: s, Traces: traces}))})
	}
	in := judge.ScoreInput{
		Metrics:   []string{judge.MetricAccuracy, judge.MetricCompleteness, judge.MetricOrthogonality},
		Threshold: 0.5,
	}
	in.Categories, in.Titles = judge.Titles(answers)
	for _, c := range in.Categories {
		var outside []int
		for _, r := range rows {
			if labels[r] != c.ID {
				outside = append(outside, r)
			}
		}
		for _, chunk := range judge.Chunks(judge.AccuracySample(members[c.ID], outside, 100, 100, rng), judge.MaxChunk) {
			items := pick(chunk)
			in.Accuracy = append(in.Accuracy, judge.AccuracyAnswer{Cluster: c.ID, Items: items, Reply: asked(t, judge.AccuracyPrompt(c, judge.Items(items), true))})
		}
	}
	for _, chunk := range judge.Chunks(judge.Sample(rows, 500, rng), judge.MaxChunk) {
		items := pick(chunk)
		in.Completeness = append(in.Completeness, judge.CompletenessAnswer{Items: items, Reply: asked(t, judge.CompletenessPrompt(in.Categories, judge.Items(items), true))})
	}
	for _, p := range judge.Pairs(len(in.Categories)) {
		in.Pairs = append(in.Pairs, judge.PairAnswer{A: p[0], B: p[1], Reply: asked(t, judge.SimilarityPrompt(in.Categories[p[0]], in.Categories[p[1]]))})
	}
	r := judge.Score(in)
	for kind, n := range r.Answers {
		if n.Failed > 0 {
			t.Errorf("%s: %d of %d answers failed: %v", kind, n.Failed, n.Asked, n.Reasons)
		}
	}
	return r
}
