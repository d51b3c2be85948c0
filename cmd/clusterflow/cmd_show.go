package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/tasks"
)

func (a *app) showCommand() *cobra.Command {
	var f studyFlags
	var export string
	var sample int
	var asJSON bool
	c := &cobra.Command{
		Use:   "show STUDY ADDRESS",
		Short: "Show a node's outputs, who made them when, and what uses them; take them out with --export",
		Args:  studyAndAddress,
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("sample") && sample < 1 {
				return fmt.Errorf("--sample %d: at least 1", sample)
			}
			p, known, err := a.look(c.Context(), args[0], &f)
			if err != nil {
				return err
			}
			s, err := findStep(p, args[0], args[1])
			if err != nil {
				return err
			}
			record := cmp.Or(s.Record, s.Last)
			if record == nil && (export != "" || sample > 0) {
				return fmt.Errorf("%s has no result yet (%s); apply the study first", s.Node.Addr, stateName(s.State))
			}
			switch {
			case export != "":
				return a.export(known.Blobs(), s, record, export)
			case sample > 0:
				return a.sample(known.Blobs(), s, record, sample)
			case asJSON:
				return writeShowJSON(a.out, s, record, known.Blobs())
			}
			return writeShow(a.out, s, record, known.Blobs(), painter(a.colors(a.out)))
		},
	}
	f.add(c)
	c.Flags().StringVar(&export, "export", "", "write the outputs into this `folder` (safetensors, JSON Lines, JSON)")
	c.Flags().IntVar(&sample, "sample", 0, "print `n` sentences with their places in the responses")
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	c.MarkFlagsMutuallyExclusive("export", "sample", "json")
	return c
}

func (a *app) export(blobs *cache.Blobs, s *graph.Step, record *cache.Record, dir string) error {
	if s.State != graph.Cached {
		fmt.Fprintf(a.err, "note: %s is %s; this is its result of %s\n", s.Node.Addr, stateName(s.State), moment(record.Finished))
	}
	names, err := tasks.Export(blobs, record, dir)
	var missing *cache.MissingError
	var damaged *cache.DamagedError
	if errors.As(err, &missing) || errors.As(err, &damaged) {
		return fmt.Errorf("%w; apply the study to make it again", err)
	}
	if err != nil {
		return err
	}
	for i, o := range record.Outputs {
		fmt.Fprintf(a.out, "%-32s %10s\n", names[i], humanize.IBytes(uint64(o.Size)))
	}
	return nil
}

// sample prints sentences and, where they are up to date with the files that
// they were made from, which tokens their activations are the means of.
func (a *app) sample(blobs *cache.Blobs, step *graph.Step, record *cache.Record, n int) error {
	sentences, all, err := tasks.SampleSentences(blobs, record, n)
	if err != nil {
		return err
	}
	var averaged []tasks.Averaged
	if step.State == graph.Cached {
		if averaged, err = tasks.AveragedTokens(step.Node, sentences); err != nil {
			return err
		}
	}
	fmt.Fprintf(a.out, "%s of %s\n", count(len(sentences), "sentence", "sentences"), thousands(all))
	for i, s := range sentences {
		fmt.Fprintf(a.out, "%6d  response %d, sentence %d, characters %d–%d, tokens %d–%d\n        %s\n",
			s.ID, s.Response, s.Index, s.Chars[0], s.Chars[1], s.Tokens[0], s.Tokens[1], oneLine(s.Text))
		if averaged == nil {
			continue
		}
		v := averaged[i]
		before := ""
		if v.Before != "" {
			before = "[" + strings.Trim(strconv.Quote(v.Before), `"`) + "] "
		}
		fmt.Fprintf(a.out, "        mean of %s%s\n", before, strconv.Quote(v.Text))
	}
	return nil
}

// oneLine shows text as one line, with nothing that a terminal would obey.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ' || r >= 0x7f && r < 0xa0:
			return '\uFFFD'
		}
		return r
	}, s)
}

