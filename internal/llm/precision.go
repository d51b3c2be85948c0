package llm

import (
	"fmt"
	"strings"

	"clusterflow/internal/linalg"
)

// Precision says what is rounded in the products of a forward pass. Sums are
// taken in float32 whatever it is, and so are the residual stream, the norms,
// the rotations, the softmax and SiLU; docs/exactness.md has every rule, and
// what they cost.
type Precision string

const (
	F32  Precision = "f32"  // nothing is rounded
	BF16 Precision = "bf16" // both sides of every product, to bfloat16
	F16  Precision = "f16"  // both sides of every product, to IEEE half precision
	Int8 Precision = "int8" // LLM.int8() (arXiv 2208.07339) in the linear layers
)

// Precisions returns the precisions that a model can be run in.
func Precisions() []Precision { return []Precision{F32, BF16, F16, Int8} }

// ParsePrecision returns the precision of that name.
func ParsePrecision(name string) (Precision, error) {
	var names []string
	for _, p := range Precisions() {
		if name == string(p) {
			return p, nil
		}
		names = append(names, string(p))
	}
	return "", fmt.Errorf("there is no precision %q; there are %s", name, strings.Join(names, ", "))
}

// round rounds one side of a product in place, as p says.
func (p Precision) round(x []float32) {
	switch p {
	case BF16:
		for i, v := range x {
			x[i] = linalg.RoundBF16(v)
		}
	case F16:
		for i, v := range x {
			x[i] = linalg.RoundF16(v)
		}
	}
}
