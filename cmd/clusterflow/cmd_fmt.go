package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"clusterflow/studies"
	"clusterflow/tasks"
)

func (a *app) fmtCommand() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "fmt STUDY…",
		Short: "Rewrite studies in the canonical layout",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			different := 0
			for _, path := range args {
				src, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				out, diags := studies.Format(src)
				if diags.HasErrors() {
					s, diags := studies.Parse(path, src, studies.Options{Environ: a.environ, Methods: tasks.MethodSpecs()})
					return a.printDiagnostics(path, s, diags)
				}
				if bytes.Equal(src, out) {
					continue
				}
				different++
				fmt.Fprintln(a.out, path)
				if check {
					continue
				}
				if err := replaceFile(path, out); err != nil {
					return err
				}
			}
			if check && different > 0 {
				return &exitError{exitFailed, fmt.Errorf("%s not in the canonical layout; run clusterflow fmt", count(different, "file is", "files are"))}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&check, "check", false, "change nothing; fail if a file would change")
	return c
}

// replaceFile writes a file at once, with the mode that it has.
func replaceFile(path string, content []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if _, err := temp.Write(content); err != nil {
		temp.Close()
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	if err := os.Chmod(temp.Name(), info.Mode().Perm()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
