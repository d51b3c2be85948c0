package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/internal/judge"
	"clusterflow/internal/price"
	"clusterflow/tasks"
)

// askedFilter says which requests are meant.
type askedFilter struct {
	cluster, rep int // -1: any
	task         string
	failed       bool // only those whose answer cannot be used at all
	most         int
	asJSON       bool
}

func (q *askedFilter) add(c *cobra.Command) {
	c.Flags().IntVar(&q.cluster, "cluster", -1, "only requests about this cluster, from 0")
	c.Flags().IntVar(&q.rep, "rep", -1, "only this repetition, from 0")
	c.Flags().StringVar(&q.task, "metric", "", "only requests of this `kind`: title, accuracy, completeness, fit or similarity")
}

// choose leaves the requests that are meant.
func (q *askedFilter) choose(all []askedOf) ([]askedOf, error) {
	if q.task != "" && !slices.Contains(judge.Tasks, q.task) {
		return nil, fmt.Errorf("--metric %s: one of %s", q.task, strings.Join(judge.Tasks, ", "))
	}
	var trouble error
	for i := range all {
		n := &all[i]
		n.asked = slices.DeleteFunc(n.asked, func(r tasks.Asked) bool {
			if q.cluster >= 0 && (q.cluster >= n.clusters || !r.About(q.cluster)) || q.rep >= 0 && r.Rep != q.rep || q.task != "" && r.Task != q.task {
				return true
			}
			if !q.failed {
				return false
			}
			v, _, err := r.Verdict()
			trouble = cmp.Or(trouble, err)
			return !v.Bad()
		})
	}
	return all, trouble
}

// none says that the filter leaves nothing.
func (q *askedFilter) none() error {
	if q.failed {
		return errors.New("no answer like that has failed")
	}
	return errors.New("no request is like that; leave out --cluster, --rep or --metric to see what there is")
}

func (a *app) promptsCommand() *cobra.Command {
	return a.askedCommand("prompts", "Show the exact requests of a clustering, as they are sent; nothing is sent",
		"The requests of ADDRESS, such as r1/12/gmm/20, as far as the study has been applied: those for titles\nonce it is trained, those that grade once it has titles.", false)
}

func (a *app) askedCommand(name, short, long string, answered bool) *cobra.Command {
	var f studyFlags
	var q askedFilter
	c := &cobra.Command{
		Use: name + " STUDY ADDRESS", Short: short, Long: long, Args: studyAndAddress,
		RunE: func(c *cobra.Command, args []string) error {
			if q.most < 1 {
				return fmt.Errorf("--most %d: at least 1", q.most)
			}
			p, known, err := a.look(c.Context(), args[0], &f)
			if err != nil {
				return err
			}
			all, err := gatherAsked(p, known.Blobs(), args[0], args[1], answered)
			if err != nil {
				return err
			}
			if all, err = q.choose(all); err != nil {
				return err
			}
			return a.writeAsked(all, q, answered, p.pastAnswers())
		},
	}
	f.add(c)
	q.add(c)
	if answered {
		c.Flags().BoolVar(&q.failed, "failed", false, failedUsage)
	}
	c.Flags().IntVar(&q.most, "most", 3, "print so many `requests` in full")
	c.Flags().BoolVar(&q.asJSON, "json", false, "print all that were chosen, one JSON object a line")
	return c
}

// askedOf is the requests of one node.
type askedOf struct {
	addr     string
	clusters int
	asked    []tasks.Asked
	await    *graph.Step // that sees to them; nil in a part of a study without it
}

