package gitconfig

import (
	"slices"
	"strings"
)

// Effect is what a setting has git do.
type Effect uint8

// The effects, from least to gravest.
const (
	Harmless  Effect = iota
	Unknown          // on no list, so it may do anything
	Blinds           // hides changes, or says that signatures are good
	Redirects        // sends data elsewhere, takes them from elsewhere, or changes whose they are
	Executes         // runs a program
)

// Remotes is the host's remotes, which settings may name: by name their addresses.
type Remotes map[string]string

// Effect returns what a changed setting does.
func (c Change) Effect(remotes Remotes) Effect {
	name := c.Section + "." + c.Name
	switch {
	case c.harmless(remotes):
		return Harmless
	case slices.Contains(wholeExecute, c.Section):
		return Executes
	case name == "core.fsmonitor":
		if boolean(c.Setting) {
			return Unknown // git's own daemon, which is a program as well
		}
		return Executes
	case c.Section == "annex" && strings.Contains(c.Name, "command"):
		return Executes
	case c.Section == "lfs" && (strings.Contains(c.Subsection, "customtransfer") || strings.Contains(c.Subsection, "extension")):
		return Executes
	case c.Section == "submodule" && c.Name == "update" && !strings.HasPrefix(strings.TrimSpace(c.Value), "!"):
		return Unknown
	case (c.Name == "url" || c.Name == "pushurl") && strings.Contains(c.Value, "::"):
		return Executes // a remote helper
	case slices.Contains(executes, name):
		return Executes
	case slices.Contains(blinds, name):
		return Blinds
	case slices.Contains(wholeRedirect, c.Section), slices.Contains(redirects, name):
		return Redirects
	}
	return Unknown
}

// Sections of which every setting does it.
var (
	wholeExecute  = []string{"pager", "alias", "svn", "svn-remote", "git-p4", "guitool", "trailer", "hook", "browser", "man", "difftool", "mergetool", "sendemail", "instaweb", "include", "includeif"}
	wholeRedirect = []string{"url", "http", "https", "protocol", "transfer", "user", "author", "committer", "extensions", "credential", "remote", "lfs", "submodule"}
)

// executes are sections and names; a subsection may be between them.
var executes = strings.Fields(`
	core.hookspath core.pager core.editor core.sshcommand core.gitproxy core.askpass core.alternaterefscommand
	sequence.editor interactive.difffilter
	filter.clean filter.smudge filter.process
	diff.external diff.command diff.textconv diff.tool diff.guitool merge.driver merge.tool merge.guitool
	gpg.program gpg.defaultkeycommand
	gc.recentobjectshook
	credential.helper
	remote.uploadpack remote.receivepack remote.vcs remote.promisor remote.partialclonefilter
	submodule.update
	uploadpack.packobjectshook
	extensions.partialclone
	lfs.standalonetransferagent
	web.browser help.browser imap.tunnel tar.command init.templatedir receive.procreceiverefs`)

var redirects = strings.Fields(`
	branch.remote branch.pushremote
	core.worktree core.attributesfile core.excludesfile
	fetch.bundleuri
	gpg.allowedsignersfile gpg.format`)

var blinds = strings.Fields(`
	status.showuntrackedfiles diff.ignoresubmodules submodule.ignore
	core.filemode core.trustctime core.checkstat core.ignorestat core.excludesfile
	diff.binary
	log.showsignature gpg.allowedsignersfile gpg.mintrustlevel`)

// harmless reports whether the setting is on the short list of those that only keep books.
func (c Change) harmless(remotes Remotes) bool {
	if c.Subsection == "" {
		return c.harmlessOwn()
	}
	_, known := remotes[c.Subsection]
	switch c.Section {
	case "branch":
		switch c.Name {
		case "merge", "rebase", "description":
			return true
		case "remote":
			_, known := remotes[c.Value]
			return c.Removed || known || c.Value == "."
		}
	case "remote":
		switch c.Name {
		case "url":
			return c.Removed || known && c.Value == remotes[c.Subsection]
		case "fetch":
			return c.Removed || known && c.Value == "+refs/heads/*:refs/remotes/"+c.Subsection+"/*"
		case "tagopt":
			return c.Removed
		}
	case "submodule":
		return c.Name == "active" && boolean(c.Setting)
	case "color":
		return true
	}
	return false
}

// harmlessOwn is about settings without a subsection. Those of core are only what git
// writes by itself into a new repository.
func (c Change) harmlessOwn() bool {
	switch c.Section + "." + c.Name {
	case "core.repositoryformatversion":
		return c.Value == "0" && !c.Removed
	case "core.filemode", "core.logallrefupdates":
		return c.Value == "true" && !c.Removed
	case "core.bare":
		return c.Value == "false" && !c.Removed
	case "core.ignorecase", "core.precomposeunicode", "core.symlinks":
		return boolean(c.Setting) && !c.Removed
	case "pull.rebase", "pull.ff", "push.default", "push.autosetupremote", "lfs.repositoryformatversion":
		return true
	}
	return c.Section == "color" || c.Section == "advice"
}

func boolean(s Setting) bool {
	switch strings.ToLower(s.Value) {
	case "true", "yes", "on", "1", "false", "no", "off", "0", "":
		return true
	}
	return s.Bare
}

// Included returns the path that a setting has git include, "" for other settings.
func (s Setting) Included() string {
	if (s.Section == "include" || s.Section == "includeif") && s.Name == "path" {
		return s.Value
	}
	return ""
}
