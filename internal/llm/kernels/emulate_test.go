package kernels

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"clusterflow/internal/linalg"
)

// card is emulate/card.cc: the kernels, compiled as C++ and run on the processor.
type card struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

// pointer is an address of the card.
type pointer uint64

func newCard(t *testing.T) *card {
	compiler, err := exec.LookPath("g++")
	if err != nil {
		t.Skip("there is no g++ to compile the kernels with")
	}
	program := filepath.Join(t.TempDir(), "card")
	build := exec.Command(compiler, "-O2", "-std=c++17", "-Wall", "-Wno-unknown-pragmas", "-o", program, "emulate/card.cc")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compiling the kernels: %v\n%s", err, out)
	}
	cmd := exec.Command(program)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the card: %v", err)
		}
	})
	return &card{t, in, bufio.NewReader(out)}
}

func (c *card) say(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.in, format+"\n", args...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *card) line() string {
	c.t.Helper()
	s, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatalf("the card gave no answer: %v", err)
	}
	return strings.TrimSpace(s)
}

// take returns room for so many bytes, filled with what is not a number.
func (c *card) take(bytes int) pointer {
	c.t.Helper()
	c.say("take %d", bytes)
	var p pointer
	if _, err := fmt.Sscan(c.line(), &p); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// put returns data on the card, a slice of fixed-size numbers.
func (c *card) put(data any) pointer {
	c.t.Helper()
	p := c.take(binary.Size(data))
	c.say("write %d %d", p, binary.Size(data))
	if err := binary.Write(c.in, binary.LittleEndian, data); err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (c *card) get(p pointer, data any) {
	c.t.Helper()
	c.say("read %d %d", p, binary.Size(data))
	if err := binary.Read(c.out, binary.LittleEndian, data); err != nil {
		c.t.Fatal(err)
	}
}

func (c *card) launch(name string, x, y, threads, shared int, args ...any) {
	c.t.Helper()
	var cells strings.Builder
	for _, a := range args {
		var cell uint64
		switch v := a.(type) {
		case pointer:
			cell = uint64(v)
		case int:
			cell = uint64(v)
		case float32:
			*(*float32)(unsafe.Pointer(&cell)) = v
		default:
			c.t.Fatalf("argument %T", a)
		}
		fmt.Fprintf(&cells, " %d", cell)
	}
	c.say("launch %s %d %d %d %d %d%s", name, x, y, threads, shared, len(args), cells.String())
	if answer := c.line(); answer != "ok" {
		c.t.Fatalf("%s: %s", name, answer)
	}
}

// format is a type of numbers on the card.
type format struct {
	name    string
	to      func(float32) uint32 // its bits
	from    func(uint32) float32
	size    int
	epsilon float64 // relative error of one rounding
}

var formats = []format{
	{"float", math.Float32bits, math.Float32frombits, 4, 1.0 / (1 << 24)},
	{"bf16", func(v float32) uint32 { return uint32(linalg.F32ToBF16(v)) }, func(b uint32) float32 { return linalg.BF16ToF32(uint16(b)) }, 2, 1.0 / (1 << 8)},
	{"f16", func(v float32) uint32 { return uint32(linalg.F32ToF16(v)) }, func(b uint32) float32 { return linalg.F16ToF32(uint16(b)) }, 2, 1.0 / (1 << 11)},
}

// round is v as the format can say it.
func (f format) round(v float32) float32 { return f.from(f.to(v)) }

// numbers puts numbers on the card in the format.
func (f format) numbers(c *card, v []float32) pointer {
	if f.size == 4 {
		return c.put(v)
	}
	out := make([]uint16, len(v))
	for i, x := range v {
		out[i] = uint16(f.to(x))
	}
	return c.put(out)
}

// read takes n numbers of the format from the card.
func (f format) read(c *card, p pointer, n int) []float32 {
	out := make([]float32, n)
	if f.size == 4 {
		c.get(p, out)
		return out
	}
	bits := make([]uint16, n)
	c.get(p, bits)
	for i, b := range bits {
		out[i] = f.from(uint32(b))
	}
	return out
}
