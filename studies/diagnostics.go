package studies

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
)

// Errorf makes an error about a place in the study, so that checks outside
// this package read like its own. A zero range gives an error without a place.
// Neither text is a format.
func (s *Study) Errorf(at Range, summary, detail string) *hcl.Diagnostic {
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail}
	if at != (Range{}) {
		d.Subject = &at
	}
	return d
}

// Warningf is Errorf for what is worth saying and stops nothing.
func (s *Study) Warningf(at Range, summary, detail string) *hcl.Diagnostic {
	d := s.Errorf(at, summary, detail)
	d.Severity = hcl.DiagWarning
	return d
}

// WriteDiagnostics writes diags in reading order, with snippets of the files
// that s was read from; s may be nil, then without snippets. Text is wrapped at width columns,
// not at all for 0.
func WriteDiagnostics(w io.Writer, s *Study, diags Diagnostics, width int, color bool) error {
	var files map[string]*hcl.File
	if s != nil {
		files = s.files
		diags = sorted(diags, s.File)
	}
	return hcl.NewDiagnosticTextWriter(w, files, uint(max(width, 0)), color).WriteDiagnostics(diags)
}

// sorted orders diagnostics as one reads: those without a place, then those of
// the study by position, then those of other sources (variables) by name.
// What is said twice of one place is kept once.
func sorted(diags Diagnostics, file string) Diagnostics {
	rank := func(d *hcl.Diagnostic) (int, Range) {
		switch {
		case d.Subject == nil:
			return 0, Range{}
		case d.Subject.Filename == file:
			return 1, *d.Subject
		default:
			return 2, *d.Subject
		}
	}
	compare := func(a, b *hcl.Diagnostic) int {
		ai, ar := rank(a)
		bi, br := rank(b)
		return cmp.Or(
			cmp.Compare(ai, bi),
			cmp.Compare(ar.Filename, br.Filename),
			cmp.Compare(ar.Start.Byte, br.Start.Byte),
			cmp.Compare(ar.End.Byte, br.End.Byte),
			cmp.Compare(a.Summary, b.Summary),
			cmp.Compare(a.Detail, b.Detail),
		)
	}
	diags = slices.Clone(diags)
	slices.SortStableFunc(diags, compare)
	return slices.CompactFunc(diags, func(a, b *hcl.Diagnostic) bool { return compare(a, b) == 0 })
}

// Suggest finds the known word that word was probably meant to be, or "".
// Case and the choice of - or _ do not count as differences; nearer spellings
// win, then words that contain it, then the order of known. A known word needs
// no suggestion.
func Suggest(word string, known []string) string {
	if slices.Contains(known, word) {
		return ""
	}
	fold := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	w := fold(word)
	limit := min(3, max(1, len(w)/3))
	best, bestDistance := "", limit+1
	for _, k := range known {
		if d := levenshtein.Distance(w, fold(k), nil); d < bestDistance && d < len(w) {
			best, bestDistance = k, d
		}
	}
	if best != "" || len(w) < 3 {
		return best
	}
	for _, k := range known {
		if f := fold(k); strings.Contains(f, w) || (len(f) >= 3 && strings.Contains(w, f)) {
			return k
		}
	}
	return ""
}

// didYouMean is a sentence to put after another, or "". Names are shown
// through quote, e.g. %q for strings or "var.%s" for references.
func didYouMean(word string, known []string, format string) string {
	s := Suggest(word, known)
	if s == "" {
		return ""
	}
	return fmt.Sprintf(" Did you mean "+format+"?", s)
}

// listing names what there is: "There is a, b and c." in the words of a
// sentence, or none when the list is long or empty.
func listing(intro string, known []string, format string) string {
	if len(known) == 0 || len(known) > 16 {
		return ""
	}
	words := make([]string, len(known))
	for i, k := range known {
		words[i] = fmt.Sprintf(format, k)
	}
	return " " + intro + " " + strings.Join(words, ", ") + "."
}

// either writes alternatives: "a", "b" or "c".
func either(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}

// an puts the article before a block type.
func an(noun string) string {
	if strings.ContainsRune("aeiou", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}
