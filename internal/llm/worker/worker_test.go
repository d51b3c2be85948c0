package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
)

// The test program is the worker as well, with the processor as its card and
// the faults of cards on demand.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != "worker" {
		os.Exit(m.Run())
	}
	switch os.Args[3] {
	case "info":
		if os.Args[2] == "none" {
			fmt.Println("Error in initialization: NoDevice")
			os.Exit(1)
		}
		if os.Args[2] == "driverless" { // as the system's loader says it
			fmt.Fprintln(os.Stderr, "clusterflow-cuda: error while loading shared libraries: libcuda.so.1: cannot open shared object file: No such file or directory")
			os.Exit(127)
		}
		fmt.Println("a card of the test")
	case "pass":
		if Serve(context.Background(), processor{os.Args[2]}, os.Stdin, os.Stdout) != nil {
			os.Exit(1)
		}
	}
}

type processor struct{ fault string }

func (processor) Name() string { return "processor" }

func (p processor) Forward(ctx context.Context, c *llm.Checkpoint, pass *llm.Pass) error {
	switch p.fault {
	case "crash":
		fmt.Fprintln(os.Stderr, "CUDA_ERROR_ILLEGAL_ADDRESS")
		os.Exit(139)
	case "hang":
		time.Sleep(time.Hour)
	case "refuse":
		return errors.New("the card has too little memory free")
	}
	here := *pass
	here.Device = nil
	return c.Forward(ctx, here)
}

func start(t *testing.T, fault string) *Process {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &Process{Command: []string{self, "worker", fault}}
}

func sequences() []llm.Sequence {
	return []llm.Sequence{
		{IDs: []int32{1, 2, 3, 4, 5}, Layers: []int{0, 1}, Means: [][2]int{{0, 2}, {1, 5}}},
		{IDs: []int32{9}, Layers: []int{1}},
	}
}

func states(t *testing.T, device llm.Device) (map[string][]float32, error) {
	c, err := llm.Open(llm.BuiltinTiny)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := map[string][]float32{}
	p := llm.Pass{Sequences: sequences(), Device: device}
	p.Visit = func(layer, seq int, m linalg.Matrix) error {
		for i := range m.Rows {
			got[fmt.Sprint(layer, seq)] = append(got[fmt.Sprint(layer, seq)], m.Row(i)...)
		}
		return nil
	}
	return got, c.Forward(context.Background(), p)
}

func TestStatesOfAProcessAreThoseOfTheDevice(t *testing.T) {
	want, err := states(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := states(t, start(t, "well"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the process gave %d sets of states, others than the device", len(got))
	}
}

func TestFaultsOfTheProcessAreErrors(t *testing.T) {
	for fault, words := range map[string]string{
		"crash":  "CUDA_ERROR_ILLEGAL_ADDRESS",
		"refuse": "too little memory free",
	} {
		if _, err := states(t, start(t, fault)); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", fault, err)
		}
	}
	if _, err := states(t, &Process{Command: []string{"/no/such/program"}}); err == nil {
		t.Error("a program that is not there computed")
	}
}

func TestCancelledProcessEnds(t *testing.T) {
	c, err := llm.Open(llm.BuiltinTiny)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(200*time.Millisecond, cancel)
	p := llm.Pass{Sequences: sequences(), Device: start(t, "hang"), Visit: func(int, int, linalg.Matrix) error { return nil }}
	if err := c.Forward(ctx, p); !errors.Is(err, context.Canceled) {
		t.Errorf("a pass that was cancelled: %v", err)
	}
}

func TestProbe(t *testing.T) {
	p, err := Probe(context.Background(), start(t, "well").Command...)
	if err != nil || p.Name() != "a card of the test" {
		t.Errorf("Probe = %v, %v", p, err)
	}
	if _, err := Probe(context.Background(), start(t, "driverless").Command...); err == nil || !strings.Contains(err.Error(), "driver is not installed") {
		t.Errorf("without a driver: %v", err)
	}
	if _, err := Probe(context.Background(), start(t, "none").Command...); err == nil || !strings.Contains(err.Error(), "there is no NVIDIA card here") {
		t.Errorf("without a card: %v", err)
	}
}
