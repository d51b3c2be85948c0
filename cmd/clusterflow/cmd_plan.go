package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/tasks"
)

// selection are the flags that choose nodes.
type selection struct {
	targets []string
	only    []string
	exclude []string
	force   []string
	saved   *graph.Saved // a saved plan, which has all of these
	cpu     bool         // models are not to run on a card
	brief   bool         // states and reasons are enough; see graph.Briefly
}

func (s *selection) add(c *cobra.Command) {
	c.Flags().StringSliceVar(&s.targets, "target", nil, "only these `addresses` and what they need; globs, ** for any number of parts")
	c.Flags().StringSliceVar(&s.only, "only", nil, "only these `kinds` of tasks (extract,train) and what they need")
	c.Flags().StringSliceVar(&s.exclude, "exclude", nil, "leave these `addresses` out, and what depends on them")
	c.Flags().StringSliceVar(&s.force, "force", nil, "run these `addresses` although they are cached, and compare the results")
}

func (a *app) planCommand() *cobra.Command {
	var flags studyFlags
	var sel selection
	var view planView
	var asJSON, detailed bool
	var out string
	c := &cobra.Command{
		Use:   "plan STUDY",
		Short: "Show what would run, and why; touches nothing",
		Args:  oneStudy,
		RunE: func(c *cobra.Command, args []string) error {
			study, err := a.openSaved(args[0], &flags, &sel)
			if err != nil {
				return err
			}
			sel.brief = out == "" && len(sel.force) == 0 && sel.saved == nil
			p, err := a.showPlan(c.Context(), study, &flags, &sel, &view, asJSON)
			if err == nil && out != "" {
				err = a.savePlan(out, p, &flags, &sel)
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
	c.Flags().StringVar(&out, "out", "", "save the plan in a `file`, for apply FILE")
	c.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 2 when there is work to do")
	return c
}

// planned is a plan with what its view needs.
type planned struct {
	*graph.Plan
	compiled  *tasks.Compiled
	durations *durations
	known     *cache.Reader
	cacheDir  string
	left      []*graph.Node // left out by --exclude
	disk      diskSpace
	trust     *approvals

	id      string   // of the study in the cache
	maxCost *float64 // of this apply
	pilot   int      // requests of each kind; 0: all
	cost    *money
	answers tasks.Answered
}

// showPlan makes a plan and prints it.
func (a *app) showPlan(ctx context.Context, study string, f *studyFlags, sel *selection, view *planView, asJSON bool) (*planned, error) {
	p, err := a.plan(ctx, study, f, sel)
	if err != nil {
		return nil, err
	}
	if asJSON {
		return p, writePlanJSON(a.out, p)
	}
	return p, view.write(a.out, p, a.colors(a.out), "nothing is run or sent")
}

// plan makes a plan without a lock: beside a running apply, or after a crash.
func (a *app) plan(ctx context.Context, study string, f *studyFlags, sel *selection) (*planned, error) {
	c, err := a.compile(ctx, study, f, nil)
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
	read := known.Run
	if sel.brief {
		read = known.ReadRun
	}
	last, err := read(id)
	if err != nil {
		return nil, err
	}
	if err := sel.sameVariables(c.Study.Vars); err != nil {
		return nil, err
	}
	nodes, left, err := sel.nodes(c.Graph)
	if err != nil {
		return nil, err
	}
	var from graph.Known = known
	if sel.brief {
		from = graph.Briefly(known)
	}
	p, err := graph.NewPlan(ctx, c.Graph, nodes, from, last)
	if err != nil {
		return nil, err
	}
	if err := sel.holds(p); err != nil {
		return nil, err
	}
	if err := p.Force(sel.force); err != nil {
		return nil, fmt.Errorf("--force: %w", err)
	}
	trust, err := a.approvals()
	if err != nil {
		return nil, err
	}
	return &planned{Plan: p, trust: trust, compiled: c, durations: measure(known, p, sel.cpu), known: known, cacheDir: dir, left: left, disk: a.space(p, dir), id: id}, nil
}

// nodes are the selected nodes of a graph, and those that --exclude left out of
// them.
func (s *selection) nodes(g *graph.Graph) (kept, left []*graph.Node, err error) {
	if s.saved != nil {
		nodes, changed := s.saved.Select(g)
		if len(changed) > 0 {
			return nil, nil, changedError(changed)
		}
		return nodes, nil, nil
	}
	nodes, err := g.Select(s.targets, s.only)
	if err != nil {
		return nil, nil, err
	}
	kept, left, err = g.Exclude(nodes, s.exclude)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("--exclude: %w", err)
	case len(kept) == 0:
		return nil, nil, fmt.Errorf("--exclude %s leaves nothing to do: everything else depends on what is left out", strings.Join(s.exclude, ","))
	}
	return kept, left, nil
}
