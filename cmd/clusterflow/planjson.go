package main

import (
	"encoding/json"
	"io"

	"clusterflow/graph"
)

// planJSON is the form of plan --json.
type planJSON struct {
	Study    string              `json:"study"`
	File     string              `json:"file"`
	Protocol string              `json:"protocol"`
	Seed     int64               `json:"seed"`
	Counts   map[graph.State]int `json:"counts"`
	Cost     *costJSON           `json:"cost,omitempty"` // of requests to somebody outside
	Nodes    []nodeJSON          `json:"nodes"`
}

type nodeJSON struct {
	Address  string         `json:"address"`
	Kind     string         `json:"kind"`
	Stage    string         `json:"stage"`
	State    graph.State    `json:"state"`
	Reasons  []graph.Reason `json:"reasons,omitempty"`
	Key      string         `json:"key,omitempty"`
	Inputs   []string       `json:"inputs,omitempty"`
	Memory   int64          `json:"memory_bytes"`
	Disk     int64          `json:"disk_bytes,omitempty"`
	Seconds  *float64       `json:"estimated_seconds,omitempty"`
	Requests map[string]int `json:"requests,omitempty"`
	URL      string         `json:"url,omitempty"`     // where the requests go
	KeyEnv   string         `json:"key_env,omitempty"` // the variable with the key that pays
}

func writePlanJSON(w io.Writer, p *planned) error {
	s := p.compiled.Study
	out := planJSON{
		Study: s.Name.V, File: s.File, Protocol: s.Protocol.V, Seed: s.Seed.V, Counts: p.Count(),
		Nodes: make([]nodeJSON, len(p.Steps)),
	}
	if m := p.money(); len(m.asks) > 0 || len(m.bills) > 0 {
		out.Cost = m.json(p)
	}
	for i, st := range p.Steps {
		n := nodeJSON{
			Address: st.Node.Addr, Kind: st.Node.Kind(), Stage: st.Node.Stage, State: st.State, Reasons: st.Reasons,
			Memory: st.Node.Need.Memory, Disk: st.Node.Disk, Requests: st.Node.Demand, URL: st.Node.Dest.URL, KeyEnv: st.Node.Dest.KeyEnv,
		}
		if !st.Key.IsZero() {
			n.Key = st.Key.String()
		}
		for _, in := range st.Node.Inputs {
			if k := len(n.Inputs); k == 0 || n.Inputs[k-1] != in.From.Addr {
				n.Inputs = append(n.Inputs, in.From.Addr)
			}
		}
		if t, ok := p.durations.of(st); ok {
			sec := t.Seconds()
			n.Seconds = &sec
		}
		out.Nodes[i] = n
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}
