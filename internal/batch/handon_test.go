package batch

import (
	"context"
	"strings"
	"testing"
)

// export lists the answers to requests.
func (w *world) export(d *Desk, reqs []Request) (out []Handed) {
	w.t.Helper()
	err := d.Export(w.t.Context(), keysOf(reqs), func(i int, line []byte) error {
		out = append(out, Handed{Key: reqs[i].Key, Line: string(line)})
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// feed gives handed answers one after the other.
func feed(list []Handed) func() (Handed, bool, error) {
	return func() (Handed, bool, error) {
		if len(list) == 0 {
			return Handed{}, false, nil
		}
		h := list[0]
		list = list[1:]
		return h, true, nil
	}
}

func never(t *testing.T) func([]string) error {
	return func(keys []string) error {
		t.Errorf("%v had failed before", keys)
		return nil
	}
}

func TestAnswersAreHandedOn(t *testing.T) {
	from, to := newWorld(t, nil), newWorld(t, nil)
	e := from.evaluator()
	there := to.evaluator()
	there.Provider = "openai"
	reqs := append(ask(e, "good", 5), ask(e, "bad", 1)...)
	d := from.desk()
	from.finish(d, e, reqs)
	all := from.export(d, reqs)
	if len(all) != 5 {
		t.Fatalf("%d answers are exported, want 5", len(all))
	}

	d2 := to.desk()
	d2.chunk = 2
	got, err := d2.Import(t.Context(), feed(append(all, all[0])), never(t))
	if err != nil || len(got.Taken) != 5 || got.Same != 1 || len(got.Conflicts)+len(got.InBatch) != 0 {
		t.Fatalf("imported %+v, %v", got, err)
	}
	p := to.finish(d2, there, reqs)
	if p.Answered != 5 || p.Failed != 1 {
		t.Errorf("progress %+v", p)
	}
	if sent := to.sent(); len(sent) != 1 || sent[reqs[5].Key] == 0 {
		t.Errorf("sent %v, want the one that has no answer", sent)
	}
	for i, c := range to.contents(d2, there, reqs[:5]) {
		if want := from.contents(d, e, reqs[:5])[i]; c != want {
			t.Errorf("answer %d is %q, want %q", i, c, want)
		}
	}

	// Again, it is all there; another answer does not replace one.
	other := all[1]
	other.Line = strings.Replace(other.Line, "re: good", "no: good", 1)
	got, err = d2.Import(t.Context(), feed(append(all, other)), never(t))
	if err != nil || len(got.Taken) != 0 || got.Same != 5 || len(got.Conflicts) != 1 || got.Conflicts[0] != other.Key {
		t.Errorf("imported again: %+v, %v", got, err)
	}
	if c := to.contents(d2, there, reqs[1:2])[0]; c != "re: good 1" {
		t.Errorf("the answer is now %q", c)
	}

	// Its file lost, an imported answer is neither fetched nor bought, but can be
	// imported again.
	delete(to.files.m, to.row(reqs[0].Key).Blob)
	if n, err := d2.Reopen(t.Context(), there, keysOf(reqs)); n != 0 || err != nil {
		t.Errorf("reopened %d, %v", n, err)
	}
	err = d2.Answers(t.Context(), there, keysOf(reqs[:1]), func(int, Answer) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "import its file again") {
		t.Errorf("error %v", err)
	}
	if got, err = d2.Import(t.Context(), feed(all), never(t)); err != nil || len(got.Taken) != 5 {
		t.Errorf("imported again: %+v, %v", got, err)
	}
	to.contents(d2, there, reqs)
	if n := len(to.batches()); n != 1 {
		t.Errorf("%d batches, want 1", n)
	}
	// Dropped, it is bought.
	to.forget(d2, there, reqs[:1])
	to.finish(d2, there, reqs)
	if to.sent()[reqs[0].Key] != 1 {
		t.Error("a dropped answer that was imported is not bought")
	}
}

func TestImportBesideABatch(t *testing.T) {
	from, to := newWorld(t, nil), newWorld(t, nil)
	e, there := from.evaluator(), to.evaluator()
	reqs := ask(e, "good", 3)
	d := from.desk()
	from.finish(d, e, reqs)
	all := from.export(d, reqs)

	// One is in a batch, one has failed.
	d2 := to.desk()
	if _, err := d2.Advance(t.Context(), there, reqs[:1]); err != nil {
		t.Fatal(err)
	}
	if err := d2.put(map[string]any{rowPrefix + reqs[1].Key: row{State: failed, Reason: "x"}}); err != nil {
		t.Fatal(err)
	}
	var had []string
	got, err := d2.Import(t.Context(), feed(all), func(keys []string) error {
		had = keys
		if to.row(reqs[1].Key).State != failed {
			t.Error("told too late")
		}
		return nil
	})
	if err != nil || len(got.Taken) != 2 || len(got.InBatch) != 1 || got.InBatch[0] != reqs[0].Key || len(had) != 1 || had[0] != reqs[1].Key {
		t.Errorf("imported %+v, %v; had failed: %v", got, err, had)
	}
	if p := to.finish(d2, there, reqs); p.Answered != 3 || len(to.sent()) != 1 {
		t.Errorf("progress %+v, sent %v", p, to.sent())
	}
}

// A file with anything else in it is refused whole.
func TestImportRefuses(t *testing.T) {
	w := newWorld(t, nil)
	e, d := w.evaluator(), w.desk()
	reqs := ask(e, "good", 2)
	w.finish(d, e, reqs)
	all := w.export(d, reqs)
	fresh := newWorld(t, nil)
	d2 := fresh.desk()
	for want, bad := range map[string]Handed{
		"is no request key": {Key: "7", Line: all[1].Line},
		"is that of":        {Key: all[1].Key, Line: all[0].Line},
		"holds no answer":   {Key: all[1].Key, Line: `{"custom_id":"` + all[1].Key + `","response":{"status_code":500,"body":{}}}`},
		"cannot be read":    {Key: all[1].Key, Line: all[1].Line[:40]},
		"is not one line":   {Key: all[1].Key, Line: strings.Replace(all[1].Line, ",", ",\n", 1)},
	} {
		if _, err := d2.Import(t.Context(), feed([]Handed{all[0], bad}), never(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d2.Import(ctx, feed(all), never(t)); err == nil {
		t.Error("an import that is interrupted says nothing")
	}
	if n := len(fresh.kv.m); n != 0 {
		t.Errorf("%d entries were written", n)
	}
}
