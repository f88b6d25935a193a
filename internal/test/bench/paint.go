package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/creack/pty"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/terminal/grid"
	"github.com/mayfly-vm/mayfly/internal/terminal/screen"
)

// slowPaint is how long a first paint may take to be repeated.
const slowPaint = time.Minute

// measurePaint measures the time to the first text on the screen of each coding agent.
func (b *bench) measurePaint(ctx context.Context) error {
	dir, err := b.smallProject()
	if err != nil {
		return err
	}
	for _, agent := range codingagent.Names() {
		paint := func(flags ...string) func() (float64, error) {
			return func() (float64, error) { return b.firstPaint(ctx, dir, agent, flags...) }
		}
		// The image, if it is not there, and the template.
		if _, err := paint()(); err != nil {
			fmt.Fprintf(b.log, "the row of %s is left out: %v\n", agent, err)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		// Now it is known how long it takes.
		first, err := paint()()
		if err != nil {
			return err
		}
		n := b.runs(5)
		if first > slowPaint.Seconds() {
			n = 1
		}
		v, err := pairs(n, paint(), paint("--cold"))
		if err != nil {
			return err
		}
		b.add(v.row("first paint of "+agent+", from template : cold", "s",
			"from the start of mayfly run -- "+agent+" on a terminal of 80 columns and 24 lines, without a network, to the first "+
				"words of the agent on its screen, from a prewarmed template; baseline: the same with --cold").ratioAtMost(0.35))
	}
	return nil
}

// fewLetters are more than a spinner has, and less than the first screen of any agent.
const fewLetters = 12

// firstPaint returns the time until agent, alone in a new machine, has shown letters on its
// terminal, in seconds.
func (b *bench) firstPaint(ctx context.Context, dir, agent string, flags ...string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	args := append([]string{"run", "--discard", "--no-detect", "--network", "none", "--profile", agent}, flags...)
	cmd := b.programs[0].command(ctx, dir, append(args, "--", agent)...)
	return paints(cmd)
}

// paints runs cmd on a terminal until letters are on it, and returns how long that took, in
// seconds. Then its user closes the terminal.
func paints(cmd *exec.Cmd) (float64, error) {
	tty, slave, err := pty.Open()
	if err != nil {
		return 0, err
	}
	defer tty.Close()
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		return 0, errors.Join(err, slave.Close())
	}
	// What mayfly itself says is not on the screen.
	var messages strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, &messages
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	start := time.Now()
	err = cmd.Start()
	slave.Close()
	if err != nil {
		return 0, err
	}
	readErr := untilLetters(tty)
	took := time.Since(start)
	cmd.Process.Signal(syscall.SIGHUP)
	io.Copy(io.Discard, tty)
	waitErr := cmd.Wait()
	if readErr != nil {
		return 0, fmt.Errorf("nothing was shown: %w, %w: %s", readErr, waitErr, messages.String())
	}
	return took.Seconds(), nil
}

// untilLetters is a terminal until there are letters on it. It answers what programs wait
// for.
func untilLetters(tty io.ReadWriter) error {
	var follows screen.Screen
	shown := grid.New(24, 80)
	buf := make([]byte, 32<<10)
	for {
		n, err := tty.Read(buf)
		out := follows.Write(buf[:n])
		shown.Write(out.Shown)
		letters := 0
		for _, r := range shown.String() {
			if unicode.IsLetter(r) {
				letters++
			}
		}
		if letters >= fewLetters {
			return nil
		}
		if err != nil {
			return err
		}
		for _, q := range out.Queries {
			if _, err := io.WriteString(tty, q.Answer()); err != nil {
				return err
			}
		}
	}
}
