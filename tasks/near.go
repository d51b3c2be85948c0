package tasks

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"clusterflow/graph"
	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
)

// A tolerance is how far apart the results of two backends may be that were
// given the same inputs: libraries and processors add in other orders. It is
// documented for users in docs/verify.md.
type tolerance struct {
	floats float64 // of a row of numbers, as the norm of the difference over the norm
	share  float64 // of integers, such as labels, that may be others
}

// tolerances by kind of task. A forward pass has no choices to make: its error
// only grows with depth. A fit makes them, and one sentence between two centres
// moves both.
var tolerances = map[string]tolerance{
	kindExtract.Name: {floats: 1e-4},
	kindPCA.Name:     {floats: 1e-2},
	"":               {floats: 1e-2, share: 0.01}, // every other
}

// rounded is the tolerance of a forward pass in another precision than f32,
// where a last bit can make a number round the other way.
var rounded = tolerance{floats: 1e-2}

// notCompared are members of JSON outputs that say how a result was come by.
var notCompared = []string{"backend", "info"}

// Near compares the files of an output of a task that two backends made. how says what is furthest apart; near, whether that is within
// the kind's tolerance. Only tensors and JSON have any; other files are near
// only if they are the same, and then nobody asks.
func Near(task graph.Task, _, was, now string) (how string, near bool, err error) {
	tol := toleranceOf(task.Kind())
	if t, ok := task.(*extract); ok && llm.Precision(t.model.Precision.V) != llm.F32 {
		tol = rounded
	}
	return nearWithin(tol, was, now)
}

func toleranceOf(kind string) tolerance {
	if tol, ok := tolerances[kind]; ok {
		return tol
	}
	return tolerances[""]
}

func nearWithin(tol tolerance, was, now string) (how string, near bool, err error) {
	d := distance{tol: tol}
	a, errA := linalg.OpenSafetensors(was)
	b, errB := linalg.OpenSafetensors(now)
	if errA == nil {
		defer a.Close()
	}
	if errB == nil {
		defer b.Close()
	}
	switch {
	case errA == nil && errB == nil:
		err = d.tensors(a, b)
	case errA == nil || errB == nil:
		d.unlike("one is a file of tensors, the other is not")
	default:
		err = d.json(was, now)
	}
	if d.how == "" {
		d.how = "the same, but for what says how it was made"
	}
	return d.how, d.err == nil, err
}

// distance gathers what is furthest apart, in tolerances.
type distance struct {
	tol  tolerance
	most float64
	how  string
	err  error // why they are not near
}

var errFar = errors.New("not near")

// unlike notes a difference that no tolerance covers.
func (d *distance) unlike(format string, args ...any) {
	if d.err == nil {
		d.how, d.err = fmt.Sprintf(format, args...), errFar
	}
}

// measured notes a difference with its limit.
func (d *distance) measured(what string, value, limit float64) {
	if value == 0 {
		return
	}
	ratio := value / limit
	if !(ratio <= 1) { // also if it is no number
		d.unlike("%s off by %.2g, more than the %.2g that are allowed", what, value, limit)
	}
	if d.err == nil && ratio >= d.most {
		d.most, d.how = ratio, fmt.Sprintf("%s off by %.2g, of %.2g that are allowed", what, value, limit)
	}
}

func (d *distance) tensors(a, b *linalg.Safetensors) error {
	if !slices.Equal(slices.Sorted(slices.Values(a.Names())), slices.Sorted(slices.Values(b.Names()))) {
		d.unlike("they hold other tensors")
		return nil
	}
	for _, name := range a.Names() {
		x, _ := a.Tensor(name)
		y, _ := b.Tensor(name)
		if x.DType != y.DType || !slices.Equal(x.Shape, y.Shape) {
			d.unlike("%s is %s %v, now %s %v", name, x.DType, x.Shape, y.DType, y.Shape)
			continue
		}
		if x.DType == "I32" {
			if err := d.integers(name, x, y); err != nil {
				return err
			}
			continue
		}
		mx, err := x.Matrix()
		if err != nil {
			return err
		}
		my, err := y.Matrix()
		if err != nil {
			return err
		}
		most := 0.0
		for i := range mx.Rows {
			most = max(most, apart(mx.Row(i), my.Row(i)))
		}
		d.measured(name, most, d.tol.floats)
	}
	return nil
}

// apart is ‖a−b‖/‖a‖; infinite if anything is not a finite number in one alone.
func apart(a, b []float32) float64 {
	var diff, norm float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		if a[i] == b[i] || math.IsNaN(x) && math.IsNaN(y) {
			norm += max(x*x, 0)
			continue
		}
		diff += (x - y) * (x - y)
		norm += x * x
	}
	switch {
	case diff == 0:
		return 0
	case math.IsNaN(diff) || math.IsInf(diff, 0) || norm == 0:
		return math.Inf(1)
	}
	return math.Sqrt(diff / norm)
}

func (d *distance) integers(name string, x, y linalg.Tensor) error {
	a, err := x.Int32()
	if err != nil {
		return err
	}
	b, err := y.Int32()
	if err != nil {
		return err
	}
	others := 0
	for i := range a {
		if a[i] != b[i] {
			others++
		}
	}
	d.measured("a share of "+name, float64(others)/float64(max(len(a), 1)), d.tol.share)
	return nil
}

// json compares JSON values.
func (d *distance) json(was, now string) error {
	var values [2]any
	for i, path := range []string{was, now} {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if json.Unmarshal(raw, &values[i]) != nil {
			d.unlike("their bytes differ")
			return nil
		}
	}
	d.value("", values[0], values[1])
	return nil
}

// value compares two JSON values at a path such as cosines[2].
func (d *distance) value(path string, a, b any) {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || !slices.Equal(sortedKeys(x), sortedKeys(y)) {
			d.unlike("%s has other members", at0(path))
			return
		}
		for _, name := range sortedKeys(x) {
			if !slices.Contains(notCompared, name) {
				d.value(joined(path, name), x[name], y[name])
			}
		}
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			d.unlike("%s has another length", at0(path))
			return
		}
		if u, v, ok := numbers(x, y); ok {
			d.list(path, u, v)
			return
		}
		for i := range x {
			d.value(fmt.Sprintf("%s[%d]", path, i), x[i], y[i])
		}
	case float64:
		y, ok := b.(float64)
		if !ok {
			d.unlike("%s is no number now", at0(path))
			return
		}
		d.measured(at0(path), math.Abs(x-y)/max(1, math.Abs(x)), d.tol.floats)
	default:
		if a != b {
			d.unlike("%s is %v, now %v", at0(path), a, b)
		}
	}
}

// list compares lists of numbers: the sum of their differences, over that of
// their sizes.
func (d *distance) list(path string, a, b []float64) {
	var diff, sum float64
	for i := range a {
		diff += math.Abs(a[i] - b[i])
		sum += math.Abs(a[i])
	}
	if diff > 0 {
		d.measured(at0(path), diff/sum, max(d.tol.floats, 2*d.tol.share))
	}
}

func numbers(a, b []any) (u, v []float64, ok bool) {
	for i := range a {
		x, ok1 := a[i].(float64)
		y, ok2 := b[i].(float64)
		if !ok1 || !ok2 {
			return nil, nil, false
		}
		u, v = append(u, x), append(v, y)
	}
	return u, v, true
}

func joined(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// at0 names the value at a path.
func at0(path string) string {
	if path == "" {
		return "the value"
	}
	return path
}
