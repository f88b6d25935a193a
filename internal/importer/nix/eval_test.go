package nix

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
)

// checkFile reads a machine's file back as TOML.
func checkFile(t *testing.T, m Machine) {
	t.Helper()
	var doc struct {
		Profiles []string
		Image    struct{ Packages []string }
		Home     struct {
			ShellInit string `toml:"shell_init"`
		}
		Workspace struct{ Path string }
		Env       map[string]string
	}
	if err := toml.Unmarshal(m.File(), &doc); err != nil {
		t.Fatalf("File of %+v: %v\n%s", m, err, m.File())
	}
	if want := strings.ToValidUTF8(m.ShellInit, "\uFFFD"); doc.Home.ShellInit != want {
		t.Errorf("File: shell_init = %q; want %q", doc.Home.ShellInit, want)
	}
	if doc.Workspace.Path != m.Workspace || len(doc.Env) != len(m.Env) {
		t.Errorf("File of %+v:\n%s", m, m.File())
	}
	if d := cmp.Diff(m.Packages, doc.Image.Packages); d != "" {
		t.Errorf("File: packages (-want +got)\n%s", d)
	}
}

// show evaluates all of v and writes it, for tests.
func show(ev *evaluator, v value, depth int) string {
	deep := func(t *thunk) string {
		if depth > 10 {
			return "…"
		}
		v, err := ev.force(t)
		if err != nil {
			return "error: " + err.Error()
		}
		return show(ev, v, depth+1)
	}
	switch v := v.(type) {
	case *str:
		var b strings.Builder
		for _, p := range v.parts {
			if p.hole != nil {
				b.WriteString("<" + p.hole.label + ">")
			}
			b.WriteString(p.text)
		}
		return fmt.Sprintf("%q", b.String())
	case *list:
		parts := []string{"["}
		for _, x := range v.elements {
			parts = append(parts, deep(x))
		}
		return strings.Join(append(parts, "]"), " ")
	case *attrs:
		parts := []string{"{"}
		for _, name := range v.names() {
			parts = append(parts, name+" = "+deep(v.fields[name])+";")
		}
		return strings.Join(append(parts, "}"), " ")
	case *opaque:
		return "<" + v.label + ">"
	case pathValue:
		return "path " + string(v)
	case null:
		return "null"
	case *lambda, *builtin:
		return "function"
	}
	return fmt.Sprint(v)
}

func evaluate(text string) string {
	files := dir(text)
	ev := newEvaluator(files)
	v, err := ev.importFile(pos{}, "vms.nix")
	if err != nil {
		return "error: " + err.Error()
	}
	return show(ev, v, 0)
}

