package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Input is standard input for as long as a guest's command runs. A read of a
// terminal that has begun cannot be taken back: left behind by a command that
// ended, it would swallow the user's answer to the question that follows.
type Input struct {
	file       *os.File
	stopped    *os.File // reading end of a pipe; ready when stop was called
	stopWriter *os.File
}

// NewInput returns the input f until it is stopped.
func NewInput(f *os.File) (*Input, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return &Input{f, r, w}, nil
}

// Read reads what is there, and waits for it before it begins to.
func (in *Input) Read(p []byte) (int, error) {
	fds := []unix.PollFd{
		{Fd: int32(in.file.Fd()), Events: unix.POLLIN},
		{Fd: int32(in.stopped.Fd()), Events: unix.POLLIN},
	}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for standard input: %w", err)
		}
		if fds[1].Revents != 0 {
			return 0, io.EOF
		}
		return in.file.Read(p)
	}
}

// Stop ends a Read that waits, and all that follow.
func (in *Input) Stop() { in.stopWriter.Close() }
