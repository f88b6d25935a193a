package client

import (
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// guestSays plays a guest that answers a request with answer.
func guestSays(t testing.TB, answer func(net.Conn)) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		var req wire.Request
		if wire.ReadMessage(theirs, &req) == nil {
			answer(theirs)
		}
	}()
	t.Cleanup(func() {
		ours.Close()
		<-done
	})
	return ours
}

// What a guest tells of its sessions is bounded and can be printed.
func TestSessionsHostile(t *testing.T) {
	ok := wire.SessionInfo{Name: "s", Argv: []string{"a\x1b[31m", "b\nc"}, Title: "t\x07\u202e", Notice: "n\n", Code: 255, Why: wire.WaitBell}
	for _, tt := range []struct {
		name   string
		change func(*wire.SessionInfo)
		many   int
		want   string // of the error; "" for none
	}{
		{"good", func(*wire.SessionInfo) {}, 1, ""},
		{"as many as can be", func(*wire.SessionInfo) {}, wire.MaxSessions, ""},
		{"too many", func(*wire.SessionInfo) {}, wire.MaxSessions + 1, "more than there can be"},
		{"name", func(i *wire.SessionInfo) { i.Name = "a\x1b" }, 1, "name"},
		{"long name", func(i *wire.SessionInfo) { i.Name = strings.Repeat("a", 33) }, 1, "name"},
		{"no name", func(i *wire.SessionInfo) { i.Name = "" }, 1, "name"},
		{"reason", func(i *wire.SessionInfo) { i.Why = "\x1b" }, 1, "waits for"},
		{"code", func(i *wire.SessionInfo) { i.Code = 256 }, 1, "nonsense"},
		{"viewers", func(i *wire.SessionInfo) { i.Viewers = -1 }, 1, "nonsense"},
		{"arguments", func(i *wire.SessionInfo) { i.Argv = make([]string, 65) }, 1, "nonsense"},
		{"state", func(i *wire.SessionInfo) { i.State = "works\x1b" }, 1, "in the state"},
		{"clock", func(i *wire.SessionInfo) { i.State, i.Since = wire.StateWorks, math.MaxInt64 }, 1, ""},
		{"old clock", func(i *wire.SessionInfo) { i.State, i.Since = wire.StateWorks, math.MinInt64 }, 1, ""},
		{"last", func(i *wire.SessionInfo) { i.State, i.Last = wire.StateDone, strings.Repeat("\x1b\u202e\n", 10_000) }, 1, ""},
		{"long title", func(i *wire.SessionInfo) { i.Title = strings.Repeat("a", 100_000) }, 1, ""},
	} {
		var answer wire.Sessions
		for range tt.many {
			i := ok
			i.Argv = append([]string(nil), ok.Argv...)
			tt.change(&i)
			answer.Sessions = append(answer.Sessions, i)
		}
		got, err := Sessions(guestSays(t, func(c net.Conn) { wire.WriteMessage(c, answer) }))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v; want %q", tt.name, err, tt.want)
		}
		for _, i := range got {
			if i.Since < 0 || i.Since > time.Now().UnixNano() {
				t.Errorf("%s: it is so since %v", tt.name, time.Unix(0, i.Since))
			}
			for _, text := range append(i.Argv, i.Title, i.Notice, i.Last) {
				if strings.ContainsAny(text, "\x1b\x07\n\u202e") || len(text) > 2000 {
					t.Errorf("%s: %.100q is not printable", tt.name, text)
				}
			}
		}
	}
}

func TestSessionHostile(t *testing.T) {
	frame := func(ft wire.FrameType, payload string) func(*wire.FrameWriter) {
		return func(fw *wire.FrameWriter) { fw.Write(ft, []byte(payload)) }
	}
	good := frame(wire.FrameSession, `{"name":"s"}`)
	for _, tt := range []struct {
		name   string
		frames []func(*wire.FrameWriter)
		want   string
	}{
		{"exit", []func(*wire.FrameWriter){good, frame(wire.FrameExit, "\x03")}, ""},
		{"twice begun", []func(*wire.FrameWriter){good, good}, "not asked for"},
		{"no JSON", []func(*wire.FrameWriter){frame(wire.FrameSession, "x")}, "decode"},
		{"bad name", []func(*wire.FrameWriter){frame(wire.FrameSession, `{"name":"../x"}`)}, "name"},
		{"end where none is due", []func(*wire.FrameWriter){good, frame(wire.FrameEnd, "")}, "goes on"},
		{"long exit code", []func(*wire.FrameWriter){good, frame(wire.FrameExit, "ab")}, "no exit code"},
		{"gone", []func(*wire.FrameWriter){good}, "lost"},
	} {
		stream := guestSays(t, func(c net.Conn) {
			fw := wire.NewFrameWriter(c)
			for _, f := range tt.frames {
				f(fw)
			}
			c.Close()
		})
		code, err := Session(stream, &wire.Session{Name: "s"}, Stdio{}, func(wire.SessionInfo) {})
		if tt.want == "" && (err != nil || code != 3) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %d, %v; want %q", tt.name, code, err, tt.want)
		}
	}
	// A program that was asked for without a session begins none.
	stream := guestSays(t, func(c net.Conn) { good(wire.NewFrameWriter(c)) })
	if _, err := Exec(stream, &wire.Exec{}, Stdio{}); err == nil || !strings.Contains(err.Error(), "not asked for") {
		t.Errorf("Exec() = %v; want an error", err)
	}
}
