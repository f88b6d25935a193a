package mcp

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// runInput are the arguments of run.
type runInput struct {
	Command    string `json:"command" jsonschema:"the command, for bash (sh where there is none)"`
	Cwd        string `json:"cwd,omitempty" jsonschema:"directory in the machine, absolute or relative to the workspace, which is the default"`
	TimeoutS   int    `json:"timeout_s,omitempty" jsonschema:"seconds after which the command is killed; default 120, at most 3600"`
	Background bool   `json:"background,omitempty" jsonschema:"return at once with the id of a job"`
}

// runOutput is the result of run.
type runOutput struct {
	ExitCode    *int     `json:"exit_code,omitempty" jsonschema:"128 plus the number of the signal that ended it, if one did"`
	Stdout      string   `json:"stdout"`
	Stderr      string   `json:"stderr"`
	Truncated   bool     `json:"truncated,omitempty" jsonschema:"the middle of the output is left out"`
	TimedOut    bool     `json:"timed_out,omitempty" jsonschema:"it was killed after timeout_s"`
	Job         string   `json:"job,omitempty" jsonschema:"the id of the job, with background"`
	DeniedHosts []string `json:"denied_hosts,omitempty" jsonschema:"hosts that the network refused meanwhile; the tool network says more"`
}

const (
	defaultTimeout = 120 * time.Second
	mostTimeout    = time.Hour
	mostStdout     = 24 << 10 // bytes of a result
	mostStderr     = 8 << 10
	mostCommand    = 256 << 10
	pulse          = 5 * time.Second // how often a client hears that a command runs
)

// errTimeout is why a command was killed.
var errTimeout = errors.New("the time is over")

func (s *Server) run(ctx context.Context, c *call, in runInput) (runOutput, error) {
	timeout := defaultTimeout
	switch seconds := time.Duration(in.TimeoutS) * time.Second; {
	case in.Command == "":
		return runOutput{}, errors.New("there is no command")
	case len(in.Command) > mostCommand:
		return runOutput{}, fmt.Errorf("the command has %d bytes; at most %d are possible: write a script", len(in.Command), mostCommand)
	case in.TimeoutS < 0 || in.TimeoutS > int(mostTimeout/time.Second):
		return runOutput{}, fmt.Errorf("timeout_s is from 1 to %d: use background for what takes longer", int(mostTimeout/time.Second))
	case in.TimeoutS > 0:
		timeout = seconds
	}
	m, err := s.touched(ctx, c)
	if err != nil {
		return runOutput{}, err
	}
	dir := guestPath(m, in.Cwd)
	if in.Background {
		id, err := s.begin(ctx, m, in.Command, dir)
		return runOutput{Job: id}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	stdout, stderr := &output{limit: mostStdout}, &output{limit: mostStderr}
	defer s.pulse(ctx, c, stdout, stderr)()
	code, err := shell(ctx, m, in.Command, mayfly.Cmd{Dir: dir, Stdout: stdout, Stderr: stderr})
	out := runOutput{TimedOut: errors.Is(err, errTimeout)}
	switch {
	case err == nil:
		out.ExitCode = &code
	case !out.TimedOut:
		return runOutput{}, err
	}
	var cut, cutErr bool
	out.Stdout, cut = stdout.take()
	out.Stderr, cutErr = stderr.take()
	out.Truncated = cut || cutErr
	out.DeniedHosts = s.newlyDenied(m)
	return out, nil
}

// pulse tells the client from time to time that a command goes on, until stop is called.
func (s *Server) pulse(ctx context.Context, c *call, outs ...*output) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	begun := time.Now()
	s.work.Go(func() {
		tick := time.NewTicker(pulse)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			var n int64
			for _, o := range outs {
				n += o.size()
			}
			c.progress(ctx, "running for %d s, %d bytes of output", int(time.Since(begun).Seconds()), n)
		}
	})
	return cancel
}

// shell runs a command line, by bash if the guest has it.
func shell(ctx context.Context, m Machine, line string, cmd mayfly.Cmd) (int, error) {
	cmd.Argv = []string{"sh", "-c", `command -v bash >/dev/null 2>&1 && exec bash -c "$1"; exec sh -c "$1"`, "sh", line}
	return execute(ctx, m, cmd)
}

// killTime is how long the guest has to say that a command was killed.
const killTime = 3 * time.Second

// execute runs a command. When ctx ends, all of its process group is killed, and the cause is
// returned.
func execute(ctx context.Context, m Machine, cmd mayfly.Cmd) (int, error) {
	signals := make(chan byte, 1)
	cmd.Signals = signals
	talk, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	ended := make(chan struct{})
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		signals <- byte(syscall.SIGKILL)
		select {
		case <-ended:
		case <-time.After(killTime):
			hangUp()
		}
	})
	code, err := m.Exec(talk, cmd)
	close(ended)
	if !stop() {
		<-killed
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return code, err
}

// tool runs a program of the guest's that does a tool's work, and returns what it printed.
func tool(ctx context.Context, m Machine, limit int, cmd mayfly.Cmd) (*output, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, toolTimeout, errors.New("it takes too long"))
	defer cancel()
	said := &output{limit: mostError}
	cmd.Stderr = said
	kept := &output{limit: limit}
	if cmd.Stdout == nil {
		cmd.Stdout = kept
	}
	code, err := execute(ctx, m, cmd)
	if err == nil && code != 0 {
		text, _ := said.take()
		err = exitError{code, text}
	}
	return kept, err
}

// toolTimeout is how long a tool that is no command of the client's may take in the guest.
const toolTimeout = time.Minute

// exitError is how a program of the guest's failed.
type exitError struct {
	code int
	text string // its words
}

func (e exitError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return termsafe.Text(e.text)
}
