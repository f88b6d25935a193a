package treetest

import (
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/cli"
	"github.com/mayfly-vm/mayfly/internal/config"
)

// What the documents say is compared with the tables from which the program works,
// and with the syntax of its source.

// Every package, and every file of a machine's directory, is explained.
func TestInternals(t *testing.T) {
	text := string(readFile(t, "docs/design/overview.md"))
	packages := make(map[string]bool)
	for _, f := range tree(t) {
		if f.isGo() && !f.isTest() && !strings.Contains(f.path, "testdata/") {
			packages[f.dir()] = true
		}
	}
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\.|(?:internal|cmd|examples)/[a-z0-9/-]+)` \\|").FindAllStringSubmatch(text, -1) {
		rows = append(rows, m[1])
	}
	slices.Sort(rows)
	if d := cmp.Diff(slices.Sorted(maps.Keys(packages)), rows); d != "" {
		t.Errorf("docs/design/overview.md: the table of packages differs from the tree (-tree +table):\n%s", d)
	}

	text = string(readFile(t, "docs/reference/files.md"))
	files := stringConstants(t, "internal/state", regexp.MustCompile(`(File|Dir)$`))
	if len(files) < 10 {
		t.Fatalf("only %d names of files found", len(files))
	}
	for _, name := range files {
		if !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("docs/reference/files.md does not explain %s", name)
		}
	}
	for _, name := range stringConstants(t, "", regexp.MustCompile(`Variable$`)) {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/reference/files.md does not explain the variable %s", name)
		}
	}
}

// stringConstants returns the values of the constants whose names match, of one
// package or, if dir is empty, of all.
func stringConstants(t *testing.T, dir string, names *regexp.Regexp) []string {
	t.Helper()
	fset := token.NewFileSet()
	var values []string
	for _, f := range tree(t) {
		if dir != "" && f.dir() != dir || !f.isGo() || f.isTest() {
			continue
		}
		ast.Inspect(f.parse(t, fset), func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, name := range spec.Names {
				if i >= len(spec.Values) || !names.MatchString(name.Name) {
					continue
				}
				if lit, ok := spec.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if v, err := strconv.Unquote(lit.Value); err == nil {
						values = append(values, v)
					}
				}
			}
			return true
		})
	}
	return values
}

// The table of exit codes is complete.
func TestExitCodesAreDocumented(t *testing.T) {
	fset := token.NewFileSet()
	found := 0
	for _, f := range tree(t) {
		if f.dir() != "internal/cli" || !f.isGo() || f.isTest() {
			continue
		}
		ast.Inspect(f.parse(t, fset), func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !exitConstant.MatchString(spec.Names[0].Name) {
				return true
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.INT {
				found++
				if !slices.ContainsFunc(cli.Exits(), func(e cli.Exit) bool { return e.Code == lit.Value }) {
					t.Errorf("cli.Exits() has no row for %s, %s", spec.Names[0].Name, lit.Value)
				}
			}
			return true
		})
	}
	if found < 5 {
		t.Fatalf("only %d exit codes found", found)
	}
}

var exitConstant = regexp.MustCompile(`^exit[A-Z]`)

// docs/guide/configuration.md shows every key of the configuration, and no other.
func TestConfigurationIsDocumented(t *testing.T) {
	// There names are free, or the tables' own keys are not looked at.
	free := func(name string) bool {
		return strings.HasPrefix(name, "env.") || strings.HasPrefix(name, "secrets.")
	}
	var want []string
	for _, key := range config.Keys() {
		// Keys of the tables in lists stand below their list, which is one key.
		inList := slices.ContainsFunc(config.Keys(), func(other config.Key) bool { return strings.HasPrefix(key.Name, other.Name+".") })
		if key.Name != "version" && key.Name != "profiles" && !free(key.Name) && !inList {
			want = append(want, key.Name)
		}
	}
	slices.Sort(want)
	_, block, _ := strings.Cut(string(readFile(t, "docs/guide/configuration.md")), "```toml\n")
	block, _, ok := strings.Cut(block, "```")
	if !ok {
		t.Fatal("docs/guide/configuration.md has no example of a configuration")
	}
	var got []string
	section := ""
	// A key that is for another kind of machine is commented out.
	keyLine := regexp.MustCompile(`^(?:# )?([a-z_]+) *=`)
	for line := range strings.Lines(block) {
		key := keyLine.FindStringSubmatch(line)
		switch {
		case strings.HasPrefix(line, "[["): // a list of tables is one key
			name, _, _ := strings.Cut(line[2:], "]")
			got, section = append(got, name), ""
		case strings.HasPrefix(line, "["):
			section, _, _ = strings.Cut(line[1:], "]")
		case key != nil && section != "" && !free(section+"."):
			got = append(got, section+"."+key[1])
		}
	}
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("docs/guide/configuration.md: the example differs from the keys there are (-keys +example):\n%s", d)
	}
}

