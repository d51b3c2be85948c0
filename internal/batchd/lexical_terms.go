package batchd

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The lexical judge does not compare subjects. It describes a sentence by the
// terms of the table below: the kinds of words that mark what a sentence does in
// a text (Hyland, Metadiscourse, 2005, calls them hedges, boosters, transitions,
// frame markers, evidentials, self mentions), and a few facts of shape, such as
// numbers, signs and length. Words that carry the subject are no terms.

// terms is a set of positions in a termTable.
type terms uint64

// term is one entry of the table.
type term struct {
	name string
	// usual is the share of sentences of ordinary reasoning traces that have the
	// term, measured on traces of a distilled reasoning model and rounded. A title
	// prompt that brings traces of its own shifts it.
	usual float64
}

// wordKind is a list of words that mark a function. A word may be of several
// kinds.
type wordKind struct {
	name   string
	usual  float64 // share of sentences with such a word anywhere
	opener float64 // share of sentences that open with one
	words  string
}

// The terms of shape, in the order of the bits.
const (
	hasNumber = iota
	hasNumbers
	hasManyNumbers
	hasSign
	hasEquals
	hasColon
	endsInQuestion
	veryShort
	short
	long
	veryLong
	opensWithNumber
	opensWithVerb
	opensOtherwise
	shapes // how many there are; the word kinds follow, two bits each
)

func shapeTerms() [shapes]term {
	return [shapes]term{
		hasNumber:       {"a number", 0.2},
		hasNumbers:      {"two numbers", 0.14},
		hasManyNumbers:  {"three numbers", 0.1},
		hasSign:         {"an arithmetic sign", 0.12},
		hasEquals:       {"an equals sign", 0.05},
		hasColon:        {"a colon", 0.1},
		endsInQuestion:  {"a question mark at the end", 0.07},
		veryShort:       {"fewer than 6 words", 0.13},
		short:           {"6 to 9 words", 0.23},
		long:            {"10 to 14 words", 0.26},
		veryLong:        {"15 words or more", 0.39},
		opensWithNumber: {"a number at the start", 0.03},
		opensWithVerb:   {"an instruction at the start", 0.05},
		opensOtherwise:  {"no listed word at the start", 0.23},
	}
}

// instructionVerbs open a sentence that tells oneself or somebody what to do.
const instructionVerbs = `add ask assume begin build calculate call check choose
	collect combine compare compute consider convert count cut define describe divide
	double draw estimate examine explain express fill find finish follow give go group
	imagine keep label leave let list look make mark measure mention multiply name note
	pick plug put recall recommend remember repeat replace report review rewrite round
	see set show simplify solve sort split start state subtract substitute suggest sum
	take tell test treat try turn use verify watch work write`

