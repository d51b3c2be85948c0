package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/judge"
	"clusterflow/tasks"
)

func (a *app) agreeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "agree",
		Short: "Let people say which category sentences belong to, and compare them with each other and the judges",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.agreeExport(), a.agreeImport())
	return c
}

func (a *app) agreeExport() *cobra.Command {
	var f studyFlags
	var out string
	var n int
	var seed int64
	c := &cobra.Command{
		Use:   "export STUDY ADDRESS",
		Short: "Write a blinded table of sentences for people to rate",
		Long: "Sentences of the clustering and titles at ADDRESS, such as r1/12/gmm/20/auto, about as many of each\n" +
			"cluster, in an order of chance. Raters write a letter of the categories beside it, or None, into the\n" +
			"last column. Each gets a copy of the same file.",
		Args: studyAndAddress,
		RunE: func(c *cobra.Command, args []string) error {
			if n < 1 {
				return fmt.Errorf("--n %d: at least 1", n)
			}
			p, err := a.poll(c, args, &f)
			if err != nil {
				return err
			}
			return a.writePoll(p, out, n, seed)
		},
	}
	f.add(c)
	c.Flags().StringVar(&out, "out", "ratings.csv", "the `file` to write; the categories go beside it")
	c.Flags().IntVar(&n, "n", 200, "how many sentences")
	c.Flags().Int64Var(&seed, "seed", 1, "another seed draws other sentences")
	return c
}

func (a *app) agreeImport() *cobra.Command {
	var f studyFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "import STUDY ADDRESS FILE…",
		Short: "Read what people have rated: agreement among them, with the clustering and with the judges",
		Args:  cobra.MinimumNArgs(3),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := a.poll(c, args[:2], &f)
			if err != nil {
				return err
			}
			var raters []rater
			for _, name := range args[2:] {
				r, err := readRatings(name, p)
				if err != nil {
					return err
				}
				raters = append(raters, r)
			}
			return a.writeAgreement(p, raters, asJSON)
		},
	}
	f.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the agreements as JSON")
	return c
}

// poll reads what a clustering's titles and judges say.
func (a *app) poll(c *cobra.Command, args []string, f *studyFlags) (*tasks.Poll, error) {
	p, known, err := a.look(c.Context(), args[0], f)
	if err != nil {
		return nil, err
	}
	addr := strings.Trim(args[1], "/")
	steps := map[*graph.Node]*graph.Step{}
	var scores []*graph.Node
	titles := map[string]bool{}
	for _, s := range p.Steps {
		steps[s.Node] = s
		if s.Node.Kind() == "score" && (s.Node.Addr == addr || strings.HasPrefix(s.Node.Addr, addr+"/")) {
			scores = append(scores, s.Node)
			titles[strings.TrimSuffix(s.Node.Addr, "/"+s.Node.Attr("judge")+"/score")] = true
		}
	}
	switch {
	case len(scores) == 0:
		if _, err := findStep(p, args[0], addr); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("nobody grades %s; give a clustering with its titles, such as r1/12/gmm/20/auto", addr)
	case len(titles) > 1:
		some := slices.Sorted(maps.Keys(titles))
		return nil, fmt.Errorf("%s holds %d clusterings with titles; give one of them, such as %s", addr, len(some), some[0])
	}
	for t := range titles {
		addr = t
	}
	return tasks.ReadPoll(known.Blobs(), addr, scores, func(n *graph.Node) (*cache.Record, error) {
		if s := steps[n]; s != nil && s.State == graph.Cached && s.Record != nil {
			return s.Record, nil
		}
		return nil, fmt.Errorf("%s has no result as the study stands; run clusterflow apply %s", n.Addr, args[0])
	})
}

// letters name categories: A to Z, then AA, AB, …
func letters(i int) string {
	if i < 26 {
		return string(rune('A' + i))
	}
	return letters(i/26-1) + letters(i%26)
}

// columns of a table for raters.
var ratingColumns = []string{"id", "sentence", "category"}

func (a *app) writePoll(p *tasks.Poll, out string, n int, seed int64) error {
	categories := strings.TrimSuffix(out, filepath.Ext(out)) + "-categories.csv"
	rows := [][]string{{"category", "title", "description"}}
	for i, c := range p.Categories {
		rows = append(rows, []string{letters(i), plainCell(c.Title), plainCell(c.Description)})
	}
	sample := p.Sample(n, seed)
	ratings := [][]string{ratingColumns}
	for _, s := range sample {
		ratings = append(ratings, []string{s.ID, plainCell(s.Text), ""})
	}
	for _, file := range []struct {
		name string
		rows [][]string
	}{{out, ratings}, {categories, rows}} {
		if err := writeNewCSV(file.name, file.rows); err != nil {
			return err
		}
	}
	fmt.Fprintf(a.out, "%s: %s to rate with a letter of %s, or None\n", out, count(len(sample), "sentence", "sentences"), categories)
	fmt.Fprintln(a.out, "Give each rater a copy, named after the rater; then: clusterflow agree import STUDY", p.Address, "FILE…")
	return nil
}

// plainCell keeps a spreadsheet from computing a text: "= 3 apples" or "- so 4 left"
// would be a formula to it, and the rater would not see the sentence.
func plainCell(text string) string {
	if strings.ContainsAny(text[:min(1, len(text))], "=+-@\t") {
		return "'" + text
	}
	return text
}

// writeNewCSV writes a table to a file that must not be there: it may hold
// somebody's ratings.
func writeNewCSV(name string, rows [][]string) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, and may hold ratings; move it, or give another --out", name)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteString("\ufeff"); err != nil { // else Excel reads no UTF-8
		return err
	}
	return csv.NewWriter(f).WriteAll(rows)
}

