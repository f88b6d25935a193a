package cli

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly"
)

// onTerminal answers questions on a terminal in their order. It returns what was asked, and
// after the end of the other side all that was printed.
func onTerminal(user *os.File, answers []string) (asked func() ([]string, string)) {
	type result struct {
		asked []string
		text  string
	}
	done := make(chan result, 1)
	go func() {
		var r result
		buf := make([]byte, 4096)
		begin := 0
		for {
			n, err := user.Read(buf)
			r.text += string(buf[:n])
			if part := r.text[begin:]; strings.HasSuffix(part, "] ") {
				r.asked = append(r.asked, strings.TrimSpace(part[strings.LastIndexByte(part, '\n')+1:]))
				begin = len(r.text)
				word := "\x04"
				if len(r.asked) <= len(answers) {
					word = answers[len(r.asked)-1]
				}
				user.WriteString(word + "\n")
			}
			if err != nil {
				done <- r
				return
			}
		}
	}()
	return func() ([]string, string) {
		r := <-done
		return r.asked, r.text
	}
}

// endedRun is what became of a run.
type endedRun struct {
	asked   []string
	printed string
	code    int
	kept    bool
}

// runOnTerminal runs a command in a fake machine whose changes are those of the machine m of
// home, with a user who answers.
func runOnTerminal(t *testing.T, home string, o runOptions, answers ...string) endedRun {
	t.Helper()
	user, ours := pseudoTerminal(t)
	asked := onTerminal(user, answers)
	m := &fakeStarted{changes: func(ctx context.Context) (*mayfly.ChangeSet, error) {
		real, err := userOf(t, home, nil).client.Machine(ctx, "m")
		if err != nil {
			return nil, err
		}
		return real.Changes(ctx, false)
	}}
	_, err := runFake(t, m, o, ours)
	ours.Close()
	r := endedRun{kept: m.kept}
	r.asked, r.printed = asked()
	r.printed = strings.ReplaceAll(r.printed, "\r\n", "\n")
	if exit, ok := errors.AsType[exitCode](err); ok {
		r.code = int(exit)
	} else if err != nil {
		r.code = exitError
	}
	if m.kept == m.discarded {
		t.Errorf("the machine is kept: %t, discarded: %t", m.kept, m.discarded)
	}
	return r
}

// At the end of a run the user picks as with apply -p, in place of each answer to some of the
// changes. What is left out keeps the machine, is named, and is what the next apply has.
func TestRunPicks(t *testing.T) {
	const (
		first    = "apply the ordinary change? [yes/no/keep/pick/diff]"
		group    = "apply 1 change that runs when you build? [yes/no/pick/diff/drop]"
		alone    = "apply .claude/settings.json? [yes/no/pick/diff/drop]"
		one, two = "(1/2) apply this hunk? [y/n/q/a/d/?]", "(2/2) apply this hunk? [y/n/q/a/d/?]"
	)
	each := []string{one, two, one, two, one, two} // .claude/settings.json, Makefile, a.txt
	old := "{\n\"a\": 1,\n\"c\": 1,\n\"d\": 1,\n\"e\": 1,\n\"f\": 1,\n\"g\": 1,\n\"h\": 1,\n\"i\": 1,\n\"b\": 1\n}\n"
	before := map[string]string{".claude/settings.json": old, "Makefile": "all:\n\ttrue\n" + tenLines(), "a.txt": tenLines()}
	change := strings.NewReplacer("line 0", "first", "line 9", "last", "{\n\"a\": 1", "{\n\"a\": 2", "\"b\": 1", "\"b\": 2")
	after, half := make(map[string]string), make(map[string]string)
	for name, text := range before {
		after[name] = change.Replace(text)
		half[name] = strings.NewReplacer("line 0", "first", "{\n\"a\": 1", "{\n\"a\": 2").Replace(text)
	}
	for name, tt := range map[string]struct {
		o              runOptions
		answers, asked []string
		whole, halves  string // files that are so then
		code           int
		kept           bool
		says           []string
	}{
		"all": {runOptions{}, []string{"pick", "a", "a", "a"}, []string{first, one, one, one}, ".claude/settings.json Makefile a.txt", "", 0, false, nil},
		"some": {runOptions{}, append([]string{"p"}, "d", "y", "n", "a"), []string{first, one, one, two, one}, "a.txt", "Makefile", exitHeld, true,
			[]string{"2 changes are left in the machine: mayfly apply m -p", "machine m is kept"}},
		"nothing": {runOptions{}, []string{"p", "n", "n", "n", "n", "n", "n"}, append([]string{first}, each...), "", "", exitHeld, true, []string{"3 changes are left"}},
		"ended":   {runOptions{}, []string{"p", "y", "q"}, []string{first, one, two}, "", ".claude/settings.json", exitHeld, true, []string{"3 changes are left"}},
		"hung up": {runOptions{}, []string{"p", "y", "\x04"}, []string{first, one, two}, "", "", exitError, true, []string{"machine m is kept"}},
		"builds": {runOptions{}, []string{"y", "p", "d", "y", "n"}, []string{first, group, one, one, two}, "a.txt", "Makefile", exitHeld, true,
			[]string{"2 changes are left", "machine m is kept"}},
		"alone": {runOptions{}, []string{"y", "n", "p", "a"}, []string{first, group, alone, one}, ".claude/settings.json a.txt", "", exitHeld, true,
			[]string{"held back: Makefile: ", "mayfly apply m PATH", "machine m is kept"}},
		"dropped": {runOptions{}, []string{"y", "drop", "p", "a"}, []string{first, group, alone, one}, ".claude/settings.json a.txt", "", 0, false, nil},
		"applied": {runOptions{apply: true}, []string{"p", "a", "a"}, []string{group, one, one}, ".claude/settings.json Makefile a.txt", "", 0, false, nil},
		"ignored": {runOptions{}, []string{"d", "p", "q"}, []string{first, first, one}, "", "", exitHeld, true, []string{"3 changes are left"}},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			fake := pickedMachine(t, home, before, after)
			r := runOnTerminal(t, home, tt.o, tt.answers...)
			if !slices.Equal(r.asked, tt.asked) {
				t.Errorf("it asked %q; want %q", r.asked, tt.asked)
			}
			for name := range before {
				want := before[name]
				if slices.Contains(strings.Fields(tt.whole), name) {
					want = after[name]
				} else if slices.Contains(strings.Fields(tt.halves), name) {
					want = half[name]
				}
				fake.has(t, name, want)
			}
			if r.code != tt.code || r.kept != tt.kept {
				t.Errorf("exit code %d, kept %t; want %d, %t\n%s", r.code, r.kept, tt.code, tt.kept, r.printed)
			}
			for _, want := range tt.says {
				if !strings.Contains(r.printed, want) {
					t.Errorf("it does not say %q:\n%s", want, r.printed)
				}
			}
			if err := userOf(t, home, nil).command("apply", "m", "--all"); err != nil {
				t.Errorf("afterwards apply --all = %v", err)
			}
			for name, want := range after {
				fake.has(t, name, want)
			}
		})
	}
}