func wordKinds() []wordKind {
	return []wordKind{
		{"hedges", 0.35, 0.04, `apparently appear appeared appears believe candidate conceivably
			could guess guessing hint hints hypothesis idea imagine likely looks may maybe might
			perhaps plausible plausibly possibility possible possibly presumably probable probably
			reckon seem seemed seems sounds suggest suggests supposedly suspect suspects suspicion
			tend tends theory think thinking unlikely would`},
		{"modal verbs", 0.31, 0.005, `can can't cannot could couldn't may might must need needn't
			needs ought shall should shouldn't will won't would wouldn't`},
		{"words of doubt", 0.06, 0.005, `ambiguity ambiguous bother bothers confused confusing
			depends doubt doubtful doubts hard know nobody obvious odd odder open puzzled puzzling
			strange sure tell tricky uncertain uncertainty unclear unknown unsaid unsure vague
			whether worried worries worry wonder wondering`},
		{"interjections", 0.12, 0.09, `actually ah alright hm hmm hmmm oh ok okay right wait well`},
		{"the first person", 0.3, 0.08, `i i'd i'll i'm i've let's me mine my our ours us we we'd
			we'll we're we've`},
		{"the third person", 0.12, 0.01, `he her him his people she somebody someone their them
			they`},
		{"words of planning", 0.22, 0.09, `after afterwards aim approach before begin beginning
			finally first firstly going i'd i'll intend last later let let's next order plan
			proceed second secondly start starting step steps strategy then third try turn want
			work`},
		{"words of checking", 0.08, 0.005, `again agree agreed agrees agreement back check checked
			checking checks compare compared comparison confirm confirmation confirmed confirms
			consistent contradict contradiction contradicts correct double error fine fit fits hold
			holds indeed match matched matches matching mistake proof prove proves really recheck
			right sanity slip test tested tests true verified verifies verify works wrong`},
		{"words of concluding", 0.24, 0.14, `accordingly altogether answer answers best
			conclude concluded conclusion consequently ends finally follows hence means overall
			result results settled settles short so summarise summarize summary therefore thus`},
		{"words of recall", 0.07, 0.005, `according always called common commonly defined
			definition fact famous formula generally known know known law named normally often
			ordinarily per recall remember remembers rule standard states textbook theorem typical
			typically usual usually`},
		{"words about the task", 0.08, 0.005, `ask asked asker asking asks assumed case clue clues
			exercise find given goal here needed problem puzzle question scenario situation sought
			story supposed task told unknown want wanted wants wording`},
		{"contrast", 0.26, 0.14, `alternatively although but despite except however instead no not
			only otherwise rather still though unlike wait whereas while yet`},
		{"cause", 0.2, 0.06, `as because cause caused causes due explains hence lead leads let lets
			makes reason reasons since why`},
		{"conditions", 0.17, 0.06, `assume assuming if imagine otherwise provided say suppose
			supposing then unless when whenever`},
		{"negation", 0.17, 0.01, `aren't can't cannot couldn't didn't doesn't don't hardly hasn't
			haven't isn't neither never no nobody none nor not nothing shouldn't wasn't weren't
			without won't wouldn't`},
		{"reports and evidence", 0.02, 0.005, `claim claimed claims data evidence experience
			experiment experiments finding found measured observation observed proposal propose
			proposed report reported reports research said says show shown shows studies study
			trials`},
		{"arithmetic in words", 0.11, 0.01, `add added adding adds comes difference divide divided
			dividing double doubled doubles equal equals factor gives half halved halves leaves
			minus multiplied multiply multiplying percent percentage plus product quarter ratio
			remainder root rounded rounds square squared subtract subtracting sum third times total
			totals twice`},
		{"units of measure", 0.03, 0.005, `cents centimetres cm day days degrees dollars euros feet
			g grams hour hours inches joules kg kilograms kilometres km litres m metres miles
			milligrams minute minutes mm month months pounds seconds tonnes volts watts week weeks
			year years`},
		{"numerals in words", 0.09, 0.005, `billion dozen eight eighty eleven fifteen fifty five
			forty four fourteen hundred million nine ninety one seven seventy six sixteen sixty ten
			thirteen thirty thousand three twelve twenty two`},
		{"quantifiers", 0.2, 0.01, `all any both each either every few fewer less many more most
			much several some`},
		{"question words", 0.19, 0.02, `how what when where whether which who whom whose why`},
		{"auxiliary verbs", 0.45, 0.01, `are aren't did didn't do does doesn't don't had has have
			haven't is isn't was wasn't were weren't`},
		{"pointing words", 0.47, 0.07, `here it its it's that that's there there's these this those`},
		{"approximation", 0.11, 0.005, `about almost approximately around close nearly roughly
			some`},
		{"past events", 0.02, 0.005, `asked became came did found gave got had made said saw told
			took wanted was went were`},
	}
}

// termTable is what the terms of a sentence are found with.
type termTable struct {
	terms  []term
	kinds  []wordKind
	kindOf map[string][]int // word → positions in kinds
	verbs  map[string]bool
	byName map[string]int // position of the term with that name
}

func newTermTable() *termTable {
	t := &termTable{kinds: wordKinds(), kindOf: map[string][]int{}, verbs: map[string]bool{}, byName: map[string]int{}}
	shape := shapeTerms()
	t.terms = append(t.terms, shape[:]...)
	for k, kind := range t.kinds {
		t.terms = append(t.terms, term{kind.name, kind.usual}, term{kind.name + " at the start", kind.opener})
		seen := map[string]bool{}
		for _, w := range strings.Fields(kind.words) {
			if !seen[w] {
				t.kindOf[w] = append(t.kindOf[w], k)
				seen[w] = true
			}
		}
	}
	for _, v := range strings.Fields(instructionVerbs) {
		t.verbs[v] = true
	}
	for i, e := range t.terms {
		t.byName[e.name] = i
	}
	return t
}

// anywhere and opener are the bits of word kind k.
func anywhere(k int) int { return shapes + 2*k }
func opener(k int) int   { return shapes + 2*k + 1 }

