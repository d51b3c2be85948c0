// Package worker hands passes through a model to a process of its own, which
// has the card: a crash there is an error here.
//
// The process reads one request from standard input, a JSON object, and writes
// events to standard output, a JSON object a line. After an event "states"
// follow its numbers, rows times cols of float32 in the machine's byte order. The last event
// is "done" or "failed"; a process that ends without one has crashed.
package worker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
)

// request is what the process reads.
type request struct {
	Model     string         `json:"model"`
	Precision llm.Precision  `json:"precision"`
	Sequences []llm.Sequence `json:"sequences"`
}

// event is a line of what it writes.
type event struct {
	Event string `json:"event"` // progress, states, done or failed
	Done  int    `json:"done,omitempty"`
	Total int    `json:"total,omitempty"`
	Layer int    `json:"layer,omitempty"`
	Seq   int    `json:"seq,omitempty"`
	Rows  int    `json:"rows,omitempty"`
	Cols  int    `json:"cols,omitempty"`
	Error string `json:"error,omitempty"`
}

// Process is a device that a process of its own computes on.
type Process struct {
	Command []string // the program and its first arguments
	Device  string   // what it said it computes on
	Room    string   // and how much of it there is now
}

// Name is what the process said it computes on.
func (p *Process) Name() string { return p.Device }

// probeLimit is how long a worker may take to say what it computes on. The first
// time, the card's driver compiles the kernels: 15 s on a fast machine.
const probeLimit = 5 * time.Minute

// noCard is what the words of a worker mean that cannot begin: of the library for
// the driver, which ends the process, or of the system's loader.
var noCard = map[string]string{
	"NoDevice":                  "there is no NVIDIA card here, or the driver does not see it (nvidia-smi lists those that it sees)",
	"libcuda.so.1: cannot open": "NVIDIA's driver is not installed (libcuda.so.1 is missing)",
}

// Probe starts the program with the argument info and returns what it computes
// on, or why it cannot.
func Probe(ctx context.Context, command ...string) (*Process, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)], "info")...)
	cmd.WaitDelay = time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		words := strings.TrimSpace(complaint.String() + "\n" + out.String())
		for sign, meaning := range noCard {
			if strings.Contains(words, sign) {
				return nil, fmt.Errorf("%s, says %s", meaning, command[0])
			}
		}
		return nil, fmt.Errorf("%s info: %w: %s", command[0], err, lastLines(words))
	}
	device, room, _ := strings.Cut(strings.TrimSpace(out.String()), "\n")
	return &Process{Command: command, Device: device, Room: room}, nil
}

// Forward is [llm.Device]'s.
func (p *Process) Forward(ctx context.Context, c *llm.Checkpoint, pass *llm.Pass) error {
	input, err := json.Marshal(request{c.Location(), pass.Precision, pass.Sequences})
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(running, p.Command[0], append(p.Command[1:len(p.Command):len(p.Command)], "pass")...)
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdin = bytes.NewReader(input)
	var complaint tail
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the worker: %w", err)
	}
	finished, err := follow(bufio.NewReaderSize(out, 1<<20), pass)
	if err != nil || !finished {
		cancel() // it may still be writing
	}
	end := cmd.Wait()
	switch {
	case finished:
		return nil
	case ctx.Err() != nil: // whatever the worker said of its end
		return ctx.Err()
	case err != nil:
		return err
	}
	return fmt.Errorf("the worker %s ended in the middle of its work (%v): %s", p.Command[0], end, lastLines(complaint.String()))
}

// follow reads events until the last one; false where there is none.
func follow(in *bufio.Reader, pass *llm.Pass) (bool, error) {
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return false, nil // what was wrong, the end of the process says
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return false, fmt.Errorf("the worker wrote %q, which is no event: %w", shorten(line), err)
		}
		switch e.Event {
		case "progress":
			if pass.Progress != nil {
				pass.Progress(e.Done, e.Total)
			}
		case "states":
			if e.Rows < 0 || e.Cols < 1 || e.Seq < 0 || e.Seq >= len(pass.Sequences) {
				return false, fmt.Errorf("the worker wrote %q, which does not fit the pass", shorten(line))
			}
			m := linalg.NewMatrix(e.Rows, e.Cols)
			if _, err := io.ReadFull(in, linalg.Bytes(m.Data)); err != nil {
				return false, nil
			}
			if err := pass.Visit(e.Layer, e.Seq, m); err != nil {
				return false, err
			}
		case "done":
			return true, nil
		case "failed":
			return false, errors.New(e.Error)
		default:
			return false, fmt.Errorf("the worker wrote an event %q, which this release does not know", e.Event)
		}
	}
}

// Serve reads a request, runs the pass on the device and writes events. The
// error is the one that the last event says.
func Serve(ctx context.Context, device llm.Device, in io.Reader, out io.Writer) error {
	w := bufio.NewWriterSize(out, 1<<20)
	var mu sync.Mutex
	say := func(e event, data []float32) error {
		mu.Lock()
		defer mu.Unlock()
		line, err := json.Marshal(e)
		if err == nil {
			_, err = w.Write(append(line, '\n'))
		}
		if err == nil {
			_, err = w.Write(linalg.Bytes(data))
		}
		if err == nil && e.Event != "states" {
			err = w.Flush()
		}
		return err
	}
	err := serve(ctx, device, in, say)
	last := event{Event: "done"}
	if err != nil {
		last = event{Event: "failed", Error: err.Error()}
	}
	return errors.Join(err, say(last, nil))
}

func serve(ctx context.Context, device llm.Device, in io.Reader, say func(event, []float32) error) error {
	var r request
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	c, err := llm.Open(r.Model)
	if err != nil {
		return err
	}
	defer c.Close()
	var said time.Time
	return c.Forward(ctx, llm.Pass{
		Sequences: r.Sequences, Precision: r.Precision, Device: device,
		Progress: func(done, total int) {
			if done == 0 || done == total || time.Since(said) > 100*time.Millisecond {
				said = time.Now()
				say(event{Event: "progress", Done: done, Total: total}, nil) //nolint:errcheck // the next states tell
			}
		},
		Visit: func(layer, seq int, m linalg.Matrix) error {
			return say(event{Event: "states", Layer: layer, Seq: seq, Rows: m.Rows, Cols: m.Cols}, m.Data[:m.Rows*m.Cols])
		},
	})
}

func shorten(line []byte) []byte { return bytes.TrimSpace(line[:min(len(line), 80)]) }

// lastLines is the end of what a process complained of.
func lastLines(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return "it said nothing"
	}
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "; ")
}

// tail keeps the last part of what is written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	t.kept = t.kept[max(0, len(t.kept)-4096):]
	return len(p), nil
}

func (t *tail) String() string { return string(t.kept) }
