package intercept

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/network/secret"
)

// modifyResponse is httputil.ReverseProxy.ModifyResponse. What a server says of the
// secrets that it was sent, the guest does not learn.
func modifyResponse(resp *http.Response) error {
	e := exchangeOf(resp.Request)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		e.response.status = resp.StatusCode // nobody writes it as one
	}
	if len(e.used) == 0 {
		return nil
	}
	s := newScrubber(e.used)
	s.header(resp.Header)
	// A connection that was upgraded goes both ways; and what is compressed against
	// our wish cannot be searched.
	if resp.StatusCode == http.StatusSwitchingProtocols || resp.Header.Get("Content-Encoding") != "" {
		return nil
	}
	resp.Body = &scrubbedBody{ReadCloser: resp.Body, scrubber: s, atEnd: func() { s.header(resp.Trailer) }}
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
