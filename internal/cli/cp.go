package cli

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

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/transfer"
)

func (a *app) cpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cp SOURCE TARGET",
		Short: "Copy files to or from a running machine",
		Long: `Copy a file or a directory to or from a running machine. The one of the two that
is in the machine is written NAME:PATH; a path that is not absolute begins in
its workspace. A target that is a directory gets the source inside of it.

What comes out of a machine is not to be trusted: it is never written outside of
the target, links that lead out of it and devices are left out, and setuid bits
are not kept.`,
		Example: `  mayfly cp report.pdf dcs:
  mayfly cp dcs:/var/log/apt ./logs`,
		Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error { return a.cp(cmd.Context(), args[0], args[1]) },
	}
}

// inMachine parts NAME:PATH. A path with a slash before the colon is a file's.
func inMachine(arg string) (name, path string, ok bool) {
	name, path, ok = strings.Cut(arg, ":")
	return name, path, ok && name != "" && !strings.ContainsAny(name, "/.")
}

func (a *app) cp(ctx context.Context, source, target string) error {
	fromName, from, isFrom := inMachine(source)
	toName, to, isTo := inMachine(target)
	switch {
	case isFrom && isTo:
		return usageError{errors.New("one of the two must be on this computer")}
	case !isFrom && !isTo:
		return usageError{hint.Errorf("mayfly cp FILE NAME:PATH", "neither %q nor %q is in a machine", source, target)}
	case isFrom:
		m, p, err := a.running(ctx, fromName)
		if err != nil {
			return err
		}
		return a.copyOut(ctx, m, p, from, target)
	}
	m, p, err := a.running(ctx, toName)
	if err != nil {
		return err
	}
	return a.copyIn(ctx, m, p, source, to)
}

// guestTar runs tar in the machine, with a script that gets its arguments.
func guestTar(ctx context.Context, m state.Machine, p plan.Plan, script string, args []string, stdin io.Reader, stdout io.Writer) error {
	stream, err := control.OpenGuest(m)
	if err != nil {
		return err
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	defer stop()
	var stderr bytes.Buffer
	req := &wire.Exec{Argv: append([]string{"sh", "-c", script, "mayfly-cp"}, args...), Dir: p.Dir()}
	code, err := client.Exec(stream, req, client.Stdio{Stdin: stdin, Stdout: stdout, Stderr: &limited{&stderr, 4 << 10}})
	if err != nil {
		return err
	}
	if code != 0 {
		last := strings.TrimSpace(stderr.String())
		if i := strings.LastIndexByte(last, '\n'); i >= 0 {
			last = last[i+1:]
		}
		return fmt.Errorf("machine %s: %s", m.Name, termsafe.Line(last))
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

// copyIn copies a file or directory of this computer into the machine.
func (a *app) copyIn(ctx context.Context, m state.Machine, p plan.Plan, source, target string) error {
	fi, err := os.Stat(source)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := transfer.Pack(ctx, w, source, filepath.Base(filepath.Clean(source)), fi)
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
	err = guestTar(ctx, m, p, script, []string{target, filepath.Base(filepath.Clean(source))}, r, io.Discard)
	r.Close()
	if writeErr := <-done; writeErr != nil && !errors.Is(writeErr, io.ErrClosedPipe) {
		return writeErr
	}
	return err
}

// copyOut copies a file or directory of the machine to this computer.
func (a *app) copyOut(ctx context.Context, m state.Machine, p plan.Plan, source, target string) error {
	if source == "." {
		source = p.Dir() // which has a name
	}
	name := path.Base(path.Clean(source))
	if source == "" || name == "/" || name == "." || name == ".." {
		return usageError{hint.Errorf("mayfly cp "+m.Name+":PATH "+target, "which file of %s is it?", m.Name)}
	}
	// A target that is no directory is the new name of the source.
	dir, newName := target, name
	if fi, err := os.Stat(target); err != nil || !fi.IsDir() {
		dir, newName = filepath.Dir(target), filepath.Base(target)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		const script = `exec tar -cf - -C "$(dirname -- "$1")" -- "$(basename -- "$1")"`
		err := guestTar(ctx, m, p, script, []string{source}, nil, w)
		w.CloseWithError(err)
		done <- err
	}()
	skipped, err := transfer.Extract(root, r, name, newName)
	r.CloseWithError(err)
	guestErr := <-done
	for _, s := range skipped {
		a.note("left out: %s", s)
	}
	if guestErr != nil && !errors.Is(guestErr, io.ErrClosedPipe) && (err == nil || errors.Is(err, guestErr)) {
		return guestErr
	}
	return err
}
