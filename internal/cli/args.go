package cli

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/cli/hint"
)

// anyNumber is for takes: there is no most.
const anyNumber = math.MaxInt

// takes is the Args of a command with at least and at most so many arguments. Its errors
// name what is missing, by the command's own line of usage.
func takes(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		name := strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
		switch {
		case len(args) < least:
			return usageError{fmt.Errorf("%s is missing: %s %s", operand(cmd, len(args)), cmd.CommandPath(), operands(cmd))}
		case len(args) > most && most == 0:
			return usageError{fmt.Errorf("%s takes no arguments", name)}
		case len(args) > most:
			return usageError{fmt.Errorf("%q is too much: %s %s", args[most], cmd.CommandPath(), operands(cmd))}
		}
		return nil
	}
}

// operands is a command's line of usage without its name and flags.
func operands(cmd *cobra.Command) string {
	_, text, _ := strings.Cut(cmd.Use, " ")
	return strings.TrimPrefix(text, "[flags] ")
}

// operand returns the word of that line that stands for an argument which must be there.
func operand(cmd *cobra.Command, i int) string {
	for word := range strings.FieldsSeq(operands(cmd)) {
		if word == "--" || strings.HasPrefix(word, "[") {
			continue
		}
		if i == 0 {
			return strings.TrimSuffix(word, "…")
		}
		i--
	}
	return "an argument"
}

// portWords are what other programs call mayfly port.
var portWords = []string{"ports", "port-forward", "forward", "publish", "expose", "tunnel"}

// unknownCommand is the Args of a command that has only commands of its own.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasParent() && slices.Contains(portWords, args[0]) {
		const way = "mayfly port NAME add 8080:80, or mayfly ssh NAME -N -L 8080:localhost:80"
		return usageError{hint.Errorf(way, "unknown command %q", args[0])}
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usageError{fmt.Errorf("unknown command %q (did you mean %s?)", args[0], strings.Join(near, " or "))}
	}
	return usageError{fmt.Errorf("unknown command %q", args[0])}
}

// knownCommand is the Args of help: the words are those of a command.
func knownCommand(cmd *cobra.Command, args []string) error {
	found, rest, err := cmd.Root().Find(args)
	if err != nil {
		return usageError{err}
	}
	return unknownCommand(found, rest)
}

// usageArgs makes the errors of check usage errors.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// flagError puts an error of the flags into words of ours.
func flagError(_ *cobra.Command, err error) error {
	text, cause, ok := strings.Cut(err.Error(), ": strconv.")
	switch {
	case !ok:
		return usageError{err}
	case strings.HasPrefix(cause, "ParseBool"):
		text += ": must be true or false"
	case strings.HasSuffix(cause, "out of range"):
		text += ": too large"
	default:
		text += ": must be a whole number"
	}
	return usageError{errors.New(text)}
}
