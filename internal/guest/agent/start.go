package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// explainStart says what is missing where prog could not be started: for many things
// that may be missing, execve(2) has one error.
func explainStart(prog program, err error) error {
	if _, statErr := os.Stat(prog.dir); statErr != nil {
		return fmt.Errorf("start in %s: %w", prog.dir, statErr)
	}
	missing := func(format string, args ...any) error {
		return fault.New(fault.CommandNotFound, nil, "%s: "+format, append([]any{prog.path}, args...)...)
	}
	// The agent follows links that the user may not: who is told of a lacking
	// permission would look for a file that is not there at all.
	target, lookErr := follow(prog.path)
	switch {
	case errors.Is(lookErr, fs.ErrNotExist) && target == prog.path:
		return missing("command not found")
	case errors.Is(lookErr, fs.ErrNotExist):
		return missing("a link to %s, which is not in the machine", termsafe.Quote(target))
	case lookErr != nil:
		return fmt.Errorf("start %s: %w", prog.path, lookErr)
	}
	if fi, statErr := os.Stat(target); statErr == nil && fi.IsDir() {
		return fmt.Errorf("start %s: %w", prog.path, syscall.EISDIR)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if name := interpreter(target); name != "" {
			return missing("its interpreter %s is not in the machine", termsafe.Quote(name))
		}
		return missing("the loader of its shared libraries is not in the machine")
	}
	return fmt.Errorf("start %s: %w", prog.path, err)
}

// follow returns what the symbolic link path leads to in the end, or path itself. With
// fs.ErrNotExist, that is not there.
func follow(path string) (string, error) {
	for range maxLinks {
		fi, err := os.Lstat(path)
		if err != nil || fi.Mode()&os.ModeSymlink == 0 {
			return path, err
		}
		next, err := os.Readlink(path)
		if err != nil {
			return path, err
		}
		if !filepath.IsAbs(next) {
			// Not cleaned: where a directory is a link, ".." is not what is left of it.
			next = filepath.Dir(path) + "/" + next
		}
		path = next
	}
	return path, syscall.ELOOP
}

// interpreter returns the program that the script path is for, or "" if it is no script.
func interpreter(path string) string {
	// O_NONBLOCK: to open a FIFO must not wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	var head [256]byte // as the kernel reads: BINPRM_BUF_SIZE
	n, err := io.ReadFull(f, head[:])
	if err != nil && err != io.ErrUnexpectedEOF {
		return ""
	}
	rest, ok := strings.CutPrefix(string(head[:n]), "#!")
	if !ok {
		return ""
	}
	rest, _, _ = strings.Cut(rest, "\n")
	rest = strings.Trim(rest, " \t")
	if i := strings.IndexAny(rest, " \t"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}
