// Package kerneltest is a card on the processor: the kernels' sources, compiled as
// plain C++ (../emulate) and run in a process of their own. It is for tests.
package kerneltest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// Card is a process that runs kernels. It is safe for concurrent use: what
// different goroutines ask is done one after the other.
type Card struct {
	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// ErrNoCompiler says that there is no g++ to compile the kernels with.
var ErrNoCompiler = errors.New("there is no g++ to compile the kernels with")

// folder is where program is, once it has been compiled.
var folder string

// program is the kernels, compiled once.
var program = sync.OnceValues(func() (string, error) {
	compiler, err := exec.LookPath("g++")
	if err != nil {
		return "", ErrNoCompiler
	}
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the kernels' sources are not where they were built from")
	}
	if folder, err = os.MkdirTemp("", "kerneltest-*"); err != nil {
		return "", err
	}
	program := filepath.Join(folder, "card")
	build := exec.Command(compiler, "-O2", "-std=c++17", "-Wall", "-Wno-unknown-pragmas", "-o", program, filepath.Join(filepath.Dir(here), "..", "emulate", "card.cc"))
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compiling the kernels: %w\n%s", err, out)
	}
	return program, nil
})

// Main runs the tests of a package that opens cards, for its TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if folder != "" {
		os.RemoveAll(folder) //nolint:errcheck // what is left is in the folder for temporary files
	}
	os.Exit(code)
}

// Open starts a card, of kernels that are compiled when the first one is.
func Open() (*Card, error) {
	path, err := program()
	if err != nil {
		return nil, err
	}
	c := &Card{cmd: exec.Command(path)}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.cmd.Start()
}

// Close ends the process.
func (c *Card) Close() error {
	c.in.Close()
	return c.cmd.Wait()
}

// Take returns the address of so many bytes, filled with what is no number.
func (c *Card) Take(bytes int64) (address uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := fmt.Fprintf(c.in, "take %d\n", bytes); err != nil {
		return 0, err
	}
	line, err := c.line()
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(line, &address)
	return address, err
}

// Give takes back what Take has given.
func (c *Card) Give(address uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := fmt.Fprintf(c.in, "give %d\n", address)
	return err
}

// Write copies to the card.
func (c *Card) Write(address uint64, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := fmt.Fprintf(c.in, "write %d %d\n", address, len(data)); err != nil {
		return err
	}
	_, err := c.in.Write(data)
	return err
}

// Read copies from the card.
func (c *Card) Read(address uint64, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := fmt.Fprintf(c.in, "read %d %d\n", address, len(data)); err != nil {
		return err
	}
	_, err := io.ReadFull(c.out, data)
	return err
}

// Launch runs a kernel, with arguments in cells of eight bytes, to its end.
func (c *Card) Launch(name string, gridX, gridY, threads, shared int, cells []uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var args strings.Builder
	for _, cell := range cells {
		fmt.Fprintf(&args, " %d", cell)
	}
	if _, err := fmt.Fprintf(c.in, "launch %s %d %d %d %d %d%s\n", name, gridX, gridY, threads, shared, len(cells), args.String()); err != nil {
		return err
	}
	answer, err := c.line()
	if err == nil && answer != "ok" {
		err = fmt.Errorf("%s: %s", name, answer)
	}
	return err
}

func (c *Card) line() (string, error) {
	s, err := c.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the card gave no answer: %w", err)
	}
	return strings.TrimSpace(s), nil
}
