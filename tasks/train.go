package tasks

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
	"clusterflow/studies"
)

// train fits one clustering of one layer. Outputs: "labels", safetensors with
// labels i32 [sentences], distances f32 [sentences] (to the own centre) and sizes
// i32 [clusters]; "predicted", the same of the labels that the model's own
// predict gives; "model", safetensors with labels, centers f32 [clusters,
// hidden], activation_mean f32 [hidden], activation_norm f32 [1] (the mean norm of
// the rows before they are scaled, by which a steering vector is as long as a
// typical row), the method's parameters, and for methods on principal components
// the projection, with what LoadModel must know, and the method's options, in the
// metadata; "info", JSON of TrainInfo.
type train struct {
	method  cluster.Method
	options []option // every option of the method, with its value
	seed    studies.Value[int64]
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
	Cosines       [][]float64        `json:"cosines"`     // of the centres, [clusters, clusters]
	Info          map[string]float64 `json:"info"`        // iterations, inertia, …
	RowsDiffer    int                `json:"rows_differ"` // sentences to which the model's own predict gives another label; -1: it has none
	Backend       string             `json:"backend"`     // what computed it

	// Quality holds the measures that the labels have: silhouette,
	// calinski_harabasz and davies_bouldin of the prepared rows, and
	// category_nmi, the normalised mutual information with the dataset's own
	// categories.
	Quality map[string]float64 `json:"quality"`
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
	set(&p, "seed", t.seed)
	t.prep.add(&p)
	for _, o := range t.options {
		p.add(o.name, o.value, o.origin)
	}
	return p.lines
}

func (t *train) Run(ctx context.Context, job *graph.Job) error {
	x, raw, err := t.prep.prepared(job)
	if err != nil {
		return err
	}
	in := cluster.Input{
		X: x, K: t.k, Options: map[string]any{}, Seed: t.seed.V, Threads: job.Threads,
		Progress: steps(job, "iterations"),
	}
	for _, o := range t.options {
		in.Options[o.name] = o.value
	}
	sentences, err := readInput[Sentence](job, "sentences")
	if err != nil {
		return err
	}
	groups := categories(sentences)
	if t.method.Space == "text" {
		in.Groups = groups
		for _, s := range sentences {
			in.Texts = append(in.Texts, s.Text)
		}
	}
	if t.method.Space == "pca" {
		coords, err := readTensors(job, "coords", "coords")
		if err != nil {
			return err
		}
		in.Coords = coords[0]
	}
	if t.method.Shared == "linkage" {
		if in.Tree, err = readTree(job, x.Rows); err != nil {
			return err
		}
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
	tensors, err := t.tensors(job, m)
	if err != nil {
		return err
	}
	predicted, differ := m.Labels, -1
	if t.method.Predict != nil {
		if predicted, err = cluster.Predict(t.method.Name, tensors, x, job.Threads); err != nil {
			return err
		}
		differ = 0
		for i, l := range predicted {
			if l != m.Labels[i] {
				differ++
			}
		}
	}
	labels := t.labelTensors(x, m, m.Labels, job.Threads)
	if err := writeTensors(job, "labels", labels...); err != nil {
		return err
	}
	if differ > 0 {
		labels = t.labelTensors(x, m, predicted, job.Threads)
	}
	if err := writeTensors(job, "predicted", labels...); err != nil {
		return err
	}
	if err := t.writeModel(job, m, tensors, raw); err != nil {
		return err
	}
	info := TrainInfo{
		Method: t.method.Name, Clusters: t.k, Sizes: make([]int, t.k), Info: m.Info, Backend: backend, RowsDiffer: differ,
		Orthogonality: cluster.CentroidOrthogonality(m.Centers), Cosines: cluster.Cosines(m.Centers),
	}
	for _, l := range m.Labels {
		info.Sizes[l]++
	}
	info.Quality = t.quality(x, m.Labels, groups, job.Threads)
	body, err := json.Marshal(info)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(m.Info)) {
		job.Note(name, text(m.Info[name]))
	}
	return job.Put("info", body)
}

// quality measures the labels.
func (t *train) quality(x linalg.Matrix, labels []int32, groups []string, threads int) map[string]float64 {
	q := cluster.Measure(x, labels, t.k, sampleSeed, threads)
	all := map[string]float64{"silhouette": q.Silhouette, "calinski_harabasz": q.CalinskiHarabasz, "davies_bouldin": q.DaviesBouldin}
	own, place := make([]int32, len(groups)), map[string]int32{}
	for i, g := range groups {
		if _, ok := place[g]; !ok {
			place[g] = int32(len(place))
		}
		own[i] = place[g]
	}
	if len(place) > 1 {
		all["category_nmi"] = cluster.Agree(labels, own).NMI
	}
	maps.DeleteFunc(all, func(_ string, v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
	return all
}

// sampleSeed draws the rows of which silhouettes are taken: the same ones for
// every method, size and seed.
const sampleSeed = 0

// categories are the dataset's own of each sentence.
func categories(sentences []Sentence) []string {
	out := make([]string, len(sentences))
	for i, s := range sentences {
		out[i] = s.Category
	}
	return out
}

// tensors are what the model predicts from.
func (t *train) tensors(job *graph.Job, m *cluster.Model) (map[string]linalg.Matrix, error) {
	all := map[string]linalg.Matrix{"centers": m.Centers}
	maps.Copy(all, m.Tensors)
	if t.method.Space == "pca" {
		proj, err := readTensors(job, "pca", "components", "mean")
		if err != nil {
			return nil, err
		}
		all[cluster.PCAComponentsTensor], all[cluster.PCAMeanTensor] = proj[0], proj[1]
	}
	return all, nil
}

// labelTensors are what a labels output holds of these labels.
func (t *train) labelTensors(x linalg.Matrix, m *cluster.Model, labels []int32, threads int) []tensor {
	dist, sizes := make([]float32, x.Rows), make([]int32, t.k)
	for i, d := range cluster.Distances(x, m.Centers, labels, threads) {
		dist[i] = float32(d)
	}
	for _, l := range labels {
		sizes[l]++
	}
	return []tensor{
		{"labels", []int{len(labels)}, labels},
		{"distances", []int{len(dist)}, dist},
		{"sizes", []int{len(sizes)}, sizes},
	}
}

func (t *train) writeModel(job *graph.Job, m *cluster.Model, tensors map[string]linalg.Matrix, raw rawRows) error {
	ts := []tensor{
		{"labels", []int{len(m.Labels)}, m.Labels},
		{"activation_mean", []int{len(raw.mean)}, raw.mean},
		{"activation_norm", []int{1}, []float32{float32(raw.norm)}},
	}
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		p := tensors[name]
		ts = append(ts, tensor{name, []int{p.Rows, p.Cols}, p.Data})
	}
	meta := map[string]string{
		metaMethod:    t.method.Name,
		metaCenter:    strconv.FormatBool(t.prep.Center.V),
		metaNormalize: strconv.FormatBool(t.prep.Normalize.V),
	}
	for _, o := range t.options {
		meta[o.name] = text(o.value)
	}
	return writeTensorsMeta(job, "model", meta, ts...)
}
