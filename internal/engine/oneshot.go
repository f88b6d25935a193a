package engine

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"path"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// OneShot returns how a coding agent is started that does what a prompt says, which it reads
// from its standard input, and ends. Without a name it is the only one of the machine's image.
func (m Machine) OneShot(agent string) (codingagent.Spec, error) {
	agent, err := pickAgent(m.Name(), m.p.Image.Agents, agent)
	if err != nil {
		return codingagent.Spec{}, err
	}
	spec, err := codingagent.OneShot(agent, m.p.Place())
	return spec, inputError(err)
}

// What puts a prompt into a file of the machine's, and what starts an agent that reads it:
// from a file that is gone by then. Neither has the prompt where a list of processes shows it.
const (
	writePrompt = `umask 077 && mkdir -p -- "${0%/*}" && cat >"$0"`
	readPrompt  = `exec 3<"$0" && rm -f -- "$0" && exec "$@" <&3 3<&-`
)

// Deliver puts a prompt into the machine and returns how the agent of spec, of OneShot, is
// started with it where its standard input is a terminal.
func (m Machine) Deliver(ctx context.Context, spec codingagent.Spec, prompt string) (codingagent.Spec, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, seedTimeout, fmt.Errorf("give %s in %s its prompt: no answer", spec.Agent, m.Name()))
	defer cancel()
	file := path.Join(path.Dir(spec.State), "prompts", rand.Text())
	var says bytes.Buffer
	code, err := m.Exec(ctx, &wire.Exec{Argv: []string{"/bin/sh", "-c", writePrompt, file}, Dir: "/"},
		client.Stdio{Stdin: strings.NewReader(prompt), Stderr: &clipped{&says, maxGitError}})
	if err == nil && code != 0 {
		err = fmt.Errorf("give %s in %s its prompt: %s", spec.Agent, m.Name(), termsafe.Line(says.String()))
	}
	spec.Argv = append([]string{"/bin/sh", "-c", readPrompt, file}, spec.Argv...)
	return spec, err
}