// docs/reference/profiles.md's table has each profile, and what chooses it.
func TestProfilesAreDocumented(t *testing.T) {
	page := string(readFile(t, "docs/reference/profiles.md"))
	row := func(profile string) string {
		for line := range strings.Lines(page) {
			if cells := strings.Split(line, "|"); len(cells) == 5 && strings.Contains(cells[1], "`"+profile+"`") {
				return line
			}
		}
		t.Errorf("docs/reference/profiles.md: no row for the profile %s", profile)
		return ""
	}
	base := make(map[string][]string) // what a row says by naming another profile
	for _, p := range config.Profiles() {
		if p.Name == "go" {
			base["go-protobuf"] = p.Packages
		}
	}
	for _, p := range config.Profiles() {
		line := row(p.Name)
		for _, name := range p.Packages {
			if !strings.Contains(line, "`"+name+"`") && !slices.Contains(base[p.Name], name) {
				t.Errorf("docs/reference/profiles.md: the row of %s has no package %s", p.Name, name)
			}
		}
	}
	for _, m := range config.Markers() {
		if !strings.Contains(row(m.Profile), "`"+m.File+"`") {
			t.Errorf("docs/reference/profiles.md: the row of %s does not say that %s chooses it", m.Profile, m.File)
		}
	}
}

var span = regexp.MustCompile("`([^`]+)`")

// snippets returns the code in a document: spans, and lines of blocks.
func snippets(text string) []string {
	var code []string
	var prose strings.Builder
	inBlock, fenced := true, false // a block begins after an empty line
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced, inBlock && strings.HasPrefix(line, "    "):
			code = append(code, strings.TrimSpace(line))
		case strings.TrimSpace(line) == "":
			inBlock = true
		default:
			inBlock = false
			prose.WriteString(line)
		}
	}
	for _, m := range span.FindAllStringSubmatch(prose.String(), -1) {
		code = append(code, strings.Join(strings.Fields(m[1]), " "))
	}
	return code
}

// The commands and flags in the documents exist.
func TestCommandsExist(t *testing.T) {
	flag := regexp.MustCompile(`--([a-z][a-z-]*)`)
	commands := cli.Commands()
	found := 0
	for doc, text := range documents(t) {
		for _, code := range snippets(text) {
			for _, words := range calls(code) {
				found++
				named := commandsIn(t, doc, commands, strings.Fields(words))
				for _, f := range flag.FindAllStringSubmatch(words, -1) {
					if !slices.ContainsFunc(named, func(c *cobra.Command) bool { return hasFlag(c, f[1]) }) {
						t.Errorf("%s: %q: no flag --%s there", doc, code, f[1])
					}
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d calls of mayfly found", found)
	}
}

var (
	callOfMayfly = regexp.MustCompile(`(?:^|[\s/$])mayfly ([a-z].*)`)
	otherCommand = regexp.MustCompile(` (?:\||&&) |; | #`)
)

// calls returns what mayfly is called with in code: all but what belongs to a guest's
// command. A · stands between calls of which only the first has the program's name.
func calls(code string) []string {
	var all []string
	for _, command := range otherCommand.Split(code, -1) {
		m := callOfMayfly.FindStringSubmatch(command)
		if m == nil {
			continue
		}
		for call := range strings.SplitSeq(m[1], " · ") {
			ours, _, _ := strings.Cut(call, " -- ")
			all = append(all, ours)
		}
	}
	return all
}

// commandsIn returns the commands that words begin with, below c. A word may stand for
// several: start|stop.
func commandsIn(t *testing.T, doc string, c *cobra.Command, words []string) []*cobra.Command {
	t.Helper()
	if len(words) == 0 || !c.HasSubCommands() {
		return []*cobra.Command{c}
	}
	var all []*cobra.Command
	for name := range strings.SplitSeq(words[0], "|") {
		i := slices.IndexFunc(c.Commands(), func(sub *cobra.Command) bool { return sub.Name() == name || sub.HasAlias(name) })
		if i >= 0 {
			all = append(all, commandsIn(t, doc, c.Commands()[i], words[1:])...)
		} else if commandWord.MatchString(name) && !slices.Contains(c.ValidArgs, name) {
			t.Errorf("%s: %q: %s has no command %s", doc, strings.Join(words, " "), c.CommandPath(), name)
		}
	}
	return append(all, c)
}

var commandWord = regexp.MustCompile(`^[a-z][a-z-]*$`)

// hasFlag reports whether c knows the flag. Every command has help.
func hasFlag(c *cobra.Command, name string) bool {
	return name == "help" || c.Flag(name) != nil || c.InheritedFlags().Lookup(name) != nil
}
