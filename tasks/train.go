package tasks

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
	"clusterflow/studies"
)

// train fits one clustering of one layer. Outputs: "labels", safetensors with
// labels i32 [sentences] and distances f32 [sentences] (to the own centre);
// "model", safetensors with labels, centers f32 [clusters, hidden],
// activation_mean f32 [hidden] and the method's parameters; "info", JSON of
// TrainInfo.
type train struct {
	study   *studies.Study
	method  cluster.Method
	options []option // every option of the method, with its value
	k       int
	kAt     string // where the number of clusters stands in the study
	prep    preparation
}

// option is an option of a method as one clustering uses it.
type option struct {
	name   string
	value  any
	origin string
}

// TrainInfo are facts of a fit that reports show.
type TrainInfo struct {
	Method        string             `json:"method"`
	Clusters      int                `json:"clusters"`
	Sizes         []int              `json:"sizes"` // sentences per cluster
	Orthogonality float64            `json:"orthogonality"`
	Cosines       [][]float64        `json:"cosines"` // of the centres, [clusters, clusters]
	Info          map[string]float64 `json:"info"`    // iterations, inertia, …
	Backend       string             `json:"backend"` // what computed it
}

func (t *train) Kind() string { return kindTrain.Name }

// Version changes with the task's own code or with the method's.
func (t *train) Version() string {
	return kindTrain.Version + " " + t.method.Name + " " + t.method.Version
}

func (t *train) Params() []cache.Line {
	var p params
	p.add("method", t.method.Name, "")
	p.add("clusters", t.k, t.kAt)
	set(&p, "seed", t.study.Seed)
	t.prep.add(&p)
	for _, o := range t.options {
		p.add(o.name, o.value, o.origin)
	}
	return p.lines
}

func (t *train) Run(ctx context.Context, job *graph.Job) error {
	x, mean, err := t.prep.prepared(job)
	if err != nil {
		return err
	}
	in := cluster.Input{
		X: x, K: t.k, Options: map[string]any{}, Seed: t.study.Seed.V, Threads: job.Threads,
		Progress: steps(job, "iterations"),
	}
	for _, o := range t.options {
		in.Options[o.name] = o.value
	}
	if t.method.Space == "pca" {
		coords, err := readTensors(job, "coords", "coords")
		if err != nil {
			return err
		}
		in.Coords = coords[0]
	}
	if t.k > x.Rows {
		return fmt.Errorf("%d clusters of %d sentences: ask for fewer clusters or give more responses", t.k, x.Rows)
	}
	m, err := t.method.Fit(ctx, in)
	if err != nil {
		return rowError(job, err)
	}
	backend := "cpu float32, " + linalg.Backend().Name
	job.Backend(backend)
	dist := make([]float32, x.Rows)
	for i, d := range cluster.Distances(x, m.Centers, m.Labels, job.Threads) {
		dist[i] = float32(d)
	}
	if err := writeTensors(job, "labels",
		tensor{"labels", []int{len(m.Labels)}, m.Labels},
		tensor{"distances", []int{len(dist)}, dist}); err != nil {
		return err
	}
	if err := t.writeModel(job, m, mean); err != nil {
		return err
	}
	info := TrainInfo{
		Method: t.method.Name, Clusters: t.k, Sizes: make([]int, t.k), Info: m.Info, Backend: backend,
		Orthogonality: cluster.CentroidOrthogonality(m.Centers), Cosines: cluster.Cosines(m.Centers),
	}
	for _, l := range m.Labels {
		info.Sizes[l]++
	}
	raw, err := json.Marshal(info)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(m.Info)) {
		job.Note(name, text(m.Info[name]))
	}
	return job.Put("info", raw)
}

func (t *train) writeModel(job *graph.Job, m *cluster.Model, mean []float32) error {
	ts := []tensor{
		{"labels", []int{len(m.Labels)}, m.Labels},
		{"centers", []int{m.Centers.Rows, m.Centers.Cols}, m.Centers.Data},
		{"activation_mean", []int{len(mean)}, mean},
	}
	for _, name := range slices.Sorted(maps.Keys(m.Tensors)) {
		p := m.Tensors[name]
		ts = append(ts, tensor{name, []int{p.Rows, p.Cols}, p.Data})
	}
	return writeTensors(job, "model", ts...)
}
