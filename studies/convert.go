package studies

import (
	"fmt"
	"maps"
	"math"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// conv turns a known value that is not null into a T, or says what it should
// have been.
type conv[T any] func(cty.Value) (T, *problem)

// problem is "NAME takes WANT, and this is GOT. ADVICE", or, with a summary,
// SUMMARY and ADVICE alone.
type problem struct {
	want    string
	got     cty.Value
	advice  string
	summary string
}

// whole takes whole numbers from lo to hi, both included.
func whole[T int | int64](lo, hi T) conv[T] {
	return func(v cty.Value) (T, *problem) {
		want := fmt.Sprintf("a whole number from %d to %d", lo, hi)
		switch {
		case int64(lo) == math.MinInt64:
			want = "a whole number"
		case int64(hi) >= math.MaxInt32:
			want = fmt.Sprintf("a whole number of at least %d", lo)
		}
		f, ok := number(v)
		if !ok || !f.IsInt() {
			return 0, &problem{want: want, got: v}
		}
		n, exact := f.Int64()
		if exact != big.Exact || n < int64(lo) || n > int64(hi) {
			return 0, &problem{want: want, got: v}
		}
		return T(n), nil
	}
}

// count is a whole number of at least lo.
func count(lo int) conv[int] { return whole(lo, math.MaxInt32) }

// decimal takes numbers from lo to hi, both included.
func decimal(lo, hi float64) conv[float64] {
	return func(v cty.Value) (float64, *problem) {
		want := fmt.Sprintf("a number from %v to %v", lo, hi)
		switch {
		case math.IsInf(lo, -1) && math.IsInf(hi, 1):
			want = "a number"
		case math.IsInf(hi, 1):
			want = fmt.Sprintf("a number of at least %v", lo)
		}
		f, ok := number(v)
		if !ok || f.IsInf() {
			return 0, &problem{want: want, got: v}
		}
		x, _ := f.Float64()
		if x < lo || x > hi || math.IsInf(x, 0) {
			return 0, &problem{want: want, got: v}
		}
		return x, nil
	}
}

func number(v cty.Value) (*big.Float, bool) {
	n, err := convert.Convert(v, cty.Number)
	if err != nil || n.IsNull() || !n.IsKnown() {
		return nil, false
	}
	return n.AsBigFloat(), true
}

// countOr takes a count, or a word that stands for the number `means`.
func countOr(lo int, word string, means int) conv[int] {
	return func(v cty.Value) (int, *problem) {
		if v.Type() == cty.String && v.AsString() == word {
			return means, nil
		}
		n, p := count(lo)(v)
		if p != nil {
			p.want += fmt.Sprintf(", or %q", word)
		}
		return n, p
	}
}

// boolean takes true and false.
func boolean(v cty.Value) (bool, *problem) {
	b, err := convert.Convert(v, cty.Bool)
	if err != nil || b.IsNull() || !b.IsKnown() {
		return false, &problem{want: "true or false", got: v}
	}
	return b.True(), nil
}

// text takes a string that is not blank.
func text(v cty.Value) (string, *problem) {
	s, p := anyText(v)
	if p == nil && strings.TrimSpace(s) == "" {
		return "", &problem{want: "text", got: v}
	}
	return s, p
}

func anyText(v cty.Value) (string, *problem) {
	s, err := convert.Convert(v, cty.String)
	if err != nil || s.IsNull() || !s.IsKnown() {
		return "", &problem{want: "text", got: v}
	}
	return s.AsString(), nil
}

// oneOf takes one of a few words.
func oneOf(words ...string) conv[string] { return oneOfNow("", nil, words...) }

// oneOfNow is oneOf for an attribute some of whose words come later; why says
// what would silently not happen.
func oneOfNow(why string, later []string, now ...string) conv[string] {
	return func(v cty.Value) (string, *problem) {
		s, p := anyText(v)
		if p != nil {
			p.want = either(now)
			return "", p
		}
		for _, w := range now {
			if s == w {
				return s, nil
			}
		}
		for _, w := range later {
			if s == w {
				return "", &problem{
					summary: fmt.Sprintf("%q is not in this release", s),
					advice:  fmt.Sprintf("%s Write %s.", why, either(now)),
				}
			}
		}
		return "", &problem{want: either(now), got: v, advice: strings.TrimSpace(didYouMean(s, now, "%q"))}
	}
}

// folderName takes what can be a folder's name everywhere.
func folderName(v cty.Value) (string, *problem) {
	s, p := text(v)
	if p == nil && (len(s) > 100 || !spelled(s, letters+digits+"_", letters+digits+"._-")) {
		p = &problem{want: "a name of letters, digits, -, _ and . that begins with a letter or digit", got: v}
	}
	return s, p
}

// webAddress takes an http(s) URL of an API, and drops a slash at its end.
func webAddress(v cty.Value) (string, *problem) {
	s, p := text(v)
	if p != nil {
		return "", p
	}
	bad := &problem{want: `the address of an API such as "https://api.openai.com/v1"`, got: v}
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return "", bad
	case u.User != nil:
		bad.advice = "Keys belong into an environment variable, named by api_key_env."
		return "", bad
	}
	return strings.TrimRight(s, "/"), nil
}

