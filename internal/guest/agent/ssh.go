package agent

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/sshd"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// sftpWord is the argument with which the agent's program serves files, SFTP, as
// the user who started it.
const sftpWord = "sftp"

// IsSFTP reports whether args are those of a program that is to call SFTP.
func IsSFTP(args []string) bool { return len(args) == 2 && args[1] == sftpWord }

// SFTP serves files on standard input and output, until its client is gone.
func SFTP() error { return sshd.ServeSFTP(os.Stdin, os.Stdout) }

// maxSSHConns is how many connections the SSH server takes by network at a time. It
// takes more than these in all, so that they never shut the host's out.
const maxSSHConns = 32

// setUpSSH gives m an SSH server, which c describes; nil for none. It is made for the
// first connection: most machines never get one, and an emulated CPU has to translate all
// that reads keys. The host has read them before, so that they are good.
func (a *agent) setUpSSH(m *machine, c *wire.SSH) error {
	if c == nil {
		return nil
	}
	m.sshDir = c.Dir
	m.ssh = sync.OnceValues(func() (*sshd.Server, error) {
		return sshd.New(sshd.Config{
			HostKey:        c.HostKey,
			AuthorizedKeys: c.AuthorizedKeys,
			User:           m.user.Name,
			Start:          func(c sshd.Command) (sshd.Process, error) { return a.startSSH(m, c) },
			Dial:           dialFrom,
			Listen:         listenLoopback,
		})
	})
	if !c.Listen {
		return nil
	}
	server, err := m.ssh()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":22")
	if err != nil {
		return err
	}
	go acceptSSH(server, l) // as long as the machine lives
	return nil
}

func acceptSSH(s *sshd.Server, l net.Listener) {
	slots := make(chan struct{}, maxSSHConns)
	for {
		slots <- struct{}{}
		conn, err := l.Accept()
		if err != nil {
			// Out of descriptors, say; whoever waits is served later.
			<-slots
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go func() {
			defer func() { <-slots }()
			s.Serve(conn)
		}()
	}
}

// ssh makes stream a connection to the SSH server.
func (a *agent) ssh(stream net.Conn, req *wire.SSHClient) {
	m, err := a.configured()
	if err == nil && m.ssh == nil {
		err = errors.New("it has none")
	}
	var server *sshd.Server
	if err == nil {
		server, err = m.ssh()
	}
	if err == nil && req.Terminfo != nil {
		err = addTerminfo(req.Terminfo)
	}
	if err != nil {
		wire.WriteMessage(stream, wire.Connected{Error: err.Error()})
		return
	}
	if wire.WriteMessage(stream, wire.Connected{}) == nil {
		server.Serve(stream)
	}
}

// startSSH starts what a session asks for.
func (a *agent) startSSH(m *machine, c sshd.Command) (sshd.Process, error) {
	shell := getenv(m.env, "SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	prog := program{path: shell, dir: m.user.Home}
	name := filepath.Base(shell)
	switch {
	case c.SFTP:
		prog.path, prog.argv = "/proc/self/exe", []string{"mayfly-guest", sftpWord}
	case c.Line != "":
		prog.argv = []string{name, "-c", c.Line}
	default:
		prog.argv = []string{"-" + name} // a login shell
		if c.Terminal != nil && m.sshDir != "" {
			prog.dir = m.sshDir
		}
	}
	if fi, err := os.Stat(prog.dir); err != nil || !fi.IsDir() {
		prog.dir = "/" // so that who removed it can log in and repair it
	}
	var env []string
	for _, kv := range c.Env {
		if name, value, _ := strings.Cut(kv, "="); name != "LANG" && !strings.HasPrefix(name, "LC_") || knownLocale(value) {
			env = append(env, kv)
		}
	}
	if t := c.Terminal; t != nil {
		env = append(env, "TERM="+t.Name)
		prog.terminal = func(tty, slave *os.File) error {
			setWinsize(tty, winsize(t.Size))
			return setModes(slave, t.Modes)
		}
	}
	prog.env = mergeEnv(m.env, env)
	p, err := a.startProcess(m, prog)
	if err != nil {
		return nil, err
	}
	return sshProcess{p}, nil
}

// knownLocale reports whether programs know a locale. Clients send the host's, and
// every program complains of one that the image does not have.
func knownLocale(name string) bool {
	switch strings.ToLower(name) {
	case "c", "posix", "c.utf-8", "c.utf8":
		return true
	}
	if name == "" || strings.ContainsAny(name, "/\x00") || name[0] == '.' {
		return false
	}
	language, charset, _ := strings.Cut(name, ".")
	for _, have := range []string{name, language + "." + strings.ToLower(strings.ReplaceAll(charset, "-", ""))} {
		if _, err := os.Stat(filepath.Join("/usr/lib/locale", have)); err == nil {
			return true
		}
	}
	// Debian's locale-gen writes all into one file.
	_, err := os.Stat("/usr/lib/locale/locale-archive")
	return err == nil
}

func winsize(s sshd.Size) unix.Winsize {
	return unix.Winsize{Row: s.Rows, Col: s.Cols, Xpixel: s.X, Ypixel: s.Y}
}

func setModes(slave *os.File, modes sshd.Modes) error {
	fd := int(slave.Fd())
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	modes.Apply(t)
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// sshProcess is a program as the SSH server sees it.
type sshProcess struct{ p *process }

func (s sshProcess) Input(in io.Reader) error {
	_, err := io.Copy(s.p.stdin, in)
	if s.p.tty == nil {
		s.p.stdin.Close()
	}
	return err
}

func (s sshProcess) Wait(stdout, stderr io.Writer, gone <-chan struct{}) syscall.WaitStatus {
	write := func(t wire.FrameType, p []byte) error {
		w := stdout
		if t == wire.FrameStderr {
			w = stderr
		}
		_, err := w.Write(p)
		return err
	}
	// Writes fail by themselves once the client is gone.
	return s.p.wait(write, gone, func() {})
}

func (s sshProcess) Resize(size sshd.Size) {
	if s.p.tty != nil {
		setWinsize(s.p.tty, winsize(size))
	}
}

func (s sshProcess) Signal(sig syscall.Signal) { syscall.Kill(-s.p.pid, sig) }

// dialFrom connects to a port as programs in the machine reach it. localhost is also
// what listens on the machine's own address alone.
func dialFrom(host string, port int) (net.Conn, error) {
	if host == "localhost" {
		return dialGuest(port)
	}
	return net.DialTimeout("tcp", net.JoinHostPort(host, strconv.Itoa(port)), connectTime)
}

// listenLoopback listens on a port of the loopback interfaces, any that is free for
// 0. A machine may have no IPv6.
func listenLoopback(port int) ([]net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	at := l.Addr().(*net.TCPAddr).Port
	all := []net.Listener{l}
	if l, err := net.Listen("tcp", net.JoinHostPort("::1", strconv.Itoa(at))); err == nil {
		all = append(all, l)
	}
	return all, nil
}
