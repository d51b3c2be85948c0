package tasks

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

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

// ReadFixedTitles reads a titles file. Errors name the line.
func ReadFixedTitles(path string) ([]FixedTitle, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines, err := readJSONL[json.RawMessage](f)
	if err != nil {
		return nil, fmt.Errorf("reading titles from %s: %w", path, err)
	}
	out := make([]FixedTitle, len(lines))
	for i, raw := range lines {
		dec := json.NewDecoder(strings.NewReader(string(raw)))
		dec.DisallowUnknownFields()
		t := &out[i]
		t.Cluster = -1
		err := dec.Decode(t)
		switch t.line = i + 1; {
		case err != nil:
		case t.Cluster < 0:
			err = fmt.Errorf("a line needs a cluster, counted from 0")
		case strings.TrimSpace(t.Title) == "" || strings.TrimSpace(t.Description) == "":
			err = fmt.Errorf("a line needs a title and a description")
		}
		if err != nil {
			return nil, fmt.Errorf("reading titles from %s: title %d: %w", path, i+1, plain(err))
		}
	}
	return out, nil
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
// holds. It is an error if two say as much.
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
		return nil, fmt.Errorf("titles %d and %d are both of cluster %d here: say in one of them where it holds (model, layer, method, clusters, rep)", best.line, twice, cluster)
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
				return fmt.Errorf("%s: %w", t.titles.File.V, err)
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
			diags = append(diags, study.Errorf(t.File.Range, "Titles cannot be read", sentence(err)))
		}
	}
	return diags
}