// rater is what one person said.
type rater struct {
	name  string
	rated map[int]int // category id by row
}

// readRatings reads a table that somebody has filled in.
func readRatings(name string, p *tasks.Poll) (rater, error) {
	r := rater{strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)), map[int]int{}}
	f, err := os.Open(name)
	if err != nil {
		return r, err
	}
	defer f.Close()
	in := csv.NewReader(f)
	in.FieldsPerRecord = -1
	in.LazyQuotes = true
	byLetter := map[string]int{"none": judge.None}
	for i, c := range p.Categories {
		byLetter[strings.ToLower(letters(i))] = c.ID
	}
	rows := p.Rows()
	id, category := -1, -1
	for {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
		line, _ := in.FieldPos(0)
		where := func(format string, args ...any) error {
			return fmt.Errorf("%s:%d: %s", name, line, fmt.Sprintf(format, args...))
		}
		for i := range fields {
			fields[i] = strings.TrimSpace(strings.TrimPrefix(fields[i], "\ufeff"))
		}
		if id < 0 {
			id, category = slices.Index(fields, ratingColumns[0]), slices.Index(fields, ratingColumns[2])
			if id < 0 || category < 0 {
				return r, where("the first line should name the columns %s; separate them with commas", strings.Join(ratingColumns, ", "))
			}
			continue
		}
		if len(fields) <= max(id, category) {
			return r, where("%d columns, and there should be %d", len(fields), len(ratingColumns))
		}
		said := strings.ToLower(fields[category])
		if said == "" {
			continue // not rated
		}
		row, ok := rows[fields[id]]
		if !ok {
			return r, where("there is no sentence %q at %s: was the file made for another clustering, or from other data?", fields[id], p.Address)
		}
		rated, ok := byLetter[said]
		if !ok {
			return r, where("category %q: write a letter from A to %s, or None", fields[category], letters(len(p.Categories)-1))
		}
		if _, twice := r.rated[row]; twice {
			return r, where("sentence %s is rated twice", fields[id])
		}
		r.rated[row] = rated
	}
	if len(r.rated) == 0 {
		return r, fmt.Errorf("%s: no sentence is rated: write letters into the column %s", name, ratingColumns[2])
	}
	return r, nil
}

// agreed is the agreement of some sources of ratings.
type agreed struct {
	Between []string `json:"between"`
	Kind    string   `json:"kind"` // Fleiss or Cohen
	judge.Kappa
	CI95 [2]float64 `json:"ci_95"` // over responses
}

// agreementOf compares sources: Fleiss' kappa of more than two, Cohen's of two.
func agreementOf(p *tasks.Poll, sources ...rater) agreed {
	out := agreed{Kind: "Fleiss"}
	if len(sources) == 2 {
		out.Kind = "Cohen"
	}
	seen := map[int]bool{}
	var rows, responses []int
	for _, s := range sources {
		out.Between = append(out.Between, s.name)
		for row := range s.rated {
			seen[row] = true
		}
	}
	ratings := map[int][]int{}
	for row := range seen {
		for _, s := range sources {
			if c, ok := s.rated[row]; ok {
				ratings[row] = append(ratings[row], c)
			}
		}
		if len(ratings[row]) >= 2 {
			rows = append(rows, row)
		}
	}
	slices.Sort(rows)
	for _, row := range rows {
		responses = append(responses, p.Response(row))
	}
	of := func(items []int) judge.Kappa {
		if out.Kind == "Fleiss" {
			list := make([][]int, len(items))
			for i, item := range items {
				list[i] = ratings[rows[item]]
			}
			return judge.Fleiss(list)
		}
		a, b := make([]int, len(items)), make([]int, len(items))
		for i, item := range items {
			a[i], b[i] = ratings[rows[item]][0], ratings[rows[item]][1]
		}
		return judge.Cohen(a, b)
	}
	all := make([]int, len(rows))
	for i := range all {
		all[i] = i
	}
	out.Kappa = of(all)
	out.CI95 = judge.KappaInterval(responses, of, rand.New(rand.NewPCG(1, 2)))
	return out
}

// writeAgreement compares people with each other, with the clustering and with
// each judge.
func (a *app) writeAgreement(p *tasks.Poll, people []rater, asJSON bool) error {
	var out []agreed
	if len(people) > 1 {
		if len(people) > 2 {
			out = append(out, agreementOf(p, people...))
		}
		for i := range people {
			for _, other := range people[i+1:] {
				out = append(out, agreementOf(p, people[i], other))
			}
		}
	}
	others := []rater{{"the clustering", map[int]int{}}}
	for _, r := range people {
		for row := range r.rated {
			others[0].rated[row] = p.Label(row)
		}
	}
	for _, j := range p.Judges {
		if len(j.Assigned) > 0 {
			others = append(others, rater{"judge " + j.Name, j.Assigned})
		}
	}
	for _, r := range people {
		for _, other := range others {
			out = append(out, agreementOf(p, r, other))
		}
	}
	if asJSON {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		return enc.Encode(out)
	}
	for _, k := range out {
		name := strings.Join(k.Between, ", ")
		switch {
		case k.Items == 0:
			fmt.Fprintf(a.out, "%-40s nobody else was asked about these sentences\n", name)
		case !k.Defined:
			fmt.Fprintf(a.out, "%-40s undefined: all ratings are of one category · %s\n", name, count(k.Items, "sentence", "sentences"))
		default:
			fmt.Fprintf(a.out, "%-40s %s kappa %.3f (%.3f to %.3f) · %.0f %% agree · %s\n", name, map[string]string{"Fleiss": "Fleiss’", "Cohen": "Cohen’s"}[k.Kind], k.Value, k.CI95[0], k.CI95[1], 100*k.Observed, count(k.Items, "sentence", "sentences"))
		}
	}
	return nil
}
