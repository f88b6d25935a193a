// Package sdnotify tells the service manager how a service is doing, by the
// protocol of sd_notify(3).
//
// In flow lines of state, out one datagram for each call to the socket that
// the manager named. It never reads from that socket, and does nothing where
// nobody named one.
package sdnotify

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// SocketVariable names the manager's socket in the environment of a service. It
// is not for what the service starts: who runs a program that is not trusted
// must not hand it on.
const SocketVariable = "NOTIFY_SOCKET"

// maxText bounds the text of a status. The manager takes a page at most.
const maxText = 1024

// Ready says that the service has started.
const Ready = "READY=1"

// Stopping says that the service has begun to end.
const Stopping = "STOPPING=1"

// Status describes the service in one line, for people.
func Status(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' ' // a new line would begin another assignment
		}
		return r
	}, text)
	if len(text) > maxText {
		text = text[:maxText]
	}
	return "STATUS=" + strings.ToValidUTF8(text, "")
}

// Extend asks for so much time from now, until the next message, before a start or
// a stop has taken too long.
func Extend(d time.Duration) string {
	return "EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(max(d.Microseconds(), 0), 10)
}

// MainPID says which process is the service's main one.
func MainPID(pid int) string { return "MAINPID=" + strconv.Itoa(pid) }

// Notifier sends to one manager. The zero value sends nothing.
type Notifier struct {
	socket string // a path, or "@" and a name in the abstract namespace
}

// New returns the notifier of the manager that started this process; getenv reads
// the environment.
func New(getenv func(string) string) (Notifier, error) {
	socket := getenv(SocketVariable)
	switch {
	case socket == "":
		return Notifier{}, nil
	case strings.HasPrefix(socket, "/"), strings.HasPrefix(socket, "@") && len(socket) > 1:
		return Notifier{socket}, nil
	}
	return Notifier{}, fmt.Errorf("%s=%.80q: neither a path nor an abstract name", SocketVariable, socket)
}

// Enabled reports whether anybody listens.
func (n Notifier) Enabled() bool { return n.socket != "" }

// Send sends lines of state in one message.
func (n Notifier) Send(lines ...string) error {
	if n.socket == "" || len(lines) == 0 {
		return nil
	}
	// Package net takes the @ for the abstract namespace.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	defer conn.Close()
	// A manager that does not read must not stop its service.
	conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}
