package judge

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// object1 finds the last object of the content that has the wanted fields,
// outermost or inside one wrapping object or list. What is found beside an
// object in which the text ends may be a part of it, or be what it was about to
// correct, and is not taken.
func object1(content string, want func(map[string]any) bool) (map[string]any, error) {
	found, skipped, err := read(content)
	if err != nil {
		return nil, err
	}
	var hit map[string]any
	for _, v := range found {
		if _, ok := v.([]any); ok {
			v = alone(v)
		}
		for _, v := range []any{v, alone(v)} {
			if o, ok := v.(map[string]any); ok && want(lower(o)) {
				hit = lower(o)
				break
			}
		}
	}
	if hit == nil || skipped == flawTorn {
		return nil, notFound(content, skipped)
	}
	return hit, nil
}

// items finds the list of answers, each an object with an id and one of the
// verdict fields, and keys it by id. It takes the last object that wraps such
// a list, itself perhaps alone in an object or list, else the last bare list,
// else the bare objects one after another; the latter two only where nothing of
// the answer had to be skipped, and none beside an object in which the text
// ends.
func items(content string, ids []int, verdicts ...string) (map[int]map[string]any, error) {
	found, skipped, err := read(content)
	if err != nil {
		return nil, err
	}
	var list, bare, loose []any
	for _, v := range found {
		if l := wrapped(v, verdicts); l != nil {
			list = l
		} else if l := wrapped(alone(v), verdicts); l != nil {
			list = l
		}
		switch v := v.(type) {
		case map[string]any:
			if looksLikeItems([]any{v}, verdicts) {
				loose = append(loose, v)
			}
		case []any:
			if looksLikeItems(v, verdicts) {
				bare = v
			}
		}
	}
	if skipped == flawTorn {
		list = nil
	} else if list == nil && skipped == flawNone {
		if list = bare; list == nil {
			list = loose
		}
	}
	if list == nil {
		return nil, notFound(content, skipped)
	}
	asked := make(map[int]bool, len(ids))
	for _, id := range ids {
		asked[id] = true
	}
	out := make(map[int]map[string]any, len(list))
	for n, v := range list {
		item, ok := v.(map[string]any)
		if !ok {
			return nil, fail(Unreadable, "element %d of the list is no object", n+1)
		}
		item = lower(item)
		id, ok := identifier(first(item, "id", "sentence_id", "sentence"))
		switch {
		case !ok:
			return nil, fail(BadID, "element %d of the list has no sentence id", n+1)
		case !asked[id]:
			return nil, fail(BadID, "sentence %d was not asked", id)
		case out[id] != nil:
			return nil, fail(BadID, "sentence %d is answered twice", id)
		}
		out[id] = item
	}
	return out, nil
}

// wrapped is the list of answers that an object holds under one of its names,
// nil if v is none.
func wrapped(v any, verdicts []string) (list []any) {
	o, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	o = lower(o)
	for _, name := range []string{"answers", "classifications", "categorizations", "results", "sentences"} {
		if l, ok := o[name].([]any); ok && looksLikeItems(l, verdicts) {
			list = l
		}
	}
	return list
}

// alone is the one element of a list or the one field of an object, else nil.
func alone(v any) any {
	switch v := v.(type) {
	case []any:
		if len(v) == 1 {
			return v[0]
		}
	case map[string]any:
		if len(v) == 1 {
			for _, inner := range v {
				return inner
			}
		}
	}
	return nil
}

// looksLikeItems reports whether any element carries one of the verdict fields.
func looksLikeItems(list []any, verdicts []string) bool {
	for _, v := range list {
		if o, ok := v.(map[string]any); ok {
			o = lower(o)
			for _, name := range verdicts {
				if _, ok := o[name]; ok {
					return true
				}
			}
		}
	}
	return false
}

