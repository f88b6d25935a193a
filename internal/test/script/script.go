// Package script is what tests that are scripts of commands share: the program
// itself, and the commands of testscript that are ours.
//
// A script is a file of testdata that testscript runs. It has mayfly in its PATH;
// how its computer looks is its test's matter.
package script

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mayfly-vm/mayfly/internal/cli"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/skill"
)

// Main runs the tests of m. The test binary is mayfly, too: the supervisor that
// it starts is again itself, with the race detector in it.
func Main(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"mayfly": func() {
			quickEnd()
			os.Exit(cli.Main("test", os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
	})
}

// quickEnd lets a supervisor end at once under the race detector, which else sleeps for
// a second at the end of a process. A supervisor inherits no variable that would say so:
// it becomes itself again, with that.
func quickEnd() {
	const variable = "GORACE"
	if len(os.Args) < 2 || os.Args[1] != control.Command || os.Getenv(variable) != "" {
		return
	}
	syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), variable+"=atexit_sleep_ms=0"))
	// It ends later, then.
}

// Commands returns the commands that every script may use.
func Commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){"agent": agent, "exits": exits}
}

// agent [--no-build] NAME=VALUE… is an agent that follows the skill: it runs its
// commands in order, with the placeholders filled in, and stops at the first that
// fails. The standard output is that of the last.
func agent(ts *testscript.TestScript, neg bool, args []string) {
	values := make(map[string]string)
	noBuild := false
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok && arg != "--no-build" {
			ts.Fatalf("usage: agent [--no-build] NAME=VALUE…")
		}
		noBuild = noBuild || !ok
		values[name] = value
	}
	for _, command := range skill.Commands(skill.Text()) {
		filled, err := skill.Fill(command, values)
		ts.Check(err)
		words := strings.Fields(filled)
		if noBuild && words[1] == "check" {
			words = append(words, "--no-build")
		}
		ts.Logf("agent: %s", strings.Join(words, " "))
		if err := ts.Exec(words[0], words[1:]...); err != nil {
			if !neg {
				ts.Fatalf("%s: %v", filled, err)
			}
			return
		}
	}
	if neg {
		ts.Fatalf("the agent got to the end of the skill")
	}
}

// exits CODES COMMAND… runs the command, which is to exit with one of the codes,
// separated by commas.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODES COMMAND…")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if !slices.Contains(strings.Split(args[0], ","), strconv.Itoa(code)) {
		ts.Fatalf("exit code %d; want %s", code, args[0])
	}
}
