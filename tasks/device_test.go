package tasks_test

import (
	"context"
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
