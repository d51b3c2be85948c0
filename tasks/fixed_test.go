package tasks_test

import (
	"strings"
	"testing"

	"clusterflow/tasks"
)

func TestReadFixedTitles(t *testing.T) {
	const one = `{"cluster": 0, "title": "One", "description": "The first."}`
	got, err := tasks.ReadFixedTitles(write(t, t.TempDir(), "t.jsonl", "\ufeff"+one+"\r\n\n"+
		`{"rep": 1, "cluster": 0, "title": "x < y", "description": "d", "layer": 0}`))
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if got[0].Title != "One" || got[0].Layer != nil || got[1].Title != "x < y" || *got[1].Layer != 0 || *got[1].Rep != 1 {
		t.Errorf("%+v", got)
	}
	for _, test := range []struct{ text, want string }{
		{one + "\n\n" + `{"title": "One", "description": "The first."}`, ":3: a line needs a cluster"},
		{`{"cluster": -1, "title": "One", "description": "d"}`, ":1: a line needs a cluster"},
		{`{"cluster": 1.5, "title": "One", "description": "d"}`, ":1: cluster is a number"},
		{`{"cluster": 0, "title": " ", "description": "d"}`, ":1: a line needs a title and a description"},
		{one + "\n" + `{"cluster": 0, "titel": "One", "description": "d"}`, `:2: json: unknown field "titel"`},
		{one + " " + one, ":1: one JSON object a line"},
		{one + "\n[", ":2: "},
		{one + "\n{\"cluster\": 1, \"title\": \"\xc3\", \"description\": \"d\"}", ":2: not valid UTF-8"},
		{one + "\n" + `{"description": "d", "title": "Two", "cluster": 0}`, ":2: line 1 is about the same cluster already"},
	} {
		path := write(t, t.TempDir(), "t.jsonl", test.text)
		if _, err := tasks.ReadFixedTitles(path); err == nil || !strings.Contains(err.Error(), path+test.want) {
			t.Errorf("%q: %v\nwant the path and %q", test.text, err, test.want)
		}
	}
}
