package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) trustCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "trust [HOST VARIABLE]",
		Short: "Approve a host for the key in an environment variable, or list what is approved",
		Long: "A study names hosts that get sentences, and the variables whose keys they get. apply sends\n" +
			"nothing to a pair of the two that you have not approved, here or when it asks; --yes is not\n" +
			"enough. api.openai.com with OPENAI_API_KEY counts as approved, and so does this machine.\n" +
			"Without arguments trust lists the pairs and names the file to take them out of.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 2 {
				return fmt.Errorf("give a host and the name of a variable, such as: clusterflow trust api.example.org MY_KEY")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			known, err := a.approvals()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				for _, p := range slices.SortedFunc(maps.Keys(known.pairs), func(x, y pair) int { return strings.Compare(x.String(), y.String()) }) {
					fmt.Fprintln(a.out, p)
				}
				if known.path != "" {
					fmt.Fprintf(a.out, "\nkept in %s; delete a line there to take it back\n", known.path)
				}
				return nil
			}
			p, err := trustedPair(args[0], args[1])
			if err != nil {
				return err
			}
			if known.pairs[p] {
				fmt.Fprintf(a.out, "%s was approved for the key in $%s already\n", p.host, p.keyEnv)
				return nil
			}
			if err := known.add([]pair{p}); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s is approved for the key in $%s\n", p.host, p.keyEnv)
			return nil
		},
	}
}