// named finds the terms that a description means when it uses the word, by the
// beginning of the word.
func (t *termTable) named(word string) []int {
	for _, n := range []struct {
		beginnings string
		terms      []string
	}{
		{"calcul comput arithmetic numer equation algebra", []string{"a number", "two numbers", "an arithmetic sign", "an equals sign", "arithmetic in words"}},
		{"question ask", []string{"a question mark at the end", "question words at the start"}},
		{"hypothe hedg specul conjectur tentativ possib", []string{"hedges"}},
		{"uncertain doubt ambigu unknown unclear ignoran", []string{"words of doubt", "a question mark at the end"}},
		{"plan strateg announc intent step", []string{"words of planning", "words of planning at the start", "an instruction at the start"}},
		{"check verif test validat confirm", []string{"words of checking"}},
		{"conclu final answer summar result", []string{"words of concluding", "words of concluding at the start"}},
		{"recall knowledge definition fact memor rule", []string{"words of recall"}},
		{"problem task given restat fram", []string{"words about the task", "words about the task at the start"}},
		{"contrast correct reconsider backtrack", []string{"contrast", "contrast at the start", "interjections at the start"}},
		{"assum condition suppos premise", []string{"conditions", "conditions at the start"}},
		{"reason cause explan", []string{"cause", "cause at the start"}},
	} {
		for _, b := range strings.Fields(n.beginnings) {
			if strings.HasPrefix(word, b) {
				bits := make([]int, len(n.terms))
				for i, name := range n.terms {
					bits[i] = t.byName[name]
				}
				return bits
			}
		}
	}
	return nil
}

// kind is the word kind of a term; false for a term of shape.
func (t *termTable) kind(i int) (wordKind, bool) {
	if i < shapes {
		return wordKind{}, false
	}
	return t.kinds[(i-shapes)/2], true
}

// of finds the terms of a sentence.
func (t *termTable) of(sentence string) terms {
	var set terms
	add := func(i int) { set |= 1 << i }
	tokens := tokenize(sentence)
	numbers := 0
	for i, w := range tokens {
		switch {
		case w == "#":
			numbers++
			if i == 0 {
				add(opensWithNumber)
			}
		case w == "=":
			add(hasEquals)
			add(hasSign)
		case w == ":":
			add(hasColon)
		case len(w) == 1 && strings.Contains("+*/<>^", w) || len(w) > 1 && strings.Contains(foreignSigns, w):
			add(hasSign)
		default:
			for _, k := range t.kindOf[w] {
				add(anywhere(k))
				if i == 0 {
					add(opener(k))
				}
			}
			if i == 0 && t.verbs[w] {
				add(opensWithVerb)
			}
			if i == 0 && !t.verbs[w] && t.kindOf[w] == nil {
				add(opensOtherwise)
			}
		}
	}
	for i, bit := range []int{hasNumber, hasNumbers, hasManyNumbers} {
		if numbers > i {
			add(bit)
		}
	}
	if strings.HasSuffix(strings.TrimRight(sentence, "\"'”’) "), "?") {
		add(endsInQuestion)
	}
	switch n := len(strings.Fields(sentence)); {
	case n < 6:
		add(veryShort)
	case n < 10:
		add(short)
	case n < 15:
		add(long)
	default:
		add(veryLong)
	}
	return set
}

const foreignSigns = "×÷−≈≤≥√²³π±→"

// tokenize cuts a text into words in lower case, "#" for each number, and the
// signs that terms ask about, one a token.
func tokenize(text string) []string {
	var out []string
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		j := i + n
		switch {
		case unicode.IsDigit(r):
			for j < len(text) && (text[j] >= '0' && text[j] <= '9' ||
				(text[j] == '.' || text[j] == ',') && j+1 < len(text) && text[j+1] >= '0' && text[j+1] <= '9') {
				j++
			}
			out = append(out, "#")
		case unicode.IsLetter(r):
			for j < len(text) {
				r, n := utf8.DecodeRuneInString(text[j:])
				if !unicode.IsLetter(r) && r != '\'' && r != '’' {
					break
				}
				j += n
			}
			w := strings.ReplaceAll(strings.ToLower(text[i:j]), "’", "'")
			out = append(out, strings.TrimRight(w, "'"))
		case strings.ContainsRune("=+*/<>^:"+foreignSigns, r):
			out = append(out, text[i:j])
		}
		i = j
	}
	return out
}

// sentencesOf cuts a trace roughly where sentences end.
func sentencesOf(text string) []string {
	var out []string
	for _, s := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' }) {
		for from, i := 0, 0; i < len(s); i++ {
			end := i == len(s)-1 || strings.IndexByte(".!?;", s[i]) >= 0 && s[i+1] == ' '
			if end {
				if part := strings.TrimSpace(s[from : i+1]); len(strings.Fields(part)) >= 3 {
					out = append(out, part)
				}
				from = i + 1
			}
		}
	}
	return out
}
