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
)

// What the documents say of the source is compared with its text: this package
// may import none of it.

// Every package, and every file of a machine's directory, is explained.
func TestInternals(t *testing.T) {
	text := string(readFile(t, "docs/internals.md"))
	packages := make(map[string]bool)
	for _, f := range tree(t) {
		if f.isGo() && !f.isTest() && !strings.Contains(f.path, "testdata/") {
			packages[f.dir()] = true
		}
	}
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:internal|cmd)/[a-z0-9/-]+)` \\|").FindAllStringSubmatch(text, -1) {
		rows = append(rows, m[1])
	}
	slices.Sort(rows)
	if d := cmp.Diff(slices.Sorted(maps.Keys(packages)), rows); d != "" {
		t.Errorf("docs/internals.md: the table of packages differs from the tree (-tree +table):\n%s", d)
	}

	files := stringConstants(t, "internal/state", regexp.MustCompile(`(File|Dir)$`))
	if len(files) < 10 {
		t.Fatalf("only %d names of files found", len(files))
	}
	for _, name := range files {
		if !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("docs/internals.md does not explain %s", name)
		}
	}
	for _, name := range stringConstants(t, "", regexp.MustCompile(`Variable$`)) {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/internals.md does not explain the variable %s", name)
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

// The tables of exit codes are complete.
func TestExitCodesAreDocumented(t *testing.T) {
	codes := regexp.MustCompile(`(?m)^\texit[A-Z]\w+ += (\d+)`).FindAllSubmatch(readFile(t, "internal/cli/cli.go"), -1)
	if len(codes) < 5 {
		t.Fatalf("only %d exit codes found", len(codes))
	}
	for _, doc := range []string{"docs/internals.md", "docs/cli.md"} {
		for _, m := range codes {
			if !strings.Contains(string(readFile(t, doc)), "\n| "+string(m[1])+" | ") {
				t.Errorf("%s: no row for exit code %s", doc, m[1])
			}
		}
	}
}

// README.md shows every key of the configuration, and no other.
func TestConfigurationIsDocumented(t *testing.T) {
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^\t\{"([a-z_.]+)", (?:func|add|append)`).FindAllSubmatch(readFile(t, "internal/config/schema.go"), -1) {
		want = append(want, string(m[1]))
	}
	slices.Sort(want)
	_, block, _ := strings.Cut(string(readFile(t, "README.md")), "```toml\n")
	block, _, ok := strings.Cut(block, "```")
	if !ok {
		t.Fatal("README.md has no example of a configuration")
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
		case key != nil && section != "" && section != "env" && !strings.HasPrefix(section, "secrets."): // there names are free
			got = append(got, section+"."+key[1])
		}
	}
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("README.md: the example differs from the keys there are (-keys +example):\n%s", d)
	}
}

// README.md's table has each profile, and what chooses it.
func TestProfilesAreDocumented(t *testing.T) {
	readme := string(readFile(t, "README.md"))
	row := func(profile string) string {
		for line := range strings.Lines(readme) {
			if cells := strings.Split(line, "|"); len(cells) == 5 && strings.Contains(cells[1], "`"+profile+"`") {
				return line
			}
		}
		t.Errorf("README.md: no row for the profile %s", profile)
		return ""
	}
	profiles := regexp.MustCompile(`\{Name: "([a-z-]+)"(?:, Packages: \[\]string\{([^}]*)\})?`).FindAllSubmatch(readFile(t, "internal/config/profile.go"), -1)
	markers := regexp.MustCompile(`\{"([A-Za-z.]+)", "([a-z]+)"\}`).FindAllSubmatch(readFile(t, "internal/config/detect.go"), -1)
	if len(profiles) < 5 || len(markers) < 5 {
		t.Fatalf("only %d profiles and %d files that choose one found", len(profiles), len(markers))
	}
	for _, m := range profiles {
		line := row(string(m[1]))
		for _, name := range strings.Fields(strings.NewReplacer(`"`, "", ",", "").Replace(string(m[2]))) {
			if !strings.Contains(line, " "+name+" ") {
				t.Errorf("README.md: the row of %s has no package %s", m[1], name)
			}
		}
	}
	for _, m := range markers {
		if !strings.Contains(row(string(m[2])), "`"+string(m[1])+"`") {
			t.Errorf("README.md: the row of %s does not say that %s chooses it", m[2], m[1])
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
	var source strings.Builder
	for _, f := range tree(t) {
		// There is a command for each agent.
		if (f.dir() == "internal/cli" || f.dir() == "internal/codingagent") && f.isGo() && !f.isTest() {
			source.Write(f.data)
		}
	}
	words := map[string]bool{"help": true, "completion": true, "supervise": true, "serve-directory": true}
	for _, m := range regexp.MustCompile(`Use: +"([a-z][a-z-]*)`).FindAllStringSubmatch(source.String(), -1) {
		words[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`Name: "([a-z]+)", Title: `).FindAllStringSubmatch(source.String(), -1) {
		words[m[1]] = true
	}
	flags := map[string]bool{"help": true}
	for _, m := range regexp.MustCompile(`(?:Bool|String|StringSlice|StringArray|\.)VarP?\(&[\w.]+, "([a-z-]+)"`).FindAllStringSubmatch(source.String(), -1) {
		flags[m[1]] = true
	}
	call := regexp.MustCompile(`(?:^|[\s/$])mayfly ([a-z][a-z-]*)((?: [a-z|]+)?)(.*)`)
	found := 0
	for doc, text := range documents(t) {
		for _, code := range snippets(text) {
			m := call.FindStringSubmatch(code)
			if m == nil {
				continue
			}
			found++
			if !words[m[1]] {
				t.Errorf("%s: %q: mayfly has no command %s", doc, code, m[1])
			}
			if m[1] == "image" {
				for word := range strings.SplitSeq(strings.TrimSpace(m[2]), "|") {
					if word != "" && !words[word] {
						t.Errorf("%s: %q: mayfly image has no command %s", doc, code, word)
					}
				}
			}
			ours, _, _ := strings.Cut(m[2]+m[3], " -- ")
			ours, _, _ = strings.Cut(ours, "#")
			for _, f := range regexp.MustCompile(`--([a-z][a-z-]*)`).FindAllStringSubmatch(ours, -1) {
				if !flags[f[1]] {
					t.Errorf("%s: %q: mayfly has no flag --%s", doc, code, f[1])
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d calls of mayfly found", found)
	}
}
