package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Run is the state of a study's last run, kept for readers in
// runs/<study id>.json.
type Run struct {
	StudyID   string                `json:"study_id"`
	Study     string                `json:"study,omitempty"`
	File      string                `json:"file,omitempty"`
	Owner     Owner                 `json:"owner,omitzero"`
	Heartbeat time.Time             `json:"heartbeat,omitzero"` // set by SaveRun
	Started   time.Time             `json:"started,omitzero"`
	Finished  time.Time             `json:"finished,omitzero"`
	State     string                `json:"state,omitempty"` // running, waiting, done, failed, interrupted
	Nodes     map[string]*NodeState `json:"nodes,omitempty"` // by address
	Batches   []BatchState          `json:"batches,omitempty"`
	Bills     []Bill                `json:"bills,omitempty"` // of all runs of the study
	// SecondsLeft is an estimate of the time to the end, by the heartbeat; 0 is
	// not known.
	SecondsLeft float64 `json:"seconds_left,omitempty"`
	Message     string  `json:"message,omitempty"`

	// Settled stands for the addresses, kinds and keys of all nodes at the end of
	// a run after which every node was done; zero after any other.
	Settled Digest `json:"settled,omitzero"`

	// NodesFile names the file beside this one that holds the nodes of a large
	// run. It is written when they change, this one at every heartbeat.
	NodesFile string `json:"nodes_file,omitempty"`

	later laterNodes // where the nodes are while they have not been read
}

// Node is what the run knows of the node at an address, nil when it knows
// nothing. It reads the nodes of a run that ReadRun gave when one is first
// asked for.
func (r *Run) Node(addr string) *NodeState {
	r.LoadNodes()
	return r.Nodes[addr]
}

// KeepNodes makes the nodes of r those of an earlier run that ReadRun gave, as
// long as they have not been read; false if they have.
func (r *Run) KeepNodes(from *Run) bool {
	if from.later.none() {
		return false
	}
	r.Nodes, r.later, r.NodesFile = nil, from.later, from.NodesFile
	return true
}

// LoadNodes fills Nodes in a run that ReadRun gave.
func (r *Run) LoadNodes() {
	if r.later.none() {
		return
	}
	if r.loadNodes() != nil { // what is known of the last run is lost; results are not
		r.Nodes, r.Settled = map[string]*NodeState{}, Digest{}
	}
}

func (r *Run) loadNodes() error {
	text, err := r.later.read(r.NodesFile)
	if err == nil {
		r.Nodes, err = decodeNodes(text)
	}
	r.later, r.NodesFile = laterNodes{}, ""
	return err
}

// NodeState is what a run knows of one node.
type NodeState struct {
	Key       Digest    `json:"key,omitzero"` // of the last success
	Kind      string    `json:"kind,omitempty"`
	State     string    `json:"state,omitempty"` // done, running, waiting, failed, pending, cached
	Error     string    `json:"error,omitempty"`
	FailedKey Digest    `json:"failed_key,omitzero"` // of the last failure
	WaitKey   Digest    `json:"wait_key,omitzero"`   // while it waits for something outside, also between looks
	Started   time.Time `json:"started,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
	Done      int64     `json:"done,omitempty"` // progress, of Total
	Total     int64     `json:"total,omitempty"`
	Note      string    `json:"note,omitempty"`
	Until     time.Time `json:"until,omitzero"` // when a waiting node is asked again
}

// BatchState is what a run knows of one batch at an evaluator.
type BatchState struct {
	ID        string    `json:"id"`
	Evaluator string    `json:"evaluator,omitempty"`
	Status    string    `json:"status,omitempty"`
	Requests  int       `json:"requests,omitempty"`
	Completed int       `json:"completed,omitempty"`
	Failed    int       `json:"failed,omitempty"`
	Created   time.Time `json:"created,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
	Nodes     int       `json:"nodes,omitempty"`
	MostUSD   float64   `json:"most_usd,omitempty"` // what it can cost
	UsedUSD   float64   `json:"used_usd,omitempty"` // what it has cost, once it has ended
}

