package kernels

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
	"unsafe"

	"clusterflow/internal/linalg"
	"clusterflow/internal/llm/kernels/kerneltest"
)

// card is the kernels, compiled as C++ and run on the processor.
type card struct {
	t *testing.T
	*kerneltest.Card
}

// pointer is an address of the card.
type pointer uint64

func TestMain(m *testing.M) { kerneltest.Main(m) }

// newCard starts a card for a test, which then runs beside others.
func newCard(t *testing.T) *card {
	t.Parallel()
	c, err := kerneltest.Open()
	if errors.Is(err, kerneltest.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("the card: %v", err)
		}
	})
	return &card{t, c}
}

// must ends the test if the card cannot do something.
func (c *card) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// take returns room for so many bytes, filled with what is not a number.
func (c *card) take(bytes int) pointer {
	c.t.Helper()
	p, err := c.Take(int64(bytes))
	c.must(err)
	return pointer(p)
}

// put returns data on the card, a slice of fixed-size numbers.
func (c *card) put(data any) pointer {
	c.t.Helper()
	p := c.take(binary.Size(data))
	var b bytes.Buffer
	c.must(binary.Write(&b, binary.LittleEndian, data))
	c.must(c.Write(uint64(p), b.Bytes()))
	return p
}

func (c *card) get(p pointer, data any) {
	c.t.Helper()
	raw := make([]byte, binary.Size(data))
	c.must(c.Read(uint64(p), raw))
	c.must(binary.Read(bytes.NewReader(raw), binary.LittleEndian, data))
}

func (c *card) launch(name string, x, y, threads, shared int, args ...any) {
	c.t.Helper()
	cells := make([]uint64, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case pointer:
			cells[i] = uint64(v)
		case int:
			cells[i] = uint64(v)
		case float32:
			*(*float32)(unsafe.Pointer(&cells[i])) = v
		default:
			c.t.Fatalf("argument %T", a)
		}
	}
	c.must(c.Launch(name, x, y, threads, shared, cells))
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
