// Package client is the host's side of the conversation with a guest.
//
// Each function takes a stream of its own: one of the multiplexer's in the
// supervisor, or a connection to the supervisor that is joined to one. What
// the guest sends is bounded by package wire and believed by nobody.
package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// GuestError is an error that the guest reported. Its text is the guest's.
type GuestError struct{ Text string }

// Error is one line: behind a line break the guest could write in mayfly's name.
func (e *GuestError) Error() string {
	if text := strings.TrimSpace(termsafe.Line(e.Text)); text != "" {
		return text
	}
	return "the guest gave no reason"
}

// Hello asks the guest who it is.
func Hello(stream io.ReadWriter) (wire.Hello, error) {
	var h wire.Hello
	if err := call(stream, wire.Request{Op: wire.OpHello}, &h); err != nil {
		return h, fmt.Errorf("greet the guest's agent: %w", err)
	}
	if h.Version != wire.Version {
		return h, fmt.Errorf("the guest's agent speaks version %d of the protocol, not %d", h.Version, wire.Version)
	}
	return h, nil
}

// Prepare readies the guest for an image.
func Prepare(stream io.ReadWriter, p *wire.Prepare) (wire.Prepared, error) {
	var answer wire.Prepared
	err := call(stream, wire.Request{Op: wire.OpPrepare, Prepare: p}, &answer)
	if err == nil && answer.Error != "" {
		err = &GuestError{answer.Error}
	}
	if err != nil {
		return answer, fmt.Errorf("prepare the guest: %w", err)
	}
	return answer, nil
}

// Configure makes the guest a machine.
func Configure(stream io.ReadWriter, c *wire.Configure) (wire.Configured, error) {
	var answer wire.Configured
	err := call(stream, wire.Request{Op: wire.OpConfigure, Configure: c}, &answer)
	if err == nil && answer.Error != "" {
		err = &GuestError{answer.Error}
	}
	if err != nil {
		return answer, fmt.Errorf("configure the machine: %w", err)
	}
	return answer, nil
}

// Clock adds adjust to the guest's clock, and returns what it shows then.
func Clock(stream io.ReadWriter, adjust time.Duration) (time.Time, error) {
	var answer wire.Clocked
	req := wire.Request{Op: wire.OpClock, Clock: &wire.Clock{Adjust: int64(adjust)}}
	if err := call(stream, req, &answer); err != nil {
		return time.Time{}, fmt.Errorf("ask for the guest's clock: %w", err)
	}
	return time.Unix(0, answer.Now), nil
}

// SSH makes stream a connection to the guest's SSH server. terminfo describes the
// client's terminal; nil for none, or one that every image knows.
func SSH(stream io.ReadWriter, terminfo *wire.Terminfo) error {
	var answer wire.Connected
	err := call(stream, wire.Request{Op: wire.OpSSH, SSH: &wire.SSHClient{Terminfo: terminfo}}, &answer)
	if err == nil && answer.Error != "" {
		err = &GuestError{answer.Error}
	}
	if err != nil {
		return fmt.Errorf("connect to the SSH server of the machine: %w", err)
	}
	return nil
}

// Init makes the agent leave process 1 to another program once this conversation ends.
func Init(stream io.ReadWriter) error {
	if err := done(stream, wire.Request{Op: wire.OpInit}); err != nil {
		return fmt.Errorf("start systemd: %w", err)
	}
	return nil
}

// Booted waits until systemd in the guest has started all that it is to.
func Booted(stream io.ReadWriter) (wire.Booted, error) {
	var answer wire.Booted
	if err := call(stream, wire.Request{Op: wire.OpBooted}, &answer); err != nil {
		return answer, fmt.Errorf("wait for systemd: %w", err)
	}
	return answer, nil
}

// PowerOff asks the guest to end. The machine may be off before it answers.
func PowerOff(stream io.ReadWriter) error {
	return wire.WriteRequest(stream, wire.Request{Op: wire.OpPowerOff})
}

