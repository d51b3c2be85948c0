package batchd

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func faulty(t *testing.T, text string) client {
	t.Helper()
	f, err := ParseFaults(text)
	if err != nil {
		t.Fatal(err)
	}
	return serveWith(t, Options{Judge: echoed, Faults: f}, nil)
}

// TestFaults sees that each fault does what its name says: a test of a client
// under a fault that is none proves nothing.
func TestFaults(t *testing.T) {
	c := faulty(t, "lose-create=1")
	file := c.upload(200, "batch", "in.jsonl", input(1))
	resp, err := http.Post(c.url+"/v1/batches", "application/json", strings.NewReader(
		`{"input_file_id":"`+file["id"].(string)+`","endpoint":"/v1/chat/completions","completion_window":"24h"}`))
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadGateway {
			t.Errorf("a lost reply has status %d", resp.StatusCode)
		}
	}
	if list := c.call(200, "GET", "/v1/batches", "")["data"].([]any); len(list) != 1 {
		t.Errorf("%d batches after a create call whose reply was lost", len(list))
	}

	c = faulty(t, "late-list=200ms,half-expired,twice-lines")
	id := c.create(input(10))
	if list := c.call(200, "GET", "/v1/batches", "")["data"].([]any); len(list) != 0 {
		t.Error("a late list shows the batch at once")
	}
	b := c.wait(id, "expired")
	if counts := b["request_counts"].(map[string]any); counts["completed"] != 5.0 || counts["failed"] != 5.0 {
		t.Errorf("half of 10 requests: %v", counts)
	}
	_, out := c.do("GET", "/v1/files/"+b["output_file_id"].(string)+"/content", nil, "")
	if n := strings.Count(string(out), "\n"); n != 10 {
		t.Errorf("5 answers in %d lines", n)
	}
	c.wait(c.create(input(10)), "completed") // each expires once
	for len(c.call(200, "GET", "/v1/batches", "")["data"].([]any)) < 2 {
		time.Sleep(time.Millisecond)
	}

	if status, _ := faulty(t, "no-list").do("GET", "/v1/batches", nil, ""); status != http.StatusNotFound {
		t.Errorf("no list: %d", status)
	}

	c = faulty(t, "storm=1")
	seen := map[int]bool{}
	for range 100 {
		status, _ := c.do("GET", "/v1/models", nil, "")
		seen[status] = true
	}
	if len(seen) != 2 || !seen[http.StatusTooManyRequests] || !seen[http.StatusInternalServerError] {
		t.Errorf("a storm has the statuses %v", seen)
	}
	for _, bad := range []string{"", "rain", "storm", "storm=x", "late-list=5"} {
		if _, err := ParseFaults(bad); err == nil {
			t.Errorf("%q is taken for faults", bad)
		}
	}
}
