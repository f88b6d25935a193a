package review

import (
	"fmt"
	"testing"
	"time"
)

// many is a change set of n files as an agent leaves them.
func many(n int) []Change {
	changes := make([]Change, n)
	body := "package x\n\nfunc f() int {\n\treturn 1\n}\n"
	for i := range changes {
		p := fmt.Sprintf("internal/part%d/deep/er/file%d.go", i%97, i)
		switch i % 50 {
		case 0:
			p = fmt.Sprintf("web/part%d/src/component%d.tsx", i%31, i)
		case 1:
			p = fmt.Sprintf("docs/page%d.md", i)
		case 2:
			p = fmt.Sprintf("a%d/.vscode/settings.json", i)
		}
		changes[i] = Change{Path: p, Old: file(body), New: file(body + fmt.Sprintf("\nfunc g%d() int { return %d }\n", i, i))}
		if i%3 == 0 {
			changes[i].Old = Node{}
		}
	}
	return changes
}

func BenchmarkClassify(b *testing.B) {
	changes := many(10_000)
	for b.Loop() {
		if _, err := Classify(b.Context(), Input{Changes: changes}); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzClassify has random paths and contents end soon, without a panic, and nothing
// below a repository's directory come back as a file.
func FuzzClassify(f *testing.F) {
	f.Add("a/.git/config", "b", "[core]\nfsmonitor=x\n", "", uint8(1))
	f.Add(".claude/settings.json", "x/y", "{}", "{\"a\":1}", uint8(0))
	f.Add("package.json", ".gitattributes", "{\"scripts\":{}}", "* filter=x", uint8(2))
	f.Add(".vscode", "src/settings.json", "src", "{}", uint8(3))
	f.Add("compose.yaml", "mise.toml", "services: {a: {privileged: true}}", "[env]\n", uint8(4))
	f.Add("package-lock.json", "pnpm-lock.yaml", "{\"packages\":{\"a\":{\"resolved\":\"x\"}}}", "packages:\n  a: {}\n", uint8(5))
	f.Add(".env", "../x", "A=1\n", "", uint8(6))
	f.Fuzz(func(t *testing.T, path, other, before, after string, how uint8) {
		changes := []Change{{Path: path, Old: file(before), New: file(after)}, {Path: other, New: file(before)}}
		switch how % 5 {
		case 1:
			changes[0].Old = Node{}
		case 2:
			changes[0].From = other
			changes = changes[:1]
		case 3:
			changes[0].New = Node{Kind: Symlink, Target: after}
		case 4:
			changes[0].New = Node{}
		}
		start := time.Now()
		host := hostTree(map[string]string{".git/config": before, path: before})
		r, err := Classify(t.Context(), Input{Changes: changes, Host: host, Extra: []Extra{{Pattern: other, Class: Runs, Reason: "x"}}})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("took %v", took)
		}
		for i, v := range r.Verdicts {
			s := newSet(Input{}).subject(&changes[i])
			if s.inGitDir() && !v.Withheld {
				t.Errorf("%q is not withheld", changes[i].Path)
			}
			for _, f := range v.Findings {
				if f.Reason == "" || len(f.Key) > 400 || len(f.Detail) > 400 {
					t.Errorf("finding %+v", f)
				}
			}
		}
	})
}
