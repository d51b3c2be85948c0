package tasks_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync/atomic"
	"testing"

	"clusterflow/internal/llm"
	"clusterflow/tasks"
)

// elsewhere is a device that computes what the processor does.
type elsewhere struct{ passes *atomic.Int32 }

func (elsewhere) Name() string { return "a card of the test" }

func (d elsewhere) Forward(ctx context.Context, c *llm.Checkpoint, p *llm.Pass) error {
	d.passes.Add(1)
	here := *p
	here.Device = nil
	return c.Forward(ctx, here)
}

// Extraction on a device is one pass of all layers and shards; the records say
// where it was made, and the rows do not tell.
func TestExtractionOnADevice(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "responses.json", workedResponses())
	text := extraction("builtin:tiny", "[0, 2]", "", "")
	here := newBench(t).apply(dir, text, "rows")
	device := elsewhere{new(atomic.Int32)}
	there, err := newBench(t).tryWith(tasks.WithDevice(context.Background(), device), dir, text, "rows")
	if err != nil {
		t.Fatal(err)
	}
	if n := device.passes.Load(); n != 1 {
		t.Errorf("the device ran %d passes", n)
	}
	for _, addr := range []string{"m/0/rows", "m/2/rows"} {
		if got, want := there.digest(addr, "activations").Digest, here.digest(addr, "activations").Digest; got != want {
			t.Errorf("%s: the device gave other activations", addr)
		}
	}
	if got := there.records["m/2/extract/0"].Backend; got != device.Name() {
		t.Errorf("the record says that it was made on %q", got)
	}
	if there.note("m/2/extract/0", tasks.NotePassWork) == "" {
		t.Error("the record does not say how fast the device was")
	}

	whole, err := newBench(t).tryWith(tasks.WithDevice(context.Background(), device), dir, extraction("builtin:tiny", "[0]", `precision = "int8"`, ""), "rows")
	if err != nil {
		t.Fatal(err)
	}
	if got := whole.records["m/0/extract/0"].Backend; device.passes.Load() != 2 || got != device.Name() {
		t.Errorf("int8 was run on %q", got)
	}
}

// Rows that are kept from the processor, beside rows that a device computes: what
// is made of both says so, and the report reads that.
func TestStatesOfTwoDevices(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "responses.json", workedResponses())
	b := newBench(t)
	made := func(a *applied, addr string) (m tasks.Made) {
		t.Helper()
		if err := json.Unmarshal(a.output(addr, "made"), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := b.apply(dir, extraction("builtin:tiny", "[0]", "", ""), "rows")
	here := made(first, "m/0/rows").Backend
	if len(here) != 1 || here[0] != first.records["m/0/extract/0"].Backend {
		t.Fatalf("made by %q", here)
	}
	write(t, dir, "responses.json", append(workedResponses(), response{
		Full: "<think>\nOne more is asked here. It has two sentences of its own.\n</think>", QuestionID: 99,
	}))
	device := elsewhere{new(atomic.Int32)}
	both, err := b.tryWith(tasks.WithDevice(context.Background(), device), dir, extraction("builtin:tiny", "[0]", "", ""), "rows")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{device.Name(), here[0]}
	if got := made(both, "m/0/rows").Backend; !slices.Equal(got, want) || both.note("m/0/extract/0", "responses computed") != "1" {
		t.Errorf("made by %q, want %q, with %s responses computed", got, want, both.note("m/0/extract/0", "responses computed"))
	}
}
