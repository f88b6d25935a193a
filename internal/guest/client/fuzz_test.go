package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// says is a guest that says what Reader has, whatever it hears.
type says struct{ io.Reader }

func (says) Write(p []byte) (int, error) { return len(p), nil }
func (says) Close() error                { return nil }

func framesOf(f *testing.F, frames ...frame) []byte {
	f.Helper()
	var b bytes.Buffer
	w := wire.NewFrameWriter(&b)
	for _, x := range frames {
		if err := w.Write(x.t, []byte(x.payload)); err != nil {
			f.Fatal(err)
		}
	}
	return b.Bytes()
}

// FuzzConverse plays a guest in which a program or a session is to run: the call ends when
// the guest does, prints no more than was sent, and nothing of a session that it does not
// know.
func FuzzConverse(f *testing.F) {
	const session = `{"name": "build", "argv": ["make"], "title": "\u001b]0;x\u0007", "why": "bell"}`
	exit := frame{wire.FrameExit, "\x07"}
	for _, frames := range [][]frame{
		{{wire.FrameStdout, "out"}, {wire.FrameStderr, "err"}, {wire.FrameStdinAck, ""}, {wire.FrameStdinAck, ""}, exit},
		{{wire.FrameSession, session}, {wire.FrameStdout, "out"}, exit},
		{{wire.FrameSession, session}, {wire.FrameEnd, ""}},
		{{wire.FrameSession, session}, {wire.FrameSession, session}, exit},
		{{wire.FrameSession, `{"name": "../x"}`}, exit},
		{{wire.FrameSession, `{"name": "a", "code": 256}`}, exit},
		{{wire.FrameStdout, "out"}, {wire.FrameSession, session}, exit},
		{{wire.FrameEnd, ""}, exit},
		{{wire.FrameCode, "command_not_found"}, {wire.FrameError, "no\nsuch\x1b[2J"}},
		{{wire.FrameExit, ""}},
		{{wire.FrameExit, "\x00\x00"}},
		{{wire.FrameType(200), "x"}, exit},
	} {
		f.Add(framesOf(f, frames...), false, false)
		f.Add(framesOf(f, frames...), true, false)
		f.Add(framesOf(f, frames...), true, true)
	}
	f.Fuzz(func(t *testing.T, in []byte, session, detached bool) {
		var out bytes.Buffer
		stdio := Stdio{Stdin: strings.NewReader("typed"), Stdout: &out, Stderr: &out}
		begun, printed := 0, 0 // how often it began, and what was printed before
		var code int
		var err error
		if session {
			code, err = Session(says{bytes.NewReader(in)}, &wire.Session{Detached: detached}, stdio, func(i wire.SessionInfo) {
				begun, printed = begun+1, out.Len()
				checkInfo(t, i)
			})
			if printed > 0 || begun == 0 && out.Len() > 0 {
				t.Errorf("a session that nobody knows prints %q", out.String())
			}
			if begun > 1 || err == nil && begun == 0 {
				t.Errorf("Session() = %d, %v; it began %d times", code, err, begun)
			}
		} else {
			code, err = Exec(says{bytes.NewReader(in)}, &wire.Exec{}, stdio)
		}
		if out.Len() > len(in) || code < 0 || code > 255 || err != nil && code != 0 {
			t.Errorf("%d bytes are printed of %d; exit code %d, %v", out.Len(), len(in), code, err)
		}
		checkError(t, err)
	})
}

func checkInfo(t *testing.T, i wire.SessionInfo) {
	t.Helper()
	if !naming.ValidSession(i.Name) || !termsafe.Is(i.Title) || !termsafe.Is(i.Notice) || len(i.Argv) > 64 || i.Code < 0 || i.Code > 255 {
		t.Errorf("a session as no agent of ours has it: %+v", i)
	}
	for _, arg := range i.Argv {
		if !termsafe.Is(arg) {
			t.Errorf("an argument is not printable: %q", arg)
		}
	}
}

// checkError expects that what a guest says is on one line.
func checkError(t *testing.T, err error) {
	t.Helper()
	if _, ok := errors.AsType[*GuestError](err); ok && !termsafe.Is(err.Error()) {
		t.Errorf("the guest's error is not printable: %q", err)
	}
}