// hookAddress takes an http(s) URL that is told about the end of a run. It may
// have a query, as those of chat services do.
func hookAddress(v cty.Value) (string, *problem) {
	s, p := text(v)
	if p != nil {
		return "", p
	}
	if u, err := url.Parse(s); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", &problem{want: `an address such as "https://hooks.example.org/done"`, got: v}
	}
	return s, nil
}

// environmentName takes the name of an environment variable.
func environmentName(v cty.Value) (string, *problem) {
	s, p := text(v)
	if p == nil && !spelled(s, letters+"_", letters+digits+"_") {
		return "", &problem{
			summary: "Not the name of an environment variable",
			advice:  `api_key_env names the environment variable that holds the key, e.g. "OPENAI_API_KEY". The key itself never belongs into a study.`,
		}
	}
	return s, p
}

// reference takes a block of one type.
func (d *decoder) reference(kinds ...string) conv[ref] {
	return func(v cty.Value) (ref, *problem) {
		want := an(kinds[0]) + " block such as " + kinds[0] + ".NAME"
		if v.Type() != refType {
			p := &problem{want: want, got: v}
			if v.Type() == cty.String {
				for _, kind := range kinds {
					for _, label := range d.scope.names[kind] {
						if s := v.AsString(); s == label || s == kind+"."+label {
							p.advice = fmt.Sprintf("Write %s.%s, without quotes.", kind, label)
						}
					}
				}
			}
			return ref{}, p
		}
		r := *v.EncapsulatedValue().(*ref)
		for _, kind := range kinds {
			if r.kind == kind {
				return r, nil
			}
		}
		return ref{}, &problem{want: want, got: v}
	}
}

// describe shows a value in a message or a list of settings, on one line.
func describe(v cty.Value) string {
	switch ty := v.Type(); {
	case v.IsNull():
		return "null"
	case !v.IsWhollyKnown():
		return "not known"
	case ty == refType:
		return v.EncapsulatedValue().(*ref).String()
	case ty == cty.String:
		return strconv.Quote(v.AsString())
	case ty == cty.Number:
		return v.AsBigFloat().Text('g', 20)
	case ty == cty.Bool:
		return strconv.FormatBool(v.True())
	case ty.IsListType(), ty.IsTupleType(), ty.IsSetType():
		var parts []string
		for _, e := range v.AsValueSlice() {
			parts = append(parts, describe(e))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case ty.IsObjectType(), ty.IsMapType():
		values := v.AsValueMap()
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(values)) {
			parts = append(parts, key+" = "+describe(values[key]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return an(v.Type().FriendlyName())
}

// show is describe for a default.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		if v == "" {
			return ""
		}
		return strconv.Quote(v)
	case []int:
		var parts []string
		for _, n := range v {
			parts = append(parts, strconv.Itoa(n))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case []string:
		var parts []string
		for _, s := range v {
			parts = append(parts, strconv.Quote(s))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v)
}

// Letters and digits that names are spelled with.
const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

// spelled reports whether s begins with a byte of first and goes on with bytes
// of rest alone.
func spelled(s, first, rest string) bool {
	return s != "" && strings.IndexByte(first, s[0]) >= 0 && strings.Trim(s[1:], rest) == ""
}
