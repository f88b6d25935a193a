package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
)

// maxPrompt bounds a prompt, which no agent takes at such a length.
const maxPrompt = 1 << 20

// prompting is a prompt for a coding agent.
type prompting struct {
	text, file string
	changed    func(flag string) bool
}

func (p *prompting) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&p.text, "prompt", "p", "", "do what this `text` says, and end")
	p.fileFlag(cmd)
}

func (p *prompting) fileFlag(cmd *cobra.Command) {
	p.changed = cmd.Flags().Changed
	cmd.Flags().StringVar(&p.file, "prompt-file", "", "do what this `file` says, and end; \"-\" is standard input")
}

// given reports whether there is one.
func (p *prompting) given() bool { return p.changed("prompt") || p.changed("prompt-file") }

// read returns the prompt, "" for none.
func (p *prompting) read(in *os.File) (string, error) {
	text := p.text
	switch {
	case !p.given():
		return "", nil
	case p.changed("prompt") && p.changed("prompt-file"):
		return "", usageError{errors.New("--prompt and --prompt-file exclude each other")}
	case p.changed("prompt-file"):
		f := in
		if p.file != "-" {
			var err error
			if f, err = os.Open(p.file); err != nil {
				return "", err
			}
			defer f.Close()
		}
		data, err := io.ReadAll(io.LimitReader(f, maxPrompt+1))
		if err != nil {
			return "", err
		}
		text = string(data)
	}
	return text, checkPrompt(text)
}

func checkPrompt(text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return usageError{errors.New("the prompt is empty")}
	case len(text) > maxPrompt:
		return usageError{fmt.Errorf("the prompt is longer than %d bytes", maxPrompt)}
	}
	return nil
}

// agentOnce lets a coding agent do what a prompt says, in a session with --detach.
func (a *app) agentOnce(ctx context.Context, m *mayfly.Machine, agent, prompt string, l launching) error {
	coding, err := m.OneShot(agent)
	if err != nil {
		return err
	}
	if !l.detached {
		code, err := a.execOnce(ctx, m, coding, prompt)
		if err != nil {
			return commandFailed(m.Explain(err, coding))
		}
		return exitCode(code)
	}
	if _, err := m.Prepare(ctx, coding); err != nil {
		return commandFailed(err)
	}
	if coding, err = m.Deliver(ctx, coding, prompt); err != nil {
		return commandFailed(err)
	}
	return a.viewAgent(ctx, m, mayfly.View{Name: coding.Name, Cmd: coding.Cmd, Detached: true, New: true}, coding, l.viewing)
}

// execOnce lets a coding agent do what a prompt says, and returns its exit code. Its
// standard input is the prompt.
func (a *app) execOnce(ctx context.Context, m *mayfly.Machine, coding mayfly.CodingAgent, prompt string) (int, error) {
	if _, err := m.Prepare(ctx, coding); err != nil {
		return 0, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	go func() {
		io.WriteString(w, prompt) // what the agent does not read is nobody's error
		w.Close()
	}()
	in := a.In
	a.In = r
	defer func() { a.In = in }()
	return a.exec(ctx, m, coding.Cmd, true)
}
