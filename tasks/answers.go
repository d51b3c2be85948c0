package tasks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/internal/judge"
)

// Verdict says in a word or two how an answer reads.
type Verdict string

// The verdicts. A failed one is left out of every average.
const (
	VerdictNone       Verdict = "none"       // there is no answer yet
	VerdictAnswered   Verdict = "answered"   // all of it can be used
	VerdictIncomplete Verdict = "incomplete" // a part of it can be used
	VerdictFailed     Verdict = "failed"     // no answer will come
	VerdictRefused    Verdict = "refused"
	VerdictCutOff     Verdict = "cut off"
	VerdictUnreadable Verdict = "unreadable" // by the parser of its task
)

// Verdicts are all of them, in the order in which they are counted.
var Verdicts = []Verdict{VerdictAnswered, VerdictIncomplete, VerdictFailed, VerdictRefused, VerdictCutOff, VerdictUnreadable, VerdictNone}

// Bad reports whether nothing of an answer can be used, so that it is worth
// asking again.
func (v Verdict) Bad() bool {
	return v != VerdictNone && v != VerdictAnswered && v != VerdictIncomplete
}

// Verdict reads the answer as the metrics do; detail says what is wrong with it.
func (a *Asked) Verdict() (v Verdict, detail string, err error) {
	if a.Answer == nil {
		return VerdictNone, "", nil
	}
	messages, err := a.Messages()
	if err != nil {
		return "", "", err
	}
	if len(messages) == 0 {
		return "", "", fmt.Errorf("request %.12s has no message", a.Key)
	}
	r := reply(*a.Answer)
	bad := judge.Check(messages[len(messages)-1][1], r)
	if bad == nil {
		return VerdictAnswered, "", nil
	}
	var f *judge.Failure
	if !errors.As(bad, &f) {
		return "", "", fmt.Errorf("request %.12s: %w", a.Key, bad) // its prompt, not its answer
	}
	switch {
	case r.Error != "":
		return VerdictFailed, r.Error, nil
	case f.Reason == judge.Missing:
		return VerdictIncomplete, f.Detail, nil
	case f.Reason == judge.Refused:
		return VerdictRefused, f.Detail, nil
	case f.Reason == judge.CutOff:
		return VerdictCutOff, f.Detail, nil
	}
	return VerdictUnreadable, cmp.Or(f.Detail, string(f.Reason)), nil
}

// AskedBy are requests that an await node sees to.
type AskedBy struct {
	Await  *graph.Node
	Result cache.Digest // the key of its result; zero if it has none
	Asked  []Asked
}

func (b *AskedBy) keys() []string {
	keys := make([]string, len(b.Asked))
	for i := range b.Asked {
		keys[i] = b.Asked[i].Key
	}
	return keys
}

// Paid reports whether its answers cost money.
func (b *AskedBy) Paid() bool { return b.Await.Dest != (graph.Destination{}) }

// Standings says where requests are in the ledger, in their order.
func (o *Office) Standings(ctx context.Context, by *AskedBy) ([]batch.Standing, error) {
	return o.desk.Standings(ctx, by.keys())
}

// ReadAnswers fills in the answers that the ledger has. An answer whose file
// cannot be read is none: apply fetches it again.
func (o *Office) ReadAnswers(ctx context.Context, by *AskedBy) error {
	e := settings(by.Await.Task.(*await).evaluator)
	for i := range by.Asked {
		a := &by.Asked[i]
		a.Answer = nil
		err := o.desk.Answers(ctx, e, []string{a.Key}, func(_ int, got batch.Answer) error {
			a.Answer = &got
			return nil
		})
		if ctx.Err() != nil || batch.IsStorage(err) {
			return err
		}
	}
	return nil
}

// Drop forgets the answers to requests, so that the next apply buys them again;
// see batch.Desk.Forget. The results that hold one of them are withdrawn first:
// after a crash in between, apply makes them again of what the ledger has.
func (o *Office) Drop(ctx context.Context, all []AskedBy) (batch.Forgotten, error) {
	var sum batch.Forgotten
	gone := map[string]bool{}
	var own []cache.Digest
	for i := range all {
		by := &all[i]
		st, err := o.Standings(ctx, by)
		if err != nil {
			return sum, err
		}
		some := false
		for j, s := range st {
			if (s.State == batch.Answered || s.State == batch.Failed) && !s.Open {
				gone[by.Asked[j].Key] = true
				some = true
			}
		}
		if some && !by.Result.IsZero() {
			own = append(own, by.Result)
		}
	}
	if err := o.withdraw("answers in it were dropped, to be asked for again", gone, own); err != nil {
		return sum, err
	}
	for i := range all {
		f, err := o.desk.Forget(ctx, settings(all[i].Await.Task.(*await).evaluator), all[i].keys())
		sum.Answers += f.Answers
		sum.Failed += f.Failed
		sum.Unsent += f.Unsent
		sum.Held += f.Held
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// withdraw says of every result in the cache that holds the answer to one of the
// requests, in whatever study, that it no longer counts, and of those with the
// keys own, whose files gc may have dropped.
func (o *Office) withdraw(why string, keys map[string]bool, own []cache.Digest) error {
	if len(keys) == 0 {
		return nil
	}
	known, err := o.store.Reader()
	if err != nil {
		return err
	}
	defer known.Close()
	type head struct {
		Key string `json:"key"`
	}
	hold := slices.Clone(own)
	for r := range known.Records() {
		if r.Kind != kindAwaitTitles.Name && r.Kind != kindAwaitEval.Name || r.Withdrawn != "" || slices.Contains(own, r.Key) {
			continue
		}
		heads, err := readLines[head](o.store.Blobs(), r, "answers")
		if err != nil && !lost(err) {
			return err
		}
		for _, h := range heads {
			if keys[h.Key] {
				hold = append(hold, r.Key)
				break
			}
		}
	}
	return o.store.Withdraw(why, hold...)
}

// lost reports whether err is of a blob that is missing or damaged.
func lost(err error) bool {
	var damaged *cache.DamagedError
	var missing *cache.MissingError
	return errors.As(err, &damaged) || errors.As(err, &missing)
}
