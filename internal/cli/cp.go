package cli

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
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
		err := writeTar(ctx, w, source, filepath.Base(filepath.Clean(source)), fi)
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

// writeTar writes the file or directory source as name. Links are written as links. The
// directory may be live in a machine, whose guest exchanges what is in it meanwhile:
// nothing outside of it is read, whatever links come to stand there.
func writeTar(ctx context.Context, w io.Writer, source, name string, fi fs.FileInfo) error {
	tw := tar.NewWriter(w)
	err := func() error {
		if !fi.IsDir() {
			// A link that the user names is followed.
			f, err := os.OpenFile(source, os.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				return err
			}
			return addFile(tw, f, source, name, fi)
		}
		root, err := os.OpenRoot(source)
		if err != nil {
			return err
		}
		defer root.Close()
		return addTree(ctx, tw, root, ".", name, fi)
	}()
	if err != nil {
		return quoteNames(err)
	}
	return tw.Close()
}

// addTree writes what is at file below root as name.
func addTree(ctx context.Context, tw *tar.Writer, root *os.Root, file, name string, fi fs.FileInfo) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	switch {
	case fi.Mode().IsRegular():
		f, err := root.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		return addFile(tw, f, file, name, fi)
	case fi.Mode()&fs.ModeSymlink != 0:
		link, err := root.Readlink(file)
		if err != nil {
			return err
		}
		return writeHeader(tw, name, link, fi)
	case !fi.IsDir():
		return nil
	}
	if err := writeHeader(tw, name, "", fi); err != nil {
		return err
	}
	d, err := root.Open(file)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		fi, err := root.Lstat(path.Join(file, n))
		if err != nil {
			return err
		}
		if err := addTree(ctx, tw, root, path.Join(file, n), path.Join(name, n), fi); err != nil {
			return err
		}
	}
	return nil
}

// addFile writes the file f, which is to be that of fi, and closes it. What is no file is
// left out.
func addFile(tw *tar.Writer, f *os.File, file, name string, fi fs.FileInfo) error {
	defer f.Close()
	changed := func(err error) error {
		return fmt.Errorf("%s changed while it was read: %w", workspace.QuotePath(file), err)
	}
	if now, err := f.Stat(); err != nil || !os.SameFile(fi, now) {
		return changed(cmp.Or(err, errors.New("it is another file now")))
	}
	if !fi.Mode().IsRegular() {
		return nil
	}
	if err := writeHeader(tw, name, "", fi); err != nil {
		return err
	}
	if _, err := io.CopyN(tw, f, fi.Size()); err != nil {
		return changed(err)
	}
	return nil
}

func writeHeader(tw *tar.Writer, name, link string, fi fs.FileInfo) error {
	h, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return err
	}
	// Who it is here says nothing there.
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, 0, 0, "", ""
	h.Format = tar.FormatPAX
	return tw.WriteHeader(h)
}

// quoteNames returns err with the names of files in it quoted. A guest has chosen them, and
// they may hold line breaks, behind which it would speak in mayfly's name.
func quoteNames(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s %s: %w", e.Op, workspace.QuotePath(e.Path), e.Err)
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return fmt.Errorf("%s %s %s: %w", e.Op, workspace.QuotePath(e.Old), workspace.QuotePath(e.New), e.Err)
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
	skipped, err := extract(root, r, name, newName)
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

// maxSkipped bounds how many files that were left out are named.
const maxSkipped = 20

// extract writes the tar stream of a guest below root, the entry name as newName. It
// returns what it left out.
func extract(root *os.Root, r io.Reader, name, newName string) (skipped []string, err error) {
	skip := func(entry, why string) {
		if len(skipped) < maxSkipped {
			skipped = append(skipped, workspace.QuotePath(entry)+": "+why)
		}
	}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return skipped, nil
		}
		if err != nil {
			return skipped, fmt.Errorf("read what the machine sent: %w", err)
		}
		clean := path.Clean(h.Name)
		rest, ok := strings.CutPrefix(clean, name)
		if !ok || rest != "" && rest[0] != '/' || !filepath.IsLocal(clean) {
			skip(h.Name, "it was not asked for")
			continue
		}
		to := newName + rest
		if link, err := throughLink(root, to); err != nil {
			return skipped, quoteNames(err)
		} else if link != "" {
			skip(h.Name, "it is behind a link")
			continue
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.Mkdir(to, 0o755)
			if errors.Is(err, fs.ErrExist) {
				err = nil
			}
		case tar.TypeReg:
			err = extractFile(root, tr, to, fs.FileMode(h.Mode)&0o755|0o600)
		case tar.TypeSymlink:
			// Whoever follows it later must not leave what was copied.
			if target := path.Join(path.Dir(to), h.Linkname); path.IsAbs(h.Linkname) || upAfterDown(h.Linkname) ||
				target != newName && !strings.HasPrefix(target, newName+"/") {
				skip(h.Name, "a link that leads out")
				continue
			}
			err = root.Symlink(h.Linkname, to)
		default:
			skip(h.Name, "neither a file, nor a directory, nor a link")
			continue
		}
		if err != nil {
			return skipped, quoteNames(err)
		}
	}
}

// upAfterDown reports whether a link goes up behind a name: where that is depends on what
// is there, another link of the same guest's say.
func upAfterDown(link string) bool {
	named := false
	for part := range strings.SplitSeq(link, "/") {
		if part == ".." && named {
			return true
		}
		named = named || part != ".." && part != "." && part != ""
	}
	return false
}

// throughLink returns the first directory on the way to name that is a symbolic link: of
// what comes out of a machine nothing is written through one. root alone would follow
// those that stay within it, to files that were there before.
func throughLink(root *os.Root, name string) (string, error) {
	for i, c := range name {
		if c != '/' {
			continue
		}
		fi, err := root.Lstat(name[:i])
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		if fi.Mode()&fs.ModeSymlink != 0 {
			return name[:i], nil
		}
	}
	return "", nil
}

func extractFile(root *os.Root, r io.Reader, name string, mode fs.FileMode) error {
	// A link that stands there is not followed to what it names.
	if fi, err := root.Lstat(name); err == nil && !fi.Mode().IsRegular() {
		return fmt.Errorf("%s is there already, and no file", workspace.QuotePath(name))
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
