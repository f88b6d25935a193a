package cli

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/term"

	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// pager shows what is written to it: on a terminal by the user's pager, if it has more
// lines than that.
type pager struct {
	to    *os.File
	rows  int // of the terminal; 0 if there is none
	shell string
	env   []string

	held  bytes.Buffer // what may still fit
	lines int
	cmd   *exec.Cmd
	in    io.WriteCloser
}

// newPager returns one for a standard stream.
func (a *app) newPager(to *os.File) *pager {
	p := &pager{to: to, shell: a.getenv("PAGER"), env: os.Environ()}
	if p.shell == "" {
		p.shell = "less"
	}
	if terminal.Is(to) && terminal.Is(a.In) && p.shell != "cat" {
		if _, rows, err := term.GetSize(int(to.Fd())); err == nil {
			p.rows = rows
		}
	}
	// Text of a guest is no reason for a pager to run programs or to write files.
	p.env = append(p.env, "LESSSECURE=1")
	if a.getenv("LESS") == "" {
		p.env = append(p.env, "LESS=FRX")
	}
	return p
}

func (p *pager) Write(b []byte) (int, error) {
	switch {
	case p.in != nil:
		return p.in.Write(b)
	case p.rows == 0:
		return p.to.Write(b)
	}
	p.held.Write(b)
	p.lines += bytes.Count(b, []byte("\n"))
	if p.lines < p.rows {
		return len(b), nil
	}
	if err := p.start(); err != nil {
		p.rows = 0 // without a pager
		_, err := p.to.Write(p.held.Bytes())
		return len(b), err
	}
	_, err := p.in.Write(p.held.Bytes())
	return len(b), err
}

func (p *pager) start() (err error) {
	p.cmd = exec.Command("/bin/sh", "-c", "exec "+p.shell)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = p.env, p.to, os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	if err = p.cmd.Start(); err != nil {
		p.in = nil
	}
	return err
}

// Close shows what is left, and waits until the user has read it.
func (p *pager) Close() error {
	if p.in == nil {
		if p.rows == 0 {
			return nil
		}
		_, err := p.to.Write(p.held.Bytes())
		return err
	}
	p.in.Close()
	if exit, ok := errors.AsType[*exec.ExitError](p.cmd.Wait()); ok && exit.ExitCode() == 127 {
		return errors.New("the pager of PAGER was not found")
	}
	return nil
}

// paged shows what write writes. That the user leaves the pager before its end is no error.
func (a *app) paged(to *os.File, write func(w io.Writer, p paint) error) error {
	p := a.newPager(to)
	err := write(p, a.paintFor(to))
	if errors.Is(err, syscall.EPIPE) && p.in != nil {
		err = nil
	}
	return errors.Join(err, p.Close())
}
