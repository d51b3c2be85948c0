package judge

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// kinds are the tasks, each with an answer in the form that was asked for and
// with what its parser makes of an answer, as one line. The sentences 1, 2 and
// 3 were asked and the categories 0 and 4 offered.
var kinds = []struct {
	task, answer, value string
	show                func(content string) (string, error)
}{
	{TaskTitle, `{"title": "Checking a result", "description": "Goes over it again, step by step. No new work."}`,
		"Checking a result | Goes over it again, step by step. No new work.", showTitle},
	{TaskAccuracy, `{"answers": [{"id": 1, "explanation": "It checks, (twice).", "answer": "Yes"}, {"id": 2, "explanation": "It sets out.", "answer": "No"}]}`,
		"1:yes 2:no", showAccuracy},
	{TaskCompleteness, `{"answers": [{"id": 1, "explanation": "It checks.", "category": "4", "confidence": 8}, {"id": 3, "explanation": "It does neither.", "category": "None", "confidence": 0}]}`,
		"1:4/8 3:-1/0", showCompleteness},
	{TaskFit, `{"explanation": "It checks, more or less.", "score": 7}`, "7 | It checks, more or less.", showScore(ParseFit)},
	{TaskSimilarity, `{"explanation": "Both check.", "score": 9}`, "9 | Both check.", showScore(ParseSimilarity)},
}

func showTitle(content string) (string, error) {
	title, description, err := ParseTitle(content)
	return title + " | " + description, err
}

func showAccuracy(content string) (string, error) {
	got, err := ParseAccuracy(content, []int{1, 2, 3})
	return verdictText(got), err
}

func showCompleteness(content string) (string, error) {
	got, err := ParseCompleteness(content, []int{1, 2, 3}, []int{0, 4})
	return assignmentText(got), err
}

func showScore(parse func(string) (float64, string, error)) func(string) (string, error) {
	return func(content string) (string, error) {
		score, why, err := parse(content)
		return fmt.Sprintf("%g | %s", score, why), err
	}
}

func verdictText(m map[int]Verdict) string {
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%d:%s", id, strings.ToLower(yesNoText(m[id].Yes))))
	}
	return strings.Join(parts, " ")
}

func assignmentText(m map[int]Assignment) string {
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%d:%d/%g", id, m[id].Category, m[id].Confidence))
	}
	return strings.Join(parts, " ")
}

var (
	closing   = regexp.MustCompile(`([}\]])`)
	opened    = regexp.MustCompile(`"([^"]*)"`)
	lastValue = regexp.MustCompile(`("[^"]*"|\d+)([}\]]*)$`)
)

const megabyte = 1 << 20

