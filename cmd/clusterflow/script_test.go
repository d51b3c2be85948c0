package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be clusterflow when it is called by that name,
// as scripts and the tests below do.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"clusterflow": main})
}

// smallStudy is the folder of a study that runs in a fraction of a second: 5
// responses, 1 layer, 1 method, 2 sizes, 16 nodes.
const smallStudy = "testdata/study"

// TestScripts runs the program as users do; see testdata/script. Every script
// starts beside a copy of the small study, in a shell without settings. Besides
// the usual commands there are
//
//	code N COMMAND…    run a command that must end with the exit code N
//	edit FILE OLD NEW  replace the one place in a file that says OLD
//	damage PATTERN     flip a bit in the middle of each file
//	until REGEXP COMMAND…  repeat a command until its output matches
//	checkpoint DIR [sharded]  write a small Qwen2 model
//	labels FILE TO     write the labels of a safetensors file as text
//	batchd [NAME] [FLAG…]  serve the Batch API at $BATCHD, or $NAME
//	hub serve DIR ID   be the Hugging Face hub, with DIR as the model ID; see hub
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, childEnv(env.WorkDir)...)
			env.Values[hubKey{}] = &servedHub{}
			return copyStudy(env.WorkDir)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":       code,
			"edit":       edit,
			"damage":     damage,
			"until":      until,
			"checkpoint": checkpoint,
			"hub":        serveHub,
			"labels":     labelText,
			"batchd":     serveBatches,
		},
	})
}

// childEnv is what a clusterflow under test sees of the tester's environment.
func childEnv(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + os.TempDir(), "NO_COLOR=1", "TZ=UTC",
		"CLUSTERFLOW_BLAS=" + os.Getenv("CLUSTERFLOW_BLAS"),
	}
}

// copyStudy puts the small study into a folder.
func copyStudy(dir string) error {
	return os.CopyFS(dir, os.DirFS(smallStudy))
}

func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitCode(ts.Exec(args[1], args[2:]...)); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// exitCode is the exit code of a command that has ended with err.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	path := ts.MkAbs(args[0])
	raw, err := os.ReadFile(path)
	ts.Check(err)
	text := unescape.Replace(args[1])
	if n := strings.Count(string(raw), text); n != 1 {
		ts.Fatalf("%s says %q %d times", args[0], text, n)
	}
	ts.Check(os.WriteFile(path, []byte(strings.Replace(string(raw), text, unescape.Replace(args[2]), 1)), 0o666))
}

var unescape = strings.NewReplacer(`\n`, "\n")

func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: damage PATTERN")
	}
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("no file matches %s", args[0])
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		ts.Check(err)
		b[len(b)/2] ^= 1
		ts.Check(os.Chmod(f, 0o644))
		ts.Check(os.WriteFile(f, b, 0o644))
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP COMMAND…")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && matches(args[0], ts.ReadFile("stdout")) {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s never said %q; last exit code %d", strings.Join(args[1:], " "), args[0], exitCode(err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
