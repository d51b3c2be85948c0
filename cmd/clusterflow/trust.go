package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"clusterflow/graph"
	"clusterflow/internal/batch"
	"clusterflow/tasks"
)

// A study is somebody else's file, and it names hosts that get text and
// variables whose value they get as a key. Each pair of the two is approved once
// by the user, in a file outside the study.

// pair is a host and the variable whose key it gets.
type pair struct{ host, keyEnv string }

func (p pair) String() string { return p.host + " " + cmp.Or(p.keyEnv, "?") }

// openAI is the pair that a study names when it names none. It counts as
// approved.
var openAI = pair{"api.openai.com", "OPENAI_API_KEY"}

// pairOf is the pair of a destination. The host has its port unless that is the
// scheme's own, and http:// before it where it would get the key unencrypted.
func pairOf(d graph.Destination) pair { return pair{hostOf(d.URL), d.KeyEnv} }

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	host := strings.ToLower(u.Host)
	if u.Scheme == "http" {
		return "http://" + strings.TrimSuffix(host, ":80")
	}
	return strings.TrimSuffix(host, ":443")
}

// approvals are the pairs that the user has approved.
type approvals struct {
	path  string // "" where there is no folder for settings
	pairs map[pair]bool
}

// approvals reads the user's file. A line is a host and a variable; what is no
// such line approves nothing.
func (a *app) approvals() (*approvals, error) {
	known := &approvals{pairs: map[pair]bool{openAI: true}}
	dir := a.getenv("CLUSTERFLOW_CONFIG_DIR")
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return known, nil
		}
		dir = filepath.Join(base, "clusterflow")
	}
	known.path = filepath.Join(dir, "approved-hosts")
	raw, err := os.ReadFile(known.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading which hosts may get keys: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) == 2 && !strings.HasPrefix(f[0], "#") {
			known.pairs[pair{f[0], f[1]}] = true
		}
	}
	return known, nil
}

// has reports whether a destination may get text and its key. This machine may.
func (k *approvals) has(d graph.Destination) bool {
	return k.pairs[pairOf(d)] || batch.Evaluator{BaseURL: d.URL}.Loopback()
}

// add approves pairs and keeps that.
func (k *approvals) add(pairs []pair) error {
	if k.path == "" {
		return errors.New("there is no folder to keep approved hosts in: set CLUSTERFLOW_CONFIG_DIR to one")
	}
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return fmt.Errorf("keeping which hosts may get keys: %w", err)
	}
	f, err := os.OpenFile(k.path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("keeping which hosts may get keys: %w", err)
	}
	var text strings.Builder
	if size, err := f.Seek(0, 2); err == nil && size == 0 {
		text.WriteString("# Hosts that clusterflow may send text to, each with the variable whose key it gets.\n")
	} else {
		text.WriteByte('\n') // somebody may have left the last line open
	}
	for _, p := range pairs {
		text.WriteString(p.String() + "\n")
	}
	_, err = f.WriteString(text.String())
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keeping which hosts may get keys: %w", err)
	}
	for _, p := range pairs {
		k.pairs[p] = true
	}
	return nil
}

// office is a new office that gives keys to approved hosts only.
func (a *app) office() (*tasks.Office, *approvals, error) {
	known, err := a.approvals()
	if err != nil {
		return nil, nil, err
	}
	office := tasks.NewOffice(a.getenv)
	office.SetTrust(known.has)
	return office, known, nil
}

// strangers are the destinations of what a plan would run that were never
// approved, one for each pair.
func (k *approvals) strangers(p *planned) []graph.Destination {
	var out []graph.Destination
	seen := map[pair]bool{}
	for _, s := range p.Steps {
		d := s.Node.Dest
		if s.State != graph.Cached && d != (graph.Destination{}) && !k.has(d) && !seen[pairOf(d)] {
			seen[pairOf(d)] = true
			out = append(out, d)
		}
	}
	return out
}

// warning says what a plan would have to ask, "" for nothing.
func (k *approvals) warning(p *planned) string {
	var lines []string
	for _, d := range k.strangers(p) {
		lines = append(lines, fmt.Sprintf("%s with the key in $%s was never approved; apply asks, or: clusterflow trust %s", d.URL, cmp.Or(d.KeyEnv, "?"), pairOf(d)))
	}
	return strings.Join(lines, "\n")
}

// approve makes sure that the user has approved every pair that a plan would
// send to. --trust approves the pairs of a host; --yes alone approves none.
func (a *app) approve(ctx context.Context, p *planned, known *approvals, f *applyFlags) error {
	for _, given := range f.trust {
		host := trustedHost(given)
		named := false
		var pairs []pair
		for _, n := range p.Graph.Nodes {
			if q := pairOf(n.Dest); n.Dest != (graph.Destination{}) && q.host == host {
				named = true
				if !known.has(n.Dest) && !slices.Contains(pairs, q) {
					pairs = append(pairs, q)
				}
			}
		}
		switch {
		case !named:
			return fmt.Errorf("--trust %s: the study sends nothing there; plan names its hosts", given)
		case len(pairs) == 0:
			continue
		}
		if err := known.add(pairs); err != nil {
			return err
		}
		for _, q := range pairs {
			fmt.Fprintf(a.err, "note: %s is approved for the key in $%s, for good: see clusterflow trust\n", q.host, q.keyEnv)
		}
	}
	strangers := known.strangers(p)
	if len(strangers) == 0 {
		return nil
	}
	var lines, commands []string
	var pairs []pair
	for _, d := range strangers {
		q := pairOf(d)
		pairs = append(pairs, q)
		lines = append(lines, fmt.Sprintf("  to %s, with the key in $%s", d.URL, cmp.Or(d.KeyEnv, "?")))
		commands = append(commands, "clusterflow trust "+q.String())
	}
	text := strings.Join(lines, "\n")
	if in, ok := a.in.(*os.File); !ok || f.yes || f.json || !isTerminal(in) {
		return fmt.Errorf("the study wants its sentences sent\n%s\nwhich you have never approved, and --yes does not; if you trust this host with that key: %s, or apply --trust %s",
			text, strings.Join(commands, "; "), hostOf(strangers[0].URL))
	}
	ok, err := a.agrees(ctx, fmt.Sprintf("The study wants its sentences and a key of yours sent\n%s\nThis was never approved. Your yes is kept in %s.", text, known.path))
	if err == nil && !ok {
		err = errors.New("nothing was sent; --only train runs what costs nothing")
	}
	if err != nil {
		return err
	}
	return known.add(pairs)
}

// trustedHost takes a host as a person writes it: a name, with a port, or an
// address.
func trustedHost(given string) string {
	if !strings.Contains(given, "://") {
		given = "https://" + given
	}
	return hostOf(given)
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// trustedPair checks a host and a variable that were given by hand. It repeats
// neither: one may be a key.
func trustedPair(host, variable string) (pair, error) {
	h := trustedHost(host)
	u, err := url.Parse("https://" + strings.TrimPrefix(h, "http://"))
	if err != nil || u.Hostname() == "" || strings.ContainsAny(h, " \t\n#@") {
		return pair{}, errors.New("the first argument is no host; give one such as api.example.org, or the study's base_url")
	}
	if !variableName.MatchString(variable) {
		return pair{}, errors.New("the second argument is no name of an environment variable; give the name, such as MY_KEY, never the key")
	}
	return pair{h, variable}, nil
}
