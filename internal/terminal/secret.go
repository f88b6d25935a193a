package terminal

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ReadSecret reads a line from the terminal f, which does not show it.
func ReadSecret(ctx context.Context, f *os.File) (string, error) {
	fd := int(f.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", fmt.Errorf("set up the terminal: %w", err)
	}
	silent := *old
	silent.Lflag = silent.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	// With what was typed before: it was not meant for this.
	if err := unix.IoctlSetTermios(fd, unix.TCSETSF, &silent); err != nil {
		return "", fmt.Errorf("set up the terminal: %w", err)
	}
	defer unix.IoctlSetTermios(fd, unix.TCSETSF, old)
	return ReadLine(ctx, f)
}