// FuzzAnswers plays a guest that answers requests with any messages.
func FuzzAnswers(f *testing.F) {
	for _, messages := range [][]any{
		{wire.Hello{Version: wire.Version}},
		{wire.Prepared{Nanos: 1, Notes: []string{"no module\nx"}}},
		{wire.Configured{Error: "no\r\nspace\x1b[2J"}},
		{wire.Clocked{Now: 1 << 62}},
		{wire.Booted{State: "degraded", Failed: []string{"wrong.service", "\x1b[2J"}}},
		{wire.Sessions{Sessions: []wire.SessionInfo{{Name: "build", Argv: []string{"make", "\n"}, Title: "\u202e", Why: wire.WaitBell}}}},
		{wire.Sessions{Sessions: make([]wire.SessionInfo, wire.MaxSessions+1)}},
		{wire.Seeded{Aside: []string{"a.bak\n", "b"}, Error: ""}},
		{wire.Change{Path: []byte("a"), Kind: wire.KindDir}, wire.Change{Path: []byte("\xff"), Kind: "door"}, wire.Change{End: true}},
		{wire.Change{Progress: &wire.Progress{Counted: -1}}, wire.Change{Path: []byte("a"), Kind: wire.KindSymlink, Target: []byte("/")}, wire.Change{End: true, Error: "broken\noff"}},
	} {
		var b bytes.Buffer
		for _, m := range messages {
			if err := wire.WriteMessage(&b, m); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		guest := func() io.ReadWriter { return says{bytes.NewReader(in)} }
		h, err := Hello(guest())
		if err == nil && h.Version != wire.Version {
			t.Errorf("Hello() = %+v", h)
		}
		p, err := Prepare(guest(), &wire.Prepare{})
		if err == nil && p.Error != "" {
			t.Errorf("Prepare() = %+v, nil", p)
		}
		checkError(t, err)
		_, err = Configure(guest(), &wire.Configure{})
		checkError(t, err)
		_, err = Clock(guest(), 0)
		checkError(t, err)
		booted, _ := Booted(guest())
		list, err := Sessions(guest())
		checkError(t, err)
		for _, i := range list {
			checkInfo(t, i)
		}
		if len(list) > wire.MaxSessions {
			t.Errorf("%d sessions", len(list))
		}
		seeded, err := Seed(guest(), &wire.Seed{})
		checkError(t, err)
		for _, name := range seeded.Aside {
			if !termsafe.Is(name) {
				t.Errorf("a file's name is not printable: %q", name)
			}
		}
		// What is held of an answer is bounded by what came.
		if n := len(seeded.Aside) + len(list) + len(booted.Failed) + len(p.Notes); n > 4*len(in) {
			t.Errorf("%d values of %d bytes", n, len(in))
		}
		listed := 0
		err = Changes(guest(), wire.Changes{}, func(wire.Progress) error {
			listed++
			return nil
		}, func(c wire.Change) error {
			listed++
			if c.End || c.Progress != nil {
				t.Errorf("listed as a change: %+v", c)
			}
			return nil
		})
		checkError(t, err)
		if listed > len(in)/len("0000{}") {
			t.Errorf("%d changes of %d bytes", listed, len(in))
		}
		if err == nil && !ended(in) {
			t.Errorf("a list without an end is whole: %q", in)
		}
	})
}

// ended reports whether messages have one that ends a list of changes.
func ended(in []byte) bool {
	for r := bytes.NewReader(in); ; {
		var m json.RawMessage
		if wire.ReadMessage(r, &m) != nil {
			return false
		}
		var c wire.Change
		if json.Unmarshal(m, &c) == nil && c.End {
			return true
		}
	}
}

// FuzzSync plays a guest that is sent files: the call ends when the guest does, hears no more
// answers than it sent items, and each is one that there is.
func FuzzSync(f *testing.F) {
	answers := func(list ...wire.SyncAnswer) []byte {
		var b bytes.Buffer
		for _, a := range list {
			if err := wire.WriteMessage(&b, a); err != nil {
				f.Fatal(err)
			}
		}
		return b.Bytes()
	}
	done := wire.SyncAnswer{Result: wire.SyncDone}
	f.Add(answers(done, done, done))
	f.Add(answers(done, wire.SyncAnswer{Result: wire.SyncConflict, Now: wire.SyncState{Kind: wire.KindFile, Sum: make([]byte, 32)}}, done))
	f.Add(answers(done, wire.SyncAnswer{Result: wire.SyncFailed, Error: "no\n\x1b[2J"}))
	f.Add(answers(done, wire.SyncAnswer{Result: "yes"}, done))
	f.Add(answers(done, done, wire.SyncAnswer{Result: wire.SyncSame}))
	f.Fuzz(func(t *testing.T, in []byte) {
		items := []Outgoing{{Item: wire.SyncItem{Path: []byte("a")}}, {Item: wire.SyncItem{Path: []byte("b")}}}
		next := 0
		err := Sync(t.Context(), says{bytes.NewReader(in)}, wire.Sync{Dir: "/w"}, items, func(i int, a wire.SyncAnswer) error {
			if i != next || i >= len(items) {
				t.Errorf("answer %d after %d", i, next)
			}
			next++
			switch a.Result {
			case wire.SyncDone, wire.SyncSame, wire.SyncConflict, wire.SyncFailed:
			default:
				t.Errorf("answer %q", a.Result)
			}
			return nil
		})
		if err == nil && next != len(items) {
			t.Errorf("it ends well after %d answers", next)
		}
	})
}

// FuzzConnect plays a guest with a port: the connection ends when the guest does, and gives no
// more than was sent.
func FuzzConnect(f *testing.F) {
	f.Add(framesOf(f, frame{wire.FrameStdout, "one"}, frame{wire.FrameStdout, ""}, frame{wire.FrameStdout, "two"}, frame{wire.FrameEnd, ""}))
	f.Add(framesOf(f, frame{wire.FrameStdout, "one"}, frame{wire.FrameError, "reset"}))
	f.Add(framesOf(f, frame{wire.FrameEnd, ""}, frame{wire.FrameStdout, "late"}))
	f.Add(framesOf(f, frame{wire.FrameType(200), "x"}))
	f.Fuzz(func(t *testing.T, in []byte) {
		var said bytes.Buffer
		wire.WriteMessage(&said, wire.Connected{})
		said.Write(in)
		conn, err := Connect(saysConn{says: says{&said}}, 80)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if len(got) > len(in) {
			t.Errorf("%d bytes of %d, %v", len(got), len(in), err)
		}
		conn.Close()
	})
}

// saysConn is says as a connection.
type saysConn struct {
	net.Conn
	says
}

func (c saysConn) Read(p []byte) (int, error)       { return c.says.Read(p) }
func (c saysConn) Write(p []byte) (int, error)      { return c.says.Write(p) }
func (c saysConn) Close() error                     { return nil }
func (c saysConn) SetReadDeadline(time.Time) error  { return nil }
func (c saysConn) SetWriteDeadline(time.Time) error { return nil }