func TestEvaluate(t *testing.T) {
	tests := []struct{ text, want string }{
		{"1 + 2 * 3 - 4", "3"},
		{"-2 * 3", "-6"},
		{"7 / 2", "3"},
		{"1.5 + 1", "2.5"},
		{"1 / 0", "error: vms.nix:1: a division by zero"},
		{"99999999999999999999", "error: vms.nix:1: \"99999999999999999999\" is too large a number"},
		{"1 < 2 && !(2 <= 1) || false", "true"},
		{"false -> 1", "true"},
		{"true -> false", "false"},
		{"!true == false", "true"},
		{"[ 1 (2 + 3) x.y ] ++ [ ] == [ ]", "false"},
		{`[ 1 { a = "x"; } ] == [ 1 { a = "x"; } ]`, "true"},
		{`"a" < "b"`, "true"},
		{`"a${"b" + toString 1}c\n\${d} $$x"`, `"ab1c\n${d} $$x"`},
		{"''\n    a\n      b ''${c} $${d}\n    ${\"e\n    f\"}\n\n  ''", `"a\n  b ${c} $${d}\ne\n    f\n\n"`},
		{"''\n  a\n  b''", `"a\nb"`},
		{"''x'' + '' y ''", `"xy "`},
		{"''a '''b ''\\t''", `"a ''b \t"`},
		{"https://example.org/x?y=1", `"https://example.org/x?y=1"`},
		{"{ a.b = 1; a.c = 2; a = { d = 3; }; }", "{ a = { b = 1; c = 2; d = 3; }; }"},
		{"{ a = 1; a = 2; }", "error: vms.nix:1: the attribute \"a\" is there twice"},
		{"{ a = 1; a.b = 2; }", "error: vms.nix:1: the attribute \"a\" is there twice"},
		{`{ "a b" = 1; ${"c" + "d"} = 2; ${null} = 3; }`, "{ a b = 1; cd = 2; }"},
		{"rec { a = b; b = 2; }", "{ a = 2; b = 2; }"},
		{"rec { a = b; b = a; }.a", "error: vms.nix:1: a value that depends on itself"},
		{"let a = 1; b = a + 1; in { inherit a b; }", "{ a = 1; b = 2; }"},
		{"let s = { x = 1; y = 2; }; in { inherit (s) x y; }", "{ x = 1; y = 2; }"},
		{"let x = 1; in with { x = 2; y = 3; }; [ x y ]", "[ 1 3 ]"},
		{"with { a = 1; }; with { a = 2; }; a", "2"},
		{"{ a = 1; b = 2; } // { b = 3; }", "{ a = 1; b = 3; }"},
		{"{ a.b = 1; }.a.b", "1"},
		{"{ a = 1; }.b or 2", "2"},
		{"{ a = 1; }.b", "error: vms.nix:1: a set has no attribute \"b\""},
		{"{ a.b = 1; } ? a.b", "true"},
		{"{ a.b = 1; } ? a.c", "false"},
		{"(x: y: x - y) 3 1", "2"},
		{"({ a, b ? a + 1, ... }@args: [ a b (args ? c) ]) { a = 1; c = 3; }", "[ 1 2 true ]"},
		{"(args@{ a ? 1 }: a) { }", "1"},
		{"({ a }: a) { }", "error: vms.nix:1: the function's parameter \"a\" is missing"},
		{"({ a }: a) { a = 1; b = 2; }", "error: vms.nix:1: the function has a parameter less than it is given"},
		{"({ }: 1) { }", "1"},
		{"if 1 == 1 then 2 else 3", "2"},
		{"if 1 then 2 else 3", "error: vms.nix:1: if needs a boolean, not the number 1"},
		{"assert true; 1", "1"},
		{"assert false; 1", "error: vms.nix:1: an assertion is false"},
		{`throw "no"`, `error: vms.nix:1: the file says: "no"`},
		{"[ (throw \"lazy\") ] == [ ]", "false"},
		{"map (x: x * 2) [ 1 2 ]", "[ 2 4 ]"},
		{"builtins.concatMap (x: [ x x ]) [ 1 2 ]", "[ 1 1 2 2 ]"},
		{"builtins.filter (x: x > 1) [ 1 2 ]", "[ 2 ]"},
		{"builtins.elem 2 [ 1 2 ]", "true"},
		{"builtins.length [ 1 2 ]", "2"},
		{"builtins.attrNames { b = 1; a = 2; }", `[ "a" "b" ]`},
		{"builtins.attrValues { b = 1; a = 2; }", "[ 2 1 ]"},
		{"builtins.mapAttrs (n: v: n + toString v) { a = 1; }", `{ a = "a1"; }`},
		{`builtins.listToAttrs [ { name = "a"; value = 1; } ]`, "{ a = 1; }"},
		{`removeAttrs { a = 1; b = 2; } [ "a" ]`, "{ b = 2; }"},
		{`builtins.concatStringsSep ", " [ "a" "b" ]`, `"a, b"`},
		{"toString [ 1 true null ]", `error: vms.nix:1: a boolean is no string`},
		{"builtins.nosuch 1", "<builtins.nosuch …>"},
		{"<nixpkgs>", "<<nixpkgs>>"},
		{"(import <nixpkgs> { }).hello", "<import <nixpkgs> ….hello>"},
		{"./x/../y", "path y"},
		{"/etc/passwd", "</etc/passwd>"},
		{"../x", "<../x>"},
		{"./${\"x\"}/y", "<./…>"},
		{"\"${./x}\"", `"<./x>"`},
		{"builtins.readFile ./vms.nix", `"builtins.readFile ./vms.nix\n"`},
		{"import ./b.nix 1\n-- b.nix --\nx: x + 1", "2"},
		{"import ./d\n-- d/default.nix --\n5", "5"},
		{"import ./nosuch.nix", `error: vms.nix:1: import "nosuch.nix": there is no such file`},
		{"# c\n/* d\n */ 1 /* e */", "1"},
		{"/* no end", "error: vms.nix:1: a comment without an end"},
		{"\"no end", "error: vms.nix:1: a string without an end"},
		{"''no end", "error: vms.nix:1: a string without an end"},
		{"{ a = 1 }", `error: vms.nix:1: "}"; expected ";"`},
		{"a: %", `error: vms.nix:1: "%" has no meaning here`},
		{"1 2", "error: vms.nix:1: the number 1 is called as a function"},
		{"let in 1 ]", `error: vms.nix:1: "]"; expected the end of the file`},
		{"builtins.derivation { }", "<builtins.derivation …>"},
		{"derivation { name = \"x\"; }", "<derivation …>"},
		{"\"x${derivation { }}\" + \"y\"", `"x<derivation …>y"`},
		{strings.Repeat("(", 1000), "error: vms.nix:1: more than 600 expressions within each other"},
		{strings.Repeat("[", 1000), "error: vms.nix:1: more than 600 expressions within each other"},
		{strings.Repeat("{a=", 1000), "error: vms.nix:1: more than 600 expressions within each other"},
		{strings.Repeat("!", 1000), "error: vms.nix:1: more than 600 expressions within each other"},
		{"a" + strings.Repeat(".a", 1000), "error: vms.nix:1: a path of more than 600 attributes"},
		{"\"" + strings.Repeat("${\"", 1000), "error: vms.nix:1: more than 600 expressions within each other"},
	}
	for _, tt := range tests {
		if got := evaluate(tt.text + "\n"); got != tt.want {
			t.Errorf("evaluate(%.80q) = %s; want %s", tt.text, got, tt.want)
		}
	}
}

