// Command clusterflow runs representation-clustering studies: a study file says
// what is wanted, clusterflow works out what is missing and runs only that.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1 // something failed, or the input is wrong
	exitWork        = 2 // plan --detailed-exitcode: there is work to do
	exitWaiting     = 3 // apply --detach: batches are out
	exitInterrupted = 130
)

// exitError carries an exit code. An empty message was printed already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// app is what commands take from the process.
type app struct {
	in       io.Reader
	out, err io.Writer
	environ  []string
	getenv   func(string) string
	now      func() time.Time
	free     func(path string) (uint64, error) // bytes that may be written below a path
	working  atomic.Bool                       // an interrupt has something to wait for
}

func main() {
	collectLate(os.Getenv)
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ(), getenv: os.Getenv, now: time.Now, free: freeSpace}
	ctx, stop := a.interruptible()
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// interruptible gives a context that the first interrupt ends; the second ends
// the process.
func (a *app) interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-signals; !ok {
			return
		}
		if a.working.Load() {
			fmt.Fprintln(os.Stderr, "\nstopping: what runs is told to stop, what is done is kept; interrupt again to end at once")
		}
		cancel()
		if _, ok := <-signals; ok {
			os.Exit(exitInterrupted)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel()
	}
}

// run executes one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	cobra.EnableCommandSorting = false
	root := &cobra.Command{
		Use:           "clusterflow",
		Short:         "Run representation-clustering studies, only what is stale",
		Long:          "clusterflow is make for representation-clustering studies: a study file says what is wanted,\nclusterflow works out what is missing, runs only that, and shows the result.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetArgs(args)
	// The commands, in the order of a study's life.
	root.AddCommand(
		a.initCommand(),
		a.validateCommand(),
		a.fmtCommand(),
		a.planCommand(),
		a.applyCommand(),
		a.statusCommand(),
		a.explainCommand(),
		a.showCommand(),
		a.predictCommand(),
		a.promptsCommand(),
		a.answersCommand(),
		a.titlesCommand(),
		a.agreeCommand(),
		a.historyCommand(),
		a.graphCommand(),
		a.diffCommand(),
		a.batchesCommand(),
		a.batchdCommand(),
		a.trustCommand(),
		a.taskCommand(),
		a.verifyCommand(),
		a.cacheCommand(),
		a.doctorCommand(),
		a.versionCommand(),
		a.debugCommand(),
	)
	err := root.ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintln(a.err, "Error:", exit.err)
		}
	case errors.Is(err, context.Canceled):
		if a.working.Load() {
			fmt.Fprintln(a.err, "stopped; apply again to go on")
		}
	default:
		fmt.Fprintln(a.err, "Error:", err)
	}
	return exitCodeOf(err)
}

// exitCodeOf is the exit code of a command that ended with err.
func exitCodeOf(err error) int {
	var exit *exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitFailed
}

// terminal reports whether w is one, and its width in columns (0 if not).
func terminal(w io.Writer) (bool, int) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false, 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		width = 80
	}
	return true, width
}

// colors reports whether w should get colours (https://no-color.org).
func (a *app) colors(w io.Writer) bool {
	tty, _ := terminal(w)
	return tty && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
}