// News calls seen with what happens in the guest until the stream ends.
func News(stream io.ReadWriter, seen func(wire.News)) error {
	if err := wire.WriteRequest(stream, wire.Request{Op: wire.OpNews}); err != nil {
		return err
	}
	for {
		var n wire.News
		if err := wire.ReadMessage(stream, &n); err != nil {
			return err
		}
		seen(n)
	}
}

// Ports calls seen with those of ports on which somebody listens in the guest, at once and
// whenever that changes, until the stream ends.
func Ports(stream io.ReadWriter, ports []int, seen func(listening []int)) error {
	if err := wire.WriteRequest(stream, wire.Request{Op: wire.OpPorts, Ports: &wire.Ports{Ports: ports}}); err != nil {
		return err
	}
	for {
		var l wire.Listening
		if err := wire.ReadMessage(stream, &l); err != nil {
			return err
		}
		if len(l.Ports) > len(ports) {
			return errors.New("the guest tells of more ports than it was asked about")
		}
		seen(l.Ports)
		if _, err := stream.Write([]byte{0}); err != nil {
			return err
		}
	}
}

// Noticed calls seen with the ports on which anybody listens in the guest, whenever that
// changes, until the stream ends: different numbers from 1 to 65535, sorted, at most
// wire.MaxListening.
func Noticed(stream io.ReadWriter, seen func(listening []int)) error {
	if err := wire.WriteRequest(stream, wire.Request{Op: wire.OpPorts, Ports: &wire.Ports{All: true}}); err != nil {
		return err
	}
	for {
		var l wire.Listening
		if err := wire.ReadMessage(stream, &l); err != nil {
			return err
		}
		if len(l.Ports) > wire.MaxListening {
			return errors.New("the guest tells of more ports than it may")
		}
		slices.Sort(l.Ports)
		if n := len(l.Ports); n > 0 && (l.Ports[0] < 1 || l.Ports[n-1] > math.MaxUint16) {
			return errors.New("the guest tells of ports that there are not")
		}
		seen(slices.Compact(l.Ports))
	}
}

// ShareLost tells the guest that a share has no server any more.
func ShareLost(stream io.ReadWriter, tag string) error {
	return done(stream, wire.Request{Op: wire.OpShareLost, ShareLost: &wire.ShareLost{Tag: tag}})
}

// done makes a request whose answer is only whether it worked.
func done(stream io.ReadWriter, req wire.Request) error {
	var answer wire.Configured
	if err := call(stream, req, &answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return &GuestError{answer.Error}
	}
	return nil
}

func call(stream io.ReadWriter, req wire.Request, answer any) error {
	if err := wire.WriteRequest(stream, req); err != nil {
		return err
	}
	return wire.ReadMessage(stream, answer)
}

// Changes lists what was changed in the workspace. yield is called for each entry, and
// progress, unless it is nil, from time to time, first while the guest counts them. Their
// errors end the list.
func Changes(stream io.ReadWriter, req wire.Changes, progress func(wire.Progress) error, yield func(wire.Change) error) error {
	if err := wire.WriteRequest(stream, wire.Request{Op: wire.OpChanges, Changes: &req}); err != nil {
		return err
	}
	r := bufio.NewReaderSize(stream, readAhead)
	for {
		var c wire.Change
		if err := wire.ReadMessage(r, &c); err != nil {
			return fmt.Errorf("list changes: %w", err)
		}
		var err error
		switch {
		case c.End && c.Error != "":
			return fmt.Errorf("list changes: %w", &GuestError{c.Error})
		case c.End:
			return nil
		case c.Progress == nil:
			err = yield(c)
		case progress != nil:
			err = progress(*c.Progress)
		}
		if err != nil {
			return err
		}
	}
}

// readAhead is the number of bytes that are read at once of a stream that has nothing else.
const readAhead = 64 << 10

