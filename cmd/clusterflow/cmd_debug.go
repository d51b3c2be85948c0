package main

import "github.com/spf13/cobra"

// debugCommand groups what shows the parts of extraction one at a time. It is
// not listed by help: its output is for checking this program against others.
func (a *app) debugCommand() *cobra.Command {
	c := &cobra.Command{
		Use:    "debug",
		Short:  "Run one part of extraction by itself, to compare it with another program's",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE:   func(c *cobra.Command, args []string) error { return c.Help() },
	}
	c.AddCommand(
		a.debugTokenizeCommand(),
		a.debugSentencesCommand(),
		a.debugStatesCommand(),
	)
	return c
}