// gatherAsked reads the requests of all submit nodes at or below an address.
func gatherAsked(p *planned, blobs *cache.Blobs, study, addr string, answered bool) ([]askedOf, error) {
	addr = strings.Trim(addr, "/")
	awaits := map[*graph.Node]*graph.Step{}
	var submits []*graph.Step
	for _, s := range p.Steps {
		switch s.Node.Kind() {
		case "submit-titles", "submit-eval":
			if s.Node.Addr == addr || strings.HasPrefix(s.Node.Addr, addr+"/") {
				submits = append(submits, s)
			}
		case "await-titles", "await-eval":
			for _, in := range s.Node.Inputs {
				awaits[in.From] = s
			}
		}
	}
	if len(submits) == 0 {
		s, err := findStep(p, study, addr)
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s asks nobody anything; give the address of a clustering, such as r1/12/gmm/20, or of a submit node", s.Node.Addr)
	}
	var out []askedOf
	for _, s := range submits {
		record := s.Record
		if s.State != graph.Cached || record == nil {
			continue // its requests are not known yet
		}
		w := awaits[s.Node]
		var await *cache.Record
		if answered && w != nil && w.State == graph.Cached {
			await = w.Record
		}
		asked, err := tasks.ReadAsked(blobs, record, await)
		if err != nil {
			return nil, fmt.Errorf("the requests of %s: %w; apply the study to make them again", s.Node.Addr, err)
		}
		clusters, _ := strconv.Atoi(s.Node.Attr("clusters"))
		out = append(out, askedOf{s.Node.Addr, clusters, asked, w})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no request of %s is known as the study stands: it is trained first, and titled before it is graded; run clusterflow apply %s", addr, study)
	}
	return out, nil
}

func (a *app) writeAsked(all []askedOf, q askedFilter, answered bool, past tasks.Answered) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	total, shown := 0, 0
	var costs []tasks.Ask
	for _, n := range all {
		total += len(n.asked)
		for i := range n.asked {
			cost, ok := n.cost(&n.asked[i], past)
			if ok {
				costs = append(costs, cost)
			}
			if q.asJSON {
				if err := enc.Encode(&n.asked[i]); err != nil {
					return err
				}
				continue
			}
			if shown == q.most {
				continue
			}
			shown++
			about := ""
			if ok {
				about = " · " + costText([]tasks.Ask{cost})
			}
			if err := writeRequest(a.out, n.addr, &n.asked[i], answered, about); err != nil {
				return err
			}
		}
	}
	switch {
	case total == 0:
		return q.none()
	case !q.asJSON && total > shown:
		fmt.Fprintf(a.out, "%s of %s shown; --most N shows more, --json all\n", thousands(shown), count(total, "request", "requests"))
	}
	if len(costs) > 1 && !q.asJSON {
		fmt.Fprintf(a.out, "%s: %s\n", count(len(costs), "request", "requests"), costText(costs))
	}
	return nil
}

// cost is what one of the requests costs, false where it costs nothing.
func (n *askedOf) cost(r *tasks.Asked, past tasks.Answered) (tasks.Ask, bool) {
	if n.await == nil {
		return tasks.Ask{}, false
	}
	return r.Cost(n.await.Node, past)
}

// costText says how many tokens requests have, and what they cost.
func costText(asks []tasks.Ask) string {
	var prompt, answer int64
	for _, a := range asks {
		prompt, answer = prompt+a.Prompt, answer+a.Expected
	}
	text := fmt.Sprintf("%s + about %s tokens", tokens(prompt), tokens(answer))
	if expected, most, unpriced := tasks.Total(asks); len(unpriced) == 0 && most > 0 {
		text += fmt.Sprintf(" · about %s, at most %s", price.Dollars(expected), price.Dollars(most))
	}
	return text
}

// writeRequest prints a request, and its answer if it is asked for.
func writeRequest(w io.Writer, addr string, r *tasks.Asked, answered bool, cost string) error {
	messages, err := r.Messages()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "── %s · %s · %s · repetition %d · %.12s%s\n", addr, r.Task, r.Subject(), r.Rep, r.Key, cost)
	for _, m := range messages {
		fmt.Fprintf(w, "[%s]\n%s\n", m[0], strings.TrimRight(m[1], "\n"))
	}
	if answered {
		switch a := r.Answer; {
		case a == nil:
			fmt.Fprintln(w, "[no answer yet]")
		case a.Status != batch.StatusOK:
			fmt.Fprintf(w, "[failed: %s]\n", a.Error)
		case a.Refusal != "":
			fmt.Fprintf(w, "[refused]\n%s\n", a.Refusal)
		default:
			fmt.Fprintf(w, "[answer of %s]\n%s\n", a.Model, strings.TrimRight(a.Content, "\n"))
		}
	}
	fmt.Fprintln(w)
	return nil
}
