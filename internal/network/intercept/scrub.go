package intercept

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/mayfly-vm/mayfly/internal/network/secret"
)

// modifyResponse is httputil.ReverseProxy.ModifyResponse. What a host says of the secrets
// that it is sent, in whatever answer, the guest does not learn.
func modifyResponse(resp *http.Response) error {
	e := exchangeOf(resp.Request)
	conn, isConn := resp.Body.(io.ReadWriteCloser)
	if s := e.response.scrubber; s != nil {
		s.header(resp.Header)
		// Whatever Content-Encoding says of it: who sends something compressed
		// against our wish does no harm, and who only says so gains nothing.
		resp.Body = &scrubbedBody{ReadCloser: resp.Body, scrubber: s, atEnd: func() { s.header(resp.Trailer) }}
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		e.response.status = resp.StatusCode // nobody writes it as one
		if isConn {
			resp.Body = &upgraded{ReadCloser: resp.Body, host: conn, up: &e.up, down: &e.response.down}
		}
	}
	return nil
}

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

// scrubber replaces values of secrets by texts of the same length.
type scrubber struct {
	values, instead [][]byte
}

func newScrubber(secrets []*secret.Secret) *scrubber {
	s := new(scrubber)
	for _, one := range secrets {
		value := one.Value.Reveal()
		instead := one.Placeholder
		if len(instead) != len(value) {
			instead = strings.Repeat("*", len(value))
		}
		s.values = append(s.values, []byte(value))
		s.instead = append(s.instead, []byte(instead))
	}
	return s
}

func (s *scrubber) header(h http.Header) {
	for _, values := range h {
		for i, v := range values {
			b := []byte(v)
			if s.replace(b) {
				values[i] = string(b)
			}
		}
	}
}

// replace replaces all values in b, and reports whether there were any.
func (s *scrubber) replace(b []byte) (any bool) {
	for i, value := range s.values {
		for at := 0; ; {
			n := bytes.Index(b[at:], value)
			if n < 0 {
				break
			}
			copy(b[at+n:], s.instead[i])
			at += n + len(value)
			any = true
		}
	}
	return any
}

// begun returns how many bytes at the end of b could be the beginning of a value.
func (s *scrubber) begun(b []byte) int {
	longest := 0
	for _, value := range s.values {
		for n := min(len(value)-1, len(b)); n > longest; n-- {
			if bytes.HasSuffix(b, value[:n]) {
				longest = n
			}
		}
	}
	return longest
}

// scrubbedBody is a body without the values. It holds nothing back but what could be the
// beginning of one.
type scrubbedBody struct {
	io.ReadCloser
	*scrubber
	atEnd func()

	buf  []byte // read, and not yet given out
	safe int    // how much of it may be given out
	err  error  // what comes after it
}

func (b *scrubbedBody) Read(p []byte) (int, error) {
	for b.safe == 0 {
		if b.err != nil {
			return 0, b.err
		}
		old := len(b.buf)
		b.buf = slices.Grow(b.buf, max(len(p), 4<<10))
		n, err := b.ReadCloser.Read(b.buf[old:cap(b.buf)])
		b.buf = b.buf[:old+n]
		b.replace(b.buf)
		b.safe = len(b.buf) - b.begun(b.buf)
		if err != nil {
			b.err, b.safe = err, len(b.buf)
			b.atEnd()
		}
	}
	n := copy(p, b.buf[:b.safe])
	b.safe -= n
	b.buf = append(b.buf[:0], b.buf[n:]...)
	return n, nil
}
