package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"clusterflow/internal/judge"
	"clusterflow/tasks"
)

// release is the version of this source tree.
const release = "0.1.0"

// version is the release, with the commit where the build knows it.
func version() string {
	v := release
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			v += "+" + s.Value[:12]
		}
	}
	return v
}

func (a *app) versionCommand() *cobra.Command {
	var kinds bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(*cobra.Command, []string) {
			fmt.Fprintf(a.out, "clusterflow %s %s/%s %s, prompts %s\n", version(), runtime.GOOS, runtime.GOARCH, runtime.Version(), judge.PromptVersion)
			if kinds {
				for _, k := range tasks.Kinds {
					fmt.Fprintf(a.out, "%-14s version %s  %s\n", k.Name, k.Version, k.Doc)
				}
			}
		},
	}
	c.Flags().BoolVar(&kinds, "tasks", false, "list the kinds of tasks with their code versions")
	return c
}
