package cache

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// A record is one line of JSON, the same bytes in Badger and in the journal:
//
//	{"k":"<key, 64 hex>","c":"<CRC-32C, 8 hex>","r":{…}}
//
// Key and sum stand at fixed places, so that a journal is indexed and checked
// without parsing JSON. The sum covers the key's text and the bytes of "r".
const (
	lineOpen  = `{"k":"`
	lineSum   = `","c":"`
	lineBody  = `","r":`
	lineClose = `}`

	keyAt  = len(lineOpen)
	sumAt  = keyAt + 64 + len(lineSum)
	bodyAt = sumAt + 8 + len(lineBody)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type wireRecord struct {
	Address  string            `json:"a,omitempty"`
	Kind     string            `json:"t,omitempty"`
	Lines    [][]string        `json:"l,omitempty"` // label, value, origin unless empty
	Outputs  []wireOutput      `json:"o,omitempty"`
	Started  int64             `json:"b,omitempty"` // ns since 1970; 0 is the zero time
	Finished int64             `json:"e,omitempty"`
	Host     string            `json:"h,omitempty"`
	Backend  string            `json:"u,omitempty"`
	Info     map[string]string `json:"i,omitempty"`
	Why      string            `json:"w,omitempty"` // withdrawn
}

type wireOutput struct {
	Name   string  `json:"n"`
	Digest Digest  `json:"d"`
	Size   int64   `json:"s,omitempty"`
	Inline *[]byte `json:"i,omitempty"` // base64; nil when the content is a blob
}

// encodeRecord returns r as one line, without the newline. Text that is not
// UTF-8 comes back with U+FFFD in its place.
func encodeRecord(r *Record) ([]byte, error) {
	w := wireRecord{
		Address: r.Address, Kind: r.Kind,
		Started: wireTime(r.Started), Finished: wireTime(r.Finished),
		Host: r.Host, Backend: r.Backend, Info: r.Info, Why: r.Withdrawn,
	}
	for _, l := range r.Lines {
		f := []string{l.Label, l.Value}
		if l.Origin != "" {
			f = append(f, l.Origin)
		}
		w.Lines = append(w.Lines, f)
	}
	for _, o := range r.Outputs {
		wo := wireOutput{Name: o.Name, Digest: o.Digest, Size: o.Size}
		if o.Inline != nil {
			wo.Inline = &o.Inline
		}
		w.Outputs = append(w.Outputs, wo)
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(w); err != nil {
		return nil, fmt.Errorf("record of %s: %w", r.Address, err)
	}
	text := bytes.TrimSuffix(body.Bytes(), []byte("\n"))
	line := make([]byte, 0, bodyAt+len(text)+len(lineClose))
	line = append(line, lineOpen...)
	line = hex.AppendEncode(line, r.Key[:])
	sum := lineChecksum(line[keyAt:], text)
	line = append(line, lineSum...)
	line = hex.AppendEncode(line, []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
	line = append(line, lineBody...)
	line = append(line, text...)
	return append(line, lineClose...), nil
}

func lineChecksum(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
}

// checkLine returns the key of a line whose sum is right.
func checkLine(line []byte) (Digest, error) {
	if len(line) < bodyAt+len(lineClose)+2 ||
		string(line[:keyAt]) != lineOpen ||
		string(line[keyAt+64:sumAt]) != lineSum ||
		string(line[sumAt+8:bodyAt]) != lineBody ||
		string(line[len(line)-len(lineClose):]) != lineClose {
		return Digest{}, errors.New("not a record")
	}
	var key Digest
	var sum [4]byte
	if _, err := hex.Decode(key[:], line[keyAt:keyAt+64]); err != nil {
		return Digest{}, fmt.Errorf("key: %w", err)
	}
	if _, err := hex.Decode(sum[:], line[sumAt:sumAt+8]); err != nil {
		return Digest{}, fmt.Errorf("sum: %w", err)
	}
	want := uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
	if lineChecksum(line[keyAt:keyAt+64], lineText(line)) != want {
		return Digest{}, errors.New("its bytes do not match their sum")
	}
	return key, nil
}

func lineText(line []byte) []byte { return line[bodyAt : len(line)-len(lineClose)] }

// decodeRecord reads what encodeRecord wrote.
func decodeRecord(line []byte) (*Record, error) {
	key, err := checkLine(line)
	if err != nil {
		return nil, err
	}
	var w wireRecord
	if err := json.Unmarshal(lineText(line), &w); err != nil {
		return nil, err
	}
	r := &Record{
		Key: key, Address: w.Address, Kind: w.Kind,
		Started: recordTime(w.Started), Finished: recordTime(w.Finished),
		Host: w.Host, Backend: w.Backend, Info: w.Info, Withdrawn: w.Why,
	}
	if len(w.Lines) > 0 {
		r.Lines = make([]Line, len(w.Lines))
	}
	for i, f := range w.Lines {
		switch len(f) {
		case 3:
			r.Lines[i] = Line{f[0], f[1], f[2]}
		case 2:
			r.Lines[i] = Line{f[0], f[1], ""}
		default:
			return nil, fmt.Errorf("line %d has %d parts", i, len(f))
		}
	}
	if len(w.Outputs) > 0 {
		r.Outputs = make([]Output, len(w.Outputs))
	}
	for i, o := range w.Outputs {
		r.Outputs[i] = Output{Name: o.Name, Digest: o.Digest, Size: o.Size}
		if o.Inline != nil {
			r.Outputs[i].Inline = append([]byte{}, *o.Inline...)
		}
	}
	return r, nil
}

// check refuses records that could not be answered from later.
func (r *Record) check() error {
	if r.Key.IsZero() {
		return fmt.Errorf("record of %s has no key", r.Address)
	}
	for _, o := range r.Outputs {
		switch {
		case o.Digest.IsZero():
			return fmt.Errorf("record of %s: output %s has no digest", r.Address, o.Name)
		case o.Inline == nil:
		case len(o.Inline) > InlineLimit:
			return fmt.Errorf("record of %s: output %s has %d bytes in the record, the limit is %d: make it a blob", r.Address, o.Name, len(o.Inline), InlineLimit)
		case int64(len(o.Inline)) != o.Size || Sum(o.Inline) != o.Digest:
			return fmt.Errorf("record of %s: output %s: its %d bytes are not the %d bytes of digest %s", r.Address, o.Name, len(o.Inline), o.Size, o.Digest.Short())
		}
	}
	return nil
}

func wireTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func recordTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
