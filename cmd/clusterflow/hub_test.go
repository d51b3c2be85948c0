package main

import (
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"clusterflow/internal/hub/hubtest"
	"clusterflow/internal/llm/llmtest"
)

func checkpoint(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: checkpoint DIR [sharded]")
	}
	ts.Check(llmtest.Checkpoint{ModelType: "qwen2", Seed: 1, Sharded: len(args) == 2}.Write(ts.MkAbs(args[0])))
}

// hubKey is where a script keeps its hub.
type hubKey struct{}

type servedHub struct{ *hubtest.Server }

// serveHub is the command hub of scripts:
//
//	hub serve DIR ID     start, or add a model
//	hub gate ID TOKEN    let only that token read it
//	hub cut FILE N K     end the connection after N bytes of the file, K times
//	hub flip FILE K      send a wrong bit, K times
//	hub move REVISION COMMIT  a branch points to a commit
//	hub log              print the requests so far
//	hub close            be gone
func serveHub(ts *testscript.TestScript, neg bool, args []string) {
	h := ts.Value(hubKey{}).(*servedHub)
	number := func(i int) int {
		n, err := strconv.Atoi(args[i])
		ts.Check(err)
		return n
	}
	switch what := args[0]; {
	case what == "serve" && len(args) == 3:
		if h.Server == nil {
			h.Server = hubtest.New()
			ts.Defer(func() { h.Close() })
			ts.Setenv("HF_ENDPOINT", h.URL)
		}
		files := map[string][]byte{}
		dir := ts.MkAbs(args[1])
		entries, err := os.ReadDir(dir)
		ts.Check(err)
		for _, e := range entries {
			files[e.Name()] = []byte(ts.ReadFile(dir + "/" + e.Name()))
		}
		h.Repos[args[2]] = files
	case what == "gate" && len(args) == 3:
		h.Gated[args[1]], h.Token = true, args[2]
	case what == "cut" && len(args) == 4:
		h.Cut[args[1]], h.Cuts = number(2), number(3)
	case what == "flip" && len(args) == 3:
		h.Flip[args[1]] = number(2)
	case what == "move" && len(args) == 3:
		h.Branch = map[string]string{args[1]: args[2]}
	case what == "log":
		ts.Check(os.WriteFile(ts.MkAbs("requests"), []byte(strings.Join(h.Log(), "\n")+"\n"), 0o666))
	case what == "close":
		h.Close()
	default:
		ts.Fatalf("hub does not know %q", args)
	}
}
