// Package words says in English what happens to machines, what they are and what they
// may reach. Values of package mayfly flow in, lines and rows flow out: nothing here
// prints, asks or depends on a terminal. Text of a guest is fit to be printed.
package words

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// events are the lines for notes, details and steps, by their codes. {name} stands for the
// argument of that name.
var events = map[string]string{
	"kvm-untested":        "KVM was not tested: {reason}",
	"kvm-unusable":        "KVM does not work here, so machines run emulated, several times slower ({reason})",
	"profiles-detected":   "profiles: {profiles}; --no-detect for none",
	"config-untrusted":    "{file} is not used, since you did not trust it yet; --trust if you do",
	"plan":                "{text}",
	"coding-agent":        "agent {agent}",
	"agent-settings":      "the coding agents may ask for settings: {reason}",
	"settings-aside":      "settings that could not be read are in {file} now, in the machine",
	"login-none":          "no log-in of {title} yet: mayfly login {agent} keeps one on this computer for all machines",
	"login-later":         "{title} has a log-in on this computer that {name} does not have yet: mayfly restart {name}",
	"login-unreadable":    "{reason}; machines start without it",
	"login-ended":         "the log-in of {agent} has ended, so machines start without it: mayfly login {agent} --import",
	"login-refused":       "{text}: mayfly login {agent} --import",
	"logins-unrenewed":    "{text}: mayfly restart {name}, before they expire",
	"dotfiles-not-cloned": "the dotfiles of {url} are not here yet; the next start clones them",
	"image-not-built":     "the image is not built yet, so the paths of its files are examples",
	"build-as-root":       "the scripts of packages run as root, with all its rights: {reason}",
	"machine-runs":        "{name} runs already",
	"machine-here":        "machine {name} is here already",
	"machine":             "{text}",
	"transcripts-kept":    "the transcripts of its coding agents are in {path}",
	"transcripts-lost":    "the transcripts of its coding agents were not kept: {reason}",
	"clone-note":          "{text}",
	"name-not-released":   "{reason}",
	"qemu-by-package":     "use this distribution's own packages to get a newer QEMU",
	"apparmor-profile":    "mayfly may make user namespaces now, by the AppArmor profile in {file}",
	"install":             "{text}",
	"attack-through":      "some attempts go through {host}, which is allowed",
	"guest-says":          "the machine: {text}",
	"git-worktree":        "git will not work in the machine: {dir} is a linked worktree of {path}; take that for the workspace: -w {path}",
	"git-submodule":       "git will not work in the machine: {dir} is a submodule of {path}; take that for the workspace: -w {path}",
	"git-subdirectory":    "git will not work in the machine: the repository begins at {path}; take that for the workspace: -w {path}",
	"git-elsewhere":       "git will not work in the machine: the repository of {dir} is in {path}; work in a clone: git clone {dir} DIRECTORY",
	"git-alternates":      "git will miss commits in the machine: {dir} borrows them from {path}; copy them first: git -C {dir} repack -ad && rm {dir}/.git/objects/info/alternates",
	"git-unsigned":        "git does not sign in the machine, which has no keys ({settings}); sign with mayfly apply NAME --sign, or after an apply: git rebase --force-rebase --gpg-sign LAST-SIGNED-COMMIT",
	"git-unknown":         "git does not say how it is set up in {dir} ({reason}): the review knows none of the hooks and filters that it runs there",
	"ignored-unknown":     "{reason}, so none is left out: {dir}",
	"sync-polls":          "{reason}, so mayfly looks at all of {dir} every two seconds",
	"live-changed":        "while {name} had {dir}, files changed there that this computer runs by itself or that are suspicious: {count}",
	"live-change":         "  {op} {path} ({class}): {reason}",
	"live-more":           "  … and {count} more",
	"live-kept":           "as they were before, they are in {kept}; take one back with: cp -p {kept}/FILE {dir}/FILE",
	"live-unknown":        "it is not known what {name} changed in its live shares of what this computer runs by itself: {reason}",
	"live-partly":         "not all of {dir} was watched: it has too many files, or a directory that cannot be listed now",
	"systemd-slow":        "{text}; look with: mayfly exec {name} -- systemctl list-jobs",
	"systemd-degraded":    "{text}; look with: mayfly exec {name} -- systemctl status",
	"systemd-state":       "{text}; look with: mayfly exec {name} -- systemctl status",
	"guest-out-of-memory": "{text}; give it more with --memory",
	"egress-question":     "{name} wants to reach {host}:{port}: mayfly policy {name} allow {host}, or deny, in another terminal",
	"port-forwarded":      "port {port} of {name} is localhost:{port}",
	"share-owner":         "{text} (chown -R {uid}:{gid} {source})",

	"accelerator":    "accelerator {accelerator}: {reason}",
	"clone-progress": "{line}",
	"attack-attempt": "{name}: {outcome}",

	"changes-counted": "count the changes of {name}: {count}",
	"changes-listed":  "list the changes of {name}: {listed} of {count}, {mib} MiB read",

	"build-image": "{artifact}: {phase}: {text}",
	"clone":       "clone {url}",
	"fetch":       "fetch {url}",
	"await-start": "waiting for {name}, which another command starts",
	"await-end":   "waiting for the end of {name}",
	"await-apply": "waiting: the changes of {name} are being applied by process {pid}",
}

// phases are the words for the parts of a start whose codes are none.
var phases = map[string]string{
	"find-image":       "find the image",
	"start-supervisor": "start the supervisor",
	"find-template":    "find the template",
	"await-template":   "wait for a template that is being made",
	"make-template":    "boot a template",
	"start-systemd":    "start systemd",
	"stop":             "end the machine",
}

// Event returns the words for an event on one line. Arguments can be a guest's.
func Event(e mayfly.Event) string {
	if e.Code == "port-listening" {
		port, _ := strconv.Atoi(e.Args["port"])
		return Listening(termsafe.Line(e.Args["name"]), mayfly.Listening{Port: port, Why: e.Args["why"]})
	}
	text, ok := events[e.Code]
	if !ok && e.Args["text"] != "" {
		text = "{text}" // a remark of a machine's, which speaks for itself
	} else if !ok {
		return e.Code
	}
	var pairs []string
	for name, value := range e.Args {
		pairs = append(pairs, "{"+name+"}", termsafe.Line(value))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// Phase says in a few words what a phase does.
func Phase(code string) string {
	if text, ok := phases[code]; ok {
		return text
	}
	return code
}

// Start says in one line how a machine was started.
func Start(s *mayfly.Start) string {
	switch {
	case s == nil:
		return "the machine was not started"
	case s.Template == "":
		return "the machine booted: " + s.Reason
	case s.Made:
		return fmt.Sprintf("the machine began from template %.12s, which was made for it: %s", s.Template, s.Reason)
	}
	return fmt.Sprintf("the machine began from template %.12s", s.Template)
}

// MachineEvent says in lines what an event tells.
func MachineEvent(e mayfly.MachineEvent) (lines []string) {
	if e.Phase != "" {
		lines = append(lines, Phase(e.Phase))
	}
	if e.Note != "" {
		lines = append(lines, "note: "+e.Note)
	}
	if e.Ready {
		lines = append(lines, "ready: "+Start(e.Start))
	}
	if e.Error != "" {
		lines = append(lines, "error: "+e.Error)
	}
	if e.Ended {
		lines = append(lines, "ended")
	}
	return lines
}
