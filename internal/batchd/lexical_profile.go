package batchd

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"clusterflow/internal/judge"
)

// trait is one term of a category: how often its sentences have it, and how
// often others do, both inside (0, 1).
type trait struct {
	name          string
	bit           int    // position in the term table; -1 for a plain word
	word          string // the word, where bit is -1
	share, usual  float64
	presenceAlone bool // its absence says nothing
}

// weight is the signed weight of the trait for comparing categories.
func (t trait) weight() float64 { return math.Log(t.share / t.usual) }

func (t trait) in(s sentenceTerms) bool {
	if t.bit < 0 {
		return s.words[t.word]
	}
	return s.terms&(1<<t.bit) != 0
}

// evidence is the logarithm of how much likelier the presence, or absence, of
// the term is in the category than elsewhere.
func (t trait) evidence(s sentenceTerms) float64 {
	switch {
	case t.in(s):
		return math.Log(t.share / t.usual)
	case t.presenceAlone:
		return 0
	}
	return math.Log((1 - t.share) / (1 - t.usual))
}

// profile is what a description says, the most telling trait first.
type profile []trait

func (p profile) evidence(s sentenceTerms) float64 {
	sum := 0.0
	for _, t := range p {
		sum += t.evidence(s)
	}
	return sum
}

// against puts the shares of the sentences at hand in place of the usual ones,
// which count for mixWeight sentences: what all of them have tells nothing.
func (p profile) against(sentences []sentenceTerms) profile {
	out := slices.Clone(p)
	for i, t := range out {
		n := mixWeight * t.usual
		for _, s := range sentences {
			if t.in(s) {
				n++
			}
		}
		out[i].usual = min(0.99, max(0.01, n/float64(mixWeight+len(sentences))))
	}
	return out
}

// explain names the terms that speak most for and against the sentence.
func (p profile) explain(s sentenceTerms) string {
	best, worst := -1, -1
	for i, t := range p {
		e := t.evidence(s)
		if e > 0 && (best < 0 || e > p[best].evidence(s)) {
			best = i
		}
		if e < 0 && (worst < 0 || e < p[worst].evidence(s)) {
			worst = i
		}
	}
	say := func(i int, verb string) string {
		have := "has "
		if !p[i].in(s) {
			have = "lacks "
		}
		return have + p[i].name + " (" + verb + ")"
	}
	switch {
	case best >= 0 && worst >= 0:
		return say(best, "for") + ", " + say(worst, "against")
	case best >= 0:
		return say(best, "for")
	case worst >= 0:
		return say(worst, "against")
	}
	return "nothing to go by"
}

// The settings of titles.
const (
	tableWeight  = 400 // sentences that the usual shares of the table count for
	traceWeight  = 10  // and each sentence of the traces in the prompt
	significance = 2.5 // standard errors that the log odds of a term must be off
	maxTraits    = 25
)

// title describes the sentences by the terms that they have significantly more
// or less often than usual (Monroe, Colaresi and Quinn, Fightin' Words, 2008:
// the log odds over its standard error), the most telling first.
func (l lexicalJudge) title(d judge.Data) any {
	sentences := l.read(d.Sentences)
	usual := make([]float64, len(l.t.terms))
	total := float64(tableWeight)
	for i, t := range l.t.terms {
		usual[i] = tableWeight * t.usual
	}
	for _, trace := range d.Traces {
		for _, s := range sentencesOf(trace) {
			set := l.t.of(s)
			for i := range usual {
				if set&(1<<i) != 0 {
					usual[i] += traceWeight
				}
			}
			total += traceWeight
		}
	}
	type candidate struct {
		trait
		gain float64 // Kullback-Leibler divergence of the two shares
	}
	var found []candidate
	n := float64(len(sentences))
	for i, e := range l.t.terms {
		k := 0.0
		for _, s := range sentences {
			if s.terms&(1<<i) != 0 {
				k++
			}
		}
		p, q := (k+0.5)/(n+1), (usual[i]+0.5)/(total+1)
		z := (logit(p) - logit(q)) / math.Sqrt(1/(k+0.5)+1/(n-k+0.5)+1/(usual[i]+0.5)+1/(total-usual[i]+0.5))
		if math.Abs(z) < significance {
			continue
		}
		p, q = clampShare(p), clampShare(q)
		found = append(found, candidate{
			trait{name: e.name, bit: i, share: p, usual: q},
			p*math.Log(p/q) + (1-p)*math.Log((1-p)/(1-q)),
		})
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(b.gain, a.gain) })
	found = found[:min(len(found), maxTraits)]

	var names, often, seldom []string
	for _, t := range found {
		text := t.name
		if t.share > t.usual {
			if t.bit < veryShort || t.bit > veryLong && t.bit != opensOtherwise {
				names = append(names, t.name)
			}
			if kind, ok := l.t.kind(t.bit); ok && t.bit == anywhere((t.bit-shapes)/2) {
				text += suchAs(kind, sentences)
			}
		}
		text += fmt.Sprintf(" (%.0f%%, elsewhere %.0f%%)", 100*t.share, 100*t.usual)
		if t.share > t.usual {
			often = append(often, text)
		} else {
			seldom = append(seldom, text)
		}
	}
	var description []string
	if len(often) > 0 {
		description = append(description, "Included are sentences that often have: "+strings.Join(often, "; ")+".")
	}
	if len(seldom) > 0 {
		description = append(description, "Not included are sentences with what these seldom have: "+strings.Join(seldom, "; ")+".")
	}
	if len(description) == 0 {
		description = []string{nothingStandsOut}
	}
	title := "Sentences without marks of their own"
	if len(names) == 0 && len(found) > 0 {
		title = "Sentences known by their length or by what they lack"
	}
	if len(names) > 0 {
		title = "Sentences with " + strings.Join(names[:min(3, len(names))], ", ")
	}
	return struct {
		Title       string `json:"title"`
		Description string `json:"description"`
	}{title, strings.Join(description, " ")}
}