// What never comes back as a file keeps the machine also when all else was picked.
func TestRunPicksWithheld(t *testing.T) {
	home := t.TempDir()
	sessionMachine(t, home, map[string]string{"a.txt": "a\n", withheld: "#!/bin/sh\n"})
	r := runOnTerminal(t, home, runOptions{}, "p", "y")
	if !r.kept || r.code != exitHeld || !strings.Contains(r.printed, "held back: "+withheld+": ") {
		t.Errorf("kept %t, exit code %d:\n%s", r.kept, r.code, r.printed)
	}
}

// Commits are one question, and keep the machine if they are left.
func TestRunPicksCommits(t *testing.T) {
	const first, commits, hunk = "apply these changes? [yes/no/keep/pick/diff]", "bring these commits back? [y/n/q/?]", "(1/1) apply this hunk? [y/n/q/a/d/?]"
	for name, tt := range map[string]struct {
		answers   []string
		committed bool
		text      string
		kept      bool
		says      string
	}{
		"all":         {[]string{"p", "y", "y"}, true, "2\n", false, "main: fast-forwarded to"},
		"the file":    {[]string{"p", "n", "y"}, false, "2\n", true, "the commits are left in the machine: mayfly apply m -p"},
		"the commits": {[]string{"p", "y", "n"}, false, "1\n", true, "1 change is left in the machine: mayfly apply m -p"},
		"nothing":     {[]string{"p", "q"}, false, "1\n", true, "the commits and 1 change are left in the machine: mayfly apply m -p"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCommitter(t)
			s.write(s.guest, "a.txt", "2\n")
			tip := s.commit(s.guest, "one")
			r := runOnTerminal(t, s.home, runOptions{}, tt.answers...)
			if want := []string{first, commits, hunk}[:len(tt.answers)]; !slices.Equal(r.asked, want) {
				t.Errorf("it asked %q; want %q", r.asked, want)
			}
			if got := s.git(s.dir, "rev-parse", "main") == tip; got != tt.committed || r.kept != tt.kept || !strings.Contains(r.printed, tt.says) {
				t.Errorf("the branch has gone on: %t, kept %t:\n%s", got, r.kept, r.printed)
			}
			s.has(t, "a.txt", tt.text)
			if name == "the commits" && s.git(s.dir, "rev-parse", "mayfly/m/main") != tip {
				t.Error("the machine's branch is not there")
			}
		})
	}
	t.Run("alone", func(t *testing.T) {
		s := newCommitter(t)
		s.git(s.guest, "commit", "-q", "--allow-empty", "-m", "one")
		r := runOnTerminal(t, s.home, runOptions{}, "y")
		if want := []string{"bring these commits back? [yes/no/keep/diff]"}; !slices.Equal(r.asked, want) || r.kept {
			t.Errorf("it asked %q, kept %t; want %q", r.asked, r.kept, want)
		}
	})
}
