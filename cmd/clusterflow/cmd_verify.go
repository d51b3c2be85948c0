package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/tasks"
)

func (a *app) verifyCommand() *cobra.Command {
	var flags studyFlags
	var sel selection
	var sample string
	var seed int64
	var jobs int
	c := &cobra.Command{
		Use:   "verify STUDY",
		Short: "Run cached nodes again in scratch and compare",
		Long: "verify runs a sample of the study's cached nodes again, in a folder of its own, and\n" +
			"compares what they make with what lies in the cache: bit by bit, or, where another\n" +
			"library or processor computed it than does so now, within the tolerance of\n" +
			"docs/verify.md. The cache is only read. Nodes that wait for answers are left out:\n" +
			"answers are not reproducible.",
		Args: oneStudy,
		RunE: func(c *cobra.Command, args []string) error {
			if jobs < 1 {
				return fmt.Errorf("--jobs %d: at least 1", jobs)
			}
			if !c.Flags().Changed("seed") {
				seed = a.now().UnixNano() % 1_000_000
			}
			return a.verify(c.Context(), args[0], &flags, &sel, sample, seed, jobs)
		},
	}
	flags.add(c)
	sel.add(c)
	c.Flags().StringVar(&sample, "sample", "5%", "how many of the cached nodes: a `share` such as 5%, or a number; at least one of each kind")
	c.Flags().Int64Var(&seed, "seed", 0, "which nodes are drawn (default: others each time)")
	c.Flags().IntVar(&jobs, "jobs", runtime.NumCPU(), "threads that a task may keep busy")
	return c
}

func (a *app) verify(ctx context.Context, study string, f *studyFlags, sel *selection, sample string, seed int64, jobs int) (err error) {
	share, number, err := sampleSize(sample)
	if err != nil {
		return err
	}
	p, err := a.plan(ctx, study, f, sel)
	if err != nil {
		return err
	}
	able, left := verifiable(p.Plan)
	if len(able) == 0 {
		return fmt.Errorf("%s has no cached node to run again; apply it first", study)
	}
	if share > 0 {
		number = int(math.Ceil(share * float64(len(able))))
	}
	steps := draw(able, number, seed)
	scratch, remove, err := verifyScratch(p.cacheDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	fmt.Fprintf(a.out, "%s of %s that can be run again (--seed %d)", count(len(steps), "node", "nodes"), thousands(len(able)), seed)
	if left > 0 {
		fmt.Fprintf(a.out, "; %s left out: not cached, dropped, or answers of an evaluator", count(left, "node", "nodes"))
	}
	fmt.Fprintln(a.out)
	a.working.Store(true)
	v := graph.Verifier{From: cache.OpenBlobs(p.cacheDir), Scratch: cache.OpenBlobs(scratch), Threads: jobs, Near: tasks.Near}
	same, near, differ, failed := 0, 0, 0, 0
	err = v.Verify(ctx, p.Plan, steps, func(r graph.Verdict) {
		switch {
		case r.Err != nil:
			failed++
			fmt.Fprintf(a.out, "  failed     %s: %v\n", r.Step.Node.Addr, r.Err)
		case len(r.Differ)+len(r.Near) == 0:
			same++
		case len(r.Differ) == 0:
			near++
			fmt.Fprintf(a.out, "  near       %s%s\n", r.Step.Node.Addr, otherBackend(r))
			for _, d := range r.Near {
				fmt.Fprintf(a.out, "             %s: %s\n", d.Output, d.How)
			}
		default:
			differ++
			fmt.Fprintf(a.out, "  differs    %s%s\n", r.Step.Node.Addr, otherBackend(r))
			for _, d := range r.Differ {
				fmt.Fprintf(a.out, "             %s\n", otherBytes(d))
			}
		}
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s the same to the bit · ", thousands(same))
	if near > 0 {
		fmt.Fprintf(a.out, "%s near, as another backend may be · ", thousands(near))
	}
	fmt.Fprintf(a.out, "%s not · %s failed\n", thousands(differ), thousands(failed))
	if differ+failed > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

// verifiable are the cached steps whose inputs are all there, and how many
// others there are.
func verifiable(p *graph.Plan) (able []*graph.Step, left int) {
	whole := map[*graph.Node]bool{}
	for _, s := range p.Steps {
		whole[s.Node] = s.State == graph.Cached && !s.Dropped
		ok := s.State == graph.Cached && !strings.HasPrefix(s.Node.Kind(), "await-")
		for _, in := range s.Node.Inputs {
			ok = ok && whole[in.From]
		}
		if ok {
			able = append(able, s)
		} else {
			left++
		}
	}
	return able, left
}

// draw chooses n steps, and at least one of each kind, by the seed and their
// addresses alone; in the order of the plan.
func draw(able []*graph.Step, n int, seed int64) []*graph.Step {
	rank := func(s *graph.Step) uint64 {
		sum := cache.Sum(fmt.Appendf(nil, "verify %d %q", seed, s.Node.Addr))
		return binary.BigEndian.Uint64(sum[:8])
	}
	order := slices.Clone(able)
	slices.SortStableFunc(order, func(a, b *graph.Step) int { return cmp.Compare(rank(a), rank(b)) })
	drawn, kinds := map[*graph.Step]bool{}, map[string]bool{}
	for _, s := range order {
		if !kinds[s.Node.Kind()] {
			kinds[s.Node.Kind()], drawn[s] = true, true
		}
	}
	for _, s := range order {
		if len(drawn) >= n {
			break
		}
		drawn[s] = true
	}
	return slices.DeleteFunc(slices.Clone(able), func(s *graph.Step) bool { return !drawn[s] })
}

// sampleSize reads --sample: a share of 1, or a number of nodes.
func sampleSize(text string) (share float64, number int, err error) {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		v, err := strconv.ParseFloat(percent, 64)
		if err == nil && v > 0 && v <= 100 {
			return v / 100, 0, nil
		}
	} else if n, err := strconv.Atoi(text); err == nil && n > 0 {
		return 0, n, nil
	}
	return 0, 0, fmt.Errorf("--sample %s: give a share such as 5%%, up to 100%%, or a number of nodes", text)
}

// verifyScratch makes a folder for the outputs: in the cache, where there is
// room for what lies there already, or with the system's temporary files where
// the cache is read-only.
func verifyScratch(cacheDir string) (string, func() error, error) {
	dir, err := os.MkdirTemp(filepath.Join(cacheDir, "scratch"), "verify-*")
	if err != nil {
		if dir, err = os.MkdirTemp("", "clusterflow-verify-*"); err != nil {
			return "", nil, err
		}
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

func otherBackend(r graph.Verdict) string {
	was := r.Step.Record.Backend
	if was == r.Backend {
		return ""
	}
	return fmt.Sprintf(": made by %s, and now by %s", cmp.Or(was, "an unnamed backend"), cmp.Or(r.Backend, "an unnamed backend"))
}

func otherBytes(d graph.Difference) string {
	switch {
	case d.How != "":
		return d.Output + ": " + d.How
	case d.Now.Digest.IsZero():
		return d.Output + " was not made this time"
	case d.Was.Digest.IsZero():
		return d.Output + " was not made before"
	case d.At >= 0:
		return fmt.Sprintf("%s from byte %d on: %s, %d bytes, now %s, %d bytes", d.Output, d.At, d.Was.Digest.Short(), d.Was.Size, d.Now.Digest.Short(), d.Now.Size)
	}
	return fmt.Sprintf("%s: %s, %d bytes, now %s, %d bytes", d.Output, d.Was.Digest.Short(), d.Was.Size, d.Now.Digest.Short(), d.Now.Size)
}
