package intercept

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/mayfly-vm/mayfly/internal/network/audit"
)

// modifyResponse is httputil.ReverseProxy.ModifyResponse. What a host says of the secrets
// that it is sent, in whatever answer, the guest does not learn.
func modifyResponse(resp *http.Response) error {
	if resp.StatusCode < 100 || resp.StatusCode > 999 {
		return fmt.Errorf("the host answers with the status %d", resp.StatusCode) // which a server does not write
	}
	e := exchangeOf(resp.Request)
	conn, isConn := resp.Body.(io.ReadWriteCloser)
	upgrade := resp.StatusCode == http.StatusSwitchingProtocols
	if s := e.response.scrubber; s != nil {
		if err := decode(resp); err != nil {
			return err
		}
		s.header(resp.Header)
		s.header(resp.Trailer) // its names, which are said before the body
		if upgrade {
			// Frames that an extension has changed could not be searched.
			resp.Header.Del("Sec-Websocket-Extensions")
			resp.Body = &frames{ReadCloser: resp.Body, stream: stream{scrubber: s}, failed: e.cut}
		} else {
			resp.Body = &scrubbedBody{ReadCloser: resp.Body, stream: stream{scrubber: s}, atEnd: func() { s.header(resp.Trailer) }}
		}
	}
	if upgrade {
		e.response.status = resp.StatusCode // nobody writes it as one
		if isConn {
			resp.Body = &upgraded{ReadCloser: resp.Body, host: conn, up: &e.up, down: &e.response.down}
		}
	}
	return nil
}

// decode makes a body readable that was compressed against our wish: such a host serves a
// file that it has no other form of.
func decode(resp *http.Response) error {
	if resp.Body == http.NoBody || resp.ContentLength == 0 || resp.Request.Method == http.MethodHead ||
		resp.StatusCode == http.StatusNotModified || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	switch encoding := strings.ToLower(strings.Join(resp.Header["Content-Encoding"], ",")); encoding {
	case "gzip", "x-gzip":
		resp.Header.Del("Content-Encoding")
		resp.Header.Del("Content-Length")
		resp.ContentLength = -1
		resp.Body = &gunzipped{body: resp.Body}
	case "br", "compress", "deflate", "x-compress", "zstd":
		return fmt.Errorf("the host answers in the encoding %s, in which secrets cannot be searched for", encoding)
	}
	return nil
}

// gunzipped is a body that was compressed. It reads the first bytes only when asked.
type gunzipped struct {
	body io.ReadCloser
	r    *gzip.Reader
}

func (g *gunzipped) Read(b []byte) (int, error) {
	if g.r == nil {
		r, err := gzip.NewReader(g.body)
		if err != nil {
			return 0, err
		}
		g.r = r
	}
	return g.r.Read(b)
}

func (g *gunzipped) Close() error { return g.body.Close() }

// upgraded is a connection to a host that is not HTTP's any more. It counts what it
// carries.
type upgraded struct {
	io.ReadCloser // without the values of secrets
	host          io.ReadWriteCloser
	up, down      *atomic.Int64
}

func (u *upgraded) Read(b []byte) (int, error) {
	n, err := u.ReadCloser.Read(b)
	u.down.Add(int64(n))
	return n, err
}

func (u *upgraded) Write(b []byte) (int, error) {
	n, err := u.host.Write(b)
	u.up.Add(int64(n))
	return n, err
}