// damage is what models, servers and networks do to an answer. The reason is
// "" where the answer still has to be read as if nothing had happened to it.
var damage = []struct {
	name   string
	to     func(answer string) string
	reason Reason
}{
	{"nothing", func(a string) string { return a }, ""},
	{"fence", func(a string) string { return "```json\n" + a + "\n```" }, ""},
	{"fence of tildes", func(a string) string { return "~~~\n" + a + "\n~~~\n" }, ""},
	{"fence that is not closed", func(a string) string { return "```\n" + a }, ""},
	{"prose around", func(a string) string {
		return "Sure! Here is the answer:\n\n" + a + "\n\nLet me know if you need more."
	}, ""},
	{"prose with brackets around", func(a string) string { return "Of {1, 2} and [see above], (a):\n" + a + "\nThe {others} [do not]." }, ""},
	{"reasoning before", func(a string) string { return "<think>Is it {\"score\": 1} or [2]? {</think>\n\n" + a }, ""},
	{"smart quotes", func(a string) string { return opened.ReplaceAllString(a, "“$1”") }, ""},
	{"closing quotes only", func(a string) string { return opened.ReplaceAllString(a, "”$1”") }, ""},
	{"low quotes", func(a string) string { return opened.ReplaceAllString(a, "„$1“") }, ""},
	{"single quotes", func(a string) string { return opened.ReplaceAllString(a, "'$1'") }, ""},
	{"smart single quotes", func(a string) string { return opened.ReplaceAllString(a, "‘$1’") }, ""},
	{"trailing commas", func(a string) string { return closing.ReplaceAllString(a, ",$1") }, ""},
	{"trailing commas and breaks", func(a string) string { return closing.ReplaceAllString(a, ",\r\n\t$1") }, ""},
	{"byte order mark", func(a string) string { return "\ufeff" + a }, ""},
	{"no-break spaces", func(a string) string { return strings.ReplaceAll(a, `": `, "\"\u00a0:\u00a0") }, ""},
	{"Windows line ends", func(a string) string { return strings.ReplaceAll(a, `, "`, ",\r\n  \"") }, ""},
	{"keys with capitals", func(a string) string {
		return regexp.MustCompile(`"[a-z]+":`).ReplaceAllStringFunc(a, func(k string) string { return k[:1] + strings.ToUpper(k[1:2]) + k[2:] })
	}, ""},
	{"numbers as text", func(a string) string { return regexp.MustCompile(`: (\d+)`).ReplaceAllString(a, `: "$1"`) }, ""},
	{"in a list", func(a string) string { return "[" + a + "]" }, ""},
	{"in another object", func(a string) string { return `{"result": ` + a + `}` }, ""},
	{"said twice", func(a string) string { return a + "\n\n" + a }, ""},
	{"draft before", func(a string) string {
		return lastValue.ReplaceAllString(a, `"maybe"$2`) + "\nBetter:\n" + a
	}, ""},
	{"more fields", func(a string) string {
		return strings.Replace(a, "{", `{"note": {"a": [1, {"b": null}]}, "ok": true, `, 1)
	}, ""},
	{"a megabyte of prose before", func(a string) string { return strings.Repeat("As said above, ", megabyte/15) + a }, ""},
	{"a megabyte of prose after", func(a string) string { return a + strings.Repeat(" and so on", megabyte/10) }, ""},
	{"a megabyte of brackets before", func(a string) string { return strings.Repeat("}]", megabyte/2) + a }, ""},
	{"a megabyte of white space", func(a string) string { return strings.Repeat(" \n\t\r", megabyte/4) + a }, ""},

	{"empty", func(string) string { return "" }, Empty},
	{"blank", func(string) string { return " \r\n\t\u00a0" }, Empty},
	{"refused", func(string) string { return "I’m sorry, but I can’t help with that." }, Refused},
	{"refused without an apology", func(string) string { return "As an AI language model, I do not judge reasoning." }, Refused},
	{"refused in JSON", func(string) string { return `{"error": "I cannot comply with this request."}` }, Refused},
	{"prose only", func(string) string { return "Most of them, though not all." }, Unreadable},
	{"the schema instead", func(string) string { return `{"type": "object", "properties": {}, "required": []}` }, Unreadable},
	{"another form", func(string) string { return `{"judgements": {"1": "Yes"}}` }, Unreadable},
	{"null", func(string) string { return "null" }, Unreadable},
	{"a number", func(string) string { return "7" }, Unreadable},
	{"an empty object", func(string) string { return "{}" }, Unreadable},
	{"an empty list", func(string) string { return "[]" }, Unreadable},
	{"an empty fence", func(string) string { return "```json\n```" }, Unreadable},
	{"a page of an error", func(string) string { return "<html><head><title>502</title></head><body>Bad gateway</body></html>" }, Unreadable},
	{"a stray word inside", func(a string) string { return lastValue.ReplaceAllString(a, `$1 indeed$2`) }, Unreadable},
	{"a colon twice", func(a string) string { return lastValue.ReplaceAllString(a, `: $1$2`) }, Unreadable},
	{"reasoning that does not end", func(a string) string { return "<think>Perhaps " + a }, CutOff},
	{"cut before the last bracket", func(a string) string { return a[:len(a)-1] }, CutOff},
	{"cut in the middle", func(a string) string { return a[:len(a)/2] }, CutOff},
	{"cut in a fence", func(a string) string { return "```json\n" + a[:len(a)-2] }, CutOff},
	{"cut, then closed by a fence", func(a string) string { return "```json\n" + a[:len(a)-2] + "\n```" }, CutOff},
	{"cut while correcting", func(a string) string { return a + "\nNo, better:\n" + a[:len(a)-3] }, CutOff},
	{"cut around whole parts", func(a string) string { return `{"best": ` + a + `, "second": ` + a }, CutOff},
	{"a megabyte of open brackets", func(string) string { return strings.Repeat("[", megabyte) }, Unreadable},
	{"a megabyte of open braces", func(string) string { return strings.Repeat("{", megabyte) }, CutOff},
	{"a megabyte of nested keys", func(string) string { return strings.Repeat(`{"a":`, megabyte/5) }, Unreadable},
	{"a megabyte of nested lists of objects", func(string) string { return strings.Repeat(`[{"id":1,"answers":`, megabyte/19) }, Unreadable},
	{"a megabyte of closed brackets", func(string) string { return strings.Repeat("[]", megabyte/2) }, Unreadable},
	{"a megabyte of quotes", func(string) string { return strings.Repeat(`{"`, megabyte/2) }, Unreadable},
	{"a megabyte of one text", func(string) string { return `{"title": "` + strings.Repeat("wait, ", megabyte/6) }, CutOff},
}

// TestDamage: every kind of answer survives what can be mended, as the same
// value, and fails for the right reason otherwise.
func TestDamage(t *testing.T) {
	for _, d := range damage {
		for _, k := range kinds {
			content := d.to(k.answer)
			got, err := k.show(content)
			switch {
			case ReasonOf(err) != d.reason:
				t.Errorf("%s, %s: %v, want the reason %q; from %.200s", d.name, k.task, err, d.reason, content)
			case err == nil && got != k.value:
				t.Errorf("%s, %s: %q, want %q; from %.200s", d.name, k.task, got, k.value, content)
			}
			if d.name != "nothing" && d.name != "numbers as text" && content == k.answer {
				t.Errorf("%s leaves an answer to %s as it was", d.name, k.task)
			}
		}
	}
}

// TestTorn: an answer that ends anywhere before its end is never taken for a
// shorter one, however it is laid out.
func TestTorn(t *testing.T) {
	for _, k := range kinds {
		for _, layout := range []string{"", "\n  "} {
			answer := regexp.MustCompile(`([{\[,]) ?"`).ReplaceAllString(k.answer, "${1}"+layout+`"`)
			for n := range answer {
				got, err := k.show(answer[:n])
				want := CutOff
				switch {
				case n == 0:
					want = Empty
				case !strings.Contains(answer[:n], ":"):
					want = ReasonOf(err) // nothing of an answer yet: any failure will do
				}
				if err == nil || ReasonOf(err) != want {
					t.Errorf("%s cut to %q: %q, %v, want the reason %q", k.task, answer[:n], got, err, want)
				}
			}
		}
	}
}
