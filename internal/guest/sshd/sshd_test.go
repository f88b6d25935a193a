package sshd

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// program is one that runs in the test's process: it does what its line says.
type program struct {
	line    string
	stdin   *io.PipeReader
	feed    *io.PipeWriter
	resized chan Size
	signals chan syscall.Signal
}

func newProgram(c Command) (Process, error) {
	if c.Line == "unstartable" {
		return nil, errors.New("start x: no such file")
	}
	p := &program{line: c.Line, resized: make(chan Size, 8), signals: make(chan syscall.Signal, 8)}
	p.stdin, p.feed = io.Pipe()
	if c.Terminal != nil {
		p.resized <- c.Terminal.Size
	}
	return p, nil
}

func (p *program) Input(in io.Reader) error {
	_, err := io.Copy(p.feed, in)
	p.feed.Close()
	return err
}

func (p *program) Resize(s Size)             { p.resized <- s }
func (p *program) Signal(sig syscall.Signal) { p.signals <- sig }

func (p *program) Wait(stdout, stderr io.Writer, gone <-chan struct{}) syscall.WaitStatus {
	defer p.stdin.Close()
	switch p.line {
	case "cat":
		io.Copy(stdout, p.stdin)
	case "sleep":
		<-gone
		return 1 // SIGHUP
	case "deaf":
		p.stdin.Close()
		<-gone
	case "size":
		for s := range p.resized {
			fmt.Fprintln(stdout, s.Rows, s.Cols, s.X, s.Y)
			if s.Rows == 0 {
				return 0
			}
		}
	case "signal":
		select {
		case sig := <-p.signals:
			return syscall.WaitStatus(sig)
		case <-gone:
		}
	case "both":
		io.WriteString(stdout, "out")
		io.WriteString(stderr, "err")
		return 3 << 8
	}
	return 0
}

// testServer serves until the test ends.
type testServer struct {
	*Server
	t      testing.TB
	wg     sync.WaitGroup
	signer ssh.Signer
}

func newKey(t testing.TB) (private []byte, signer ssh.Signer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	if signer, err = ssh.NewSignerFromKey(key); err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block), signer
}