const nothingStandsOut = "No term is more or less frequent in these sentences than elsewhere."

// suchAs names the up to three most frequent words of a kind.
func suchAs(kind wordKind, sentences []sentenceTerms) string {
	type count struct {
		word string
		n    int
	}
	var counts []count
	words := strings.Fields(kind.words)
	slices.Sort(words)
	for _, w := range slices.Compact(words) {
		n := 0
		for _, s := range sentences {
			if s.words[w] {
				n++
			}
		}
		if n > 0 {
			counts = append(counts, count{w, n})
		}
	}
	slices.SortStableFunc(counts, func(a, b count) int { return b.n - a.n })
	var quoted []string
	for _, c := range counts[:min(3, len(counts))] {
		quoted = append(quoted, `"`+c.word+`"`)
	}
	if len(quoted) == 0 {
		return ""
	}
	return " such as " + strings.Join(quoted, ", ")
}

// listed is one entry of a description made by title.
var listed = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:: |; )([^;:()"]+?)(?: such as [^;:()]*)? \((\d+)%, elsewhere (\d+)%\)`)
})

// profile reads a category: the terms that its description lists with their
// shares, else the terms and words that title and description contain.
func (l lexicalJudge) profile(c judge.Category) profile {
	var p profile
	for _, m := range listed().FindAllStringSubmatch(c.Description, -1) {
		i, ok := l.t.byName[m[1]]
		if !ok {
			continue
		}
		share, _ := strconv.ParseFloat(m[2], 64)
		usual, _ := strconv.ParseFloat(m[3], 64)
		p = append(p, trait{name: m[1], bit: i, share: clampShare(share / 100), usual: clampShare(usual / 100)})
	}
	if len(p) > 0 || c.Description == nothingStandsOut {
		return p
	}
	return l.freeProfile(c)
}

// freeProfile reads a title and a description that somebody else wrote, leaving
// out the sentences that say what is not included. A term that they name, or a
// word of whose kind they use, is taken to be a few times as frequent in the
// category as elsewhere, more so where the title has it; a word without a kind
// stands for itself. That a term is absent says nothing.
func (l lexicalJudge) freeProfile(c judge.Category) profile {
	var p profile
	seenBit, seenWord := map[int]bool{}, map[string]bool{}
	read := func(text string, factor float64) {
		for _, w := range tokenize(text) {
			if seenWord[w] || len(w) < 3 {
				continue
			}
			seenWord[w] = true
			bits := l.t.named(w)
			for _, k := range l.t.kindOf[w] {
				bits = append(bits, anywhere(k))
			}
			for _, i := range bits {
				if usual := l.t.terms[i].usual; !seenBit[i] && usual <= 0.25 {
					seenBit[i] = true
					p = append(p, trait{name: l.t.terms[i].name, bit: i, presenceAlone: true,
						share: clampShare(min(0.8, factor*usual)), usual: clampShare(usual)})
				}
			}
			if len(bits) == 0 && len(w) > 4 {
				p = append(p, trait{name: `"` + w + `"`, bit: -1, word: w, presenceAlone: true,
					share: 0.04 * factor, usual: 0.04})
			}
		}
	}
	read(c.Title, 5)
	for _, sentence := range sentencesOf(c.Description) {
		if !excluding().MatchString(sentence) {
			read(sentence, 2.5)
		}
	}
	return p
}

// excluding finds sentences of a description that say what does not belong.
var excluding = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b(not included?|excludes?|excluded|excluding|does not (belong|count|include)|do not (belong|count|include)|rather than)\b`)
})

func logit(p float64) float64 { return math.Log(p / (1 - p)) }

// clampShare rounds a share to percent, from 1 to 99, which is what a
// description carries.
func clampShare(p float64) float64 {
	return min(0.99, max(0.01, math.Round(100*p)/100))
}
