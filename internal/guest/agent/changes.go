package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// workspace is the private copy of the user's directory. What was changed in
// it stands in the overlay's upper directory, and nothing else does.
type workspace struct {
	upper *os.File
}

// openWorkspace opens the workspace with its upper directory in dir.
func openWorkspace(dir string) (*workspace, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return &workspace{upper: os.NewFile(uintptr(fd), dir)}, nil
}

// outputSize is the number of bytes that are sent at once. Each send makes the VMM leave
// the guest, which takes longer than to look at a file.
const outputSize = 128 << 10

// errHostLeft is the reason of a context that ends because the host closed its stream.
var errHostLeft = errors.New("the host has left")

// whileHeard returns a context that ends when the host closes the stream, on which it says
// nothing more.
func whileHeard(stream net.Conn) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		io.Copy(io.Discard, stream)
		cancel(errHostLeft)
	}()
	return ctx, func() { cancel(nil) }
}

// changes sends the entries of the workspace's upper directory.
func (a *agent) changes(stream net.Conn, req *wire.Changes) {
	ctx, cancel := whileHeard(stream)
	defer cancel()
	out := bufio.NewWriterSize(stream, outputSize)
	m, err := a.configured()
	if err == nil && m.workspace == nil {
		err = errors.New("the machine has no workspace")
	}
	if err == nil {
		switch {
		case req.Quiesce && a.service != nil:
			err = a.service.quiesce()
		case req.Quiesce:
			a.reaper.killAll()
		}
	}
	if err == nil {
		err = m.workspace.list(ctx, newLister(out))
	}
	end := wire.Change{End: true}
	if err != nil {
		end.Error = err.Error()
	}
	wire.WriteMessage(out, end)
	out.Flush()
}

// list sends all entries to l, parents first.
func (ws *workspace) list(ctx context.Context, l *lister) error {
	if err := l.count(ctx, int(ws.upper.Fd()), ".", 0, 0); err != nil {
		return err
	}
	if l.progress.Counted == 0 {
		return nil // as at the end of most commands
	}
	if err := l.tell(time.Now()); err != nil {
		return err
	}
	return l.dir(ctx, int(ws.upper.Fd()), ".", ".")
}

// openFile opens a regular file. What has taken its name meanwhile, such as a
// fifo that nobody writes to, must not hold us up, and no link is followed.
func (ws *workspace) openFile(name string) (*os.File, int64, error) {
	fd, err := unix.Openat2(int(ws.upper.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, 0, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, 0, fmt.Errorf("%s is not a regular file", name)
	}
	return f, fi.Size(), nil
}

// fetch sends the content of files of the workspace's upper directory.
func (a *agent) fetch(stream net.Conn, req *wire.Fetch) {
	ctx, cancel := whileHeard(stream)
	defer cancel()
	buffered := bufio.NewWriterSize(stream, outputSize)
	defer buffered.Flush()
	out := wire.NewFrameWriter(buffered)
	m, err := a.configured()
	if err == nil && m.workspace == nil {
		err = errors.New("the machine has no workspace")
	}
	if err != nil {
		out.Write(wire.FrameError, []byte(err.Error()))
		return
	}
	for _, p := range req.Paths {
		if out.Write(wire.FrameFile, p) != nil {
			return
		}
		if err := m.workspace.send(ctx, out, string(p)); err != nil {
			out.Write(wire.FrameError, []byte(err.Error()))
			return
		}
		if out.Write(wire.FrameEnd, nil) != nil {
			return
		}
	}
}

func (ws *workspace) send(ctx context.Context, out *wire.FrameWriter, name string) error {
	f, size, err := ws.openFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = sparse.Copy(ctx, fileFrames{out}, f, size)
	return err
}

// fileFrames sends the content of a file.
type fileFrames struct{ out *wire.FrameWriter }

func (s fileFrames) Write(p []byte) (int, error) {
	return len(p), s.out.Write(wire.FrameStdout, p)
}

func (s fileFrames) Hole(n int64) error {
	return s.out.Write(wire.FrameHole, wire.AppendHole(nil, n))
}
