//go:build cuda

// Command clusterflow-cuda computes hidden states on an NVIDIA card for
// clusterflow, which starts it. It is a program of its own because importing
// gorgonia.org/cu ends a process that has no card.
//
//	clusterflow-cuda [-memory BYTES] info    what it computes on, and how much room there is, a line each
//	clusterflow-cuda [-memory BYTES] pass    a pass, as package internal/llm/worker has it
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"clusterflow/internal/llm/cuda"
	"clusterflow/internal/llm/worker"
)

func main() {
	var o cuda.Options
	flag.Int64Var(&o.Memory, "memory", 0, "`bytes` of the card to get by with; 0: nine tenths of what is free")
	flag.Parse()
	if err := run(o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "clusterflow-cuda:", err)
		os.Exit(1)
	}
}

func run(o cuda.Options, args []string) error {
	if len(args) != 1 || args[0] != "info" && args[0] != "pass" {
		return fmt.Errorf("usage: clusterflow-cuda [-memory BYTES] info|pass; clusterflow apply starts it")
	}
	card, err := cuda.Open(o)
	if err != nil {
		return err
	}
	if args[0] == "info" {
		free, err := card.Free(0)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n%.1f GB to take\n", card.Name(), float64(free)/1e9)
		return nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return worker.Serve(ctx, card, os.Stdin, os.Stdout)
}