// read finds the JSON values of the part of an answer after its reasoning.
func read(content string) (found []any, skipped flaw, err error) {
	part := answerPart(content)
	if strings.TrimSpace(part) == "" {
		if strings.TrimSpace(content) == "" {
			return nil, flawNone, fail(Empty, "the answer has no content")
		}
		return nil, flawNone, fail(CutOff, "the answer ends inside its reasoning")
	}
	// An answer cut off inside a fence may still get the fence's end.
	found, skipped = values(strings.TrimRight(part, " \t\r\n`"))
	return found, skipped, nil
}

// answerPart drops the reasoning that some servers leave in the content: what
// stands before the last </think>, or all of it where a leading <think> is
// never closed.
func answerPart(content string) string {
	if i := strings.LastIndex(content, "</think>"); i >= 0 {
		return content[i+len("</think>"):]
	}
	if strings.HasPrefix(strings.TrimSpace(content), "<think>") {
		return ""
	}
	return content
}

// lower returns o with its keys in lower case and trimmed, blanks and dashes
// as underscores. Where two keys become the same, the one that was so already
// wins, else the first in byte order.
func lower(o map[string]any) map[string]any {
	plain := true
	for k := range o {
		plain = plain && k == plainKey(k)
	}
	if plain {
		return o
	}
	out := make(map[string]any, len(o))
	for _, k := range slices.Sorted(maps.Keys(o)) {
		p := plainKey(k)
		if _, taken := out[p]; !taken || k == p {
			out[p] = o[k]
		}
	}
	return out
}

func plainKey(k string) string {
	k = strings.ToLower(strings.TrimSpace(k))
	if strings.ContainsAny(k, " -") {
		k = strings.NewReplacer(" ", "_", "-", "_").Replace(k)
	}
	return k
}

// first returns the first field that is there and not null.
func first(o map[string]any, names ...string) any {
	for _, n := range names {
		if v := o[n]; v != nil {
			return v
		}
	}
	return nil
}

func explanation(o map[string]any) string {
	s, _ := first(o, "explanation", "reason", "reasoning", "rationale").(string)
	return strings.TrimSpace(s)
}

// number reads a finite number, also from a string such as "8" or "8/10".
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	case string:
		return decimal(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "/10")))
	}
	return 0, false
}

// decimal reads what JSON would take for a number, a leading plus or point
// forgiven; not hexadecimal, Inf or NaN.
func decimal(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && !strings.ContainsAny(s, "xXpP_nN")
}

// identifier reads a whole number, also from "3", "#3", "Sentence 3",
// "Category 3".
func identifier(v any) (int, bool) {
	if s, ok := v.(string); ok {
		s = strings.ToLower(strings.TrimSpace(s))
		for _, prefix := range []string{"sentence", "category", "cluster", "id", "#", ":", "no.", "_"} {
			s = strings.TrimSpace(strings.TrimPrefix(s, prefix))
		}
		v = s
	}
	f, ok := number(v)
	if !ok || f != math.Trunc(f) || math.Abs(f) > 1e9 {
		return 0, false
	}
	return int(f), true
}

// category reads a category id or None, which may be written as null.
func category(o map[string]any, names ...string) (id int, isNone, ok bool) {
	v := first(o, names...)
	if v == nil {
		for _, n := range names {
			if _, there := o[n]; there {
				return None, true, true
			}
		}
		return None, false, false
	}
	if s, isText := v.(string); isText {
		switch strings.ToLower(strings.Trim(strings.TrimSpace(s), ".\"'")) {
		case "none", "no category", "null":
			return None, true, true
		}
	}
	id, ok = identifier(v)
	return id, false, ok
}

// yesNo reads a verdict.
func yesNo(v any) (yes, ok bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case string:
		switch strings.ToLower(strings.Trim(strings.TrimSpace(v), ".!,*\"'")) {
		case "yes", "y", "true":
			return true, true
		case "no", "n", "false":
			return false, true
		}
	}
	return false, false
}
