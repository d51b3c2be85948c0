package judge

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// ParseTitle reads a title and a description. Besides the JSON form it takes
// the lines "Title: …" and "Description: …". Both must be there; white space is
// collapsed.
func ParseTitle(content string) (title, description string, err error) {
	o, err := object1(content, func(o map[string]any) bool { return o["title"] != nil && o["description"] != nil })
	if err != nil {
		if ReasonOf(err) != CutOff {
			if t, d, ok := titleLines(content); ok {
				return t, d, nil
			}
		}
		return "", "", err
	}
	t, ok1 := o["title"].(string)
	d, ok2 := o["description"].(string)
	title, description = tidy(t), tidy(d)
	if !ok1 || !ok2 || title == "" || description == "" {
		return "", "", fail(BadValue, "title and description must both be texts that are not empty")
	}
	return title, description, nil
}

var titleLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?mi)^[\s*#_>-]*title[\s*_]*:[\s*_]*(.+)$`)
})
var descriptionLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?msi)^[\s*#_>-]*description[\s*_]*:[\s*_]*(.+)\z`)
})

// titleLines reads the two lines, with what Markdown puts around them. Lines
// that an open brace precedes are an object's, which is broken.
func titleLines(content string) (title, description string, ok bool) {
	content = strings.TrimRight(answerPart(content), " \t\r\n`")
	t := titleLine().FindStringSubmatchIndex(content)
	if t == nil || strings.Contains(content[:t[0]], "{") {
		return "", "", false
	}
	d := descriptionLine().FindStringSubmatch(content[t[1]:])
	if d == nil {
		return "", "", false
	}
	paragraph, _, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(d[1]), "\r\n", "\n"), "\n\n")
	title = tidy(strings.Trim(strings.TrimSpace(content[t[2]:t[3]]), "*_\"“”"))
	description = tidy(paragraph)
	return title, description, title != "" && description != ""
}

// Verdict is the answer for one sentence of an accuracy prompt.
type Verdict struct {
	Yes         bool
	Explanation string
}

// ParseAccuracy reads the verdicts of an accuracy answer by sentence id. ids
// are the ids of the prompt: another id, or one given twice, fails the whole
// answer. A sentence that was left out, or whose verdict is neither yes nor no,
// is absent from the map; if none is left, the answer has failed.
func ParseAccuracy(content string, ids []int) (map[int]Verdict, error) {
	list, err := items(content, ids, "answer", "belongs_to_category", "verdict")
	if err != nil {
		return nil, err
	}
	out := make(map[int]Verdict, len(list))
	for id, item := range list {
		if yes, ok := yesNo(first(item, "answer", "belongs_to_category", "verdict")); ok {
			out[id] = Verdict{Yes: yes, Explanation: explanation(item)}
		}
	}
	if len(out) == 0 {
		return nil, fail(BadValue, "no sentence is answered with Yes or No")
	}
	return out, nil
}

// None is the Category of an Assignment to no category.
const None = -1

// none is its name in prompts, answers and result files.
const none = "None"

// Assignment is the answer for one sentence of a completeness prompt.
type Assignment struct {
	Category    int     // a category id, or None
	Confidence  float64 // 1..10; 0 for None
	Explanation string
}

// ParseCompleteness reads the assignments of a completeness answer by sentence
// id. categories are the ids that were offered. Ids are treated as
// ParseAccuracy treats them; a sentence with a category that was not offered,
// or with a category and a confidence outside 1..10, is absent. The confidence
// of None is 0 whatever the answer says.
func ParseCompleteness(content string, ids []int, categories []int) (map[int]Assignment, error) {
	list, err := items(content, ids, "category", "assigned_category")
	if err != nil {
		return nil, err
	}
	offered := make(map[int]bool, len(categories))
	for _, c := range categories {
		offered[c] = true
	}
	out := make(map[int]Assignment, len(list))
	for id, item := range list {
		c, isNone, ok := category(item, "category", "assigned_category")
		if !ok || (!isNone && !offered[c]) {
			continue
		}
		a := Assignment{Category: None, Explanation: explanation(item)}
		if !isNone {
			confidence, ok := number(item["confidence"])
			if !ok || confidence < 1 || confidence > 10 {
				continue
			}
			a.Category, a.Confidence = c, confidence
		}
		out[id] = a
	}
	if len(out) == 0 {
		return nil, fail(BadValue, "no sentence has a category that was offered, or None, with a confidence from 1 to 10")
	}
	return out, nil
}

// ParseFit reads the score of a fit answer, 0..10.
func ParseFit(content string) (score float64, why string, err error) {
	return parseScore(content, "score", "completeness_score", "fit_score")
}

// ParseSimilarity reads the score of a similarity answer, 0..10.
func ParseSimilarity(content string) (score float64, why string, err error) {
	return parseScore(content, "score", "similarity_score")
}

func parseScore(content string, names ...string) (float64, string, error) {
	o, err := object1(content, func(o map[string]any) bool { return first(o, names...) != nil })
	if err != nil {
		return 0, "", err
	}
	score, ok := number(first(o, names...))
	if !ok || score < 0 || score > 10 {
		return 0, "", fail(BadValue, "the score %v is not a number from 0 to 10", excerpt(fmt.Sprint(first(o, names...))))
	}
	return score, explanation(o), nil
}
