package tasks

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/cluster"
	"clusterflow/internal/linalg"
)

// linkage joins the rows of a layer, or their coordinates, to a tree that serves
// every number of clusters. Output "tree", safetensors: merges i32
// [sentences − 1, 2] as scipy numbers them, heights f32 [sentences − 1].
type linkage struct {
	space string // "rows" or "pca"
	prep  preparation
	work  float64 // operations, about; 0 when it is not known
}

func (t *linkage) Kind() string    { return kindLinkage.Name }
func (t *linkage) Version() string { return kindLinkage.Version }

func (t *linkage) Params() []cache.Line {
	var p params
	p.add("space", t.space, "")
	if t.space == "rows" {
		t.prep.add(&p)
	}
	return p.lines
}

func (t *linkage) Run(ctx context.Context, job *graph.Job) error {
	var x linalg.Matrix
	if t.space == "pca" {
		coords, err := readTensors(job, "coords", "coords")
		if err != nil {
			return err
		}
		x = coords[0]
	} else {
		var err error
		if x, _, err = t.prep.prepared(job); err != nil {
			return err
		}
	}
	begin := time.Now()
	tree, err := cluster.AverageLinkage(ctx, x, job.Threads, steps(job, "joins"))
	if err != nil {
		return rowError(job, err)
	}
	job.Note(NotePassWork, strconv.FormatFloat(cluster.LinkageWork(int64(x.Rows), int64(x.Cols)), 'g', 6, 64))
	job.Note(NotePassSeconds, strconv.FormatFloat(time.Since(begin).Seconds(), 'f', 3, 64))
	job.Backend("cpu float32, " + linalg.Backend().Name)
	merges, heights := make([]int32, 0, 2*len(tree.Merges)), make([]float32, len(tree.Heights))
	for i, m := range tree.Merges {
		merges = append(merges, m[0], m[1])
		heights[i] = float32(tree.Heights[i])
	}
	return writeTensors(job, "tree",
		tensor{"merges", []int{len(tree.Merges), 2}, merges},
		tensor{"heights", []int{len(heights)}, heights})
}

// readTree reads a linkage's output for rows that many.
func readTree(job *graph.Job, rows int) (*cluster.Dendrogram, error) {
	st, err := openTensors(job, "tree")
	if err != nil {
		return nil, err
	}
	defer st.Close()
	mt, ok1 := st.Tensor("merges")
	ht, ok2 := st.Tensor("heights")
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("tree of %s lacks a tensor", job.Node.Addr)
	}
	merges, err := mt.Int32()
	if err != nil {
		return nil, err
	}
	heights, err := ht.Float32()
	if err != nil {
		return nil, err
	}
	if len(merges) != 2*(rows-1) || len(heights) != rows-1 {
		return nil, fmt.Errorf("the tree has %d merges for %d rows", len(merges)/2, rows)
	}
	d := &cluster.Dendrogram{Rows: rows}
	for i, h := range heights {
		d.Merges = append(d.Merges, [2]int32{merges[2*i], merges[2*i+1]})
		d.Heights = append(d.Heights, float64(h))
	}
	return d, nil
}
