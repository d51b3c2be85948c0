package batch

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
)

func TestMask(t *testing.T) {
	const key = "sk-abcabcabd-0123"
	for _, read := range []func(io.Reader) io.Reader{
		func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader,
	} {
		for _, text := range []string{
			"", key, "x" + key, key + "x", key + key, key[:16], "sk-abc" + key + "sk-abcabcabd-012", strings.Repeat("{sk-} ", 20000) + key + "!",
			strings.Repeat("y", 32<<10-5) + key + strings.Repeat("z", 32<<10),
		} {
			req := httptest.NewRequest("GET", "/", nil)
			req.Header.Set("Authorization", "Bearer "+key)
			got, err := io.ReadAll(mask(req, io.NopCloser(read(strings.NewReader(text)))))
			if want := strings.ReplaceAll(text, key, strings.Repeat("*", len(key))); err != nil || string(got) != want {
				t.Errorf("%.40q (%d bytes): %.40q (%d bytes), %v", text, len(text), got, len(got), err)
			}
		}
	}
	req := httptest.NewRequest("GET", "/", nil)
	req.Header.Set("Authorization", "Bearer EMPTY")
	if got, _ := io.ReadAll(mask(req, io.NopCloser(strings.NewReader("EMPTY set")))); string(got) != "EMPTY set" {
		t.Errorf("a word was taken for a secret: %q", got)
	}
}

// TestRedirects: a host that was approved cannot pass the text or the key on.
func TestRedirects(t *testing.T) {
	var got []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.Header.Get("Authorization")+" "+string(body))
	}))
	defer other.Close()
	first := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer first.Close()
	for _, method := range []string{"POST", "GET"} {
		req, err := http.NewRequest(method, first.URL, strings.NewReader(map[string]string{"POST": "sentences"}[method]))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer sk-of-the-first-host")
		resp, err := doer{newHTTPClient()}.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if (resp.StatusCode == 200) != (method == "GET") {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
	if len(got) != 1 || got[0] != "GET  " {
		t.Errorf("the other host got %q", got)
	}
}
