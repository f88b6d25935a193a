package client

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

func TestExecOutput(t *testing.T) {
	for _, tt := range []struct {
		name        string
		frames      []frame
		code        int
		stdout, err string
	}{
		{"exit 0", []frame{{wire.FrameStdout, "o"}, {wire.FrameStderr, "e"}, {wire.FrameStdout, "k"}, {wire.FrameExit, "\x00"}}, 0, "ok", ""},
		{"exit 255", []frame{{wire.FrameExit, "\xff"}}, 255, "", ""},
		{"what is after the exit does not count", []frame{{wire.FrameExit, "\x03"}, {wire.FrameExit, "\x00"}}, 3, "", ""},
		{"not started", []frame{{wire.FrameError, "x: command\x1b not found"}}, 0, "", "x: command? not found"},
		{"not found", []frame{{wire.FrameCode, "command-not-found"}, {wire.FrameError, "x: command not found"}}, 0, "", "x: command not found"},
		{"not started, with a code of its own", []frame{{wire.FrameCode, "name-taken"}, {wire.FrameError, "x"}}, 0, "", "x"},
		{"not started, with a long code", []frame{{wire.FrameCode, strings.Repeat("command-not-found", 1000)}, {wire.FrameError, "x"}}, 0, "", "x"},
		{"a code of no error", []frame{{wire.FrameCode, "command-not-found"}, {wire.FrameExit, "\x00"}}, 0, "", ""},
		{"hangs up", []frame{{wire.FrameStdout, "half"}}, 0, "half", "lost"},
		{"says nothing", nil, 0, "", "lost"},
		{"no code", []frame{{wire.FrameExit, ""}}, 0, "", "no exit code"},
		{"two codes", []frame{{wire.FrameExit, "\x00\x00"}}, 0, "", "no exit code"},
		{"unknown frames", []frame{{0, "x"}, {255, "y"}, {wire.FrameStdin, "z"}, {wire.FrameExit, "\x01"}}, 1, "", ""},
		{"acks of nothing", append(repeat(frame{wire.FrameStdinAck, ""}, 1000), frame{wire.FrameExit, "\x02"}), 2, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stream := fakeGuest(t, func(req wire.Request, conn net.Conn) {
				if req.Op != wire.OpExec || req.Exec.Argv[0] != "true" {
					t.Errorf("the guest got %+v; want an exec of true", req)
				}
				go io.Copy(io.Discard, conn)
				writeFrames(conn, tt.frames...)
			})
			var stdout bytes.Buffer
			code, err := Exec(stream, &wire.Exec{Argv: []string{"true"}}, Stdio{Stdout: &stdout})
			if code != tt.code || stdout.String() != tt.stdout || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("Exec() = %d, %v, output %q; want %d, %q, %q", code, err, stdout.String(), tt.code, tt.err, tt.stdout)
			}
			if guestErr := new(GuestError); errors.As(err, &guestErr) != strings.HasPrefix(tt.name, "not ") {
				t.Errorf("Exec() = %T; want a GuestError only when the guest did not start it", err)
			}
			if found := fault.CodeOf(err) != fault.CommandNotFound; found == (tt.name == "not found") {
				t.Errorf("Exec() = %v with the code %q", err, fault.CodeOf(err))
			}
		})
	}
}

func repeat(f frame, n int) []frame {
	fs := make([]frame, n)
	for i := range fs {
		fs[i] = f
	}
	return fs
}

// The host sends at most a window ahead of the guest's acknowledgements.
func TestExecStdinWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const frames = 3 * wire.StdinWindow
		stream := fakeGuest(t, func(_ wire.Request, conn net.Conn) {
			got := make(chan wire.FrameType)
			go func() {
				fr := wire.NewFrameReader(conn)
				for {
					ft, _, err := fr.Next()
					if err != nil {
						close(got)
						return
					}
					got <- ft
				}
			}()
			for range wire.StdinWindow {
				if ft := <-got; ft != wire.FrameStdin {
					t.Errorf("got frame %d; want stdin", ft)
				}
			}
			for range frames - wire.StdinWindow {
				synctest.Wait()
				select {
				case ft := <-got:
					t.Errorf("got frame %d beyond the window", ft)
				default:
				}
				writeFrames(conn, frame{wire.FrameStdinAck, ""})
				if ft := <-got; ft != wire.FrameStdin {
					t.Errorf("got frame %d after an ack; want stdin", ft)
				}
			}
			if ft := <-got; ft != wire.FrameStdinEOF {
				t.Errorf("got frame %d at the end; want the end of stdin", ft)
			}
			writeFrames(conn, frame{wire.FrameExit, "\x00"})
		})
		stdin := bytes.NewReader(make([]byte, frames*wire.MaxFrame))
		if code, err := Exec(stream, &wire.Exec{}, Stdio{Stdin: stdin}); code != 0 || err != nil {
			t.Errorf("Exec() = %d, %v; want 0, nil", code, err)
		}
	})
}

