package main

import (
	"fmt"

	"github.com/dustin/go-humanize"

	"clusterflow/graph"
)

// diskSpace is what a plan will write at most, and what there is for it.
type diskSpace struct {
	need  int64 // bytes of outputs that are not there yet, an estimate
	free  int64 // bytes
	known bool
	dir   string
}

// space looks at the disk of a cache.
func (a *app) space(p *graph.Plan, dir string) diskSpace {
	d := diskSpace{dir: dir}
	for _, s := range p.Steps {
		if s.State != graph.Cached {
			d.need += s.Node.Disk
		}
	}
	if free, err := a.free(dir); err == nil {
		d.free, d.known = int64(min(free, 1<<62)), true
	}
	return d
}

// warning says that the disk is too small or nearly so, or "".
func (d diskSpace) warning() string {
	if !d.known || d.need <= d.free/10*9 {
		return ""
	}
	fits := "hardly enough"
	if d.need > d.free {
		fits = "too little"
	}
	return fmt.Sprintf("up to %s will be written to %s, and %s are free: %s", humanize.IBytes(uint64(d.need)), d.dir, humanize.IBytes(uint64(d.free)), fits)
}

// check refuses a plan that the disk cannot hold.
func (d diskSpace) check(ignore bool) error {
	if ignore || !d.known || d.need <= d.free {
		return nil
	}
	return fmt.Errorf("%s; make space, put the cache elsewhere with --cache-dir, choose a part with --target or --only, or give --ignore-disk to begin anyway", d.warning())
}
