package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"clusterflow/graph"
)

// savePlan writes a plan for apply FILE.
func (a *app) savePlan(path string, p *planned, f *studyFlags, sel *selection) error {
	s := p.compiled.Study
	saved := &graph.Saved{
		Release: version(), Created: a.now().UTC().Truncate(1e9),
		Source: string(s.Source), Variables: s.Vars, Vars: f.vars, Force: sel.force,
	}
	var err error
	abs := func(path string) string {
		if path == "" {
			return ""
		}
		full, absErr := filepath.Abs(path)
		err = errors.Join(err, absErr)
		return full
	}
	saved.File, saved.CacheDir, saved.StateDir = abs(s.File), abs(p.cacheDir), abs(f.stateDir)
	for _, v := range f.varFiles {
		saved.VarFiles = append(saved.VarFiles, abs(v))
	}
	if err != nil {
		return err
	}
	if err := p.Save(saved); err != nil {
		return err
	}
	if err := saved.Write(path); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.err, "saved; run exactly this with: clusterflow apply %s\n", path)
	return err
}

// openSaved returns the study of a saved plan and sets the flags and the
// selection to the plan's. Any other file is a study, and returned as it is.
func (a *app) openSaved(path string, f *studyFlags, sel *selection) (study string, err error) {
	switch is, err := graph.IsSaved(path); {
	case errors.Is(err, fs.ErrNotExist), err == nil && !is:
		return path, nil // what is wrong with a study is said where it is read
	case err != nil:
		return "", err
	}
	for name, given := range map[string]bool{
		"--var": len(f.vars) > 0, "--var-file": len(f.varFiles) > 0, "--target": len(sel.targets) > 0, "--only": len(sel.only) > 0,
		"--exclude": len(sel.exclude) > 0, "--force": len(sel.force) > 0,
	} {
		if given {
			return "", fmt.Errorf("%s is a saved plan, which says itself what is run: give %s when it is made", path, name)
		}
	}
	s, err := graph.ReadSaved(path)
	if err != nil {
		return "", err
	}
	now, err := os.ReadFile(s.File)
	if err != nil {
		return "", fmt.Errorf("the study of the saved plan %s: %w", path, err)
	}
	if !bytes.Equal(now, []byte(s.Source)) {
		return "", changedError{textChange(s.File, s.Source, string(now))}
	}
	sel.saved, sel.force = s, s.Force
	f.vars, f.varFiles = s.Vars, s.VarFiles
	if f.cacheDir == "" && a.getenv("CLUSTERFLOW_CACHE") == "" {
		f.cacheDir = relative(s.CacheDir)
	}
	if f.stateDir == "" {
		f.stateDir = s.StateDir
	}
	return relative(s.File), nil
}

// relative is a path as it reads from here, if it is below.
func relative(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// textChange says where a study differs from its saved text.
func textChange(file, was, now string) string {
	a, b := strings.Split(was, "\n"), strings.Split(now, "\n")
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	at := func(ls []string) string {
		if i < len(ls) {
			return fmt.Sprintf("%.60q", strings.TrimSpace(ls[i]))
		}
		return "the end"
	}
	return fmt.Sprintf("%s: line %d was %s, is %s", relative(file), i+1, at(a), at(b))
}

// holds refuses a plan of a saved plan's nodes if something has changed since.
func (s *selection) holds(p *graph.Plan) error {
	if s.saved == nil {
		return nil
	}
	if changed := s.saved.Changed(p); len(changed) > 0 {
		return changedError(changed)
	}
	return nil
}

// sameVariables refuses other values of the study's variables.
func (s *selection) sameVariables(now map[string]string) error {
	if s.saved == nil {
		return nil
	}
	var changed changedError
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if was, ok := s.saved.Variables[name]; !ok || was != now[name] {
			changed = append(changed, fmt.Sprintf("variable %s was %s, is %s", name, was, now[name]))
		}
	}
	if len(changed) > 0 {
		return changed
	}
	return nil
}

// changedError lists what is no longer as a saved plan has it.
type changedError []string

func (e changedError) Error() string {
	const most = 12
	lines := slices.Clone(e)
	if len(lines) > most {
		lines = append(lines[:most], fmt.Sprintf("… and %d more", len(e)-most))
	}
	return "the saved plan no longer holds, and nothing was run:\n  " + strings.Join(lines, "\n  ") + "\nmake a new one with plan --out"
}