// Bill is what a study's requests to one evaluator have come to.
type Bill struct {
	Evaluator  string  `json:"evaluator"`
	Model      string  `json:"model"`
	Requests   int     `json:"requests"` // sent
	Answered   int     `json:"answered"`
	Counted    int64   `json:"prompt_tokens_counted"` // of the answered, before they were sent
	Prompt     int64   `json:"prompt_tokens"`         // as the server counted them
	Completion int64   `json:"completion_tokens"`
	SpentUSD   float64 `json:"spent_usd"`
	FlightUSD  float64 `json:"in_flight_usd"` // what is out can come to, at most
}

// heartbeatLimit is how old the heartbeat of a process that cannot be looked up
// from here may be.
const heartbeatLimit = 2 * time.Minute

// Alive reports whether the process that wrote r is still at work: by its
// number and start time where it runs on this host, else by the age of its
// heartbeat, of which waiting runs too must write one within two minutes.
func (r *Run) Alive() bool { return r.aliveAt(time.Now()) }

func (r *Run) aliveAt(now time.Time) bool {
	if !r.Finished.IsZero() {
		return false
	}
	switch r.Owner.process() {
	case processAlive:
		return true
	case processDead:
		return false
	}
	age := now.Sub(r.Heartbeat)
	return age < heartbeatLimit && age > -heartbeatLimit
}

func runPath(dir, studyID string) (string, error) {
	if studyID == "" || len(studyID) > 200 || strings.Trim(studyID, runIDLetters) != "" || studyID[0] == '.' {
		return "", fmt.Errorf("study id %.80q cannot name a file: use letters, digits, '-', '_' and '.'", studyID)
	}
	return filepath.Join(dir, "runs", studyID+".json"), nil
}

const runIDLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// saveRun writes r with a new heartbeat.
func saveRun(dir string, r *Run, owner Owner, now time.Time) error {
	path, err := runPath(dir, r.StudyID)
	if err != nil {
		return err
	}
	c := *r
	c.Heartbeat = now
	if c.Owner.PID == 0 {
		c.Owner = owner
	}
	return writeRun(dir, path, &c)
}

// loadRun reads the state of a study's last run; nil when it never ran here.
func loadRun(dir, studyID string) (*Run, error) {
	r, err := readRun(dir, studyID)
	if err != nil || r == nil || r.later.none() {
		return r, err
	}
	if err := r.loadNodes(); err != nil {
		path, _ := runPath(dir, studyID)
		return nil, damagedRun(path, err)
	}
	return r, nil
}

func damagedRun(path string, err error) error {
	return fmt.Errorf("reading the last run: %s is damaged (%w): remove it; results are not touched by that, only what is known of the last run", path, err)
}

// readRun is loadRun, but leaves the nodes to LoadNodes.
func readRun(dir, studyID string) (*Run, error) {
	path, err := runPath(dir, studyID)
	if err != nil {
		return nil, err
	}
	for again := 0; ; again++ {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the last run: %w", err)
		}
		r := &Run{}
		if err := decodeRunHead(text, r); err != nil {
			return nil, damagedRun(path, err)
		}
		if r.StudyID != studyID {
			return nil, fmt.Errorf("reading the last run: %s is that of study %q: remove it, or give it its name back", path, r.StudyID)
		}
		if r.NodesFile == "" {
			return r, nil
		}
		err = r.openNodes(dir)
		switch {
		case err == nil:
			return r, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, damagedRun(path, err)
		case again == 4: // not because an apply has replaced it meanwhile
			return nil, damagedRun(path, err)
		}
	}
}

// loadRuns reads the last runs of all studies, by study id.
func loadRuns(dir string) ([]*Run, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "runs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the last runs: %w", err)
	}
	var runs []*Run
	var errs []error
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || id == "" || id[0] == '.' {
			continue
		}
		r, err := loadRun(dir, id)
		if err != nil {
			errs = append(errs, err)
		} else if r != nil {
			runs = append(runs, r)
		}
	}
	return runs, errors.Join(errs...)
}
