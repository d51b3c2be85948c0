package batch

import (
	"bytes"
	"io"
	"net/http"
	"strings"
)

// minSecret is the length from which a key is taken for a secret. Local servers
// are given words such as EMPTY, which may well stand in an answer.
const minSecret = 12

// masked is a reply in which stars stand for the key that was sent: some
// servers quote it in their errors, and replies are stored as they come.
type masked struct {
	io.ReadCloser
	key  []byte
	buf  []byte // read, not yet handed on
	free int    // so much of buf is sure to hold no part of a key
	err  error  // of the last read
}

// mask hides the key that the request carried from whoever reads the reply.
func mask(req *http.Request, body io.ReadCloser) io.ReadCloser {
	key := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	if len(key) < minSecret {
		return body
	}
	return &masked{ReadCloser: body, key: []byte(key)}
}

func (m *masked) Read(p []byte) (int, error) {
	for m.free == 0 {
		if m.err != nil {
			return 0, m.err
		}
		m.fill()
	}
	n := copy(p, m.buf[:m.free])
	m.buf, m.free = m.buf[n:], m.free-n
	return n, nil
}

// fill reads on and replaces keys. A rest that may be the beginning of one is
// kept back until more is known.
func (m *masked) fill() {
	rest := len(m.buf)
	m.buf = append(make([]byte, 0, rest+32<<10), m.buf...)
	n, err := m.ReadCloser.Read(m.buf[rest:cap(m.buf)])
	m.buf, m.err = m.buf[:rest+n], err
	for at := 0; ; {
		i := bytes.Index(m.buf[at:], m.key)
		if i < 0 {
			break
		}
		at += i
		copy(m.buf[at:], bytes.Repeat([]byte("*"), len(m.key)))
	}
	m.free = len(m.buf)
	if m.err == nil {
		m.free = max(0, len(m.buf)-len(m.key)+1)
	}
}

// newHTTPClient is the client for evaluators. It follows no redirect with text,
// and hands the key to nobody but the host that it was meant for: a study's user
// approved that one.
func newHTTPClient() *http.Client {
	return &http.Client{
		Transport: http.DefaultTransport.(*http.Transport).Clone(),
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.Method != http.MethodGet || len(via) >= 10 {
				return http.ErrUseLastResponse
			}
			if from := via[0].URL; req.URL.Scheme != from.Scheme || req.URL.Host != from.Host {
				req.Header.Del("Authorization")
			}
			return nil
		},
	}
}
