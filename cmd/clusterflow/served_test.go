package main

import (
	"context"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// serveBatches is the command batchd of scripts: it starts a clusterflow batchd
// on a free port, with the folder served and the flags given, and sets BATCHD,
// or the variable named first, to its base URL. It ends with the script.
func serveBatches(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: batchd [NAME] [FLAG…]")
	}
	name := "BATCHD"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	var out, err syncBuffer
	c := exec.Command("clusterflow", append([]string{"batchd", "--listen", "127.0.0.1:0", "--dir", ts.MkAbs("served" + name)}, args...)...)
	c.Dir, c.Stdout, c.Stderr = ts.MkAbs("."), &out, &err
	for _, v := range []string{"PATH", "HOME", "TMPDIR", "UPSTREAM_KEY", "SERVER_KEY"} {
		c.Env = append(c.Env, v+"="+ts.Getenv(v))
	}
	ts.Check(c.Start())
	ts.Defer(func() {
		c.Process.Kill() //nolint:errcheck // it has not ended by itself
		c.Wait()         //nolint:errcheck // it was killed
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		if m := regexp.MustCompile(`(?m)^batchd serves (http\S+) from `).FindStringSubmatch(out.String()); m != nil {
			ts.Setenv(name, m[1])
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("batchd does not serve:\n%s%s", out.String(), err.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
