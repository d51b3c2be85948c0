package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/internal/batch"
	"clusterflow/tasks"
)

func (a *app) batchesCommand() *cobra.Command {
	var f studyFlags
	c := &cobra.Command{
		Use:   "batches",
		Short: "List the batches of a study; send one again on your word",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	list := &cobra.Command{
		Use:   "list STUDY",
		Short: "List the batches that the study's last run has seen",
		Args:  oneStudy,
		RunE:  func(c *cobra.Command, args []string) error { return a.listBatches(args[0], &f) },
	}
	resend := &cobra.Command{
		Use:     "retry STUDY BATCH",
		Aliases: []string{"resend"},
		Short:   "Give a batch up: what it holds unanswered is sent, and paid, again by the next apply",
		Args:    cobra.ExactArgs(2),
		RunE:    func(c *cobra.Command, args []string) error { return a.resend(c, args[0], args[1], &f) },
	}
	f.addCache(list)
	f.addCache(resend)
	c.AddCommand(list, resend)
	return c
}

func (a *app) listBatches(study string, f *studyFlags) error {
	dir := a.cachePath(study, f)
	r, err := cache.OpenReader(dir)
	if err != nil {
		return err
	}
	run, err := r.Run(studyID(study, dir))
	switch {
	case err != nil:
		return err
	case run == nil:
		return a.neverRun(study, dir, r)
	case len(run.Batches) == 0:
		fmt.Fprintf(a.out, "the last run of %s has seen no batches\n", study)
	}
	writeBatches(a.out, run, a.now())
	return nil
}

// resend takes the ledger and gives one batch file up.
func (a *app) resend(c *cobra.Command, study, intent string, f *studyFlags) (err error) {
	store, err := cache.Open(c.Context(), cache.Options{Dir: a.cachePath(study, f), StateDir: f.stateDir, Command: "clusterflow batches retry"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	office := tasks.NewOffice(a.getenv)
	office.Open(store, batch.DeskOptions{})
	if err := office.Resend(c.Context(), intent); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "given up: the next apply sends again what %s holds unanswered\n", intent)
	return nil
}
