package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"clusterflow/tasks"
)

func (a *app) validateCommand() *cobra.Command {
	var f studyFlags
	c := &cobra.Command{
		Use:   "validate STUDY…",
		Short: "Check studies, with every mistake at once",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			bad := 0
			for _, path := range args {
				compiled, err := a.compile(c.Context(), path, &f, nil)
				if err != nil {
					fmt.Fprintln(a.err, "Error:", err)
					bad++
					continue
				}
				fmt.Fprintf(a.out, "%s is valid: %s\n", path, describe(compiled))
			}
			if bad > 0 {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
	f.add(c)
	return c
}

// describe is the size of a study in a line.
func describe(c *tasks.Compiled) string {
	kinds := map[string]int{}
	for _, n := range c.Graph.Nodes {
		kinds[n.Kind()]++
	}
	s := fmt.Sprintf("%s, %s", count(len(c.Graph.Nodes), "node", "nodes"), count(kinds["train"], "clustering", "clusterings"))
	if n := kinds["score"]; n > 0 {
		s += fmt.Sprintf(", graded %s", count(n, "time", "times"))
	}
	return s
}
