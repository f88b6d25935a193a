package treetest

import (
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mayfly-vm/mayfly/internal/cli"
)

// frontEnds are the directories whose packages speak to a user. Their errors may
// name flags and commands; those of all others are read by any front end.
var frontEnds = []string{"cmd/*", "internal/cli", "internal/cli/*", "internal/test/*", "internal/treetest", "internal/treetest/*", "test"}

// spoken are the errors that speak of a command all the same, with the reason.
var spoken = map[string]string{
	"%s is the name of a machine that mayfly new made": "scripts of users may look for it",
}

// commandWords matches the flags and the commands of mayfly.
func commandWords() *regexp.Regexp {
	var flags, commands []string
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f.Name) })
		for _, sub := range c.Commands() {
			commands = append(commands, sub.Name())
			visit(sub)
		}
	}
	visit(cli.Commands())
	return regexp.MustCompile(`--(` + strings.Join(flags, "|") + `)\b|\bmayfly (` + strings.Join(commands, "|") + `)\b`)
}

// Errors below the front ends say what failed. What to type about it is the front
// end's to say.
func TestErrorsNameNoFlags(t *testing.T) {
	forbidden := commandWords()
	if !forbidden.MatchString("--accel tcg") || !forbidden.MatchString("mayfly rm m") || forbidden.MatchString("mayfly needs it") {
		t.Fatalf("%v does not tell what speaks of the command line", forbidden)
	}
	fset := token.NewFileSet()
	for _, f := range tree(t) {
		if !f.isGo() || f.isTest() || strings.Contains(f.path, "testdata/") || inFrontEnd(f.dir()) {
			continue
		}
		ast.Inspect(f.parse(t, fset), func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !makesError(call) {
				return true
			}
			ast.Inspect(call, func(n ast.Node) bool {
				literal, ok := n.(*ast.BasicLit)
				if !ok || literal.Kind != token.STRING {
					return true
				}
				words := text(t, literal)
				if spoken[words] == "" && forbidden.MatchString(words) {
					t.Errorf("%v: the error %q speaks of the command line", fset.Position(literal.Pos()), words)
				}
				return true
			})
			return true
		})
	}
}

func inFrontEnd(dir string) bool {
	for _, pattern := range frontEnds {
		if ok, err := path.Match(pattern, dir); ok && err == nil {
			return true
		}
	}
	return false
}

// makesError reports whether a call makes an error of a text.
func makesError(call *ast.CallExpr) bool {
	return selected(call.Fun, "fmt") == "Errorf" || selected(call.Fun, "errors") == "New" || selected(call.Fun, "fault") == "New"
}
