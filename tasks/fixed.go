package tasks

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/internal/judge"
	"clusterflow/studies"
)

// FixedTitle is a line of a titles file: the name of a cluster that nobody is
// asked for. The fields from Model on say where it holds; those that are left out
// say everywhere.
type FixedTitle struct {
	Cluster     int    `json:"cluster"` // from 0
	Title       string `json:"title"`
	Description string `json:"description"`

	Model    *string `json:"model,omitempty"` // label of the block
	Layer    *int    `json:"layer,omitempty"`
	Method   *string `json:"method,omitempty"`
	Clusters *int    `json:"clusters,omitempty"`
	Rep      *int    `json:"rep,omitempty"` // from 0

	line int
}

// ReadFixedTitles reads a titles file. Errors begin with path:line.
func ReadFixedTitles(path string) ([]FixedTitle, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading titles: %w", err)
	}
	content = bytes.TrimPrefix(content, []byte(byteOrderMark))
	var out []FixedTitle
	first := map[string]int{} // line by what it is about
	line := 0
	for raw := range bytes.Lines(content) {
		line++
		if len(bytes.TrimSpace(raw)) == 0 {
			continue
		}
		t := FixedTitle{Cluster: -1, line: line}
		if err := t.read(raw); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, line, err)
		}
		about := t.about()
		if first[about] > 0 {
			return nil, fmt.Errorf("%s:%d: line %d is about the same cluster already: say where each holds (model, layer, method, clusters, rep), or remove one", path, line, first[about])
		}
		first[about] = line
		out = append(out, t)
	}
	return out, nil
}

func (f *FixedTitle) read(line []byte) error {
	if !utf8.Valid(line) { // the decoder would mend it silently
		return errors.New("not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(f); err != nil {
		return plain(err)
	}
	switch _, err := dec.Token(); {
	case err != io.EOF:
		return errors.New("one JSON object a line, and nothing after it")
	case f.Cluster < 0:
		return errors.New("a line needs a cluster, counted from 0")
	case strings.TrimSpace(f.Title) == "" || strings.TrimSpace(f.Description) == "":
		return errors.New("a line needs a title and a description")
	}
	return nil
}

// about is the cluster of a line with where it holds.
func (f FixedTitle) about() string {
	f.Title, f.Description, f.line = "", "", 0
	b, err := json.Marshal(f)
	if err != nil {
		panic(err) // numbers and texts always encode
	}
	return string(b)
}

// clusteringID is one clustering.
type clusteringID struct {
	model    string
	layer    int
	method   string
	clusters int
}

// holds reports whether a line is about a clustering's repetition, and how many
// fields say so.
func (f FixedTitle) holds(at clusteringID, rep int) (ok bool, said int) {
	ok = true
	check := func(given, same bool) {
		if given {
			said++
			ok = ok && same
		}
	}
	check(f.Model != nil, f.Model != nil && *f.Model == at.model)
	check(f.Layer != nil, f.Layer != nil && *f.Layer == at.layer)
	check(f.Method != nil, f.Method != nil && *f.Method == at.method)
	check(f.Clusters != nil, f.Clusters != nil && *f.Clusters == at.clusters)
	check(f.Rep != nil, f.Rep != nil && *f.Rep == rep)
	return ok, said
}

// titleOf chooses the line for a cluster: the one that says most about where it
// holds. It is an error, beginning with a line number, if two say as much.
func titleOf(all []FixedTitle, at clusteringID, cluster, rep int) (*FixedTitle, error) {
	var best *FixedTitle
	most, twice := -1, 0
	for i := range all {
		ok, said := all[i].holds(at, rep)
		if !ok || all[i].Cluster != cluster || said < most {
			continue
		}
		if said == most {
			twice = all[i].line
			continue
		}
		best, most, twice = &all[i], said, 0
	}
	if twice > 0 {
		return nil, fmt.Errorf("%d: line %d says as much about cluster %d here: say more in one of them of where it holds (model, layer, method, clusters, rep)", twice, best.line, cluster)
	}
	return best, nil
}

// fixedTitles names the clusters from a file. Outputs "requests" and "answers",
// as submit-titles and await-titles make them, so that nobody else needs to know:
// a cluster that the file does not name is one whose title failed.
type fixedTitles struct {
	titles *studies.Titles
	at     clusteringID
}

func (t *fixedTitles) Kind() string    { return kindTitles.Name }
func (t *fixedTitles) Version() string { return kindTitles.Version }

func (t *fixedTitles) Params() []cache.Line {
	var p params
	p.add("model", t.at.model, "")
	p.add("layer", t.at.layer, "")
	p.add("method", t.at.method, "")
	p.add("clusters", t.at.clusters, "")
	set(&p, "repetitions", t.titles.Repetitions)
	return p.lines
}

func (t *fixedTitles) Run(ctx context.Context, job *graph.Job) error {
	all, err := ReadFixedTitles(t.titles.File.V)
	if err != nil {
		return err
	}
	sizes, err := readSizes(job, "labels")
	if err != nil {
		return err
	}
	var rs []request
	var as []batch.Answer
	untitled := 0
	for cluster, size := range sizes {
		if size == 0 {
			continue
		}
		for rep := range t.titles.Repetitions.V {
			title, err := titleOf(all, t.at, cluster, rep)
			if err != nil {
				return fmt.Errorf("%s:%w", t.titles.File.V, err)
			}
			r := request{Task: judge.TaskTitle, Rep: rep, Cluster: cluster, Body: json.RawMessage("{}")}
			a := batch.Answer{Status: batch.StatusFailed, Error: "the titles file has none for this cluster"}
			if title != nil {
				content, err := json.Marshal(map[string]string{"title": title.Title, "description": title.Description})
				if err != nil {
					return err
				}
				a = batch.Answer{Status: batch.StatusOK, Content: string(content), FinishReason: "stop", Model: "a file"}
			} else {
				untitled++
			}
			r.Key = cache.Sum(fmt.Appendf(nil, "fixed title\ncluster %d\nrepetition %d\n%s%s", cluster, rep, a.Content, a.Error)).String()
			a.Key = r.Key
			rs, as = append(rs, r), append(as, a)
		}
	}
	job.Note("titles", fmt.Sprint(len(rs)-untitled))
	job.Note("untitled", fmt.Sprint(untitled))
	return cmp.Or(
		job.Write("requests", func(w io.Writer) error { return writeJSONL(w, rs) }),
		job.Write("answers", func(w io.Writer) error { return writeJSONL(w, as) }),
	)
}

// readSizes are the sizes of the clusters of a labels output of train.
func readSizes(job *graph.Job, input string) ([]int32, error) {
	st, err := openTensors(job, input)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	sizes, ok := st.Tensor("sizes")
	if !ok {
		return nil, fmt.Errorf("%s of %s lacks the sizes", input, job.Node.Addr)
	}
	out, err := sizes.Int32()
	return slices.Clone(out), err
}

// checkFixedTitles reads the titles files of a study.
func checkFixedTitles(study *studies.Study) studies.Diagnostics {
	var diags studies.Diagnostics
	for _, t := range study.Titles {
		if !t.File.Set || !fileExists(t.File.V) {
			continue // said by the decoder
		}
		if _, err := ReadFixedTitles(t.File.V); err != nil {
			diags = append(diags, study.Errorf(t.File.Range, "Titles cannot be read", err.Error()+"."))
		}
	}
	return diags
}
