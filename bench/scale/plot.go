package main

import "clusterflow/bench/internal/loglog"

// row is what was measured of one size.
type row struct {
	nodes   int
	results []result // by column
}

// measurements are what is measured, in the order of the table.
var measurements = []string{"ninja, nothing to do", "plan, nothing to do", "apply, nothing to do", "plan, a leaf changed", "plan, a root changed"}

// writePlot draws wall time against nodes.
func writePlot(path string, rows []row) error {
	lines := make([]loglog.Line, len(measurements))
	for i, name := range measurements {
		lines[i].Name = name
		for _, r := range rows {
			lines[i].X = append(lines[i].X, float64(r.nodes))
			lines[i].Y = append(lines[i].Y, r.results[i].wall.Seconds())
		}
	}
	return loglog.Write(path, "nodes", "n", "s", lines)
}
