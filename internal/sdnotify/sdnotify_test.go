package sdnotify

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func environment(value string) func(string) string {
	return func(name string) string {
		if name == SocketVariable {
			return value
		}
		return ""
	}
}

func TestSend(t *testing.T) {
	for name, socket := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": fmt.Sprintf("@mayfly-sdnotify-%d", os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			n, err := New(environment(socket))
			if err != nil || !n.Enabled() {
				t.Fatalf("New = %+v, %v; want a notifier", n, err)
			}
			for _, tt := range []struct {
				lines []string
				want  string
			}{
				{[]string{Ready}, "READY=1"},
				{[]string{Stopping, Status("the guest powers off")}, "STOPPING=1\nSTATUS=the guest powers off"},
				{[]string{Extend(90 * time.Second)}, "EXTEND_TIMEOUT_USEC=90000000"},
				{[]string{MainPID(17)}, "MAINPID=17"},
			} {
				if err := n.Send(tt.lines...); err != nil {
					t.Fatalf("Send(%q): %v", tt.lines, err)
				}
				buf := make([]byte, 8<<10)
				conn.SetReadDeadline(time.Now().Add(time.Minute))
				size, err := conn.Read(buf)
				if err != nil || string(buf[:size]) != tt.want {
					t.Errorf("Send(%q) sent %q, %v; want %q", tt.lines, buf[:size], err, tt.want)
				}
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	n, err := New(environment(""))
	if err != nil || n.Enabled() {
		t.Errorf("New without the variable = %+v, %v; want a notifier that does nothing", n, err)
	}
	if err := n.Send(Ready); err != nil {
		t.Errorf("Send = %v; want nothing done", err)
	}
	for _, bad := range []string{"relative", "@", "tcp:1"} {
		if n, err := New(environment(bad)); err == nil {
			t.Errorf("New(%q) = %+v; want an error", bad, n)
		}
	}
	gone, err := New(environment(filepath.Join(t.TempDir(), "gone")))
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Send(Ready); err == nil {
		t.Error("Send to nobody = nil; want an error")
	}
}

// What a guest says of itself cannot say more than one line.
func TestStatus(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"boots", "STATUS=boots"},
		{"a\nREADY=1", "STATUS=a READY=1"},
		{"a\x00\x1b[31m\x7f", "STATUS=a  [31m "},
		{"\xff", "STATUS=\ufffd"},
	} {
		if got := Status(tt.in); got != tt.want {
			t.Errorf("Status(%q) = %q; want %q", tt.in, got, tt.want)
		}
	}
	long := Status(strings.Repeat("ü", maxText))
	if len(long) > maxText+len("STATUS=") || !utf8.ValidString(long) {
		t.Errorf("Status of a long text has %d bytes, valid: %v; want at most %d", len(long), utf8.ValidString(long), maxText+len("STATUS="))
	}
	if got, want := Extend(-time.Second), "EXTEND_TIMEOUT_USEC=0"; got != want {
		t.Errorf("Extend(-1s) = %q; want %q", got, want)
	}
}
