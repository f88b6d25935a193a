// Package terminal is what a front end on a terminal needs: input that can be left,
// keys that leave a session, raw mode and sizes, a terminal's description, a line of
// progress, and a terminal that is given back as it was.
package terminal

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// Is reports whether f is a terminal.
func Is(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// Raw hands each key of the terminal f to whoever reads it, until restore is called. It
// returns the terminal's size, and sends each new one to resized. When mayfly is stopped, the
// terminal is as it was before; when it goes on, it is raw again and its size is sent. S is the
// caller's type of a size.
func Raw[S ~struct{ Rows, Cols uint16 }](f *os.File) (now S, resized <-chan S, restore func(), err error) {
	return raw[S](f, func() {}, func() {})
}

// raw is Raw, where enter is called each time that the terminal is raw, and leave before it
// is given back.
func raw[S ~struct{ Rows, Cols uint16 }](f *os.File, enter, leave func()) (now S, resized <-chan S, restore func(), err error) {
	fd := int(f.Fd())
	size := func() S {
		cols, rows, err := term.GetSize(fd)
		if err != nil {
			cols, rows = 80, 24
		}
		return S{uint16(rows), uint16(cols)}
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return now, nil, nil, fmt.Errorf("set up the terminal: %w", err)
	}
	enter()
	sizes := make(chan S, 1)
	changes := make(chan os.Signal, 4)
	signal.Notify(changes, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case sig := <-changes:
				if sig == syscall.SIGTSTP {
					leave()
					term.Restore(fd, old)
					syscall.Kill(os.Getpid(), syscall.SIGSTOP)
					continue // with SIGCONT
				}
				if sig == syscall.SIGCONT {
					// The shell has made it its own meanwhile, also after a SIGSTOP.
					term.MakeRaw(fd)
					enter()
				}
			case <-done:
				return
			}
			select {
			case sizes <- size():
			case <-done:
				return
			}
		}
	}()
	return size(), sizes, func() {
		signal.Stop(changes)
		close(done)
		<-ended // it must not make the terminal raw again
		leave()
		term.Restore(fd, old)
	}, nil
}

// Terminfo returns this computer's description of the terminal name, which a machine
// may not know, term(5); nil for none. home is the user's home directory.
func Terminfo(name, home string) []byte {
	if name == "" || strings.ContainsAny(name, "/\x00") || name[0] == '.' {
		return nil
	}
	for _, dir := range []string{filepath.Join(home, ".terminfo"), "/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo"} {
		for _, sub := range []string{name[:1], fmt.Sprintf("%x", name[0])} {
			f, err := os.Open(filepath.Join(dir, sub, name))
			if err != nil {
				continue
			}
			data, err := io.ReadAll(io.LimitReader(f, 32<<10))
			f.Close()
			if err == nil {
				return data
			}
		}
	}
	return nil
}

// ReadLine reads a line from r, byte by byte: what follows may be for another reader.
// The end of ctx ends it.
func ReadLine(ctx context.Context, r io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		var line []byte
		var b [1]byte
		for {
			n, err := r.Read(b[:])
			if n == 1 && b[0] != '\n' {
				line = append(line, b[0])
				continue
			}
			if n == 1 {
				err = nil
			}
			done <- result{string(line), err}
			return
		}
	}()
	select {
	case res := <-done:
		return res.line, res.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
