package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/hook"
)

// The hooks of coding agents start the agent's program, with this word, and it reports to
// the agent. codingagent.hook has the line of a hook.
const (
	reportWord    = "report"
	reportDir     = "/run/mayfly-session"
	reportProgram = "mayfly-guest" // in it
	reportSocket  = "socket"       // in it
)

// sessionVariable tells a session's programs its name.
const sessionVariable = "MAYFLY_SESSION"

const (
	maxReporters = 8 // that are heard at once
	// reportTime is how long a report may take: a coding agent waits for its hooks.
	reportTime = 2 * time.Second
	// maxHook bounds what a hook is told, such as a file that is to be written.
	maxHook = 64 << 20
)

// IsReport reports whether args are those of a program that is to call Report.
func IsReport(args []string) bool { return len(args) >= 2 && args[1] == reportWord }

// Report is a hook of a coding agent's: it reports what the agent tells on its standard
// input, or as Codex does in its last argument. A hook that fails disturbs its agent, and
// what it says would be shown to the model: it does neither.
func Report(args []string, stdin io.Reader) {
	name := os.Getenv(sessionVariable)
	if name == "" {
		return // of no session
	}
	sendReport(filepath.Join(reportDir, reportSocket), name, args[2:], stdin)
}

func sendReport(socket, session string, args []string, stdin io.Reader) error {
	var told []byte
	if len(args) > 0 {
		told = []byte(args[len(args)-1])
	} else {
		var err error
		if told, err = io.ReadAll(io.LimitReader(stdin, maxHook)); err != nil {
			return err
		}
	}
	r, ok := hook.Parse(told)
	if !ok {
		return nil
	}
	r.Session = session
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("unix", socket, reportTime)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(reportTime))
	if _, err := conn.Write(data); err != nil {
		return err
	}
	conn.(*net.UnixConn).CloseWrite()
	// The next hook must not overtake it.
	_, err = conn.Read(make([]byte, 1))
	return err
}

// reports takes what hooks report.
type reports struct {
	dir string // "" takes none

	begin sync.Once
	err   error // of that
}

// takeReports begins to take the reports of m's user, with the first session: a machine
// without one has no socket, and a start does not wait for it.
func (a *agent) takeReports(m *machine) error {
	r := &a.reports
	if r.dir == "" {
		return errors.New("nobody takes reports")
	}
	r.begin.Do(func() {
		var l net.Listener
		if l, r.err = listenReports(r.dir, m.user.UID, m.user.GID); r.err == nil {
			r.err = showProgram(filepath.Join(r.dir, reportProgram))
			go a.hearReports(l) // as long as the machine lives
		}
	})
	return r.err
}

// listenReports makes the socket, for one user and the super-user.
func listenReports(dir string, uid, gid int) (net.Listener, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, reportSocket)
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", name)
	if err != nil {
		return nil, err
	}
	// Only the super-user can connect to one that is as it was made, with 022 as umask.
	if err := errors.Join(os.Chmod(name, 0o600), os.Chown(name, uid, gid)); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// showProgram makes the agent's program, to which no path leads, a file that all may
// execute.
func showProgram(name string) error {
	if fi, err := os.Stat(name); err == nil && fi.Size() > 0 {
		return nil // it was there before the agent began anew
	}
	if err := os.WriteFile(name, nil, 0o555); err != nil {
		return err
	}
	if err := unix.Mount("/proc/self/exe", name, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show the agent's program: %w", err)
	}
	return nil
}

func (a *agent) hearReports(l net.Listener) {
	slots := make(chan struct{}, maxReporters)
	for {
		slots <- struct{}{}
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			<-slots
			time.Sleep(100 * time.Millisecond) // out of descriptors, say
			continue
		}
		go func() {
			defer func() { <-slots }()
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(reportTime))
			data, err := io.ReadAll(io.LimitReader(conn, hook.Max+1))
			if err != nil {
				return
			}
			if r, err := hook.Decode(data); err == nil {
				a.sessions.Report(r)
				conn.Write([]byte{1})
			}
		}()
	}
}
