package cli

import (
	"os"
	"path/filepath"
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

// Everything that reads can do so for programs.
func TestReadersHaveJSON(t *testing.T) {
	for _, path := range []string{"ls", "diff", "doctor", "image ls", "image build", "image check"} {
		c, _, err := newRoot().Find(strings.Fields(path))
		if err != nil {
			t.Fatal(err)
		}
		if c.Flags().Lookup("json") == nil {
			t.Errorf("mayfly %s has no --json", path)
		}
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
