package tasks

import (
	"encoding/binary"
	"math"
	"slices"

	"clusterflow/cache"
	"clusterflow/internal/judge"
	"clusterflow/internal/linalg"
)

// scoreFile is what a score node makes: the scores, and what comparisons with
// other clusterings of the same sentences need.
type scoreFile struct {
	judge.SizeResult
	// Replicates are the metrics in every bootstrap sample, float32 in little
	// endian. The samples are the same for all clusterings of the same sentences.
	Replicates map[string][]byte `json:"replicates,omitempty"`
}

// resample computes intervals over responses, and the agreement of repetitions.
func (s *scoreFile) resample(c *clustering, data cache.Digest) {
	index := map[int]int{} // responses that have sentences, from 0
	for _, sentence := range c.sentences {
		if _, ok := index[sentence.Response]; !ok {
			index[sentence.Response] = len(index)
		}
	}
	// Seeded by the data alone, so that samples are paired across studies too.
	w := judge.NewWeights(len(index), judge.Resamples, linalg.Rand(0, "bootstrap", data.String()))
	samples := judge.Bootstrap(s.SizeResult, func(row int) int { return index[c.sentences[row].Response] }, w)
	s.Intervals, s.Replicates = map[string][2]float64{}, map[string][]byte{}
	for metric, values := range samples {
		s.Intervals[metric] = judge.Percentile(values)
		raw := make([]byte, 0, 4*len(values))
		for _, v := range values {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		s.Replicates[metric] = raw
	}
	s.Agreement = map[string]judge.Kappa{}
	accuracy, completeness := judge.RepetitionAgreement(s.SizeResult)
	for name, k := range map[string]judge.Kappa{judge.MetricAccuracy: accuracy, judge.MetricCompleteness: completeness} {
		if k.Items > 0 {
			s.Agreement[name] = k
		}
	}
}

// replicates are the values of a metric in the samples, nil where it has none.
func (s *scoreFile) replicates(metric string) []float32 {
	raw := s.Replicates[metric]
	out := make([]float32, 0, len(raw)/4)
	for b := range slices.Chunk(raw, 4) {
		if len(b) == 4 {
			out = append(out, math.Float32frombits(binary.LittleEndian.Uint32(b)))
		}
	}
	return out
}