// fetchBatch is the number of paths in one request. The longest path has 4096
// bytes, which base64 makes a third longer.
const fetchBatch = wire.MaxMessage / 8192

// Fetch gets the content of the files paths, in this order. put is called for
// each, and reads its content to the end; its error is returned as it is.
func Fetch(open func() (io.ReadWriteCloser, error), paths []string, put func(path string, content io.Reader) error) error {
	for len(paths) > 0 {
		n := min(len(paths), fetchBatch)
		stream, err := open()
		if err != nil {
			return err
		}
		err = fetch(stream, paths[:n], put)
		stream.Close()
		if err != nil {
			return err
		}
		paths = paths[n:]
	}
	return nil
}

func fetch(stream io.ReadWriter, paths []string, put func(string, io.Reader) error) error {
	req := wire.Fetch{}
	for _, p := range paths {
		req.Paths = append(req.Paths, []byte(p))
	}
	if err := wire.WriteRequest(stream, wire.Request{Op: wire.OpFetch, Fetch: &req}); err != nil {
		return fmt.Errorf("fetch changed files: %w", err)
	}
	frames := wire.NewFrameReader(bufio.NewReaderSize(stream, readAhead))
	for _, path := range paths {
		t, payload, err := frames.Next()
		if err == nil && t == wire.FrameError {
			err = &GuestError{string(payload)}
		}
		if err == nil && (t != wire.FrameFile || string(payload) != path) {
			err = errors.New("the guest sent another file than asked")
		}
		if err != nil {
			return fmt.Errorf("fetch changed files: %w", err)
		}
		f := &file{frames: frames}
		if err := put(path, f); err != nil {
			return err
		}
		if err := f.drain(); err != nil {
			return fmt.Errorf("fetch changed files: %w", err)
		}
	}
	return nil
}

// file is the content of one file as it comes.
type file struct {
	frames *wire.FrameReader
	rest   []byte // of the last frame
	err    error
}

// next reads a frame with bytes into rest, or returns the length of a hole.
func (f *file) next() (hole int64, err error) {
	if f.err != nil {
		return 0, f.err
	}
	t, payload, err := f.frames.Next()
	switch {
	case err != nil:
		f.err = fmt.Errorf("the guest was lost: %w", err)
	case t == wire.FrameStdout:
		f.rest = payload
	case t == wire.FrameHole:
		hole, f.err = wire.ParseHole(payload)
	case t == wire.FrameEnd:
		f.err = io.EOF
	case t == wire.FrameError:
		f.err = &GuestError{string(payload)}
	default:
		f.err = fmt.Errorf("unexpected frame %d", t)
	}
	return hole, f.err
}

var errHole = errors.New("the guest sent a hole where it may send bytes only")

// Read reads a content without holes. A few bytes of a guest never stand for more here:
// who can take holes uses WriteTo.
func (f *file) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		hole, err := f.next()
		if err == nil && hole > 0 {
			f.err = errHole
			err = f.err
		}
		if err != nil {
			return 0, err
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// WriteTo writes all to w, holes as such if it is a sparse.Sink.
func (f *file) WriteTo(w io.Writer) (written int64, err error) {
	sink, ok := w.(sparse.Sink)
	for {
		if len(f.rest) > 0 {
			n, err := w.Write(f.rest)
			written += int64(n)
			if err != nil {
				return written, err
			}
			f.rest = nil
		}
		hole, err := f.next()
		switch {
		case errors.Is(err, io.EOF):
			return written, nil
		case err == nil && hole > 0 && !ok:
			f.err = errHole
			err = f.err
		case err == nil && hole > 0:
			if err = sink.Hole(hole); err == nil {
				written += hole
			}
		}
		if err != nil {
			return written, err
		}
	}
}

// drain reads what is left of the content.
func (f *file) drain() error {
	for {
		if _, err := f.next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
