//go:build cuda

package cuda

import (
	"fmt"
	"runtime"
	"unsafe"

	"gorgonia.org/cu"

	"clusterflow/internal/llm/kernels"
)

// Card is one NVIDIA card. All calls must come from the goroutine that opened
// it, which stays on its thread.
type Card struct {
	engine
	nvidia *nvidia
}

// nvidia is a card by way of its driver.
type nvidia struct {
	context cu.CUContext
	module  cu.Module
	hopper  cu.Module // of kernels.HopperPTX, where that is used
	streams [2]cu.Stream
	blas    *blas // nil: products by our own kernels
	fns     map[string]cu.Function

	name         string
	major, minor int
}

// Open opens the first card, which must be of compute capability 8.0 (Ampere,
// 2020) or newer.
func Open(o Options) (*Card, error) {
	runtime.LockOSThread()
	d := &nvidia{fns: map[string]cu.Function{}}
	device, err := cu.GetDevice(0)
	if err != nil {
		return nil, doing("opening the first card", plain(err))
	}
	if d.name, err = device.Name(); err != nil {
		return nil, doing("asking for the card's name", err)
	}
	if d.major, d.minor, err = device.ComputeCapability(); err != nil {
		return nil, doing("asking for the card's compute capability", err)
	}
	if err := usable(d.name, d.major, d.minor, cu.Version()); err != nil {
		return nil, err
	}
	c := &Card{engine{driver: d, Options: o}, d}
	if c.shared, err = attribute(device, "the shared memory", sharedOfBlock); err != nil {
		return nil, err
	}
	if d.context, err = device.MakeContext(cu.SchedAuto); err != nil {
		return nil, doing("opening "+d.name, plain(err))
	}
	if d.module, err = cu.LoadData(kernels.PTX()); err != nil {
		return nil, doing("loading the kernels into a driver of CUDA "+release(cu.Version()), plain(err))
	}
	if d.major == 9 && !o.Old && canDescribe() {
		if d.hopper, err = cu.LoadData(kernels.HopperPTX()); err != nil {
			return nil, doing("loading the kernels for Hopper", plain(err))
		}
		processors, err := attribute(device, "the multiprocessors", multiprocessors)
		if err != nil {
			return nil, err
		}
		c.hopper = processors / 2 * 2
	}
	for i := range d.streams {
		if d.streams[i], err = cu.MakeStream(cu.NonBlocking); err != nil {
			return nil, doing("making a stream", plain(err))
		}
	}
	if !o.Own {
		d.blas = openBlas(d.streams[work])
	}
	return c, nil
}

// Name says what computes: the card, the driver and what makes products.
func (c *Card) Name() string {
	d, library := c.nvidia, "own kernels"
	if c.hopper > 0 {
		library = "own kernels for Hopper"
	}
	if d.blas != nil {
		library += " and " + d.blas.name
	}
	return fmt.Sprintf("%s (compute %d.%d), CUDA %s, %s, kernels %s", d.name, d.major, d.minor, release(cu.Version()), library, kernels.Version())
}

func (d *nvidia) take(bytes int64) (address, error) {
	p, err := cu.MemAlloc(bytes)
	return address(p), plain(err)
}

func (d *nvidia) give(p address) {
	cu.MemFree(cu.DevicePtr(p)) //nolint:errcheck // the process is about to end, or the context is lost
}

func (d *nvidia) available() (int64, error) {
	free, _, err := cu.MemInfo()
	return free, err
}

func (d *nvidia) attach() error { return cu.SetCurrentContext(d.context) }

func (d *nvidia) clear(to address, bytes int64) error {
	return cu.MemsetD8Async(cu.DevicePtr(to), 0, bytes, d.streams[work])
}

func (d *nvidia) move(to, from address, bytes int64) error {
	return cu.MemcpyDtoDAsync(cu.DevicePtr(to), cu.DevicePtr(from), bytes, d.streams[work])
}

func (d *nvidia) send(to address, from []byte, on stream) error {
	return plain(cu.MemcpyHtoDAsync(cu.DevicePtr(to), unsafe.Pointer(&from[0]), int64(len(from)), d.streams[on]))
}

func (d *nvidia) fetch(to pinned, from address) error {
	return cu.MemcpyDtoHAsync(unsafe.Pointer(&to[0]), cu.DevicePtr(from), int64(len(to)), d.streams[work])
}

func (d *nvidia) read(to []byte, from address) error {
	if err := d.wait(work); err != nil {
		return err
	}
	return cu.MemcpyDtoH(unsafe.Pointer(&to[0]), cu.DevicePtr(from), int64(len(to)))
}

func (d *nvidia) wait(on stream) error { return d.streams[on].Synchronize() }

func (d *nvidia) start(kernel string, gridX, gridY, threads, shared int, cells []uint64) error {
	fn, ok := d.fns[kernel]
	if !ok {
		module, err := d.module, error(nil)
		if kernels.InHopper(kernel) {
			module = d.hopper
		}
		if fn, err = module.Function(kernel); err != nil {
			return err
		}
		if shared > 48<<10 {
			if err := allowShared(fn, shared); err != nil {
				return err
			}
		}
		d.fns[kernel] = fn
	}
	params := make([]unsafe.Pointer, len(cells)) // cu copies eight bytes of each
	for i := range cells {
		params[i] = unsafe.Pointer(&cells[i])
	}
	return plain(fn.Launch(gridX, gridY, 1, threads, 1, 1, shared, d.streams[work], params))
}

func (d *nvidia) product(c, a, b address, m, n, k, lda, ldb, ldc int, number string, beta float32) (bool, error) {
	if d.blas == nil {
		return false, nil
	}
	kind, compute := typeBF16, computeFloat
	switch number {
	case "f16":
		kind = typeF16
	case "float":
		kind, compute = typeFloat, computeFloatPedantic
	}
	return true, d.blas.gemm(c, a, b, m, n, k, lda, ldb, ldc, kind, compute, beta)
}
