package judge

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Reason says in one word or two why an answer, or one sentence of it, counts
// as failed.
type Reason string

// The reasons.
const (
	Missing    Reason = "missing"     // nothing came back, or a sentence was left out
	Refused    Reason = "refused"     // the model declined
	CutOff     Reason = "cut off"     // the answer ends before its end
	Empty      Reason = "empty"       // an answer without content
	Unreadable Reason = "unreadable"  // nothing of the form that was asked for
	BadID      Reason = "sentence id" // an id that was not asked, or twice
	BadValue   Reason = "value"       // a verdict, category or score outside what was asked for
)

// Failure is a failed answer.
type Failure struct {
	Reason Reason
	Detail string
}

func (f *Failure) Error() string {
	if f.Detail == "" {
		return "failed answer (" + string(f.Reason) + ")"
	}
	return "failed answer (" + string(f.Reason) + "): " + f.Detail
}

func fail(r Reason, format string, args ...any) *Failure {
	return &Failure{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

// ReasonOf is the reason of an error that a parser or Reply.Text returned;
// Unreadable for any other error, "" for nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	var f *Failure
	if errors.As(err, &f) {
		return f.Reason
	}
	return Unreadable
}

// Reply is what came back for one request.
type Reply struct {
	Content      string
	FinishReason string // as the API names it; "length" means cut off
	Refusal      string // the refusal field of the message
	Error        string // set when the request has no answer; says why
}

// Text returns the content, or the *Failure that keeps it from being read.
func (r Reply) Text() (string, error) {
	switch {
	case r.Error != "":
		return "", fail(Missing, "%s", r.Error)
	case r.Refusal != "":
		return "", fail(Refused, "%s", excerpt(r.Refusal))
	case r.FinishReason == "length":
		return "", fail(CutOff, "the completion limit was reached")
	case r.FinishReason == "content_filter":
		return "", fail(Refused, "the endpoint's content filter stopped the answer")
	case strings.TrimSpace(r.Content) == "":
		return "", fail(Empty, "the answer has no content")
	}
	return r.Content, nil
}

var refusal = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^\W*(i['’]?m|i am|we are|we['’]re)?\s*(very )?(sorry|unable to|not able to)\b|\bi (can['’]?t|cannot|can not|won['’]?t|will not) (help|assist|comply|do|provide|answer|judge|classify|continue|fulfil)|\bas an ai\b`)
})

// notFound names the best reason for an answer without the expected JSON.
func notFound(content string, skipped flaw) *Failure {
	switch {
	case skipped >= flawCut:
		return fail(CutOff, "the JSON does not end: …%s", tail(content))
	case len(content) < 2000 && refusal().MatchString(content):
		return fail(Refused, "%s", excerpt(content))
	}
	return fail(Unreadable, "no JSON of the form that was asked for in: %s", excerpt(content))
}

// tidy collapses white space.
func tidy(s string) string { return strings.Join(strings.Fields(s), " ") }

// excerpt shortens foreign text for a message.
func excerpt(s string) string {
	s = tidy(s[:min(len(s), 400)])
	if r := []rune(s); len(r) > 80 {
		s = string(r[:80]) + "…"
	}
	return strconv.QuoteToGraphic(s)
}

// tail is the end of foreign text for a message.
func tail(s string) string {
	return excerpt(s[max(0, len(s)-60):])
}