// A program that ends early ends Exec, whatever its standard input does.
func TestExecEarlyExit(t *testing.T) {
	for name, stdin := range map[string]io.Reader{
		"endless input": endless{},
		"silent input":  silent{make(chan struct{})},
	} {
		t.Run(name, func(t *testing.T) {
			stream := fakeGuest(t, func(_ wire.Request, conn net.Conn) {
				writeFrames(conn, frame{wire.FrameExit, "\x07"})
			})
			if code, err := Exec(stream, &wire.Exec{}, Stdio{Stdin: stdin}); code != 7 || err != nil {
				t.Errorf("Exec() = %d, %v; want 7, nil", code, err)
			}
			if s, ok := stdin.(silent); ok {
				close(s.end)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type silent struct{ end chan struct{} }

func (s silent) Read([]byte) (int, error) { <-s.end; return 0, io.EOF }

// A guest that reads nothing blocks the writer of standard input. Signals wait
// behind it, but never the end.
func TestExecGuestReadsNothing(t *testing.T) {
	signals := make(chan byte)
	stream := fakeGuest(t, func(_ wire.Request, conn net.Conn) {
		signals <- 2 // it waits for its turn, now or in a moment
		writeFrames(conn, frame{wire.FrameExit, "\x00"})
	})
	if code, err := Exec(stream, &wire.Exec{}, Stdio{Stdin: endless{}, Signals: signals}); code != 0 || err != nil {
		t.Errorf("Exec() = %d, %v; want 0, nil", code, err)
	}
}

func TestExecControls(t *testing.T) {
	resize, signals := make(chan wire.Winsize), make(chan byte)
	go func() {
		resize <- wire.Winsize{Rows: 50, Cols: 132}
		signals <- 15
		close(resize) // nothing follows
	}()
	stream := fakeGuest(t, func(_ wire.Request, conn net.Conn) {
		fr := wire.NewFrameReader(conn)
		var got []frame
		for len(got) < 2 {
			ft, payload, err := fr.Next()
			if err != nil {
				t.Error(err)
				return
			}
			if ft != wire.FrameStdinEOF { // comes at any time
				got = append(got, frame{ft, string(payload)})
			}
		}
		if want := []frame{{wire.FrameResize, "\x32\x00\x84\x00"}, {wire.FrameSignal, "\x0f"}}; !slices.Equal(got, want) {
			t.Errorf("got frames %q; want %q", got, want)
		}
		go io.Copy(io.Discard, conn)
		writeFrames(conn, frame{wire.FrameExit, "\x00"})
	})
	if _, err := Exec(stream, &wire.Exec{TTY: &wire.Winsize{}}, Stdio{Resize: resize, Signals: signals}); err != nil {
		t.Fatal(err)
	}
}

// Who cannot write the output any more ends the command.
func TestExecBrokenOutput(t *testing.T) {
	broken := errors.New("broken pipe")
	hungUp := make(chan struct{})
	stream := fakeGuest(t, func(_ wire.Request, conn net.Conn) {
		for writeFrames(conn, frame{wire.FrameStdout, strings.Repeat("x", wire.MaxFrame)}) == nil {
		}
		close(hungUp)
	})
	n := 0
	stdout := writerFunc(func(p []byte) (int, error) {
		if n += len(p); n > 1<<20 {
			return 0, broken
		}
		return len(p), nil
	})
	if _, err := Exec(stream, &wire.Exec{}, Stdio{Stdout: stdout}); !errors.Is(err, broken) {
		t.Errorf("Exec() = %v; want %v", err, broken)
	}
	<-hungUp
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
