package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"clusterflow/cache"
	"clusterflow/graph"
)

// notice is what on_complete's address gets, by POST, when an apply that did
// something has come to an end. It holds numbers and names, no text of the data.
type notice struct {
	Study    string   `json:"study"`
	File     string   `json:"file"`
	State    string   `json:"state"` // done or failed
	Host     string   `json:"host"`
	Ran      int      `json:"ran"`
	Failed   int      `json:"failed"`
	Blocked  int      `json:"blocked"`
	Seconds  float64  `json:"seconds"`
	SpentUSD float64  `json:"spent_usd"` // by the study so far
	Errors   []string `json:"errors,omitempty"`
	Report   string   `json:"report,omitempty"`
	Text     string   `json:"text"` // the same in words, as chat services show it
}

// hookTries is how often a notice is sent until an address takes it.
const hookTries = 3

// tell sends the notice of a run that has ended. That it cannot be sent is said
// and changes nothing about the run.
func (a *app) tell(ctx context.Context, p *planned, sum *graph.Summary, page string, bills []cache.Bill) {
	to := p.compiled.Study.OnComplete.V
	if to == "" || sum.Waiting+sum.Pending > 0 || sum.Ran+sum.Failed == 0 {
		return
	}
	if !p.trust.has(hookOf(to)) {
		fmt.Fprintf(a.err, "note: on_complete (%s) names a host that you have never approved, so it is not told: clusterflow trust %s\n", p.compiled.Study.OnComplete.Origin(), pairOf(hookOf(to)))
		return
	}
	n := notice{
		Study: p.compiled.Study.Name.V, File: p.compiled.Study.File, State: "done", Ran: sum.Ran, Failed: sum.Failed, Blocked: sum.Blocked,
		Seconds: sum.Elapsed.Seconds(), Report: page,
	}
	n.Host, _ = os.Hostname()
	if sum.Failed > 0 {
		n.State = "failed"
	}
	for _, b := range bills {
		n.SpentUSD += b.SpentUSD
	}
	for _, f := range sum.Failures {
		n.Errors = append(n.Errors, firstLine(f.Err.Error()))
	}
	n.Text = fmt.Sprintf("%s is %s: %s run, %d failed, in %s", n.Study, n.State, count(n.Ran, "node", "nodes"), n.Failed, elapsed(sum.Elapsed))
	if text := spentText(bills); text != "" {
		n.Text += "; " + text
	}
	if err := post(ctx, to, n); err != nil {
		fmt.Fprintf(a.err, "note: on_complete (%s): %v\n", p.compiled.Study.OnComplete.Origin(), err)
	}
}

// hookOf is an address of on_complete as a destination that can be approved.
func hookOf(to string) graph.Destination { return graph.Destination{URL: to, KeyEnv: "on_complete"} }

// post sends v as JSON, again after a while if the server has trouble.
func post(ctx context.Context, to string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 10 * time.Second}
	for try := 1; ; try++ {
		again, err := postOnce(ctx, &client, to, body)
		if err == nil || !again || try == hookTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(try) * 500 * time.Millisecond):
		}
	}
}

// postOnce makes one call; its errors name the host alone, because addresses of
// chat services are secrets.
func postOnce(ctx context.Context, client *http.Client, to string, body []byte) (again bool, err error) {
	host := to
	if u, err := url.Parse(to); err == nil {
		host = u.Host
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return false, fmt.Errorf("%s cannot be told", host)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		var whole *url.Error
		if errors.As(err, &whole) {
			err = whole.Err
		}
		return true, fmt.Errorf("%s could not be told: %w", host, err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode/100 == 2 {
		return false, nil
	}
	return resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests, fmt.Errorf("%s could not be told: %s", host, resp.Status)
}
