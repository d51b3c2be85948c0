package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"clusterflow/tasks"
)

func (a *app) answersExport() *cobra.Command {
	var f studyFlags
	c := &cobra.Command{
		Use: "export STUDY FILE", Short: "Write the paid answers of a study as one file, for somebody else's cache",
		Long: "FILE gets one JSON object a line: the request key, the SHA-256 of the request's body, and the result\n" +
			"line as the server gave it, for every answered request of the study as it stands.",
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.atDesk(c.Context(), "answers export", args[0], &f, func(d *desk) error {
				return a.exportAnswers(c.Context(), d, args[1])
			})
		},
	}
	f.add(c)
	return c
}

func (a *app) answersImport() *cobra.Command {
	var f studyFlags
	c := &cobra.Command{
		Use: "import STUDY FILE", Short: "Take over answers that answers export wrote: they are not bought again",
		Long: "Answers to requests that have none here are taken into the cache of STUDY, also those to requests\n" +
			"that it has not written yet. An answer that is there stays. A file with anything else in it is refused.",
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.atDesk(c.Context(), "answers import", args[0], &f, func(d *desk) error {
				return a.importAnswers(c.Context(), d, args[1])
			})
		},
	}
	f.add(c)
	return c
}

func (a *app) exportAnswers(ctx context.Context, d *desk, path string) error {
	var answers, without, unwritten int
	err := streamFile(path, func(w io.Writer) (err error) {
		answers, without, unwritten, err = d.office.ExportAnswers(ctx, d.Plan, w)
		if err == nil && answers == 0 {
			err = errors.New("the study as it stands has no answers; apply it first")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	fmt.Fprintf(a.out, "%s written to %s\n", count(answers, "answer", "answers"), path)
	if without > 0 {
		fmt.Fprintf(a.out, "%s no answer\n", count(without, "request has", "requests have"))
	}
	if unwritten > 0 {
		fmt.Fprintf(a.out, "%s not been run: what they would ask is not among them\n", count(unwritten, "submit node has", "submit nodes have"))
	}
	return nil
}

func (a *app) importAnswers(ctx context.Context, d *desk, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	got, err := d.office.ImportAnswers(ctx, d.Plan, in)
	if err != nil {
		return fmt.Errorf("importing %s: %w", path, err)
	}
	a.writeImported(got)
	return nil
}

// writeImported says what became of imported answers.
func (a *app) writeImported(got tasks.Imported) {
	fmt.Fprintf(a.out, "%s taken, %s of them to requests that the study has written\n", count(len(got.Taken), "answer", "answers"), thousands(got.Ours))
	if got.Same > 0 {
		fmt.Fprintf(a.out, "%s here already\n", count(got.Same, "was", "were"))
	}
	for _, left := range []struct {
		why  string
		keys []string
	}{
		{"another answer here, which stays", got.Conflicts},
		{"its request in a batch now, which will answer it", got.InBatch},
		{"other wording than the study's request of that key", got.Other},
	} {
		if n := len(left.keys); n > 0 {
			fmt.Fprintf(a.out, "left out, %s: %s, %s\n", left.why, count(n, "answer", "answers"), someKeys(left.keys))
		}
	}
}

// someKeys names the first request keys of a list, short.
func someKeys(keys []string) string {
	const most = 5
	var out []string
	for _, k := range keys[:min(most, len(keys))] {
		out = append(out, k[:12])
	}
	if len(keys) > most {
		out = append(out, "…")
	}
	return strings.Join(out, " ")
}

// streamFile writes a file under another name first: it is there whole or as it
// was.
func streamFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".unfinished-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
