// Package canary has programs that tell when they run: one for each setting and hook by which
// git runs one.
package canary

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Set are canaries.
type Set struct {
	dir string // theirs
	ran string // a file for each that ran, with its name
	n   int
}

// New makes a set without canaries.
func New(t testing.TB) *Set {
	t.Helper()
	dir := t.TempDir()
	s := &Set{dir: dir, ran: filepath.Join(dir, "ran")}
	if err := os.Mkdir(s.ran, 0o777); err != nil {
		t.Fatal(err)
	}
	return s
}

// Program makes a canary and returns its path.
func (s *Set) Program(t testing.TB, name string) string {
	t.Helper()
	s.n++
	path := filepath.Join(s.dir, fmt.Sprintf("canary-%d", s.n))
	script := fmt.Sprintf("#!/bin/sh\ntouch '%s/%s'\ncat 2>/dev/null\nexit 0\n", s.ran, strings.NewReplacer("/", "_", "*", "x").Replace(name))
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Ran returns the names of the canaries that ran.
func (s *Set) Ran(t testing.TB) []string {
	t.Helper()
	files, err := os.ReadDir(s.ran)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// settings are those whose value git runs.
var settings = []string{
	"core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "core.gitProxy", "core.askPass", "core.alternateRefsCommand",
	"sequence.editor", "interactive.diffFilter", "diff.external", "gpg.program", "gpg.ssh.program", "gpg.ssh.defaultKeyCommand",
	"gc.recentObjectsHook", "credential.helper", "uploadpack.packObjectsHook", "lfs.standalonetransferagent", "web.browser",
	"filter.x.clean", "filter.x.smudge", "filter.x.process", "diff.x.command", "diff.x.textconv", "merge.x.driver", "trailer.x.command",
	"remote.origin.uploadpack", "remote.origin.receivepack", "difftool.x.cmd", "mergetool.x.cmd", "pager.log", "pager.status",
	"hook.x.command", "alias.cat-file", "alias.rev-list", "sendemail.sendmailCmd", "tar.x.command", "imap.tunnel",
}

// hooks are the names of all hooks, githooks(5).
var hooks = []string{
	"applypatch-msg", "pre-applypatch", "post-applypatch", "pre-commit", "pre-merge-commit", "prepare-commit-msg", "commit-msg", "post-commit",
	"pre-rebase", "post-checkout", "post-merge", "pre-push", "pre-receive", "update", "proc-receive", "post-receive", "post-update",
	"reference-transaction", "push-to-checkout", "pre-auto-gc", "post-rewrite", "sendemail-validate", "fsmonitor-watchman", "post-index-change",
}

// Attributes is a .gitattributes by which all files have the drivers of a set.
const Attributes = "* filter=x diff=x merge=x\n*.crlf text eol=crlf\n"

// Arm gives the repository whose working tree is dir a canary in each setting and hook, by its
// own configuration and by a file that this includes.
func (s *Set) Arm(t testing.TB, dir string) {
	t.Helper()
	elsewhere := filepath.Join(s.dir, "hooks-"+filepath.Base(dir))
	config := filepath.Join(dir, ".git/config")
	s.write(t, filepath.Join(dir, ".git/included"), s.config(t, dir, elsewhere))
	s.write(t, config, "[include]\n\tpath = included\n[core]\n\tfsmonitor = "+s.Program(t, "direct "+dir)+"\n[init]\n\ttemplateDir = "+s.dir+"\n")
	for _, at := range []string{filepath.Join(dir, ".git/hooks"), elsewhere} {
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, hook := range hooks {
			if err := os.Rename(s.Program(t, dir+" hook "+hook), filepath.Join(at, hook)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// ArmUser gives a file of a user's configuration the same settings.
func (s *Set) ArmUser(t testing.TB, file string) {
	t.Helper()
	s.write(t, file, s.config(t, "user", filepath.Join(s.dir, "hooks-user")))
}

// config returns settings whose values are canaries.
func (s *Set) config(t testing.TB, name, hooks string) string {
	t.Helper()
	var b strings.Builder
	for _, key := range settings {
		i := strings.LastIndexByte(key, '.')
		section, last := key[:i], key[i+1:]
		if section, sub, ok := strings.Cut(section, "."); ok {
			fmt.Fprintf(&b, "[%s %q]\n\t%s = %s\n", section, sub, last, s.Program(t, name+" "+key))
		} else {
			fmt.Fprintf(&b, "[%s]\n\t%s = %s\n", section, last, s.Program(t, name+" "+key))
		}
	}
	fmt.Fprintf(&b, "[hook \"x\"]\n")
	for _, event := range []string{"reference-transaction", "post-index-change", "pre-auto-gc", "post-checkout", "post-merge"} {
		fmt.Fprintf(&b, "\tevent = %s\n", event)
	}
	fmt.Fprintf(&b, "[filter \"x\"]\n\trequired = true\n[log]\n\tshowSignature = true\n[gc]\n\tauto = 1\n\tautoDetach = false\n[core]\n\tautocrlf = true\n\thooksPath = %s\n", hooks)
	return b.String()
}

// write adds text to a file, which it makes if it is not there.
func (s *Set) write(t testing.TB, file, text string) {
	t.Helper()
	old, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(old, text...), 0o644); err != nil {
		t.Fatal(err)
	}
}
