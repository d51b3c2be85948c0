package studies

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected diagnostics under testdata")

// testMethods stands for the table of methods that tasks hands in.
func testMethods() []MethodSpec {
	kmeans := []OptionSpec{
		{Name: "n_init", Kind: "int", Default: 1, Min: 1, Max: 1000},
		{Name: "max_iter", Kind: "int", Default: 300, Min: 1, Max: 10000},
		{Name: "tol", Kind: "float", Default: 1e-4, Min: 0, Max: 1},
		{Name: "init", Kind: "string", Default: "k-means++"},
		{Name: "greedy", Kind: "bool", Default: true},
		{Name: "offset", Kind: "int", Default: 0},
		{Name: "batch", Kind: "int", Default: 1, Min: 1, Max: 0},
	}
	return []MethodSpec{
		{Name: "spherical_kmeans", Available: true, Options: kmeans},
		{Name: "pca_kmeans", Available: true, Options: kmeans[:1]},
		{Name: "gmm", Options: kmeans[:1], Why: "Mixtures come with the next release"},
		{Name: "sae_topk"},
	}
}

func rendered(t testing.TB, s *Study, diags Diagnostics) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteDiagnostics(&b, s, diags, 78, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The files under testdata show each mistake with its words. Look at the
// difference before -update.
func TestDiagnosticsOfFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.hcl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			opt := Options{
				Methods: testMethods(),
				Vars:    []string{"judge=gpt", "judgge=1", "bad"},
			}
			if filepath.Base(file) != "mistakes.hcl" {
				opt.Vars = nil
			}
			s, diags := Load(filepath.ToSlash(file), opt)
			got := rendered(t, s, diags)
			golden := strings.TrimSuffix(file, ".hcl") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("diagnostics of %s differ from %s; got:\n%s", file, golden, got)
			}
			for range 10 { // maps are walked in another order each time
				s, diags := Load(filepath.ToSlash(file), opt)
				if again := rendered(t, s, diags); again != got {
					t.Fatalf("a second reading reports something else:\n%s", again)
				}
			}
			for _, d := range diags {
				if d.Subject == nil && !strings.Contains(d.Summary, "--var") {
					t.Errorf("%q has no place", d.Summary)
				}
				if d.Detail == "" {
					t.Errorf("%q gives no advice", d.Summary)
				}
			}
		})
	}
}

func TestUnreadableStudy(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"demo.hcl", "other.hcl"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct{ path, want string }{
		{filepath.Join(dir, "dem.hcl"), "Did you mean " + filepath.Join(dir, "demo.hcl")},
		{filepath.Join(dir, "zzzzzz"), "There is demo.hcl, other.hcl"},
		{dir, "This is a folder"},
		{filepath.Join(t.TempDir(), "x.hcl"), "clusterflow init"},
	}
	for _, test := range tests {
		s, diags := Load(test.path, Options{})
		if s == nil || s.File != test.path {
			t.Errorf("Load(%s) gave study %v", test.path, s)
		}
		if len(diags) != 1 || !strings.Contains(diags[0].Detail, test.want) {
			t.Errorf("Load(%s): %v, want %q", test.path, diags, test.want)
		}
	}
}

func TestSuggest(t *testing.T) {
	methods := []string{"spherical_kmeans", "pca_kmeans", "gmm", "pca_gmm", "agglomerative"}
	tests := []struct {
		word  string
		known []string
		want  string
	}{
		{"sphericalkmeans", methods, "spherical_kmeans"},
		{"PCA-KMeans", methods, "pca_kmeans"},
		{"pca_kmean", methods, "pca_kmeans"},
		{"gm", methods, "gmm"},
		{"agglomerativ", methods, "agglomerative"},
		{"kmeans", methods, "spherical_kmeans"}, // contained; the first that does
		{"dbscan", methods, ""},
		{"x", []string{"y"}, ""},
		{"", methods, ""},
		{"gmm", methods, ""}, // a word is not its own correction, and no other is near
		{"judge2", []string{"titler", "judge"}, "judge"},
		{"anything", nil, ""},
	}
	for _, test := range tests {
		if got := Suggest(test.word, test.known); got != test.want {
			t.Errorf("Suggest(%q) = %q, want %q", test.word, got, test.want)
		}
	}
}

func TestErrorfAndOrigin(t *testing.T) {
	s, diags := Parse("some/dir/a.hcl", []byte("study {\n  name = \"a\"\n\n  seed = 7\n}\n"), Options{})
	if got := s.Seed.Origin(); got != "some/dir/a.hcl:4" {
		t.Errorf("origin of the seed is %q", got)
	}
	if got := s.Protocol.Origin(); got != "" {
		t.Errorf("a default has the origin %q", got)
	}
	d := s.Errorf(s.Seed.Range, "100% wrong", "50% advice")
	if d.Summary != "100% wrong" || d.Detail != "50% advice" || d.Subject.Start.Line != 4 {
		t.Errorf("Errorf made %v", d)
	}
	if d := s.Errorf(Range{}, "a", "b"); d.Subject != nil {
		t.Error("an error without a place has one")
	}
	if text := rendered(t, nil, diags); !strings.Contains(text, "has no model") {
		t.Errorf("without a study: %s", text)
	}
}
