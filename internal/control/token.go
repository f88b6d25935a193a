package control

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// A program that connects to a socket needs the right to do that and none to read the
// user's files: Landlock does not see a connect, and sandboxes of browsers and desktops let
// sockets in. So the user's number is not enough. A client also shows what only who may
// read the machine's files can know.

// token is what a client shows. It is a new one for every start.
type token string

// tokenBytes is the size of what is random in a token, which is written in hexadecimal.
const tokenBytes = 32

func (token) String() string   { return "REDACTED" }
func (token) GoString() string { return "REDACTED" }

// makeToken makes the token of the machine in dir.
func makeToken(dir string) (token, error) {
	random := make([]byte, tokenBytes)
	rand.Read(random) // never fails
	t := token(hex.EncodeToString(random))
	path := filepath.Join(dir, state.TokenFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = io.WriteString(f, string(t))
	return t, errors.Join(err, f.Close())
}

// readToken returns the token of the machine in dir: none, if its supervisor made none.
// What is there otherwise is not shown to anybody: the directory's supervisor may have
// been taken over, and put another file of the user's in the place.
func readToken(dir *os.File) (token, error) {
	fd, err := unix.Openat(int(dir.Fd()), state.TokenFile, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), state.TokenFile)
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return "", errors.Join(errToken, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, 2*tokenBytes+1))
	if err != nil {
		return "", err
	}
	if random, err := hex.DecodeString(string(text)); err != nil || len(random) != tokenBytes {
		return "", errToken
	}
	return token(text), nil
}

var errToken = errors.New(state.TokenFile + " is not the token of a machine")

// Listener is a machine's socket.
type Listener struct {
	*net.UnixListener
	token token
}

// Admit returns an error if who sent r has not shown the machine's token. It is the same
// for all, and says nothing of the machine.
func (l *Listener) Admit(r Request) error {
	if subtle.ConstantTimeCompare([]byte(r.Token), []byte(l.token)) == 1 {
		return nil
	}
	return fault.New(fault.MachineForbidden, nil, "it obeys programs only that may read its directory: this one may not, or is an older mayfly")
}

// Listen makes the machine's socket, and the token that its clients show. The directory's
// descriptor stands in for its path, which may be longer than the 108 bytes of
// sockaddr_un.
func Listen(m state.Machine) (*Listener, error) {
	dir, err := os.Open(m.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	t, err := makeToken(m.Dir)
	if err != nil {
		return nil, fmt.Errorf("make the token for commands: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketPath(dir)})
	if err != nil {
		return nil, fmt.Errorf("listen for commands: %w", err)
	}
	l.SetUnlinkOnClose(false) // the name is gone by then; the directory's end is the socket's
	return &Listener{l, t}, nil
}
