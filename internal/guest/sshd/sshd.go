// Package sshd is the SSH server of a machine.
//
// It takes connections, wherever they come from, lets the holders of some keys in
// as the machine's one user, and turns their channels into programs, files and
// forwarded connections. It starts no program and opens no socket itself: Config
// says how that is done. There are no passwords, no other users, no X11 and no
// forwarding of agents.
//
// A client that is not let in yet is hostile: it gets a bounded time, in which
// nothing is done for it but a key exchange. One that was let in is the user, who
// may do all that the user may do, but must not wear the server out by accident:
// connections, channels and what they buffer are bounded.
package sshd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// Bounds of what clients can have.
const (
	handshakeTime = time.Minute // an emulated CPU is slow, and a user may have to touch a key
	maxConns      = 64          // of the server
	maxChannels   = 128         // of a connection; each buffers up to 2 MiB
	maxForwards   = 32          // ports that a connection listens on
	maxKeys       = 256         // that are let in
	maxAuthTries  = 20          // an agent may hold many keys
	maxEnv        = 64          // variables of a session
	maxText       = 4 << 10     // bytes of a variable, of a terminal's name
)

// Config says who is let in and what is done for them.
type Config struct {
	HostKey        []byte // an OpenSSH private key, PEM, ed25519
	AuthorizedKeys []byte // as authorized_keys(5), without options
	User           string // the only name to log in with

	// Start starts a program as the user.
	Start func(Command) (Process, error)
	// Dial connects to a TCP port as seen from the machine.
	Dial func(host string, port int) (net.Conn, error)
	// Listen listens on a port of the machine's loopback interfaces, any that is
	// free for 0.
	Listen func(port int) ([]net.Listener, error)
}

// Command is what a session runs.
type Command struct {
	Line     string    // for the user's shell; "" for the shell itself, as after a login
	SFTP     bool      // ServeSFTP on standard input and output, in the place of a shell
	Env      []string  // KEY=VALUE, as the client sent them
	Terminal *Terminal // nil for three pipes
}

// Terminal is what a program is to be connected to.
type Terminal struct {
	Name  string // $TERM
	Size  Size
	Modes Modes
}

// Size is a terminal's, in characters and in pixels, which may be 0.
type Size struct{ Rows, Cols, X, Y uint16 }

// Process is a program that runs.
type Process interface {
	// Input copies in to the program's input until in ends, or the program does
	// not want more, which is an error. With pipes the program then sees the end.
	Input(in io.Reader) error
	// Wait copies what the program writes until it has ended and all is written.
	// With a terminal there is no output to stderr. When gone is closed, the
	// program is hung up.
	Wait(stdout, stderr io.Writer, gone <-chan struct{}) syscall.WaitStatus
	Resize(Size)
	// Signal sends a signal to the program and its children.
	Signal(syscall.Signal)
}

// Server is the SSH server of one machine.
type Server struct {
	cfg   Config
	ssh   *ssh.ServerConfig
	keys  map[string]bool // those that are let in, as on the wire
	conns slots
}

// slots are what there is a bounded number of.
type slots chan struct{}

func (s slots) take() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) give() { <-s }

// New returns a server. It does nothing until it gets a connection.
func New(cfg Config) (*Server, error) {
	hostKey, err := ssh.ParsePrivateKey(cfg.HostKey)
	if err != nil {
		return nil, fmt.Errorf("read the host key: %w", err)
	}
	if t := hostKey.PublicKey().Type(); t != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("the host key is of type %s, not %s", t, ssh.KeyAlgoED25519)
	}
	keys, err := parseAuthorizedKeys(cfg.AuthorizedKeys)
	if err != nil {
		return nil, fmt.Errorf("read the authorized keys: %w", err)
	}
	s := &Server{cfg: cfg, keys: keys, conns: make(slots, maxConns)}
	s.ssh = &ssh.ServerConfig{
		ServerVersion:           "SSH-2.0-mayfly",
		MaxAuthTries:            maxAuthTries,
		PublicKeyCallback:       s.checkKey,
		PublicKeyAuthAlgorithms: ssh.SupportedAlgorithms().PublicKeyAuths, // no SHA-1
		BannerCallback:          s.banner,
	}
	s.ssh.AddHostKey(hostKey)
	return s, nil
}

func parseAuthorizedKeys(file []byte) (map[string]bool, error) {
	keys := make(map[string]bool)
	for line := range bytes.Lines(file) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, _, options, _, err := ssh.ParseAuthorizedKey(line)
		if err != nil {
			return nil, err
		}
		if len(options) > 0 {
			// They only ever take rights away, which must not be overlooked.
			return nil, errors.New("options of keys are not supported")
		}
		if len(keys) >= maxKeys {
			return nil, fmt.Errorf("there are more than %d", maxKeys)
		}
		keys[string(key.Marshal())] = true
	}
	return keys, nil
}

func (s *Server) checkKey(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if conn.User() != s.cfg.User {
		return nil, errors.New("no such user")
	}
	if !s.keys[string(key.Marshal())] {
		return nil, errors.New("the key is not authorized")
	}
	return nil, nil
}

// banner tells who comes with a wrong name why no key helps.
func (s *Server) banner(conn ssh.ConnMetadata) string {
	if conn.User() == s.cfg.User {
		return ""
	}
	return fmt.Sprintf("mayfly: the user of this machine is %s, and nobody else can log in\n", s.cfg.User)
}

// Serve serves a connection until it ends, and closes it. The error says why it
// was not let in; it is nil for one that was.
func (s *Server) Serve(nc net.Conn) error {
	defer nc.Close()
	if !s.conns.take() {
		return fmt.Errorf("there are %d connections already", maxConns)
	}
	defer s.conns.give()
	nc.SetDeadline(time.Now().Add(handshakeTime))
	conn, channels, requests, err := ssh.NewServerConn(nc, s.ssh)
	if err != nil {
		return fmt.Errorf("greet the SSH client: %w", err)
	}
	defer conn.Close()
	nc.SetDeadline(time.Time{})
	c := &connection{server: s, conn: conn, slots: make(slots, maxChannels)}
	c.wg.Go(func() { c.requests(requests) })
	c.channels(channels)
	c.wg.Wait() // the client is gone
	return nil
}
