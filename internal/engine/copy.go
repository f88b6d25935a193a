package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/transfer"
)

// CopyIn copies a file or directory of the host into the machine. A target that is a
// directory gets the source inside of it.
func (m Machine) CopyIn(ctx context.Context, source, target string) error {
	fi, err := os.Stat(source)
	if err != nil {
		return err
	}
	name := filepath.Base(filepath.Clean(source))
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := transfer.Pack(ctx, w, source, name, fi)
		w.CloseWithError(err)
		done <- err
	}()
	// A target that is no directory is the new name of the source.
	const script = `set -e
target=${1:-.}
if [ -d "$target" ]; then exec tar -xf - --no-same-owner -C "$target"; fi
parent=$(dirname -- "$target")
[ -d "$parent" ] || { echo "$parent: no such directory" >&2; exit 1; }
temp=$(mktemp -d "$parent/.mayfly-cp-XXXXXX")
trap 'rm -rf "$temp"' EXIT
tar -xf - --no-same-owner -C "$temp"
mv -T -- "$temp/$2" "$target"`
	err = m.tar(ctx, script, []string{target, name}, r, io.Discard)
	r.Close()
	if packErr := <-done; packErr != nil && !errors.Is(packErr, io.ErrClosedPipe) {
		return packErr
	}
	return err
}

// CopyOut copies a file or directory of the machine to the host. It returns what it left
// out, in words with quoted names.
func (m Machine) CopyOut(ctx context.Context, source, target string) (skipped []string, err error) {
	if source == "." {
		source = m.p.Dir() // which has a name
	}
	name := path.Base(path.Clean(source))
	if source == "" || name == "/" || name == "." || name == ".." {
		return nil, InputError{fault.New(fault.CopyUnnamed, args{"name": m.Name(), "target": target}, "which file of %s is it?", m.Name())}
	}
	// A target that is no directory is the new name of the source.
	dir, newName := target, name
	if fi, err := os.Stat(target); err != nil || !fi.IsDir() {
		dir, newName = filepath.Dir(target), filepath.Base(target)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		const script = `exec tar -cf - -C "$(dirname -- "$1")" -- "$(basename -- "$1")"`
		err := m.tar(ctx, script, []string{source}, nil, w)
		w.CloseWithError(err)
		done <- err
	}()
	skipped, err = transfer.Extract(root, r, name, newName)
	r.CloseWithError(err)
	if guestErr := <-done; guestErr != nil && !errors.Is(guestErr, io.ErrClosedPipe) && (err == nil || errors.Is(err, guestErr)) {
		return skipped, guestErr
	}
	return skipped, err
}

// tar runs tar in the machine, with a script that gets args.
func (m Machine) tar(ctx context.Context, script string, args []string, stdin io.Reader, stdout io.Writer) error {
	var stderr bytes.Buffer
	req := &wire.Exec{Argv: append([]string{"sh", "-c", script, "mayfly-cp"}, args...), Dir: m.p.Dir()}
	code, err := m.Exec(ctx, req, client.Stdio{Stdin: stdin, Stdout: stdout, Stderr: &limited{&stderr, 4 << 10}})
	if err != nil {
		return err
	}
	if code != 0 {
		last := strings.TrimSpace(stderr.String())
		if i := strings.LastIndexByte(last, '\n'); i >= 0 {
			last = last[i+1:]
		}
		return fmt.Errorf("machine %s: %s", m.Name(), termsafe.Line(last))
	}
	return nil
}

// limited writes the first bytes only.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
