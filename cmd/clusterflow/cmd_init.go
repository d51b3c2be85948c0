package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"clusterflow/studies"
)

func (a *app) initCommand() *cobra.Command {
	var name string
	var list bool
	c := &cobra.Command{
		Use:   "init [FOLDER]",
		Short: "Write a study to start from",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if list {
				for _, t := range studies.Templates() {
					fmt.Fprintf(a.out, "%-14s %s\n", t.Name, t.Doc)
				}
				return nil
			}
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			return a.init(dir, name)
		},
	}
	c.Flags().StringVar(&name, "template", "demo", "the `name` of the study to write")
	c.Flags().BoolVar(&list, "list", false, "list the templates")
	return c
}

// init writes a template's files. It writes none if one exists already.
func (a *app) init(dir, name string) error {
	files := studies.Template(name)
	if files == nil {
		var names []string
		for _, t := range studies.Templates() {
			names = append(names, t.Name)
		}
		if near := studies.Suggest(name, names); near != "" {
			return fmt.Errorf("there is no template %q; did you mean %q?", name, near)
		}
		return fmt.Errorf("there is no template %q; choose one of %s", name, strings.Join(names, ", "))
	}
	paths := slices.Sorted(maps.Keys(files))
	for _, p := range paths {
		if path := filepath.Join(dir, filepath.FromSlash(p)); fileExists(path) {
			return fmt.Errorf("%s exists already; nothing was written. Give another folder: clusterflow init FOLDER", path)
		}
	}
	study := ""
	for _, p := range paths {
		path := filepath.Join(dir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(path, files[p], 0o666); err != nil {
			return err
		}
		fmt.Fprintln(a.out, path)
		if strings.HasSuffix(p, ".hcl") {
			study = path
		}
	}
	fmt.Fprintf(a.out, "Next: clusterflow plan %s\n", study)
	return nil
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
