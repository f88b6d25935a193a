package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// visibleCommands returns the commands that users see, with their sub-commands.
func visibleCommands(c *cobra.Command) []*cobra.Command {
	if c.Hidden {
		return nil
	}
	all := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		all = append(all, visibleCommands(sub)...)
	}
	return all
}

func newRoot() *cobra.Command {
	a := &app{Streams: Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, version: "test", getenv: os.Getenv}
	return a.rootCommand()
}

// Help, man pages and completion come from one table, so it must be whole.
func TestCommandTable(t *testing.T) {
	for _, c := range visibleCommands(newRoot()) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short text %q; want one without a full stop", c.CommandPath(), c.Short)
		}
		if c.Runnable() && c.Args == nil {
			t.Errorf("%s says nothing of its arguments", c.CommandPath())
		}
		for line := range strings.Lines(c.Long + "\n" + c.Example) {
			if len([]rune(strings.TrimRight(line, "\n"))) > 80 {
				t.Errorf("%s: a line of help is longer than 80 characters: %q", c.CommandPath(), line)
			}
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || strings.HasSuffix(f.Usage, ".") {
				t.Errorf("%s --%s: text %q; want one without a full stop", c.CommandPath(), f.Name, f.Usage)
			}
		})
	}
}

// readers are the commands that print what they find out.
const readers = `audit check diff doctor events inspect ls policy port sync top version watch
	image-build image-check image-ls import-nix init login-ls net-status new transcripts-ls transcripts-restore transcripts-show update`

// others are the commands that do something else: act, show a terminal, or print a text
// that has a format of its own.
const others = `acp agent apply attach claude code cp edit exec gc reset mcp paste restart rm run shell ssh start stop task
	completion-bash completion-fish completion-powershell completion-zsh export help
	image-inspect image-prune image-rm login-rm logs net-down net-up skill-install skill-print ssh-config
	systemd-install systemd-print systemd-timer systemd-uninstall undo`

// Everything that reads can do so for programs.
func TestReadersHaveJSON(t *testing.T) {
	reads, acts := strings.Fields(readers), strings.Fields(others)
	for _, c := range visibleCommands(Commands()) {
		name := strings.ReplaceAll(strings.TrimPrefix(c.CommandPath(), "mayfly "), " ", "-")
		if len(c.Commands()) > 0 {
			continue
		}
		has := c.Flags().Lookup("json") != nil
		switch {
		case slices.Contains(reads, name) == slices.Contains(acts, name):
			t.Errorf("mayfly %s is not in one of the lists of readers and others", c.CommandPath())
		case slices.Contains(reads, name) && !has:
			t.Errorf("%s has no --json", c.CommandPath())
		}
		reads = slices.DeleteFunc(reads, func(s string) bool { return s == name })
		acts = slices.DeleteFunc(acts, func(s string) bool { return s == name })
	}
	if len(reads)+len(acts) > 0 {
		t.Errorf("these are no commands: %q", append(reads, acts...))
	}
}

// There is a man page for every command, with its help in it.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	root := newRoot()
	root.SetArgs([]string{"man", dir})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, c := range visibleCommands(newRoot()) {
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
		page, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.Contains(string(page), c.Short) || !strings.Contains(string(page), ".SH SYNOPSIS") {
			t.Errorf("%s does not describe %s", name, c.CommandPath())
		}
	}
}
