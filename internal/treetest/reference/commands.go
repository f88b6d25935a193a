package reference

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mayfly-vm/mayfly/internal/cli"
)

func commands() string {
	root := cli.Commands()
	p := newPage("Commands", "the commands of mayfly")
	p.paragraph("`mayfly COMMAND --help` prints the text below for one command. `mayfly man DIRECTORY`\n" +
		"writes it as man pages. All commands have `--help` and `--verbose`, or `-v`, which\n" +
		"prints each step and its time.")
	for _, group := range root.Groups() {
		var rows [][]string
		for _, c := range shown(root) {
			if c.GroupID == group.ID {
				rows = append(rows, []string{link(c), plain(c.Short)})
			}
		}
		p.printf("\n## %s\n", strings.TrimSuffix(group.Title, ":"))
		p.table([]string{"command", ""}, rows)
	}
	for _, c := range shown(root) {
		command(p, c)
	}
	exits(p)
	return p.String()
}

// shown returns the commands of c that its help lists.
func shown(c *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(c.Commands()), func(sub *cobra.Command) bool { return !sub.IsAvailableCommand() })
}

func link(c *cobra.Command) string {
	return "[`" + c.CommandPath() + "`](#" + strings.ReplaceAll(c.CommandPath(), " ", "-") + ")"
}

// command writes the section of c, and those of its commands.
func command(p *page, c *cobra.Command) {
	p.printf("\n## %s\n", c.CommandPath())
	if c.Runnable() {
		p.block(c.UseLine())
	}
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		p.paragraph("%s", plain(paragraph))
	}
	if len(c.Aliases) > 0 {
		p.paragraph("Also called: %s.", codes(c.Aliases))
	}
	if c.Example != "" {
		p.paragraph("Examples:")
		p.block(unindent(c.Example))
	}
	if rows := flags(c); len(rows) > 0 {
		p.table([]string{"flag", "value", ""}, rows)
	}
	if c.Name() == "completion" {
		return // one for each shell, with the help of cobra
	}
	subs := shown(c)
	if len(subs) > 0 {
		var rows [][]string
		for _, sub := range subs {
			rows = append(rows, []string{link(sub), plain(sub.Short)})
		}
		p.table([]string{"command", ""}, rows)
	}
	for _, sub := range subs {
		command(p, sub)
	}
}

// unindent takes from each line the two spaces that help has before examples.
func unindent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimPrefix(line, "  "))
	}
	return b.String()
}

// flags returns a row for each flag of c's own.
func flags(c *cobra.Command) [][]string {
	var rows [][]string
	c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := code("--" + f.Name)
		if f.Shorthand != "" {
			name = code("-"+f.Shorthand) + ", " + name
		}
		value, usage := pflag.UnquoteUsage(f)
		usage = plain(usage)
		if value != "" && !slices.Contains([]string{"", "0", "[]"}, f.DefValue) {
			usage += " (default " + code(f.DefValue) + ")"
		}
		rows = append(rows, []string{name, code(strings.ReplaceAll(value, "|", `\|`)), usage})
	})
	return rows
}

func exits(p *page) {
	p.printf("\n## Exit codes\n")
	var rows [][]string
	for _, e := range cli.Exits() {
		rows = append(rows, []string{e.Code, plain(e.Meaning)})
	}
	p.table([]string{"code", "meaning"}, rows)
}
