// Package price says what requests to a language model cost: how many tokens a
// prompt has, and what a model asks for a million of them.
package price

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Price is what a model costs, in US dollars per million tokens.
type Price struct {
	Input, Output float64
	// Batch is what is paid of both in a batch, 0 to 1: 0.5 is half the price.
	Batch float64
}

// Of is the cost in US dollars of so many tokens, in a batch or sent one by one.
func (p Price) Of(prompt, completion int64, batch bool) float64 {
	usd := (float64(prompt)*p.Input + float64(completion)*p.Output) / 1e6
	if batch {
		usd *= p.Batch
	}
	return usd
}

// Listed is the day as of which List holds.
const Listed = "2026-03-21"

// listed is a row of the price list.
type listed struct {
	model         string
	input, output float64
}

// list holds OpenAI's list prices of models that answer in text, in US dollars
// per million tokens (https://platform.openai.com/docs/pricing). Batches are
// half of it for all of them.
var list = []listed{
	{"gpt-5.1", 1.25, 10},
	{"gpt-5", 1.25, 10},
	{"gpt-5-mini", 0.25, 2},
	{"gpt-5-nano", 0.05, 0.40},
	{"gpt-4.1", 2, 8},
	{"gpt-4.1-mini", 0.40, 1.60},
	{"gpt-4.1-nano", 0.10, 0.40},
	{"gpt-4o", 2.50, 10},
	{"gpt-4o-2024-05-13", 5, 15},
	{"gpt-4o-mini", 0.15, 0.60},
	{"o1", 15, 60},
	{"o3", 2, 8},
	{"o3-mini", 1.10, 4.40},
	{"o4-mini", 1.10, 4.40},
	{"gpt-4-turbo", 10, 30},
	{"gpt-3.5-turbo", 0.50, 1.50},
}

// snapshot is the date at the end of a model's name that fixes its version.
var snapshot = regexp.MustCompile(`-\d{4}-\d{2}-\d{2}$`)

// Of returns the list price of a model, also of one of its dated snapshots and
// behind the name of a vendor ("openai/gpt-4o"); false where it is not listed.
func Of(model string) (Price, bool) {
	name := strings.ToLower(model[strings.LastIndex(model, "/")+1:])
	for _, n := range []string{name, snapshot.ReplaceAllString(name, "")} {
		if i := slices.IndexFunc(list, func(l listed) bool { return l.model == n }); i >= 0 {
			return Price{Input: list[i].input, Output: list[i].output, Batch: 0.5}, true
		}
	}
	return Price{}, false
}

// Models are the models with a list price, dearest family first.
func Models() []string {
	out := make([]string, len(list))
	for i, l := range list {
		out[i] = l.model
	}
	return out
}

// Dollars writes a sum for people: cents below 100 dollars, whole dollars above,
// and enough digits to see that a small sum is not nothing.
func Dollars(usd float64) string {
	switch {
	case usd <= 0:
		return "$0"
	case usd < 0.01:
		return fmt.Sprintf("$%.2g", usd)
	case usd < 100:
		return fmt.Sprintf("$%.2f", usd)
	}
	whole := fmt.Sprintf("%.0f", usd)
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return "$" + whole
}
