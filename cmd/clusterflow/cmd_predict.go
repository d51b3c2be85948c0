package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"clusterflow/cache"
	"clusterflow/graph"
	"clusterflow/internal/linalg"
	"clusterflow/tasks"
)

// predictFlags say what is to be labelled, by which model, and where to.
type predictFlags struct {
	study         studyFlags
	activations   string
	model, method string
	out           string
	jobs          int
}

func (a *app) predictCommand() *cobra.Command {
	var f predictFlags
	c := &cobra.Command{
		Use:   "predict [STUDY] ADDRESS --activations FILE",
		Short: "Label new activations by a trained clustering",
		Long: `Label new activations by a trained clustering: the node at ADDRESS of a study, such
as r1/12/gmm/20/train, or with --model a file that "show --export" wrote. The rows are
raw activations of the same layer; they are centred and scaled as the study's were.`,
		Args: func(c *cobra.Command, args []string) error { return f.arguments(c, args) },
		RunE: func(c *cobra.Command, args []string) error {
			write, err := labelWriter(f.out)
			if err != nil {
				return err
			}
			m, from, err := a.model(c, args, &f)
			if err != nil {
				return err
			}
			x, err := linalg.ReadMatrixFile(f.activations)
			if err != nil {
				return err
			}
			labels, err := m.Predict(x, f.jobs)
			if err != nil {
				return fmt.Errorf("%s, by %s: %w", f.activations, from, err)
			}
			if f.out == "" {
				return write(a.out, labels)
			}
			if err := createFile(f.out, func(w io.Writer) error { return write(w, labels) }); err != nil {
				return fmt.Errorf("writing labels: %w", err)
			}
			fmt.Fprintf(a.out, "%s in %s by %s → %s\n", count(len(labels), "row", "rows"), count(m.Clusters, "cluster", "clusters"), m.Method, f.out)
			return nil
		},
	}
	f.study.add(c)
	c.Flags().StringVar(&f.activations, "activations", "", "the rows, a `file` of activations: .npy, .npz or .safetensors")
	c.Flags().StringVar(&f.out, "out", "", "write the labels to this `file`: .npy (int32), .csv or .jsonl (row, label); default: one a line")
	c.Flags().StringVar(&f.model, "model", "", "a model.safetensors `file` in place of a study's node")
	c.Flags().StringVar(&f.method, "method", "", "the `method` of a --model that does not name its own")
	c.Flags().IntVar(&f.jobs, "jobs", runtime.NumCPU(), "threads; the result does not depend on them")
	return c
}

func (f *predictFlags) arguments(c *cobra.Command, args []string) error {
	switch {
	case f.model == "" && f.method != "":
		return errors.New("--method goes with --model; a node knows its method")
	case f.model != "" && len(args) > 0:
		return fmt.Errorf("--model %s takes the place of a study and an address; leave out %s", f.model, strings.Join(args, " "))
	case f.model == "" && (len(args) == 0 || len(args) > 2):
		return errors.New("predict takes a study and the address of a clustering, such as r1/12/gmm/20/train, or --model FILE")
	case f.activations == "":
		return errors.New("predict needs --activations FILE, the rows to label (.npy, .npz or .safetensors)")
	case f.jobs < 1:
		return fmt.Errorf("--jobs %d: at least 1", f.jobs)
	}
	return nil
}

// model loads the model that the arguments name, and says how they do.
func (a *app) model(c *cobra.Command, args []string, f *predictFlags) (*tasks.Model, string, error) {
	if f.model != "" {
		raw, err := os.ReadFile(f.model)
		if err != nil {
			return nil, "", err
		}
		m, err := tasks.LoadModel(raw, f.method)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", f.model, err)
		}
		return m, f.model, nil
	}
	if len(args) == 1 {
		study, err := onlyStudy(c, args[0])
		if err != nil {
			return nil, "", err
		}
		args = []string{study, args[0]}
	}
	p, known, err := a.look(c.Context(), args[0], &f.study)
	if err != nil {
		return nil, "", err
	}
	addr := args[1]
	if _, err := p.Step(strings.TrimSuffix(addr, "/") + "/train"); err == nil { // as reports write it
		addr = strings.TrimSuffix(addr, "/") + "/train"
	}
	s, err := findStep(p, args[0], addr)
	if err != nil {
		return nil, "", err
	}
	m, err := modelOf(s, known.Blobs(), args[0])
	return m, s.Node.Addr, err
}

// onlyStudy is the one study of this folder.
func onlyStudy(c *cobra.Command, addr string) (string, error) {
	found, _ := filepath.Glob("*.hcl")
	if len(found) == 1 {
		return found[0], nil
	}
	return "", fmt.Errorf("here are %d study files, so %s %s needs to be told which: %s STUDY %s", len(found), c.Name(), addr, c.Name(), addr)
}

// modelOf loads the model of a node that is up to date.
func modelOf(s *graph.Step, blobs *cache.Blobs, study string) (*tasks.Model, error) {
	addr := s.Node.Addr
	if s.Node.Kind() != "train" {
		return nil, fmt.Errorf("%s is no clustering but a node of kind %s; the address of a clustering ends in /train", addr, s.Node.Kind())
	}
	if s.State != graph.Cached {
		return nil, fmt.Errorf("%s has not been trained as the study stands (%s); run clusterflow apply %s --target '%s' first", addr, stateName(s.State), study, addr)
	}
	o, ok := s.Record.Output("model")
	if !ok {
		return nil, fmt.Errorf("%s has no model among its outputs", addr)
	}
	content, err := tasks.OpenOutput(blobs, o)
	if err != nil {
		return nil, fmt.Errorf("the model of %s: %w; apply the study to make it again", addr, err)
	}
	defer content.Close()
	raw, err := io.ReadAll(content)
	if err != nil {
		return nil, fmt.Errorf("the model of %s: %w", addr, err)
	}
	m, err := tasks.LoadModel(raw, "")
	if err != nil {
		return nil, fmt.Errorf("the model of %s: %w", addr, err)
	}
	return m, nil
}

// labelWriter writes labels in the form that the ending of a file asks for.
func labelWriter(out string) (func(io.Writer, []int32) error, error) {
	switch ext := strings.ToLower(filepath.Ext(out)); {
	case out == "":
		return labelLines("", func(_, label string) string { return label }), nil
	case ext == ".npy":
		return linalg.WriteNPYInt32, nil
	case ext == ".csv":
		return labelLines("row,label\n", func(row, label string) string { return row + "," + label }), nil
	case ext == ".jsonl":
		return labelLines("", func(row, label string) string { return `{"row":` + row + `,"label":` + label + `}` }), nil
	}
	return nil, fmt.Errorf("--out %s: labels are written to .npy, .csv and .jsonl files", out)
}

func labelLines(head string, line func(row, label string) string) func(io.Writer, []int32) error {
	return func(w io.Writer, labels []int32) error {
		b := bufio.NewWriter(w)
		b.WriteString(head) // the first error stays and is returned by Flush
		for i, l := range labels {
			b.WriteString(line(strconv.Itoa(i), strconv.Itoa(int(l))))
			b.WriteByte('\n')
		}
		return b.Flush()
	}
}

// createFile writes a file under a name of its own first, so that there is
// never half of it.
func createFile(path string, write func(io.Writer) error) error {
	temp := path + ".new"
	f, err := os.Create(temp)
	if err != nil {
		return err
	}
	if err = errors.Join(write(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, path)
}
