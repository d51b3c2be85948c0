package main

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"clusterflow/internal/judge"
	"clusterflow/tasks"
)

func (a *app) titlesCommand() *cobra.Command {
	var f studyFlags
	var rep int
	c := &cobra.Command{
		Use:   "titles STUDY ADDRESS",
		Short: "Print the titles of clusterings as a file that can be edited and used again",
		Long: "The titles at or below ADDRESS, such as r1/12/gmm/20, as JSON lines. Edited, they serve as\n" +
			"  titles \"hand\" {\n    file = \"titles.jsonl\"\n  }",
		Args: studyAndAddress,
		RunE: func(c *cobra.Command, args []string) error {
			p, known, err := a.look(c.Context(), args[0], &f)
			if err != nil {
				return err
			}
			all, err := gatherAsked(p, known.Blobs(), args[0], args[1], true)
			if err != nil {
				return err
			}
			return a.printTitles(p, all, rep)
		},
	}
	f.add(c)
	c.Flags().IntVar(&rep, "rep", 0, "the repetition, from 0; -1 prints all of them")
	return c
}

func (a *app) printTitles(p *planned, all []askedOf, rep int) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	printed := 0
	for _, n := range all {
		node := p.Graph.Node(n.addr)
		model, method := node.Attr("model"), node.Attr("method")
		layer, err := strconv.Atoi(node.Attr("layer"))
		if err != nil {
			return err
		}
		for i := range n.asked {
			r := &n.asked[i]
			if r.Task != judge.TaskTitle || r.Answer == nil || rep >= 0 && r.Rep != rep {
				continue
			}
			title, description, err := judge.ParseTitle(r.Answer.Content)
			if err != nil {
				continue // the cluster has no title
			}
			out := tasks.FixedTitle{
				Cluster: r.Cluster, Title: title, Description: description,
				Model: &model, Layer: &layer, Method: &method, Clusters: &n.clusters,
			}
			if rep < 0 {
				out.Rep = &r.Rep
			}
			if err := enc.Encode(out); err != nil {
				return err
			}
			printed++
		}
	}
	if printed == 0 {
		return errors.New("there are no titles yet; apply the study first, or give another --rep")
	}
	return nil
}