// A chain of operators is as deep as it is long.
func TestEvaluateLongChain(t *testing.T) {
	if got := evaluate("1" + strings.Repeat(" + 1", 100_000)); !strings.Contains(got, errLimit.Error()) && !strings.Contains(got, "larger than") {
		t.Errorf("evaluate(a long chain) = %.200s; want a limit", got)
	}
	if got := evaluate("1" + strings.Repeat("+1", 100_000)); !strings.Contains(got, errLimit.Error()) {
		t.Errorf("evaluate(a long chain) = %.200s; want a limit", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"{ a, b ? 1, ... }@c: with a; let x = 1; in rec { inherit (a) b; c.d.\"e\" = if x then y else [ 1 2.5 ./x <y> ]; }",
		"''\n  ${x} ''${y} '''\n''", "\"a\\n${b.c or d}\"", "a: b: a // b ++ c -> !d ? e.f", "https://x.y/z", "/* */ # \n assert a; 1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parse(&source{name: "a.nix", text: text})
		if (n == nil) == (err == nil) && err == nil {
			t.Errorf("parse(%q) = nil, nil", text)
		}
	})
}

// Whatever is evaluated comes to an end, and no value is a nil.
func FuzzEvaluate(f *testing.F) {
	for _, s := range []string{
		"rec { a = [ 1 2.5 \"x${toString 3}\" ./x ]; b = a ++ [ null true ]; c = b == a; d = { e = 1; } // { f = 2; }; }",
		"let f = { a ? 1, ... }@x: x ? a && !(a < 2); in map f [ { } { a = 3; } ]",
		"with builtins; concatStringsSep \",\" (attrNames (mapAttrs (n: v: v) { a = 1; }))",
		"''\n  ${import ./vms.nix}\n''", "if <x> then 1 else throw \"y\"", "assert 1 == 1.0; -(1 / 2) * 3 - 4",
		"let f = x: f x; in f 1", "listToAttrs [ { name = \"a\"; value = removeAttrs { b = 1; } [ \"b\" ]; } ]",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got := evaluate(text); strings.Contains(got, "<nil>") {
			t.Errorf("evaluate(%q) = %s", text, got)
		}
	})
}
