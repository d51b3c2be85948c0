package tasks

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"clusterflow/cache"
	"clusterflow/internal/judge"
	"clusterflow/studies"
)

// errOwnWording is why only apply can run a task with a wording of the study's.
var errOwnWording = errors.New("the study has a wording of its own, of which the specification has only the digest: run this task with apply")

// wordingOf reads a study's wording; nil for ours.
func wordingOf(v studies.Value[string]) (*judge.Wording, error) {
	if !v.Set {
		return nil, nil
	}
	w, err := judge.NewWording(v.V)
	if err != nil {
		return nil, fmt.Errorf("prompt (%s): %w", v.Origin(), err)
	}
	return w, nil
}

// reword gives a prompt a study's wording.
func reword(v studies.Value[string], p judge.Prompt) (judge.Prompt, error) {
	w, err := wordingOf(v)
	if err != nil {
		return p, err
	}
	out, err := w.Reword(p)
	if err != nil {
		return p, fmt.Errorf("prompt (%s): %w", v.Origin(), err)
	}
	return out, nil
}

// wordingFor is the wording of an evaluation's questions of a kind.
func wordingFor(e *studies.Evaluation, task string) studies.Value[string] {
	switch task {
	case judge.TaskAccuracy:
		return e.Accuracy.Prompt
	case judge.TaskCompleteness, judge.TaskFit:
		return e.Completeness.Prompt
	}
	return e.Orthogonality.Prompt
}

// wordingParam names a wording in a key by its digest, where there is one.
func wordingParam(p *params, label string, v studies.Value[string]) {
	if v.Set {
		p.add(label, cache.Sum([]byte(v.V)).String(), v.Origin())
	}
}

// checkWordings tries the wordings of a study.
func checkWordings(study *studies.Study) studies.Diagnostics {
	var diags studies.Diagnostics
	try := func(v studies.Value[string]) {
		if !v.Set {
			return
		}
		if _, err := judge.NewWording(v.V); err != nil {
			diags = append(diags, study.Errorf(v.Range, "Prompt cannot be used",
				inWording(study, v, err)+". A prompt is a template with {{.Data}}, which it needs, {{.Form}}, {{.Title}}, {{.Description}} and {{.Examples}}."))
		}
	}
	for _, t := range study.Titles {
		try(t.Prompt)
	}
	for _, e := range study.Evaluations {
		try(e.Accuracy.Prompt)
		try(e.Completeness.Prompt)
		try(e.Orthogonality.Prompt)
	}
	return diags
}

var fileCall = regexp.MustCompile(`^file\(\s*"([^"\\$%]+)"\s*\)$`)

// inWording says where a wording is wrong: by file and line, if the study takes
// it from a file that it names there.
func inWording(study *studies.Study, v studies.Value[string], err error) string {
	m := fileCall.FindStringSubmatch(string(v.Range.SliceBytes(study.Source)))
	if m == nil {
		return strings.TrimSuffix(sentence(err), ".")
	}
	if line, ok := strings.CutPrefix(err.Error(), "line "); ok {
		return m[1] + ":" + line
	}
	return m[1] + ": " + err.Error()
}
