package studies

// protocol is a named set of defaults. Two results compare only under one
// protocol; a study may override every value, and its report lists what it did.
type protocol struct {
	name string

	methods  []string // nil: every method there is
	examples int      // responses; 0: all

	titler, judge string // models that the protocol used, for advice

	inside, outside     int // accuracy: sentences per cluster
	completenessMode    string
	completeness        int // sentences
	orthogonalityTitles string
	labels              string
}

// protocols are those of the study "Base Models Know How to Reason, Thinking
// Models Learn When" (arXiv 2510.07364): its scripts as first documented, and
// as used for the paper of September 2025.
var protocols = []protocol{
	{
		name:     "2025-07",
		examples: 500,
		titler:   "gpt-4o", judge: "gpt-4o",
		inside: 100, outside: 100,
		completenessMode: "assign", completeness: 500,
		orthogonalityTitles: "first",
		labels:              "trained",
	},
	{
		name:     "paper",
		methods:  []string{"sae_topk"},
		examples: 0,
		titler:   "o4-mini", judge: "gpt-4.1-mini",
		inside: 40, outside: 160,
		completenessMode: "fit", completeness: 200,
		orthogonalityTitles: "each",
		labels:              "predicted",
	},
}

// Defaults that both protocols share.
const (
	defaultSeed                = 42
	defaultMinWords            = 3
	defaultDescriptionExamples = 200
	defaultConcurrency         = 8
	defaultRepetitions         = 5
	defaultTraceExamples       = 3
	defaultThreshold           = 0.5
	maxChunk                   = 50
	maxExampleCategories       = 5
)

// defaultClusters is range(5, 55, 5).
func defaultClusters() []int {
	return []int{5, 10, 15, 20, 25, 30, 35, 40, 45, 50}
}

func protocolNames() []string {
	var names []string
	for _, p := range protocols {
		names = append(names, p.name)
	}
	return names
}

func protocolByName(name string) protocol {
	for _, p := range protocols {
		if p.name == name {
			return p
		}
	}
	return protocols[0]
}

// accuracyExamples splits `examples = n`: n from each side where the protocol
// takes equal numbers, else n in all in the protocol's proportion.
func (p protocol) accuracyExamples(n int) (inside, outside int) {
	if p.inside == p.outside {
		return n, n
	}
	total := p.inside + p.outside
	inside = (n*p.inside + total/2) / total
	return inside, n - inside
}
