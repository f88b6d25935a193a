package engine

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/shellquote"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

const (
	// dropDir is where files go that are to be shown to a program, in the home of the
	// machine's user.
	dropDir = ".cache/mayfly-paste"
	// dropTimeout is how long a guest may take for a file.
	dropTimeout = 2 * time.Minute
)

// writeDrop puts its input of $1 bytes into a new file. What is not whole leaves none: the input
// of a program just ends if who sends it breaks off, and a signal may end the shell.
const writeDrop = `umask 077 && mkdir -p -- "${0%/*}" || exit
trap 'rm -f -- "$0.part"' EXIT
trap 'exit 1' HUP INT TERM
cat >"$0.part" || exit
[ "$(wc -c <"$0.part")" -eq "$1" ] || { echo "it did not arrive as a whole" >&2; exit 1; }
mv -- "$0.part" "$0"`

// Drop puts data into a new file of the machine's user, which nobody else can read, and
// returns its path. Its name is random; extension, without a dot, is that of its kind.
func (m Machine) Drop(ctx context.Context, data []byte, extension string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dropTimeout, fmt.Errorf("put a file into %s: no answer", m.Name()))
	defer cancel()
	file := path.Join(m.p.Guest.User.Home, dropDir, strings.ToLower(rand.Text()[:12])+"."+extension)
	var says bytes.Buffer
	code, err := m.Exec(ctx, &wire.Exec{Argv: []string{"/bin/sh", "-c", writeDrop, file, strconv.Itoa(len(data))}, Dir: "/"},
		client.Stdio{Stdin: bytes.NewReader(data), Stderr: &clipped{&says, maxGitError}})
	if err == nil && code != 0 {
		err = fmt.Errorf("put a file into %s: %s", m.Name(), termsafe.Line(says.String()))
	}
	if err != nil {
		return "", err
	}
	return file, nil
}

// PastePictures reports whether a picture whose path is pasted at a terminal goes into the
// machine, as the user's config.toml says.
func (e *Engine) PastePictures() (bool, error) {
	cfg, err := e.ownConfig()
	return err == nil && cfg.Attach.PastePictures, err
}

// Paste types paths of the machine at the program of a session, quoted for a shell where
// they need it, and presses no Enter.
func (m Machine) Paste(ctx context.Context, session string, paths []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("paste into %s: no answer", m.Name()))
	defer cancel()
	req := &wire.Session{Name: session}
	for _, p := range paths {
		req.Paste = append(req.Paste, shellquote.Word(p))
	}
	var info wire.SessionInfo
	err := m.converse(ctx, func(stream net.Conn) error {
		_, err := client.Session(stream, req, client.Stdio{}, func(i wire.SessionInfo) { info = i })
		return err
	})
	if err == nil && !info.Pasted {
		return m.e.aboutVersion(fault.New(fault.MachineVersion, nil, "its guest agent is that of another mayfly, and cannot paste"), m.Name())
	}
	return m.copyError(err)
}
