package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/tasks"
)

func (a *app) taskCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "task",
		Short: "Run one task in a process of its own, for workers and cluster jobs",
		Long:  "A task specification is a JSON file that describes one task with its files by path.\nThe protocol is described in docs/task-spec.md.",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, args []string) error { return c.Help() },
	}
	c.AddCommand(a.taskSpecCommand(), a.taskRunCommand())
	return c
}

func (a *app) taskSpecCommand() *cobra.Command {
	var flags studyFlags
	var dir string
	var copies bool
	c := &cobra.Command{
		Use:   "spec STUDY ADDR --out DIR",
		Short: "Write the specification of a node whose inputs have been made",
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.taskSpec(c.Context(), args[0], args[1], &flags, dir, copies)
		},
	}
	flags.add(c)
	c.Flags().StringVar(&dir, "out", "", "the `folder` for spec.json, small inputs and, later, the outputs")
	c.Flags().BoolVar(&copies, "copy", false, "copy all inputs into the folder, for a machine that does not see the cache")
	return c
}

func (a *app) taskSpec(ctx context.Context, study, addr string, f *studyFlags, dir string, copies bool) error {
	if dir == "" {
		return fmt.Errorf("task spec needs --out DIR, the folder to write to")
	}
	compiled, err := a.compile(ctx, study, f, nil)
	if err != nil {
		return err
	}
	cacheDir := a.cachePath(study, f)
	known, err := cache.OpenReader(cacheDir)
	if err != nil {
		return err
	}
	defer known.Close()
	p, err := a.planWith(ctx, compiled, known, studyID(study, cacheDir), cacheDir, &selection{targets: []string{addr}})
	if err != nil {
		return err
	}
	path, err := tasks.NewSpec(p.Plan, addr, dir, known, copies)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, path)
	return err
}

func (a *app) taskRunCommand() *cobra.Command {
	var threads int
	c := &cobra.Command{
		Use:   "run SPEC",
		Short: "Run the task of a specification; events as JSON lines",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if threads < 1 {
				return fmt.Errorf("--jobs %d: at least 1", threads)
			}
			return a.taskRun(c.Context(), args[0], threads)
		},
	}
	c.Flags().IntVar(&threads, "jobs", runtime.NumCPU(), "threads that the task may keep busy")
	return c
}

func (a *app) taskRun(ctx context.Context, path string, threads int) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	say := func(e tasks.SpecEvent) {
		enc.Encode(e) //nolint:errcheck // a closed pipe ends the process by its signal
	}
	s, err := tasks.ReadSpec(path)
	if err != nil {
		say(tasks.SpecEvent{Event: "failed", Time: a.now(), Error: err.Error()})
		return err
	}
	return s.Run(ctx, threads, say)
}
