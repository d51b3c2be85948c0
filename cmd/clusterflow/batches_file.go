package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func (a *app) batchesExport() *cobra.Command {
	var f studyFlags
	c := &cobra.Command{
		Use: "export STUDY DIR", Short: "Write batch_info files: which batch asked what, with the answers inside",
		Long: "DIR gets batch_info_titles_{model}_layer{layer}.json and batch_info_eval_…: method, cluster size,\n" +
			"repetition, then the ids of its batches, what each custom_id asks, and the result lines.",
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.atDesk(c.Context(), "batches export", args[0], &f, func(d *desk) error {
				files, err := d.office.ExportBatchInfo(c.Context(), d.compiled, d.Plan, args[1])
				for _, path := range files {
					fmt.Fprintln(a.out, path)
				}
				if err == nil && len(files) == 0 {
					err = fmt.Errorf("the study as it stands has asked nothing; apply it first")
				}
				return err
			})
		},
	}
	f.add(c)
	return c
}

func (a *app) batchesImport() *cobra.Command {
	var f studyFlags
	c := &cobra.Command{
		Use: "import STUDY FILE", Short: "Take over the answers inside a batch_info file, where they answer requests of ours",
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.atDesk(c.Context(), "batches import", args[0], &f, func(d *desk) error {
				return a.importBatchInfo(c.Context(), d, args[1])
			})
		},
	}
	f.add(c)
	return c
}

func (a *app) importBatchInfo(ctx context.Context, d *desk, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	got, foreign, err := d.office.ImportBatchInfo(ctx, d.Plan, text)
	if err != nil {
		return fmt.Errorf("importing %s: %w", path, err)
	}
	a.writeImported(got)
	if foreign > 0 {
		fmt.Fprintf(a.out, "left out, not to a request of clusterflow's: %s; another program's wording was answered there\n", count(foreign, "answer", "answers"))
	}
	return nil
}
