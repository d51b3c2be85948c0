package cuda

import (
	"fmt"
	"time"
	"unsafe"
)

// address is a place in the card's memory; 0 is none.
type address uint64

// pinned is memory of the host that the card can read and write while the host
// goes on.
type pinned []byte

// stream is one of the two orders in which a card works: what is told to one is
// done in that order, beside the other.
type stream int

const (
	work   stream = iota // kernels, and what they need
	copies               // weights on their way to the card
)

// driver is what a pass needs of a card. All but wait, read and take return before
// the card is done, and do what they do on the stream of work where they name
// none.
type driver interface {
	take(bytes int64) (address, error)
	give(p address)
	available() (int64, error) // bytes of the card that are free
	pin(bytes int64) (pinned, error)
	unpin(p pinned)
	attach() error // lets the calling thread use the card

	clear(to address, bytes int64) error
	move(to, from address, bytes int64) error
	// send copies to the card. Pinned memory must stay as it is until the stream
	// has been waited for; other memory may change when send returns.
	send(to address, from []byte, on stream) error
	fetch(to pinned, from address) error
	read(to []byte, from address) error // when all work before is done
	wait(on stream) error

	// start runs a kernel with arguments in cells of eight bytes.
	start(kernel string, gridX, gridY, threads, shared int, cells []uint64) error
	// product sets c = a·bᵀ + beta·c by a library, where the card has one, else it
	// returns false: a [m, k], b [n, k] and c [m, n] by rows of lda, ldb and ldc
	// numbers, of the kind that kernels' names have.
	product(c, a, b address, m, n, k, lda, ldb, ldc int, number string, beta float32) (bool, error)
	// tensor describes a matrix of 16-bit numbers, [rows, ld], in the words that the
	// kernels of hopper.cu read on the card, 128 bytes at a multiple of 64.
	tensor(data address, rows, ld int) ([]byte, error)
}

// Options of a card.
type Options struct {
	Memory int64 // bytes to get by with; 0: nine tenths of what is free
	Own    bool  // products by our own kernels even where cuBLAS is found
	Old    bool  // and by those of compute capability 8.0 even on newer cards
	Timed  bool  // wait for each kernel, and tell its time among the stages
}

// engine runs passes on a card.
type engine struct {
	driver
	Options
	shared int // bytes that a block may ask for
	hopper int // blocks of the kernels in hopper.cu that run at once; 0: none do
	piece  int // rows that go through linear layers together; 0: pieceRows
	stages map[string]float64
}

// Stages returns how many seconds the last pass spent on preparing (memory, and
// embedding the tokens), on waiting for weights, and on all blocks.
func (e *engine) Stages() map[string]float64 { return e.stages }

// Free returns how many bytes of the card may still be taken by a pass that has
// taken so many.
func (e *engine) Free(taken int64) (int64, error) {
	free, err := e.available()
	if err != nil {
		return 0, fmt.Errorf("asking for the card's free memory: %w", err)
	}
	free = free / 10 * 9
	if e.Memory > 0 {
		free = min(free, e.Memory-taken)
	}
	return free, nil
}

// launch runs a kernel on the stream of work.
func (e *engine) launch(name string, gridX, gridY, threads, shared int, args ...any) error {
	cells := make([]uint64, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case address:
			cells[i] = uint64(v)
		case int:
			cells[i] = uint64(v)
		case float32:
			*(*float32)(unsafe.Pointer(&cells[i])) = v
		default:
			panic(fmt.Sprintf("kernel %s: argument %d is a %T", name, i, a))
		}
	}
	if gridX == 0 || gridY == 0 {
		return nil
	}
	return e.timed(name, func() error {
		return doing("starting the kernel "+name, e.start(name, gridX, gridY, threads, shared, cells))
	})
}

// timed adds to the stages how long work on the card takes, if it is to be
// known.
func (e *engine) timed(name string, start func() error) error {
	if !e.Timed {
		return start()
	}
	if err := doing("waiting for the card", e.wait(work)); err != nil {
		return err
	}
	begin := time.Now()
	if err := start(); err != nil {
		return err
	}
	err := doing("running "+name, e.wait(work))
	e.stages[name] += time.Since(begin).Seconds()
	return err
}

// upload copies data to the card, in the order of the stream of work, and has
// taken it when it returns.
func (e *engine) upload(what string, to address, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	return doing("uploading "+what, e.send(to, data, work))
}

// download copies what the card has made, when all work before has been done.
func (e *engine) download(what string, to []byte, from address) error {
	if len(to) == 0 {
		return nil
	}
	return doing("computing "+what, e.read(to, from))
}

// doing is an error with what was being done.
func doing(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// buffers are pieces of the card's memory that are given back together.
type buffers struct {
	pieces []address
	bytes  int64
}

func (b *buffers) take(d driver, what string, bytes int64) (address, error) {
	p, err := d.take(max(bytes, 16))
	if err != nil {
		return 0, fmt.Errorf("taking %.2f GB of the card for %s: %w", float64(bytes)/1e9, what, err)
	}
	b.pieces = append(b.pieces, p)
	b.bytes += bytes
	return p, nil
}

func (b *buffers) free(d driver) {
	for _, p := range b.pieces {
		d.give(p)
	}
	*b = buffers{}
}