// CloseWrite passes the end of one direction on.
func (u *upgraded) CloseWrite() error {
	if half, ok := u.host.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// header replaces values in a header's values, and takes out headers that have one in
// their name, which has no case.
func (s *scrubber) header(h http.Header) {
	for name, values := range h {
		lower := []byte(strings.ToLower(name))
		if slices.ContainsFunc(s.patterns, func(p pattern) bool { return bytes.Contains(lower, bytes.ToLower(p.find)) }) {
			delete(h, name)
			continue
		}
		for i, v := range values {
			values[i] = s.text(v)
		}
	}
}

// text returns v without values.
func (s *scrubber) text(v string) string {
	t := stream{scrubber: s}
	if !t.add([]byte(v)) {
		return v
	}
	return string(t.out)
}

// stream replaces values in a text that comes in pieces. A value that begins or ends in
// another one leaves nothing of either: what is searched is always the text as it came.
type stream struct {
	*scrubber
	came, out []byte // not given out yet: as it came, and as it goes out
	covered   []bool // what of it was replaced; nil for nothing
}

// add takes a piece, and reports whether a value was found.
func (t *stream) add(b []byte) (found bool) {
	t.came = append(t.came, b...)
	t.out = append(t.out, b...)
	if t.covered != nil {
		t.covered = append(t.covered, make([]bool, len(b))...)
	}
	// The longest come first, and keep what they have covered.
	for _, p := range t.patterns {
		for at := 0; ; {
			n := bytes.Index(t.came[at:], p.find)
			if n < 0 {
				break
			}
			at += n
			if t.covered == nil {
				t.covered = make([]bool, len(t.came))
			}
			for i := range p.find {
				if !t.covered[at+i] {
					t.covered[at+i], t.out[at+i], found = true, p.instead[i], true
				}
			}
			at++
		}
	}
	return found
}

// ready returns how much may be given out: all but what could be the beginning of a
// value.
func (t *stream) ready() int {
	longest := len(t.came)
	for begin := max(0, len(t.came)-t.longest+1); begin < len(t.came); begin++ {
		rest := t.came[begin:]
		if !t.begins[rest[0]] {
			continue
		}
		if slices.ContainsFunc(t.patterns, func(p pattern) bool { return len(p.find) > len(rest) && bytes.HasPrefix(p.find, rest) }) {
			longest = begin
			break
		}
	}
	return longest
}

// drop forgets n bytes that were given out.
func (t *stream) drop(n int) {
	t.came = append(t.came[:0], t.came[n:]...)
	t.out = append(t.out[:0], t.out[n:]...)
	if t.covered != nil {
		t.covered = append(t.covered[:0], t.covered[n:]...)
		if !slices.Contains(t.covered, true) {
			t.covered = nil
		}
	}
}

// scrubBuffer is what is read of a body at once, in bytes. It is held three times.
const scrubBuffer = 16 << 10

// scrubbedBody is a body without the values. It holds nothing back but what could be the
// beginning of one.
type scrubbedBody struct {
	io.ReadCloser
	stream
	atEnd func()
	found func() // called when a value is found; nil for nobody

	buf  []byte
	safe int   // how much may be given out
	err  error // what comes after it
}

func (b *scrubbedBody) Read(p []byte) (int, error) {
	for b.safe == 0 {
		if b.err != nil {
			return 0, b.err
		}
		if b.buf == nil {
			b.buf = make([]byte, scrubBuffer)
		}
		n, err := b.ReadCloser.Read(b.buf)
		if b.add(b.buf[:n]) && b.found != nil {
			b.found()
		}
		b.safe = b.ready()
		if err != nil {
			b.err, b.safe = err, len(b.came)
			b.atEnd()
		}
	}
	n := copy(p, b.out[:b.safe])
	b.safe -= n
	b.drop(n)
	return n, nil
}

// body returns a request's body without placeholders. No place is in a body: what stands
// there for a secret is of no use to its host, and publishes no more than a placeholder.
// It is a note in the record.
func (f *filling) body(r *http.Request) io.ReadCloser {
	s := newPatterns()
	for _, own := range f.own {
		for _, placeholder := range own.Placeholders() {
			s.replace(placeholder, strings.Repeat("*", len(placeholder)))
		}
	}
	e := f.exchange
	return &scrubbedBody{
		ReadCloser: r.Body, stream: stream{scrubber: s.sorted()}, atEnd: func() {},
		found: func() { e.note(audit.Blanked) },
	}
}

// errFrames ends a connection whose frames cannot be searched.
var errFrames = errors.New("frames of WebSocket that no secret can be searched for in")
