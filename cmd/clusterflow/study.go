package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"clusterflow/studies"
	"clusterflow/tasks"
)

// studyFlags are the flags of every command that reads a study.
type studyFlags struct {
	vars     []string
	varFiles []string
	cacheDir string
	stateDir string
}

func (f *studyFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.vars, "var", nil, "set a variable of the study, `name=value`; may be repeated")
	c.Flags().StringArrayVar(&f.varFiles, "var-file", nil, "read variables from a `file`; may be repeated")
	f.addCache(c)
}

func (f *studyFlags) addCache(c *cobra.Command) {
	c.Flags().StringVar(&f.cacheDir, "cache-dir", "", "the cache `folder` (default: $CLUSTERFLOW_CACHE, else .clusterflow beside the study)")
	c.Flags().StringVar(&f.stateDir, "state-dir", "", "keep the cache's database in this `folder`, for a cache on a network disk")
}

// oneStudy is the arguments of a command about one study.
func oneStudy(c *cobra.Command, args []string) error {
	switch {
	case len(args) > 1:
		return fmt.Errorf("%s takes one study, and these are %d: %s", c.Name(), len(args), strings.Join(args, " "))
	case len(args) == 1:
		return nil
	}
	found, _ := filepath.Glob("*.hcl")
	more, _ := filepath.Glob(filepath.Join("studies", "*.hcl"))
	found = append(found, more...)
	if len(found) == 0 {
		return fmt.Errorf("%s needs a study file; clusterflow init writes one", c.Name())
	}
	return fmt.Errorf("%s needs a study file; here are %s", c.Name(), strings.Join(found[:min(len(found), 8)], ", "))
}

// load decodes a study. Its mistakes are in the diagnostics; the error is that
// there is no such file.
func (a *app) load(path string, f *studyFlags) (*studies.Study, studies.Diagnostics, error) {
	if info, err := os.Stat(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("there is no study %s%s", path, suggestStudy(path))
		}
		return nil, nil, err
	} else if info.IsDir() {
		return nil, nil, fmt.Errorf("%s is a folder; name a study file in it%s", path, suggestStudy(filepath.Join(path, "x.hcl")))
	}
	s, diags := studies.Load(path, studies.Options{Vars: f.vars, VarFiles: f.varFiles, Environ: a.environ, Methods: tasks.MethodSpecs()})
	return s, diags, nil
}

// suggestStudy names the studies of a folder.
func suggestStudy(path string) string {
	found, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*.hcl"))
	switch {
	case len(found) == 0:
		return "; clusterflow init writes one"
	case len(found) > 8:
		found = found[:8]
	}
	names := make([]string, len(found))
	for i, p := range found {
		names[i] = filepath.Base(p)
	}
	if near := studies.Suggest(filepath.Base(path), names); near != "" {
		return "; did you mean " + filepath.Join(filepath.Dir(path), near) + "?"
	}
	return "; there are " + strings.Join(names, ", ")
}

// compile decodes a study and makes its graph; mistakes are printed and end
// the command. office may be nil.
func (a *app) compile(ctx context.Context, path string, f *studyFlags, office *tasks.Office) (*tasks.Compiled, error) {
	s, diags, err := a.load(path, f)
	if err != nil {
		return nil, err
	}
	var c *tasks.Compiled
	if !diags.HasErrors() {
		var more studies.Diagnostics
		c, more = tasks.Compile(ctx, s, office)
		diags = append(diags, more...)
	} else {
		diags = append(diags, elsewhere(tasks.Check(ctx, s), diags)...)
	}
	if err := a.printDiagnostics(path, s, diags); err != nil {
		return nil, err
	}
	return c, nil
}

// elsewhere leaves out diagnostics of places about which something was said
// already: the file behind a wrong value need not be looked for.
func elsewhere(diags, said studies.Diagnostics) studies.Diagnostics {
	return slices.DeleteFunc(diags, func(d *studies.Diagnostic) bool {
		return slices.ContainsFunc(said, func(s *studies.Diagnostic) bool {
			return d.Subject != nil && s.Subject != nil && *d.Subject == *s.Subject
		})
	})
}

// printDiagnostics prints every diagnostic; it returns an exit error if one of
// them is an error.
func (a *app) printDiagnostics(name string, s *studies.Study, diags studies.Diagnostics) error {
	if len(diags) == 0 {
		return nil
	}
	_, width := terminal(a.err)
	if width == 0 {
		width = 100
	}
	if err := studies.WriteDiagnostics(a.err, s, diags, width, a.colors(a.err)); err != nil {
		return err
	}
	if diags.HasErrors() {
		return &exitError{exitFailed, fmt.Errorf("%s in %s", count(len(diags.Errs()), "mistake", "mistakes"), name)}
	}
	return nil
}

// cachePath is the cache folder of a study.
func (a *app) cachePath(study string, f *studyFlags) string {
	switch {
	case f.cacheDir != "":
		return f.cacheDir
	case a.getenv("CLUSTERFLOW_CACHE") != "":
		return a.getenv("CLUSTERFLOW_CACHE")
	}
	return filepath.Join(filepath.Dir(study), ".clusterflow")
}

// studyID names a study within a cache: by its file, relative to the cache, so
// that a folder that is moved as a whole keeps its history.
func studyID(study, cacheDir string) string {
	abs, err1 := filepath.Abs(study)
	dir, err2 := filepath.Abs(cacheDir)
	rel := abs
	if err1 == nil && err2 == nil {
		if r, err := filepath.Rel(dir, abs); err == nil {
			rel = r
		}
	}
	sum := sha256.Sum256([]byte(filepath.ToSlash(rel)))
	base := strings.TrimSuffix(filepath.Base(study), filepath.Ext(study))
	return plainName(base) + "-" + hex.EncodeToString(sum[:4])
}

// plainName writes a dash for every run of characters that are not a letter of
// ASCII, a digit, a dash or a low line.
func plainName(s string) string {
	var b strings.Builder
	dash := false
	for _, r := range s {
		other := r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		switch {
		case !other:
			b.WriteRune(r)
		case !dash:
			b.WriteByte('-')
		}
		dash = other
	}
	return b.String()
}

// count is a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%s %s", thousands(n), many)
}
