package main

import (
	"context"

	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/tasks"
)

// selection are the flags that choose nodes.
type selection struct {
	targets []string
	only    []string
}

func (s *selection) add(c *cobra.Command) {
	c.Flags().StringSliceVar(&s.targets, "target", nil, "only these `addresses` and what they need; globs, ** for any number of parts")
	c.Flags().StringSliceVar(&s.only, "only", nil, "only these `kinds` of tasks (extract,train) and what they need")
}

func (a *app) planCommand() *cobra.Command {
	var flags studyFlags
	var sel selection
	var view planView
	var asJSON, detailed bool
	c := &cobra.Command{
		Use:   "plan STUDY",
		Short: "Show what would run, and why; touches nothing",
		Args:  oneStudy,
		RunE: func(c *cobra.Command, args []string) error {
			p, err := a.plan(c.Context(), args[0], &flags, &sel)
			if err != nil {
				return err
			}
			if asJSON {
				err = writePlanJSON(a.out, p)
			} else {
				err = view.write(a.out, p, a.colors(a.out), "nothing is run or sent")
			}
			if err == nil && detailed && p.Work() {
				return &exitError{code: exitWork}
			}
			return err
		},
	}
	flags.add(c)
	sel.add(c)
	view.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the plan as JSON")
	c.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 2 when there is work to do")
	return c
}

// planned is a plan with what its view needs.
type planned struct {
	*graph.Plan
	compiled  *tasks.Compiled
	durations durations
	cacheDir  string
}

// plan makes a plan without a lock: beside a running apply, or after a crash.
func (a *app) plan(ctx context.Context, study string, f *studyFlags, sel *selection) (*planned, error) {
	c, err := a.compile(study, f, nil)
	if err != nil {
		return nil, err
	}
	dir := a.cachePath(study, f)
	known, err := cache.OpenReader(dir)
	if err != nil {
		return nil, err
	}
	return a.planWith(ctx, c, known, studyID(study, dir), dir, sel)
}

func (a *app) planWith(ctx context.Context, c *tasks.Compiled, known *cache.Reader, id, dir string, sel *selection) (*planned, error) {
	last, err := known.Run(id)
	if err != nil {
		return nil, err
	}
	nodes, err := c.Graph.Select(sel.targets, sel.only)
	if err != nil {
		return nil, err
	}
	p, err := graph.NewPlan(ctx, c.Graph, nodes, known, last)
	if err != nil {
		return nil, err
	}
	return &planned{p, c, measure(known), dir}, nil
}
