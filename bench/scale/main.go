// Command scale measures how planning and a no-op apply grow with a study, and
// compares them with ninja doing nothing on a graph of the same shape.
//
// For each size it writes a study of that many nodes, results for all of them,
// and the ninja graph; then it runs the real programs in turn, several times,
// and prints medians. Nothing is simulated but the results' contents.
//
//	go run ./bench/scale -dir /tmp/scale -nodes 1000,10000,100000
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	dir := flag.String("dir", filepath.Join(os.TempDir(), "clusterflow-scale"), "`folder` for studies, caches and ninja graphs; kept, and used again")
	nodes := flag.String("nodes", "1000,10000,100000", "`sizes` to measure")
	runs := flag.Int("runs", 7, "runs of each, of which the median is shown")
	binary := flag.String("binary", "", "the clusterflow `program` (default: build it)")
	only := flag.String("prepare", "", "only write the study of -nodes into this `folder`: what the program starts itself with, so that it stays small; the peak of a process counts that of its maker")
	plot := flag.String("plot", "", "also draw the times in this SVG `file`")
	trivial := flag.Int("tasks", 100000, "tasks for the cost of scheduling; 0 leaves that out")
	flag.Parse()
	if *only != "" {
		n, err := strconv.Atoi(*nodes)
		if err == nil {
			err = prepare(context.Background(), *only, *binary, n)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "scale:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(context.Background(), *dir, *nodes, *runs, *binary, *plot, *trivial); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir, nodes string, runs int, binary, plot string, trivial int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if binary == "" {
		binary = filepath.Join(dir, "clusterflow")
		build := exec.CommandContext(ctx, "go", "build", "-o", binary, "clusterflow/cmd/clusterflow")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("building clusterflow: %w", err)
		}
	}
	fmt.Printf("%d cores, %s/%s, %s; medians of %d runs in turn; peak memory in brackets\n\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), runs)
	fmt.Println("| nodes | " + strings.Join(measurements, " | ") + " |")
	fmt.Println("|---" + strings.Repeat("|---", len(measurements)) + "|")
	var rows []row
	for _, field := range strings.Split(nodes, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 100 {
			return fmt.Errorf("-nodes %s: give numbers of at least 100", nodes)
		}
		r, err := size(ctx, filepath.Join(dir, field), binary, n, runs)
		if err != nil {
			return fmt.Errorf("%d nodes: %w", n, err)
		}
		rows = append(rows, r)
	}
	if plot != "" {
		if err := writePlot(plot, rows); err != nil {
			return err
		}
	}
	if err := empty(ctx, filepath.Join(dir, "empty"), binary, runs); err != nil {
		return err
	}
	if trivial > 0 { // last: it makes this process large
		return scheduling(ctx, filepath.Join(dir, "tasks"), trivial)
	}
	return nil
}

// size measures one study.
func size(ctx context.Context, dir, binary string, n, runs int) (row, error) {
	marker := filepath.Join(dir, "nodes")
	if _, err := os.Stat(marker); err != nil {
		self, err := os.Executable()
		if err != nil {
			return row{}, err
		}
		c := exec.CommandContext(ctx, self, "-prepare", dir, "-nodes", strconv.Itoa(n), "-binary", binary)
		c.Stderr = os.Stderr
		if err := c.Run(); err != nil {
			return row{}, fmt.Errorf("preparing: %w", err)
		}
	}
	raw, err := os.ReadFile(marker)
	if err != nil {
		return row{}, err
	}
	real, err := strconv.Atoi(string(raw))
	if err != nil {
		return row{}, err
	}
	study := filepath.Join(dir, "study.hcl")
	commands := [][]string{
		{"ninja", "-C", filepath.Join(dir, "ninja")},
		{binary, "plan", study},
		{binary, "apply", "--quiet", study},
		{binary, "plan", "--var", "figure=svg", study},
		{binary, "plan", "--var", "edition=second", study},
	}
	expect := []string{"no work to do", "nodes: " + thousands(real) + " cached", thousands(real) + " cached", "1 stale", "not known yet"}
	results := make([][]result, len(commands))
	for range runs {
		for i, c := range commands {
			r, err := measure(ctx, c, expect[i])
			if err != nil {
				return row{}, err
			}
			results[i] = append(results[i], r)
		}
	}
	measured, cells := row{nodes: real}, []string{thousands(real)}
	for _, rs := range results {
		m := median(rs)
		measured.results, cells = append(measured.results, m), append(cells, m.String())
	}
	fmt.Println("| " + strings.Join(cells, " | ") + " |")
	return measured, nil
}

// prepare writes a study of about n nodes with everything that is measured. The
// marker says how many it really has, and that all is there.
func prepare(ctx context.Context, dir, binary string, n int) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	study, err := writeStudy(dir, shapeFor(n))
	if err != nil {
		return err
	}
	c, err := compile(study)
	if err != nil {
		return err
	}
	real := len(c.Graph.Nodes)
	if err := writeNinja(filepath.Join(dir, "ninja"), c.Graph); err != nil {
		return err
	}
	if err := fabricate(ctx, study); err != nil {
		return err
	}
	time.Sleep(3 * time.Second) // files that old are trusted by their times
	for range 2 {               // the first writes down what it found
		if _, err := measure(ctx, []string{binary, "apply", "--quiet", study}, "cached"); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "nodes"), []byte(strconv.Itoa(real)), 0o644)
}

// result is what one run of a program took.
type result struct {
	wall time.Duration
	peak int64 // bytes
}

func (r result) String() string {
	return fmt.Sprintf("%d ms (%d MB)", r.wall.Milliseconds(), r.peak/1e6)
}

func median(rs []result) result {
	walls, peaks := make([]time.Duration, len(rs)), make([]int64, len(rs))
	for i, r := range rs {
		walls[i], peaks[i] = r.wall, r.peak
	}
	slices.Sort(walls)
	slices.Sort(peaks)
	return result{walls[len(walls)/2], peaks[len(peaks)/2]}
}

// measure runs a command, which must say what is expected of it.
func measure(ctx context.Context, command []string, expect string) (result, error) {
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	begin := time.Now()
	err := c.Run()
	r := result{wall: time.Since(begin)}
	if err == nil && !strings.Contains(out.String(), expect) {
		err = fmt.Errorf("expected %q", expect)
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w\n%.2000s", strings.Join(command, " "), err, out.String())
	}
	if usage, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.peak = usage.Maxrss << 10
	}
	return r, nil
}

// empty measures opening, planning and closing a study of which nothing has
// been made yet, and of which nothing is asked but two imports.
func empty(ctx context.Context, dir, binary string, runs int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	study, err := writeStudy(dir, shape{models: 1, layers: 1, sizes: 1, methods: []string{"spherical_kmeans"}})
	if err != nil {
		return err
	}
	fmt.Println()
	for _, c := range [][]string{{binary, "plan", study}, {binary, "apply", "--quiet", "--only", "import", study}} {
		var rs []result
		for range runs {
			r, err := measure(ctx, c, "")
			if err != nil {
				return err
			}
			rs = append(rs, r)
		}
		fmt.Printf("%s of a study of one clustering, with an empty cache: %s\n", c[1], median(rs))
	}
	return nil
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