func writeShow(w io.Writer, s *graph.Step, r *cache.Record, blobs *cache.Blobs, paint painter) error {
	var b strings.Builder
	writeHead(&b, s, paint)
	if r == nil {
		b.WriteString("\nIt has no result yet.\n")
	} else {
		if s.State != graph.Cached {
			b.WriteString("What follows is the result of the last run.\n")
		}
		fmt.Fprintf(&b, "\nMade      %s, in %s, on %s", moment(r.Finished), elapsed(r.Finished.Sub(r.Started)), cmp.Or(r.Host, "an unknown host"))
		if r.Backend != "" {
			fmt.Fprintf(&b, ", %s", r.Backend)
		}
		if r.Address != s.Node.Addr {
			fmt.Fprintf(&b, ", as %s", r.Address)
		}
		fmt.Fprintf(&b, "\nKey       %s\n", r.Key)
		var notes []string
		for _, name := range slices.Sorted(maps.Keys(r.Info)) {
			notes = append(notes, name+" "+r.Info[name])
		}
		if len(notes) > 0 {
			fmt.Fprintf(&b, "Notes     %s\n", strings.Join(notes, " · "))
		}
		b.WriteString("\nOutputs\n")
		for _, o := range r.Outputs {
			where := "in the record"
			if o.Inline == nil {
				where = blobs.Path(o.Digest)
				if st := blobs.Check(o.Digest, o.Size); st != cache.OK {
					where += "  " + strings.ToUpper(st.String())
				}
			}
			fmt.Fprintf(&b, "  %-28s %10s  %s  %s\n", tasks.FileName(r.Kind, o.Name), humanize.IBytes(uint64(o.Size)), o.Digest.Short(), paint.paint("2", where))
		}
	}
	writeReads(&b, s, paint)
	writeUsers(&b, s)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeReads lists what a node is made from, as the study has it now.
func writeReads(b *strings.Builder, s *graph.Step, paint painter) {
	const most = 24
	b.WriteString("\nMade from\n")
	digests := map[string]string{}
	for _, l := range s.Lines {
		if len(l.Value) >= 12 {
			digests[l.Label] = l.Value[:12]
		}
	}
	n := 0
	add := func(what, label, name string) {
		if n++; n <= most {
			fmt.Fprintf(b, "  %-52s %-28s %s\n", what, name, paint.paint("2", cmp.Or(digests[label], "not known yet")))
		}
	}
	for _, src := range s.Node.Sources {
		add(src.Path, "source "+src.Name, src.Name)
	}
	for _, in := range s.Node.Inputs {
		add(in.From.Addr, "input "+in.Name, in.Output)
	}
	switch {
	case n == 0:
		b.WriteString("  nothing but its parameters\n")
	case n > most:
		fmt.Fprintf(b, "  … and %s\n", count(n-most, "other", "others"))
	}
}

func writeUsers(b *strings.Builder, s *graph.Step) {
	const most = 24
	users := s.Node.Users()
	b.WriteString("\nUsed by\n")
	if len(users) == 0 {
		b.WriteString("  no other node\n")
	}
	for i, u := range users {
		if i == most {
			fmt.Fprintf(b, "  … and %s\n", count(len(users)-most, "other", "others"))
			break
		}
		fmt.Fprintf(b, "  %-52s %s\n", u.Addr, strings.Join(readOutputs(u, s.Node), ", "))
	}
}

// readOutputs are the outputs of a node that a user of it reads.
func readOutputs(user, of *graph.Node) []string {
	var out []string
	for _, in := range user.Inputs {
		if in.From == of && !slices.Contains(out, in.Output) {
			out = append(out, in.Output)
		}
	}
	return out
}

func writeShowJSON(w io.Writer, s *graph.Step, r *cache.Record, blobs *cache.Blobs) error {
	type output struct {
		Name   string `json:"name"`
		File   string `json:"file"`
		Bytes  int64  `json:"bytes"`
		SHA256 string `json:"sha256"`
		Path   string `json:"path,omitempty"`  // of the blob
		State  string `json:"state,omitempty"` // of the blob
	}
	type read struct {
		Address string `json:"address"`
		Output  string `json:"output"`
	}
	type user struct {
		Address string   `json:"address"`
		Outputs []string `json:"outputs"`
	}
	type result struct {
		Key      string            `json:"key"`
		Address  string            `json:"address"`
		Started  string            `json:"started"`
		Finished string            `json:"finished"`
		Seconds  float64           `json:"seconds"`
		Host     string            `json:"host"`
		Backend  string            `json:"backend,omitempty"`
		Notes    map[string]string `json:"notes,omitempty"`
		Outputs  []output          `json:"outputs"`
	}
	out := struct {
		Address string      `json:"address"`
		Kind    string      `json:"kind"`
		State   graph.State `json:"state"`
		Current bool        `json:"current"` // the result is that of the present key
		Result  *result     `json:"result"`
		Sources []string    `json:"sources"`
		Reads   []read      `json:"reads"`
		Users   []user      `json:"used_by"`
	}{Address: s.Node.Addr, Kind: s.Node.Kind(), State: s.State, Current: s.State == graph.Cached, Sources: []string{}, Reads: []read{}, Users: []user{}}
	if r != nil {
		const layout = "2006-01-02T15:04:05.000Z07:00"
		out.Result = &result{
			Key: r.Key.String(), Address: r.Address, Started: r.Started.UTC().Format(layout), Finished: r.Finished.UTC().Format(layout),
			Seconds: r.Finished.Sub(r.Started).Seconds(), Host: r.Host, Backend: r.Backend, Notes: r.Info, Outputs: []output{},
		}
		for _, o := range r.Outputs {
			x := output{Name: o.Name, File: tasks.FileName(r.Kind, o.Name), Bytes: o.Size, SHA256: o.Digest.String()}
			if o.Inline == nil {
				x.Path, x.State = blobs.Path(o.Digest), blobs.Check(o.Digest, o.Size).String()
			}
			out.Result.Outputs = append(out.Result.Outputs, x)
		}
	}
	for _, src := range s.Node.Sources {
		out.Sources = append(out.Sources, src.Path)
	}
	for _, in := range s.Node.Inputs {
		out.Reads = append(out.Reads, read{in.From.Addr, in.Output})
	}
	for _, u := range s.Node.Users() {
		out.Users = append(out.Users, user{u.Addr, readOutputs(u, s.Node)})
	}
	return writeJSON(w, out)
}
