package tasks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/batch"
)

// batchInfo is a batch_info file: method → cluster size → rep_i → its batches.
type batchInfo map[string]map[string]map[string]*batchInfoRep

// batchInfoRep is one repetition: in which batches it was asked, what each of
// its requests is about, and the result lines of those that are answered.
type batchInfoRep struct {
	BatchID  []string                    `json:"batch_id"`
	Requests map[string]batchInfoRequest `json:"requests"` // by custom_id, which is the request key
	Answers  []json.RawMessage           `json:"answers"`
}

type batchInfoRequest struct {
	Task    string `json:"task"`
	Cluster int    `json:"cluster"`
	Other   int    `json:"other,omitempty"`
	Rows    []int  `json:"rows,omitempty"`
}

// ExportBatchInfo writes batch_info_titles_{model_id}_layer{layer}.json and
// batch_info_eval_… of a study as it stands into a folder, answers inside, and
// returns the files. A second set of titles, judge or block of the same model
// has its labels behind the name.
func (o *Office) ExportBatchInfo(ctx context.Context, c *Compiled, p *graph.Plan, dir string) ([]string, error) {
	all, err := o.desk.Batches(ctx)
	if err != nil {
		return nil, err
	}
	ids := map[string]string{} // by intent
	for _, b := range all {
		ids[b.Intent] = b.ID
	}
	model := map[string]string{}
	for _, m := range c.materials {
		model[m.label] = m.id
	}
	files, owner := map[string]batchInfo{}, map[string]string{}
	for _, s := range p.Steps {
		n := s.Node
		kind := map[string]string{kindSubmitTitles.Name: "titles", kindSubmitEval.Name: "eval"}[n.Kind()]
		parts := strings.Split(n.Addr, "/")
		if kind == "" || s.State != graph.Cached || len(parts) < 4 {
			continue
		}
		rs, err := ReadAsked(o.store.Blobs(), s.Record, nil)
		if err != nil {
			return nil, fmt.Errorf("the requests of %s: %w; apply the study to make them again", n.Addr, err)
		}
		who := strings.Trim(strings.Join([]string{n.Attr("model"), n.Attr("titles"), n.Attr("judge")}, "-"), "-")
		name := fmt.Sprintf("batch_info_%s_%s_layer%s", kind, unsafe.ReplaceAllString(model[n.Attr("model")], "-"), n.Attr("layer"))
		if was, ok := owner[name]; ok && was != who {
			name += "_" + who
		}
		owner[name] = who
		if files[name] == nil {
			files[name] = batchInfo{}
		}
		if err := o.addInfo(ctx, files[name], parts[2], n.Attr("clusters"), rs, ids); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", " ")
		if err := enc.Encode(files[name]); err != nil {
			return out, err
		}
		path := filepath.Join(dir, name+".json")
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			return out, err
		}
		out = append(out, path)
	}
	return out, nil
}

// unsafe is what a file name should not hold.
var unsafe = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// addInfo adds the requests of one clustering.
func (o *Office) addInfo(ctx context.Context, info batchInfo, method, clusters string, rs []Asked, ids map[string]string) error {
	if info[method] == nil {
		info[method] = map[string]map[string]*batchInfoRep{}
	}
	if info[method][clusters] == nil {
		info[method][clusters] = map[string]*batchInfoRep{}
	}
	reps := info[method][clusters]
	keys := (&AskedBy{Asked: rs}).keys()
	at := make([]*batchInfoRep, len(rs))
	st, err := o.desk.Standings(ctx, keys)
	if err != nil {
		return err
	}
	for i, r := range rs {
		name := fmt.Sprintf("rep_%d", r.Rep)
		if reps[name] == nil {
			reps[name] = &batchInfoRep{BatchID: []string{}, Requests: map[string]batchInfoRequest{}, Answers: []json.RawMessage{}}
		}
		at[i] = reps[name]
		at[i].Requests[r.Key] = batchInfoRequest{r.Task, r.Cluster, r.Other, r.Rows}
		if id := ids[st[i].Intent]; id != "" && !slices.Contains(at[i].BatchID, id) {
			at[i].BatchID = append(at[i].BatchID, id)
		}
	}
	return o.desk.Export(ctx, keys, func(i int, line []byte) error {
		at[i].Answers = append(at[i].Answers, slices.Clone(line))
		return nil
	})
}

// ImportBatchInfo takes over the result lines that stand in a batch_info file,
// at whatever place. foreign counts those whose custom_id is no request key:
// they answer other wordings than ours, and cannot be tied to a request.
func (o *Office) ImportBatchInfo(ctx context.Context, p *graph.Plan, text []byte) (got Imported, foreign int, err error) {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	var walk func(raw json.RawMessage) error
	walk = func(raw json.RawMessage) error {
		var list []json.RawMessage
		var object map[string]json.RawMessage
		switch raw = bytes.TrimSpace(raw); {
		case len(raw) > 0 && raw[0] == '[':
			if err := json.Unmarshal(raw, &list); err != nil {
				return err
			}
		case len(raw) > 0 && raw[0] == '{':
			if err := json.Unmarshal(raw, &object); err != nil {
				return err
			}
			var id string
			if object["response"] != nil && json.Unmarshal(object["custom_id"], &id) == nil {
				if _, err := cache.ParseDigest(id); err != nil {
					foreign++
					return nil
				}
				var line bytes.Buffer
				if err := json.Compact(&line, raw); err != nil {
					return err
				}
				return enc.Encode(batch.Handed{Key: id, Line: line.String()})
			}
			for _, k := range slices.Sorted(maps.Keys(object)) {
				list = append(list, object[k])
			}
		}
		for _, v := range list {
			if err := walk(v); err != nil {
				return err
			}
		}
		return nil
	}
	if !json.Valid(text) {
		return got, 0, fmt.Errorf("it is not JSON")
	}
	if err := walk(text); err != nil {
		return got, foreign, err
	}
	got, err = o.ImportAnswers(ctx, p, &lines)
	return got, foreign, err
}
