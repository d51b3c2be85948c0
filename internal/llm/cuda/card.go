//go:build cuda

// Package cuda runs the blocks of a model on an NVIDIA card. It is in programs
// that are built with the tag cuda alone: importing gorgonia.org/cu ends a
// process that has no card.
package cuda

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"gorgonia.org/cu"

	"clusterflow/internal/llm/kernels"
)

// Card is one NVIDIA card. All calls must come from the goroutine that opened
// it, which stays on its thread.
type Card struct {
	Options
	device  cu.Device
	context cu.CUContext
	module  cu.Module
	work    cu.Stream // kernels
	copies  cu.Stream // weights on their way to the card
	blas    *blas     // nil: products by our own kernels
	fns     map[string]cu.Function

	name         string
	major, minor int
	shared       int // bytes that a block may ask for
	stages       map[string]float64
}

// Options of a card.
type Options struct {
	Memory int64 // bytes to get by with; 0: nine tenths of what is free
	Own    bool  // products by our own kernels even where cuBLAS is found
	Timed  bool  // wait for each kernel, and tell its time among the stages
}

// Open opens the first card, which must be of compute capability 8.0 (Ampere,
// 2020) or newer.
func Open(o Options) (*Card, error) {
	runtime.LockOSThread()
	c := &Card{Options: o, fns: map[string]cu.Function{}}
	var err error
	if c.device, err = cu.GetDevice(0); err != nil {
		return nil, failed("opening the first card", err)
	}
	if c.name, err = c.device.Name(); err != nil {
		return nil, failed("asking for the card's name", err)
	}
	if c.major, c.minor, err = c.device.ComputeCapability(); err != nil {
		return nil, failed("asking for the card's compute capability", err)
	}
	if c.major < 8 {
		return nil, fmt.Errorf("the card %s has compute capability %d.%d; the kernels need 8.0 (A100, RTX 30) or newer", c.name, c.major, c.minor)
	}
	if c.shared, err = sharedLimit(c.device); err != nil {
		return nil, err
	}
	if c.context, err = c.device.MakeContext(cu.SchedAuto); err != nil {
		return nil, failed("opening "+c.name, err)
	}
	if c.module, err = cu.LoadData(kernels.PTX()); err != nil {
		return nil, failed("loading the kernels", err)
	}
	if c.work, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return nil, failed("making a stream", err)
	}
	if c.copies, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return nil, failed("making a stream", err)
	}
	if !o.Own {
		c.blas = openBlas(c.work)
	}
	return c, nil
}

// Name says what computes: the card, the driver and what makes products.
func (c *Card) Name() string {
	library := "own kernels"
	if c.blas != nil {
		library = c.blas.name
	}
	return fmt.Sprintf("%s (compute %d.%d), CUDA %d.%d, %s, kernels %s", c.name, c.major, c.minor, cu.Version()/1000, cu.Version()%1000/10, library, kernels.Version())
}

// Stages returns how many seconds the last pass spent on preparing (memory, and
// embedding the tokens), on waiting for weights, and on all blocks.
func (c *Card) Stages() map[string]float64 { return c.stages }

// Free returns how many bytes of the card may still be taken by a pass that has
// taken so many.
func (c *Card) Free(taken int64) (int64, error) {
	free, _, err := cu.MemInfo()
	if err != nil {
		return 0, failed("asking for the card's free memory", err)
	}
	free = free / 10 * 9
	if c.Memory > 0 {
		free = min(free, c.Memory-taken)
	}
	return free, nil
}

// launch runs a kernel on the stream of work. Arguments are copied in cells of
// eight bytes, as cu does it.
func (c *Card) launch(name string, gridX, gridY, threads, shared int, args ...any) error {
	fn, ok := c.fns[name]
	if !ok {
		var err error
		if fn, err = c.module.Function(name); err != nil {
			return failed("looking for the kernel "+name, err)
		}
		if shared > 48<<10 {
			if err := allowShared(fn, shared); err != nil {
				return fmt.Errorf("kernel %s: %w", name, err)
			}
		}
		c.fns[name] = fn
	}
	cells := make([]uint64, len(args))
	params := make([]unsafe.Pointer, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case cu.DevicePtr:
			cells[i] = uint64(v)
		case int:
			cells[i] = uint64(v)
		case float32:
			*(*float32)(unsafe.Pointer(&cells[i])) = v
		default:
			panic(fmt.Sprintf("kernel %s: argument %d is a %T", name, i, a))
		}
		params[i] = unsafe.Pointer(&cells[i])
	}
	if gridX == 0 || gridY == 0 {
		return nil
	}
	return c.timed(name, func() error {
		return failed("starting the kernel "+name, fn.Launch(gridX, gridY, 1, threads, 1, 1, shared, c.work, params))
	})
}

// timed adds to the stages how long work on the card takes, if it is to be
// known.
func (c *Card) timed(name string, start func() error) error {
	if !c.Timed {
		return start()
	}
	if err := failed("waiting for the card", c.work.Synchronize()); err != nil {
		return err
	}
	begin := time.Now()
	if err := start(); err != nil {
		return err
	}
	err := failed("running "+name, c.work.Synchronize())
	c.stages[name] += time.Since(begin).Seconds()
	return err
}

// buffers are pieces of the card's memory that are given back together.
type buffers struct {
	pieces []cu.DevicePtr
	bytes  int64
}

func (b *buffers) take(what string, bytes int64) (cu.DevicePtr, error) {
	p, err := cu.MemAlloc(max(bytes, 16))
	if err != nil {
		return 0, failed(fmt.Sprintf("taking %.2f GB of the card for %s", float64(bytes)/1e9, what), err)
	}
	b.pieces = append(b.pieces, p)
	b.bytes += bytes
	return p, nil
}

func (b *buffers) free() {
	for _, p := range b.pieces {
		cu.MemFree(p) //nolint:errcheck // the process is about to end, or the context is lost
	}
	*b = buffers{}
}

// upload copies data to the card, in the order of the stream of work. The
// driver has taken the data when the call returns.
func (c *Card) upload(what string, to cu.DevicePtr, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	return failed("uploading "+what, cu.MemcpyHtoDAsync(to, unsafe.Pointer(&data[0]), int64(len(data)), c.work))
}

// download copies what the card has made, when all work before has been done.
func (c *Card) download(what string, to []byte, from cu.DevicePtr) error {
	if len(to) == 0 {
		return nil
	}
	if err := failed("computing "+what, c.work.Synchronize()); err != nil {
		return err
	}
	return failed("downloading "+what, cu.MemcpyDtoH(unsafe.Pointer(&to[0]), from, int64(len(to))))
}
