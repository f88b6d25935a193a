package secret

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

// Bounds of where a value comes from.
const (
	maxValue       = 64 << 10 // bytes
	commandTimeout = time.Minute
)

// errSource does not say what there was instead: it may be the value itself.
var errSource = errors.New("the source of a secret is neither env:NAME, file:PATH nor cmd:COMMAND")

// Resolve gets the value that from names: "env:NAME", a variable; "file:PATH", a file's
// content without its last newline; "cmd:COMMAND", what a shell command prints. It is for
// the process of the user, whose variables getenv knows. Errors never quote a value.
func Resolve(ctx context.Context, from string, getenv func(string) string) (Value, error) {
	kind, what, ok := strings.Cut(from, ":")
	if !ok || what == "" {
		return Value{}, errSource
	}
	var plain string
	var err error
	switch kind {
	case "env":
		if plain = getenv(what); plain == "" {
			err = fault.New(fault.VariableUnset, fault.Args{"variable": what}, "the variable %s is not set", what)
		}
	case "file":
		what, _ = SourceFile(from, getenv)
		plain, err = readFile(what)
	case "cmd":
		plain, err = runCommand(ctx, what)
	default:
		err = errSource
	}
	if err != nil {
		return Value{}, err
	}
	return Check(from, plain)
}

// Check returns plain as a value, unless it cannot be one. what is where it comes from.
func Check(what, plain string) (Value, error) {
	if plain == "" {
		return Value{}, fmt.Errorf("%s is empty", what)
	}
	if len(plain) > maxValue {
		return Value{}, fmt.Errorf("%s is larger than %d KiB", what, maxValue>>10)
	}
	// It is to be a header, where a newline would begin another.
	if strings.ContainsFunc(plain, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Value{}, fmt.Errorf("%s holds more than one line, or control characters", what)
	}
	return NewValue(plain), nil
}

// SourceFile returns the file that a source of a secret names, false for another source.
func SourceFile(from string, getenv func(string) string) (path string, ok bool) {
	path, ok = strings.CutPrefix(from, "file:")
	if rest, home := strings.CutPrefix(path, "~/"); ok && home {
		path = filepath.Join(getenv("HOME"), rest)
	}
	return path, ok
}

func readFile(path string) (string, error) {
	data, err := userfile.Read(path, maxValue)
	return trimNewline(string(data)), err
}

// runCommand returns what a command prints; what it says beside that is the user's to
// see.
func runCommand(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var out bounded
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, &out, os.Stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case out.full:
		return "", fmt.Errorf("the command %q prints more than %d KiB", command, maxValue>>10)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("no answer within %v", commandTimeout)
	}
	if err != nil {
		return "", fmt.Errorf("the command %q: %w", command, err)
	}
	return trimNewline(out.String()), nil
}

// bounded keeps maxValue bytes.
type bounded struct {
	strings.Builder
	full bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxValue {
		b.full = true
		return 0, io.ErrShortWrite // ends a command that would print for ever
	}
	return b.Builder.Write(p)
}

func trimNewline(s string) string {
	return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r")
}
