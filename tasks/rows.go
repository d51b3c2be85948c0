package tasks

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
	"clusterflow/studies"
)

// rows joins the shards of a layer in file order. Its output "activations" is
// a safetensors file: activations f32 [sentences, hidden], raw sentence means,
// and mean f32 [hidden], the mean over responses of their token means. Its output
// "made" is [Made].
type rows struct{ shards int }

func (t *rows) Kind() string         { return kindRows.Name }
func (t *rows) Version() string      { return kindRows.Version }
func (t *rows) Params() []cache.Line { return nil }

func (t *rows) Run(ctx context.Context, job *graph.Job) error {
	raw, err := job.Bytes("order")
	if err != nil {
		return err
	}
	var places []place
	if err := json.Unmarshal(raw, &places); err != nil {
		return fmt.Errorf("reading the order of the rows: %w", err)
	}
	shards, err := openShards(job, t.shards)
	if err != nil {
		return err
	}
	total := 0
	for _, p := range places {
		total += p.Count
	}
	hidden := shards[0].rows.Cols
	out := linalg.NewMatrix(total, hidden)
	sum, responses, at := make([]float64, hidden), 0, 0
	for i, p := range places {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.Count == 0 {
			continue
		}
		s := shards[p.Shard]
		for k := range p.Count {
			row := s.rows.Row(p.Row + k)
			if c := nonFinite(row); c >= 0 {
				return fmt.Errorf("response %d, sentence %d: component %d of its activation is not finite; the checkpoint overflows in this precision or is damaged", p.Response, k, c)
			}
			copy(out.Row(at), row)
			at++
		}
		for c, v := range s.means.Row(p.Line) {
			sum[c] += float64(v)
		}
		responses++
		job.Progress(graph.Progress{Done: int64(i + 1), Total: int64(len(places)), Unit: "responses"})
	}
	mean := linalg.NewMatrix(1, hidden)
	for c := range mean.Data {
		mean.Data[c] = float32(sum[c] / float64(responses))
	}
	var backends []string
	for s := range t.shards {
		var made Made
		if err := readJSON(job, "made/"+strconv.Itoa(s), &made); err != nil {
			return err
		}
		backends = append(backends, made.Backend...)
	}
	if err := writeMade(job, backends); err != nil {
		return err
	}
	return writeActivations(job, out, mean.Data)
}

type shardFile struct{ rows, means linalg.Matrix }

func openShards(job *graph.Job, n int) ([]shardFile, error) {
	shards := make([]shardFile, n)
	for i := range shards {
		ts, err := readTensors(job, "shard/"+strconv.Itoa(i), "rows", "means")
		if err != nil {
			return nil, err
		}
		shards[i] = shardFile{ts[0], ts[1]}
	}
	return shards, nil
}

// openTensors maps a safetensors input into memory, verified.
func openTensors(job *graph.Job, input string) (*linalg.Safetensors, error) {
	path, err := job.Path(input)
	if err != nil {
		return nil, err
	}
	return linalg.OpenSafetensors(path)
}

// readTensors reads named two-dimensional tensors of a safetensors input.
func readTensors(job *graph.Job, input string, names ...string) ([]linalg.Matrix, error) {
	st, err := openTensors(job, input)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	out := make([]linalg.Matrix, len(names))
	for i, name := range names {
		t, ok := st.Tensor(name)
		if !ok {
			return nil, fmt.Errorf("%s of %s has no tensor %q", input, job.Node.Addr, name)
		}
		if out[i], err = t.Matrix(); err != nil {
			return nil, fmt.Errorf("reading %s of %s: %w", input, job.Node.Addr, err)
		}
	}
	return out, nil
}

// writeActivations stores the output of rows and of an imported layer.
func writeActivations(job *graph.Job, rows linalg.Matrix, mean []float32) error {
	return writeTensors(job, "activations",
		tensor{"activations", []int{rows.Rows, rows.Cols}, rows.Data},
		tensor{"mean", []int{len(mean)}, mean})
}

// tensor is one named array of a safetensors output: []float32 or []int32.
type tensor struct {
	name  string
	shape []int
	data  any
}

func writeTensors(job *graph.Job, output string, ts ...tensor) error {
	return writeTensorsMeta(job, output, nil, ts...)
}

func writeTensorsMeta(job *graph.Job, output string, meta map[string]string, ts ...tensor) error {
	return job.Write(output, func(w io.Writer) error {
		specs := make([]linalg.TensorSpec, len(ts))
		for i, t := range ts {
			specs[i] = linalg.TensorSpec{Name: t.name, DType: "F32", Shape: t.shape}
			if _, ok := t.data.([]int32); ok {
				specs[i].DType = "I32"
			}
		}
		st, err := linalg.NewSafetensorsWriter(w, meta, specs)
		if err != nil {
			return err
		}
		for _, t := range ts {
			switch data := t.data.(type) {
			case []int32:
				err = st.WriteInt32(data)
			case []float32:
				err = st.WriteFloat32(data)
			default:
				err = fmt.Errorf("tensor %s holds %T", t.name, t.data)
			}
			if err != nil {
				return err
			}
		}
		return st.Close()
	})
}

func nonFinite(row []float32) int {
	for c, v := range row {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return c
		}
	}
	return -1
}

// preparation says how raw rows become the rows that methods see.
type preparation struct {
	Center, Normalize studies.Value[bool]
}

func (p preparation) add(ps *params) {
	set(ps, "center", p.Center)
	set(ps, "normalize", p.Normalize)
}

// prepared reads the activations of a job and centres and scales them:
// X [sentences, hidden], and what was done to them.
func (p preparation) prepared(job *graph.Job) (linalg.Matrix, rawRows, error) {
	ts, err := readTensors(job, "activations", "activations", "mean")
	if err != nil {
		return linalg.Matrix{}, rawRows{}, err
	}
	x := ts[0] // a copy, which nobody else reads
	norms, err := cluster.PrepareInPlace(x, ts[1].Data, p.Center.V, p.Normalize.V, job.Threads)
	if err != nil {
		return linalg.Matrix{}, rawRows{}, rowError(job, err)
	}
	sum := 0.0
	for _, n := range norms {
		sum += n
	}
	return x, rawRows{mean: ts[1].Data, norm: sum / float64(len(norms))}, nil
}

// rawRows are what is lost of rows that have been prepared.
type rawRows struct {
	mean []float32 // [hidden], of the layer
	norm float64   // mean L2 norm of the rows, centred where they are to be, before they are scaled
}
