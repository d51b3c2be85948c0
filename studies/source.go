package studies

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Limits on what the parser is given. HCL's parser and evaluator call
// themselves for every level of an expression, and a Go program cannot recover
// from a stack that is used up.
const (
	maxSource  = 1 << 20 // bytes
	maxNesting = 100     // brackets, quotes and templates within one another
	maxChain   = 1000    // tokens of an expression between commas
)

// parse reads HCL native syntax.
func parse(filename string, src []byte) (*hcl.File, hcl.Diagnostics) {
	start := hcl.Pos{Line: 1, Column: 1}
	if d := checkShape(filename, src, start); d != nil {
		return &hcl.File{Bytes: src, Body: &hclsyntax.Body{}}, hcl.Diagnostics{d}
	}
	file, diags := hclsyntax.ParseConfig(src, filename, start)
	if !diags.HasErrors() {
		return file, diags
	}
	if each := blockErrors(filename, src); each.HasErrors() {
		return file, each
	}
	return file, diags
}

// blockStart is a line at the left margin that opens a block.
var blockStart = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^[A-Za-z_][\w-]*([ \t]+("[^"\n]*"|[\w-]+))*[ \t]*\{`)
})

// blockErrors finds the first mistake of syntax of each top-level block. HCL
// itself gives up after the first of the file.
func blockErrors(filename string, src []byte) hcl.Diagnostics {
	starts := []int{0}
	for _, m := range blockStart().FindAllIndex(src, -1) {
		starts = append(starts, m[0])
	}
	var diags hcl.Diagnostics
	line := 1
	for i, from := range starts {
		to := len(src)
		if i+1 < len(starts) {
			to = starts[i+1]
		}
		_, errs := hclsyntax.ParseConfig(src[from:to], filename, hcl.Pos{Line: line, Column: 1, Byte: from})
		if errs.HasErrors() {
			diags = append(diags, firstSyntax(sorted(errs, filename)))
		}
		line += bytes.Count(src[from:to], []byte("\n"))
	}
	return diags
}

// firstSyntax is the first of a block's errors: those that follow mostly
// follow from it.
func firstSyntax(errs hcl.Diagnostics) *hcl.Diagnostic {
	d := errs[0]
	if d.Summary == "Invalid multi-line string" || d.Summary == "Unterminated template string" {
		d = &hcl.Diagnostic{
			Severity: hcl.DiagError,
			Subject:  &Range{Filename: d.Subject.Filename, Start: d.Subject.Start, End: d.Subject.Start},
			Summary:  "A quote is missing",
			Detail:   "Text that begins in this line does not end in it: add the closing quote. (Text of several lines is written <<EOT, the lines, EOT.)",
		}
	}
	return d
}

// checkShape refuses sources that no person writes.
func checkShape(filename string, src []byte, start hcl.Pos) *hcl.Diagnostic {
	refuse := func(at Range, summary, detail string) *hcl.Diagnostic {
		return &hcl.Diagnostic{Severity: hcl.DiagError, Subject: &at, Summary: summary, Detail: detail}
	}
	if len(src) > maxSource {
		return refuse(Range{Filename: filename, Start: start, End: start}, "File too large",
			fmt.Sprintf("A study has at most %d KiB, and this file has %d. Is it a study?", maxSource>>10, len(src)>>10))
	}
	tokens, _ := hclsyntax.LexConfig(src, filename, start)
	var open []hclsyntax.TokenType
	chain := 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote,
			hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			open = append(open, t.Type)
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		}
		switch t.Type {
		case hclsyntax.TokenComma:
			chain = 0
		case hclsyntax.TokenNewline, hclsyntax.TokenComment: // a comment to the end of its line takes the newline with it
			if len(open) == 0 || open[len(open)-1] == hclsyntax.TokenOBrace {
				chain = 0
			}
		case hclsyntax.TokenStringLit, hclsyntax.TokenQuotedLit:
		case hclsyntax.TokenNumberLit:
			if _, exponent, ok := bytes.Cut(bytes.ToLower(t.Bytes), []byte("e")); ok && len(exponent) > 4 {
				return refuse(t.Range, "Number out of range", "Write a number with an exponent of at most three digits.")
			}
			chain++
		default:
			chain++
		}
		if len(open) > maxNesting || chain > maxChain {
			return refuse(t.Range, "Expression too deep",
				fmt.Sprintf("Expressions may nest %d levels and have %d parts between commas. Split this one up with locals.", maxNesting, maxChain))
		}
	}
	return nil
}

// Format gives src the canonical layout of HCL: aligned equals signs, two
// spaces a level. Comments and everything else stay as they are. Source that
// does not parse comes back unchanged with its errors, whose ranges bear no
// file name (Parse gives them with one).
func Format(src []byte) ([]byte, Diagnostics) {
	if _, diags := parse("", src); diags.HasErrors() {
		return src, sorted(diags, "")
	}
	return hclwrite.Format(src), nil
}

// elementRanges finds the places of the n elements of a list, where it is
// written out; else each is the place of the whole expression.
func elementRanges(expr hclsyntax.Expression, n int) []Range {
	ranges := make([]Range, n)
	list, ok := unwrap(expr).(*hclsyntax.TupleConsExpr)
	for i := range ranges {
		ranges[i] = expr.Range()
		if ok && len(list.Exprs) == n {
			ranges[i] = list.Exprs[i].Range()
		}
	}
	return ranges
}

// entryRanges finds the places of the values of a map by key, likewise.
func entryRanges(expr hclsyntax.Expression, ctx *hcl.EvalContext) func(key string) Range {
	ranges := map[string]Range{}
	if object, ok := unwrap(expr).(*hclsyntax.ObjectConsExpr); ok {
		for _, item := range object.Items {
			if key, diags := item.KeyExpr.Value(ctx); !diags.HasErrors() {
				if text, p := anyText(key); p == nil {
					ranges[text] = item.ValueExpr.Range()
				}
			}
		}
	}
	return func(key string) Range {
		if r, ok := ranges[key]; ok {
			return r
		}
		return expr.Range()
	}
}

func unwrap(expr hclsyntax.Expression) hclsyntax.Expression {
	for {
		p, ok := expr.(*hclsyntax.ParenthesesExpr)
		if !ok {
			return expr
		}
		expr = p.Expression
	}
}

// firstLine cuts text for a message.
func firstLine(s string, n int) string {
	s, _, more := strings.Cut(s, "\n")
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	if more {
		return s + "…"
	}
	return s
}
