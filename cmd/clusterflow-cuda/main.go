//go:build cuda

// Command clusterflow-cuda computes hidden states on an NVIDIA card for
// clusterflow, which starts it. It is a program of its own because importing
// gorgonia.org/cu ends a process that has no card.
//
//	clusterflow-cuda info    what it computes on, on one line
//	clusterflow-cuda pass    a pass, as package internal/llm/worker has it
//
// CLUSTERFLOW_GPU_MEMORY says how many bytes of the card to get by with.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"clusterflow/internal/llm/cuda"
	"clusterflow/internal/llm/worker"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "clusterflow-cuda:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 || args[0] != "info" && args[0] != "pass" {
		return fmt.Errorf("usage: clusterflow-cuda info|pass; clusterflow apply starts it")
	}
	var o cuda.Options
	if s := os.Getenv("CLUSTERFLOW_GPU_MEMORY"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n <= 0 {
			return fmt.Errorf("CLUSTERFLOW_GPU_MEMORY is %q, which is no number of bytes", s)
		}
		o.Memory = n
	}
	card, err := cuda.Open(o)
	if err != nil {
		return err
	}
	if args[0] == "info" {
		free, err := card.Free()
		if err != nil {
			return err
		}
		fmt.Printf("%s, %.1f GB to take\n", card.Name(), float64(free)/1e9)
		return nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return worker.Serve(ctx, card, os.Stdin, os.Stdout)
}
