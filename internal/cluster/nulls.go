package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"clusterflow/internal/linalg"
)

// fitRandom gives the rows labels at random, the clusters of equal sizes but
// for one row.
func fitRandom(ctx context.Context, in Input) (*Model, error) {
	labels := make([]int32, in.X.Rows)
	for i := range labels {
		labels[i] = int32(i % in.K)
	}
	rng := linalg.Rand(in.Seed, "random labels", strconv.Itoa(in.K))
	rng.Shuffle(len(labels), func(i, j int) { labels[i], labels[j] = labels[j], labels[i] })
	return labelled(in, labels, nil), nil
}

// fitCategory labels the rows by the groups that the data came with, the most
// frequent first. With more groups than clusters the last cluster takes all
// that are left over; with fewer the last clusters are empty.
func fitCategory(ctx context.Context, in Input) (*Model, error) {
	if len(in.Groups) != in.X.Rows {
		return nil, fmt.Errorf("fitting category: %d categories for %d rows", len(in.Groups), in.X.Rows)
	}
	counts := map[string]int{}
	for _, g := range in.Groups {
		counts[g]++
	}
	if len(counts) == 1 && counts[""] > 0 {
		return nil, fmt.Errorf("fitting category: no response of the dataset has a category; give them one, or leave the method out")
	}
	order := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b))
	})
	place := map[string]int32{}
	for i, g := range order {
		place[g] = int32(min(i, in.K-1))
	}
	labels := make([]int32, in.X.Rows)
	for i, g := range in.Groups {
		labels[i] = place[g]
	}
	return labelled(in, labels, map[string]float64{"categories": float64(len(counts))}), nil
}

// fitTFIDF is spherical k-means on what the sentences say instead of on what
// the model makes of them.
func fitTFIDF(ctx context.Context, in Input) (*Model, error) {
	fail := func(err error) (*Model, error) { return nil, fmt.Errorf("fitting tfidf_kmeans: %w", err) }
	if len(in.Texts) != in.X.Rows {
		return fail(fmt.Errorf("%d texts for %d rows", len(in.Texts), in.X.Rows))
	}
	options, err := Method{Name: "tfidf_kmeans", Options: tfidfOptions}.Complete(in.Options)
	if err != nil {
		return nil, err
	}
	points, terms := tfidfRows(in.Texts, int(options["terms"].(int64)))
	if terms == 0 {
		return fail(fmt.Errorf("no sentence has a word of two letters"))
	}
	best, info, err := fitKMeans(ctx, "tfidf_kmeans", tfidfOptions, points, in)
	if err != nil {
		return nil, err
	}
	info["terms"] = float64(terms)
	return labelled(in, best.labels, info), nil
}

// labelled is a model of nothing but labels; its centres are the means of the
// rows.
func labelled(in Input, labels []int32, info map[string]float64) *Model {
	if info == nil {
		info = map[string]float64{}
	}
	return &Model{Labels: labels, Centers: clusterMeans(in.X, labels, in.K, in.Threads), Info: info}
}
