package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"clusterflow/internal/linalg"
)

func (a *app) doctorCommand() *cobra.Command {
	var f studyFlags
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Show what this machine offers: processor, BLAS, GPU, disk, keys",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return a.doctor(c.Context(), &f) },
	}
	f.addCache(c)
	return c
}

func (a *app) doctor(ctx context.Context, f *studyFlags) error {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("version", "%s", version())
	line("processor", "%s, %s usable", runtime.GOARCH, count(runtime.NumCPU(), "core", "cores"))
	line("features", "%s", strings.Join(linalg.CPUFeatures(), " "))
	if m := machineMemory(); m > 0 {
		line("memory", "%s; apply uses at most %s unless --memory says otherwise", humanize.IBytes(uint64(m)), humanize.IBytes(uint64(m/5*4)))
	}
	b := linalg.Backend()
	line("BLAS", "%s%s", b.Name, note(b.How))
	if b.Path != "" {
		line("", "%s", b.Path)
	}
	for _, other := range slices.Concat(linalg.CompareBackends(), b.Unused) {
		line("", "%s", other)
	}
	line("", "%.0f GFLOPS in float32 on one core", linalg.MeasureGFLOPS(ctx))
	line("GPU", "%s", gpu(ctx, a.err))
	dir := a.cachePath("x", f)
	if free, err := freeSpace(dir); err == nil {
		line("disk", "%s free for the cache in %s", humanize.IBytes(free), dir)
	} else {
		line("disk", "free space unknown: %v", err)
	}
	known, err := a.approvals()
	if err != nil {
		return err
	}
	keys := []string{openAI.keyEnv, "HF_TOKEN"}
	for p := range known.pairs {
		keys = append(keys, p.keyEnv)
	}
	slices.Sort(keys)
	for _, name := range slices.Compact(keys) {
		state := "not set"
		if a.getenv(name) != "" {
			state = "set"
		}
		line("key", "%s is %s", name, state)
	}
	return nil
}

func note(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// gpu says what models can be run on besides the processor.
func gpu(ctx context.Context, notes io.Writer) string {
	path, err := findWorker()
	if err != nil {
		return "none used: " + workerName + " is neither beside clusterflow nor on the PATH; " + driver(ctx)
	}
	card, err := probe(ctx, notes, path)
	if err != nil {
		return fmt.Sprintf("none used: %v; %s", err, driver(ctx))
	}
	return strings.TrimSuffix(card.Name()+", "+card.Room, ", ")
}

// driver says what the NVIDIA driver's own tool says.
func driver(ctx context.Context) string {
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return "no NVIDIA driver found"
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader").Output()
	if err != nil {
		return fmt.Sprintf("nvidia-smi failed: %v", err)
	}
	return "the driver has " + strings.Join(strings.Split(strings.TrimSpace(string(out)), "\n"), "; ")
}

// existing is the nearest folder above path that exists.
func existing(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "."
	}
	for {
		if _, err := os.Stat(abs); err == nil || filepath.Dir(abs) == abs {
			return abs
		}
		abs = filepath.Dir(abs)
	}
}