func newServer(t testing.TB) *testServer {
	t.Helper()
	hostKey, _ := newKey(t)
	s := &testServer{t: t}
	_, s.signer = newKey(t)
	var err error
	s.Server, err = New(Config{
		HostKey:        hostKey,
		AuthorizedKeys: ssh.MarshalAuthorizedKey(s.signer.PublicKey()),
		User:           "me",
		Start:          newProgram,
		Dial: func(host string, port int) (net.Conn, error) {
			if host != "echo" {
				return nil, errors.New("nobody there")
			}
			a, b := tcpPair(t)
			s.wg.Go(func() {
				defer b.Close()
				io.Copy(b, b)
			})
			return a, nil
		},
		Listen: func(port int) ([]net.Listener, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			return []net.Listener{l}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.wg.Wait)
	return s
}

// tcpPair returns the two ends of a connection.
func tcpPair(t testing.TB) (a, b net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err == nil {
		b, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// dial connects a client.
func (s *testServer) dial(user string, signer ssh.Signer) (*ssh.Client, error) {
	near, far := tcpPair(s.t)
	s.wg.Go(func() { s.Serve(far) })
	conn, chans, reqs, err := ssh.NewClientConn(near, "m", &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		near.Close()
		return nil, err
	}
	c := ssh.NewClient(conn, chans, reqs)
	s.t.Cleanup(func() { c.Close() })
	return c, nil
}

func (s *testServer) client() *ssh.Client {
	s.t.Helper()
	c, err := s.dial("me", s.signer)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func newSession(t testing.TB, c *ssh.Client) *ssh.Session {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestLogin(t *testing.T) {
	s := newServer(t)
	_, stranger := newKey(t)
	for _, tt := range []struct {
		user   string
		signer ssh.Signer
		ok     bool
	}{
		{"me", s.signer, true}, {"root", s.signer, false}, {"", s.signer, false}, {"ME", s.signer, false}, {"me", stranger, false},
	} {
		if _, err := s.dial(tt.user, tt.signer); (err == nil) != tt.ok {
			t.Errorf("login as %q: %v; want success %v", tt.user, err, tt.ok)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	hostKey, signer := newKey(t)
	line := string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
	for name, cfg := range map[string]Config{
		"no host key":   {AuthorizedKeys: []byte(line)},
		"options":       {HostKey: hostKey, AuthorizedKeys: []byte(`command="true" ` + line)},
		"no key":        {HostKey: hostKey, AuthorizedKeys: []byte("ssh-ed25519 AAAA\n")},
		"too many keys": {HostKey: hostKey, AuthorizedKeys: manyKeys(t, maxKeys+1)},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: New took it", name)
		}
	}
}

func manyKeys(t *testing.T, n int) (file []byte) {
	for range n {
		_, signer := newKey(t)
		file = append(file, ssh.MarshalAuthorizedKey(signer.PublicKey())...)
	}
	return file
}

func TestSession(t *testing.T) {
	c := newServer(t).client()
	t.Run("both outputs", func(t *testing.T) {
		s := newSession(t, c)
		var out, errOut bytes.Buffer
		s.Stdout, s.Stderr = &out, &errOut
		err := s.Run("both")
		if exit, ok := errors.AsType[*ssh.ExitError](err); !ok || exit.ExitStatus() != 3 || out.String() != "out" || errOut.String() != "err" {
			t.Errorf("Run = %v, %q, %q; want 3, out, err", err, out.String(), errOut.String())
		}
	})
	t.Run("unstartable", func(t *testing.T) {
		s := newSession(t, c)
		var errOut bytes.Buffer
		s.Stderr = &errOut
		err := s.Run("unstartable")
		if exit, ok := errors.AsType[*ssh.ExitError](err); !ok || exit.ExitStatus() != exitCannot || errOut.String() != "mayfly: start x: no such file\n" {
			t.Errorf("Run = %v, %q; want %d and why", err, errOut.String(), exitCannot)
		}
	})
	t.Run("signal", func(t *testing.T) {
		s := newSession(t, c)
		if err := s.Start("signal"); err != nil {
			t.Fatal(err)
		}
		if err := s.Signal(ssh.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		err := s.Wait()
		if exit, ok := errors.AsType[*ssh.ExitError](err); !ok || exit.Signal() != "USR1" {
			t.Errorf("Wait = %v; want the end by USR1", err)
		}
	})
	t.Run("size", func(t *testing.T) {
		s := newSession(t, c)
		var out bytes.Buffer
		s.Stdout = &out
		if err := s.RequestPty("xterm", 30, 90, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
			t.Fatal(err)
		}
		if err := s.Start("size"); err != nil {
			t.Fatal(err)
		}
		s.WindowChange(40, 120)
		s.WindowChange(0, 0)
		if err := s.Wait(); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); !strings.HasPrefix(got, "30 90 ") || !strings.Contains(got, "\n40 120 ") {
			t.Errorf("the program saw the sizes %q", got)
		}
	})
	t.Run("one program only", func(t *testing.T) {
		s := newSession(t, c)
		if err := s.Start("sleep"); err != nil {
			t.Fatal(err)
		}
		if ok, _ := s.SendRequest("exec", true, ssh.Marshal(struct{ C string }{"cat"})); ok {
			t.Error("a session took a second program")
		}
	})
	t.Run("refused", func(t *testing.T) {
		s := newSession(t, c)
		for _, name := range []string{"x11-req", "auth-agent-req@openssh.com", "no-such-request", "signal", "window-change"} {
			if ok, _ := s.SendRequest(name, true, nil); ok {
				t.Errorf("%s was granted", name)
			}
		}
		if ok, _ := s.SendRequest("subsystem", true, ssh.Marshal(struct{ S string }{"netconf"})); ok {
			t.Error("an unknown subsystem was granted")
		}
	})
	t.Run("alive", func(t *testing.T) {
		if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
			t.Errorf("a keepalive was not answered: %v", err)
		}
	})
}

// An editor keeps one connection, and has many channels on it at once. One whose
// program does not read holds up none of the others.
func TestManyChannels(t *testing.T) {
	s := newServer(t)
	c := s.client()
	stuck := newSession(t, c)
	feed, err := stuck.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stuck.Start("sleep"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close()
	wg.Go(func() { io.Copy(feed, zeros{}) }) // blocks once the window is full
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			data := bytes.Repeat([]byte{byte(i), 1, 2, 3, 4, 5, 6}, 1<<19)
			var got []byte
			var err error
			if i%2 == 0 {
				var conn net.Conn
				if conn, err = c.Dial("tcp", "echo:1"); err == nil {
					got, err = through(conn, data)
				}
			} else {
				var sess *ssh.Session
				if sess, err = c.NewSession(); err == nil {
					sess.Stdin = bytes.NewReader(data)
					got, err = sess.Output("cat")
				}
			}
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("channel %d: %d bytes came back, %v; want the %d that were sent", i, len(got), err, len(data))
			}
		})
	}
	clients.Wait()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func through(conn net.Conn, data []byte) ([]byte, error) {
	defer conn.Close()
	go func() {
		conn.Write(data)
		conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	return io.ReadAll(conn)
}

func TestTooManyChannels(t *testing.T) {
	c := newServer(t).client()
	for i := range maxChannels {
		if err := newSession(t, c).Start("sleep"); err != nil {
			t.Fatalf("channel %d: %v", i, err)
		}
	}
	_, err := c.NewSession()
	if refused, ok := errors.AsType[*ssh.OpenChannelError](err); !ok || refused.Reason != ssh.ResourceShortage {
		t.Errorf("channel %d: %v; want that there are too many", maxChannels, err)
	}
}

func TestTooManyConnections(t *testing.T) {
	s := newServer(t)
	for range maxConns {
		s.conns.take()
	}
	near, far := net.Pipe()
	defer near.Close()
	if err := s.Serve(far); err == nil || !strings.Contains(err.Error(), "connections already") {
		t.Errorf("Serve = %v; want that there are too many", err)
	}
}

// A client that says nothing is not waited for: the deadline is the connection's.
func TestHandshakeHasADeadline(t *testing.T) {
	s := newServer(t)
	near, far := net.Pipe()
	defer near.Close()
	d := &deadlines{Conn: far, set: make(chan time.Time, 4)}
	s.wg.Go(func() { s.Serve(d) })
	if at := <-d.set; time.Until(at) <= 0 || time.Until(at) > handshakeTime {
		t.Errorf("the handshake has until %v", at)
	}
}

type deadlines struct {
	net.Conn
	set chan time.Time
}

func (d *deadlines) SetDeadline(t time.Time) error {
	d.set <- t
	return d.Conn.SetDeadline(t)
}

func TestForwardLimits(t *testing.T) {
	c := newServer(t).client()
	ask := func(name string, port uint32) bool {
		ok, _, err := c.SendRequest(name, true, ssh.Marshal(forward{"localhost", port}))
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if ask("tcpip-forward", 80) {
		t.Error("a port of root's was given to the user")
	}
	for port := range uint32(maxForwards) {
		if !ask("tcpip-forward", 2000+port) {
			t.Fatalf("port %d was refused", 2000+port)
		}
	}
	if ask("tcpip-forward", 3000) {
		t.Errorf("port number %d was granted", maxForwards+1)
	}
	if !ask("cancel-tcpip-forward", 2000) || ask("cancel-tcpip-forward", 2000) {
		t.Error("a port is given up once")
	}
	if !ask("tcpip-forward", 3000) {
		t.Error("the place of a port that was given up was not given to another")
	}
}

func TestNoMoreSessions(t *testing.T) {
	c := newServer(t).client()
	if _, _, err := c.SendRequest("no-more-sessions@openssh.com", true, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.NewSession(); err == nil {
		t.Error("there was one more session")
	}
}
