package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"clusterflow/graph"
)

// writeNinja writes into dir a ninja graph of the study's shape, one edge a
// node and one file an output, with the files and the log of a finished build.
func writeNinja(dir string, g *graph.Graph) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	build, err := os.Create(filepath.Join(dir, "build.ninja"))
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, ".ninja_log"))
	if err != nil {
		return errors.Join(err, build.Close())
	}
	b, l := bufio.NewWriterSize(build, 1<<20), bufio.NewWriterSize(log, 1<<20)
	fmt.Fprintf(b, "rule make\n  command = make-node $out\n\n")
	fmt.Fprintf(l, "# ninja log v5\n")
	outputs := outputsOf(g)
	later := time.Now().Add(time.Hour).UnixNano() // than any file
	for i, n := range g.Nodes {
		b.WriteString("build")
		command := "make-node"
		for _, name := range outputs[n] {
			out := "out/" + n.Addr + "." + name
			b.WriteString(" " + out)
			command += " " + out
			if err := touch(filepath.Join(dir, out)); err != nil {
				return errors.Join(err, build.Close(), log.Close())
			}
		}
		for _, name := range outputs[n] {
			fmt.Fprintf(l, "%d\t%d\t%d\tout/%s.%s\t%x\n", i, i+1, later, n.Addr, name, murmur64a([]byte(command)))
		}
		b.WriteString(": make")
		for _, in := range n.Inputs {
			b.WriteString(" out/" + in.From.Addr + "." + in.Output)
		}
		for _, src := range n.Sources {
			b.WriteString(" " + src.Path)
		}
		b.WriteByte('\n')
	}
	return errors.Join(b.Flush(), l.Flush(), build.Close(), log.Close())
}

func touch(path string) error {
	f, err := os.Create(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		f, err = os.Create(path)
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// murmur64a is the hash by which ninja's log knows a command: MurmurHash64A of
// Austin Appleby with ninja's seed.
func murmur64a(p []byte) uint64 {
	const seed, m, r = 0xDECAFBADDECAFBAD, 0xc6a4a7935bd1e995, 47
	h := uint64(seed) ^ uint64(len(p))*m
	for ; len(p) >= 8; p = p[8:] {
		k := binary.LittleEndian.Uint64(p) * m
		k = (k ^ k>>r) * m
		h = (h ^ k) * m
	}
	if len(p) > 0 {
		var tail [8]byte
		copy(tail[:], p)
		h = (h ^ binary.LittleEndian.Uint64(tail[:])) * m
	}
	h = (h ^ h>>r) * m
	return h ^ h>>r
}
