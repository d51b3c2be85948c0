package studies

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse holds that no bytes bring the decoder down, that it says the same
// each time, and that a study without errors has what its users rely on.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"*.hcl", "testdata/*.hcl"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
		}
	}
	f.Add([]byte(wholeStudy))
	f.Add([]byte("\xef\xbb\xbfstudy {}"))
	f.Add([]byte("study { name = jsonencode(model) }\nlocals {\na = toset([model.m])\n}\nmodel \"m\" {}"))
	f.Add([]byte("variable \"a\" {\ntype = object({a=optional(list(any))})\ndefault = {}\n}\nmethod \"gmm\" { n_init = var.a }"))
	f.Add([]byte("activations \"a\" {\nfiles = { for k, v in {a = 1} : k => v }\nmean = { (null) = 1 }\n}"))
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "d.json"), nil, 0o644); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(frame("", "")))

	f.Fuzz(func(t *testing.T, src []byte) {
		opt := Options{Methods: testMethods(), Vars: []string{"judge=[1,", "a={}"}}
		file := filepath.Join(dir, "s.hcl")
		s, diags := Parse(file, src, opt)
		if s == nil || s.Report == nil {
			t.Fatal("no study")
		}
		said := rendered(t, s, diags)
		if again, diags := Parse(file, src, opt); rendered(t, again, diags) != said {
			t.Fatal("the second reading reports something else")
		}
		if formatted, diags := Format(src); !diags.HasErrors() {
			if _, diags := Format(formatted); diags.HasErrors() {
				t.Fatalf("formatting broke the file: %v", diags)
			}
		} else if !bytes.Equal(formatted, src) {
			t.Fatal("a broken file was changed")
		}
		if diags.HasErrors() {
			return
		}
		if s.Name.V == "" || len(s.Grids) == 0 || len(s.Models)+len(s.Activations) == 0 {
			t.Fatalf("an incomplete study passes: %+v", s)
		}
		for _, m := range s.Models {
			if m.Dataset == nil || len(m.Layers.V) == 0 || m.Source.V == "" {
				t.Fatalf("an incomplete model passes: %+v", m)
			}
		}
		for _, g := range s.Grids {
			if len(g.Models) == 0 || len(g.Methods.V) == 0 || len(g.Clusters.V) == 0 {
				t.Fatalf("an empty grid passes: %+v", g)
			}
		}
		for _, ti := range s.Titles {
			if ti.Evaluator == nil {
				t.Fatalf("titles by nobody pass: %+v", ti)
			}
		}
		for _, e := range s.Evaluations {
			if len(e.Titles) == 0 || len(e.Judges) == 0 {
				t.Fatalf("an empty evaluation passes: %+v", e)
			}
		}
	})
}
