package tasks

import (
	"context"
	"errors"
	"fmt"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
)

// pca projects the rows of a layer on their first principal components, for
// all methods that work there. Outputs, safetensors: "pca" with components f32
// [p, hidden], mean f32 [hidden] and variance f32 [p]; "coords" with coords f32
// [sentences, p].
type pca struct {
	components int
	at         string // where their number stands in the study
	prep       preparation
}

func (t *pca) Kind() string    { return kindPCA.Name }
func (t *pca) Version() string { return kindPCA.Version }

func (t *pca) Params() []cache.Line {
	var p params
	p.add("components", t.components, t.at)
	t.prep.add(&p)
	return p.lines
}

func (t *pca) Run(ctx context.Context, job *graph.Job) error {
	x, _, err := t.prep.prepared(job)
	if err != nil {
		return err
	}
	proj, err := cluster.PCA(ctx, x, t.components, job.Threads, steps(job, "steps"))
	if err != nil {
		return err
	}
	coords := proj.Transform(x, job.Threads)
	variance := make([]float32, len(proj.Variance))
	for i, v := range proj.Variance {
		variance[i] = float32(v)
	}
	job.Backend("cpu float32, " + linalg.Backend().Name)
	if err := writeTensors(job, "pca",
		tensor{"components", []int{proj.Components.Rows, proj.Components.Cols}, proj.Components.Data},
		tensor{"mean", []int{len(proj.Mean)}, proj.Mean},
		tensor{"variance", []int{len(variance)}, variance}); err != nil {
		return err
	}
	return writeTensors(job, "coords", tensor{"coords", []int{coords.Rows, coords.Cols}, coords.Data})
}

// steps shows the progress of a computation that counts its own steps.
func steps(job *graph.Job, unit string) func(done, total int, note string) {
	return func(done, total int, note string) {
		job.Progress(graph.Progress{Done: int64(done), Total: int64(total), Unit: unit, Note: note})
	}
}

// rowError turns a row number of a numerical error into the response and the
// sentence that it stands for.
func rowError(job *graph.Job, err error) error {
	var bad *cluster.RowError
	if !errors.As(err, &bad) {
		return err
	}
	in, openErr := job.Open("sentences")
	if openErr != nil {
		return err
	}
	defer in.Close()
	all, readErr := readJSONL[Sentence](in)
	if readErr != nil || bad.Row < 0 || bad.Row >= len(all) {
		return err
	}
	s := all[bad.Row]
	return fmt.Errorf("response %d, sentence %d (%.60q): %w", s.Response, s.Index, s.Text, err)
}
