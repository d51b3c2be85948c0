package cache

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// The hand-written text of a run is the JSON that encoding/json reads, and is
// read back the same either way.
func TestRunText(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 800, time.FixedZone("", 3600))
	run := &Run{
		StudyID: "s", Study: `a "study" \ of ü`, State: "failed", Started: at,
		Batches: []BatchState{{ID: "b", Nodes: 3}},
		Nodes: map[string]*NodeState{
			"a/1":       {},
			`odd "\ ü/`: {Key: Sum([]byte("k")), Kind: "train", State: "done", Started: at, Finished: at.Add(time.Second)},
			"b\n":       {Kind: "train", State: "failed", Error: "line\n\"two\" \\\\", FailedKey: Sum(nil), Done: -3, Total: 7},
			"<c>&":      {State: "waiting", WaitKey: Sum([]byte("w")), Note: `ends in \`, Until: at},
		},
	}
	text, err := encodeRun(run)
	if err != nil {
		t.Fatal(err)
	}
	for name, decode := range map[string]func([]byte, *Run) error{
		"by hand":       decodeRun,
		"encoding/json": func(b []byte, r *Run) error { return json.Unmarshal(b, r) },
	} {
		var got Run
		if err := decode(text, &got); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		again, err := encodeRun(&got)
		if err != nil || string(again) != string(text) {
			t.Errorf("%s: came back as\n%s\nfrom\n%s (%v)", name, again, text, err)
		}
	}
	plain, err := json.MarshalIndent(run, "", "  ") // as another program may write it
	if err != nil {
		t.Fatal(err)
	}
	var got Run
	if err := decodeRun(plain, &got); err != nil || len(got.Nodes) != len(run.Nodes) || !got.Nodes["b\n"].Started.Equal(run.Nodes["b\n"].Started) {
		t.Errorf("%v, %v", got.Nodes, err)
	}
}

func FuzzDecodeRun(f *testing.F) {
	f.Add([]byte(`{"study_id":"s","nodes":{"a":{"key":"","state":"done","done":1}}}`))
	f.Add([]byte(`{"study_id":"s","nodes":{"a\"":{}},"x":1}`))
	f.Add([]byte("{\"\":\"\",\"nodes\":{\"\":{\"state\":\"\xab\"}}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var fast, slow Run
		if err := decodeRun(text, &fast); err != nil {
			return
		}
		if err := json.Unmarshal(text, &slow); err != nil {
			t.Skip() // taken apart by hand, a little more passes
		}
		if len(fast.Nodes) != len(slow.Nodes) {
			t.Fatalf("%d nodes, encoding/json reads %d", len(fast.Nodes), len(slow.Nodes))
		}
		for addr, st := range slow.Nodes {
			if st != nil && fast.Nodes[addr] != nil && !reflect.DeepEqual(st, fast.Nodes[addr]) {
				t.Fatalf("%s: %+v, encoding/json reads %+v", addr, fast.Nodes[addr], st)
			}
		}
	})
}
