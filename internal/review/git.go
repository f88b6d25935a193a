package review

import (
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/review/gitconfig"
)

// gitRules are about what git on the host runs or obeys. Nothing below a repository's own
// directory comes back as a file.
var gitRules = []rule{
	{
		id: "git-hook", class: Runs, withholds: true,
		reason: "git runs this hook on your next commit, checkout or push",
		paths:  []string{".git/hooks/*", ".git/**"}, when: hookFile,
	},
	{
		id: "git-config", class: Runs, withholds: true,
		reason: "git configuration that cannot be read; it may run programs",
		paths:  []string{".git/config", ".git/config.worktree", ".git/**", "config"}, when: configFile,
	},
	{
		id: "git-include", class: Runs,
		reason: "your git configuration includes this file",
		when:   func(s *subject) []Finding { return is(s.change.New.Kind != None && s.set.includes()[s.folded]) },
	},
	{
		id: "git-place", class: Suspicious, withholds: true,
		reason: "repository data now come from another place",
		paths:  []string{".git", ".git/gitdir", ".git/commondir", ".git/worktrees/*/gitdir", ".git/worktrees/*/commondir"},
	},
	{
		id: "git-info", class: Runs, withholds: true,
		reason: "binds types of files to programs that git runs",
		paths:  []string{".git/info/attributes", ".git/modules/**"},
		when:   gitEnds("info/attributes"),
	},
	{
		id: "git-exclude", class: Suspicious, withholds: true,
		reason: "hides files from git status",
		paths:  []string{".git/info/exclude", ".git/info/sparse-checkout", ".git/**"},
		when:   gitEnds("info/exclude", "info/sparse-checkout"),
	},
	{
		id: "git-history", class: Suspicious, withholds: true,
		reason: "changes what history and objects mean",
		paths:  []string{".git/**"}, when: historyFile,
	},
	{
		id: "git-sequence", class: Runs, withholds: true,
		reason: "lines here can run programs when git goes on",
		paths:  []string{".git/rebase-merge/**", ".git/rebase-apply/**", ".git/sequencer/**", ".git/**"},
		when: func(s *subject) []Finding {
			in := s.inGit()
			return is(slices.ContainsFunc(in, func(n string) bool {
				return n == "rebase-merge" || n == "rebase-apply" || n == "sequencer" || strings.HasPrefix(n, "bisect_")
			}) && !gitNames(in))
		},
	},
	{
		id: "git-data", class: Ordinary, withholds: true, deleted: true,
		reason: "git's own data; commits come back as commits",
		paths:  []string{".git", ".git/**"}, kinds: []Kind{Regular, Symlink, Dir},
	},
	{
		id: "git-nested", class: Suspicious,
		reason: "a repository in the tree; its settings run on cd",
		paths:  []string{".git", ".git/head", ".git/config", ".git/hooks/*", "head", "config", "hooks/*"},
		kinds:  []Kind{Regular, Symlink, Dir}, when: nestedRepository,
	},
	{
		id: "git-name", class: Suspicious, withholds: true,
		reason: "a name that other systems take for .git",
		when: func(s *subject) []Finding {
			return is(s.change.New.Kind != None && gitLike(s.change.Path))
		},
	},
	{
		id: "git-attributes", class: Builds, deleted: true,
		reason: "says which programs and conversions git uses for files",
		paths:  []string{".gitattributes"}, when: attributes,
	},
	{
		id: "git-modules", class: Suspicious,
		reason: "submodule entry of a shape used in git exploits",
		paths:  []string{".gitmodules"}, when: submodules,
	},
	{
		id: "git-submodule", class: Builds, kinds: []Kind{Gitlink},
		reason: "another commit of a submodule",
	},
	{
		id: "git-hook-path", class: Runs,
		reason: "your git runs hooks from this directory",
		when: func(s *subject) []Finding {
			dir := fold(s.set.git().HooksPath)
			return is(dir != "" && s.change.New.Kind != None && s.change.New.Kind != Dir && strings.HasPrefix(s.folded, dir+"/"))
		},
	},
	{
		id: "git-hook-manager", class: Runs,
		reason: "your commit hook runs what this file says",
		paths: []string{
			".husky/**", "lefthook*.y*ml", ".lefthook*.y*ml", "lefthook*.toml", "lefthook*.json", ".lefthook/**", ".lefthook-local/**",
			".pre-commit-config.y*ml", ".pre-commit-hooks.y*ml", ".overcommit.yml", ".lintstagedrc*", "lint-staged.config.*", "prek.toml",
			".huskyrc*", "husky.config.*", ".simple-git-hooks.*", "simple-git-hooks.*", ".git-hooks/**", ".githooks/**", ".captainhook.json", "captainhook.json", "grumphp.yml",
		},
		when: hookManager,
	},
	{
		id: "git-lfs", class: Builds, deleted: true,
		reason: "large files go to or come from this server",
		paths:  []string{".lfsconfig"},
	},
	{
		id: "other-vcs", class: Runs,
		reason: "another version control's settings run programs",
		paths:  []string{".hg/hgrc", ".hg/hgrc-not-shared", ".jj/repo/config.toml", ".jj/config.toml", ".bzr/branch/branch.conf", ".sl/config", ".fslckout", "_fossil_"},
	},
	{
		id: "second-vcs", class: Suspicious,
		reason: "a second version control, whose settings run programs",
		paths:  []string{".hg/**", ".jj/**", ".svn/**", ".bzr/**", ".sl/**"},
		when: func(s *subject) []Finding {
			return is(!s.set.before(".", s.names[0]))
		},
	},
	{
		id: "git-ignore", class: Suspicious,
		reason: "git will not show a changed file because of this line",
		paths:  []string{".gitignore", ".ignore"}, when: ignoring,
	},
}

// before reports whether the host has this name in a directory, whatever its case.
func (t *set) before(dir, name string) bool {
	return slices.ContainsFunc(t.dir(dir).host, func(n string) bool { return fold(n) == name })
}

// inGit returns the folded names of the path below the first repository's directory in it.
func (s *subject) inGit() []string {
	if i := slices.Index(s.names, ".git"); i >= 0 {
		return s.names[i+1:]
	}
	return nil
}

// gitNames reports whether what is below a repository's directory is named by users: refs
// and their logs. Submodules are named by users as well, but hold more than names.
func gitNames(in []string) bool {
	return len(in) > 1 && (in[0] == "refs" || in[0] == "logs")
}

// gitEnds makes a condition of what a path in a repository's directory, or that of a
// submodule or worktree, ends in.
func gitEnds(ends ...string) func(*subject) []Finding {
	return func(s *subject) []Finding {
		in := s.inGit()
		return is(!gitNames(in) && slices.ContainsFunc(ends, func(end string) bool {
			return strings.HasSuffix("/"+strings.Join(in, "/"), "/"+end)
		}))
	}
}

// hookNames are the hooks of githooks(5).
var hookNames = strings.Fields(`applypatch-msg pre-applypatch post-applypatch pre-commit pre-merge-commit prepare-commit-msg commit-msg
	post-commit pre-rebase post-checkout post-merge pre-push pre-receive update proc-receive post-receive post-update
	reference-transaction push-to-checkout pre-auto-gc post-rewrite sendemail-validate fsmonitor-watchman p4-changelist
	p4-prepare-changelist p4-post-changelist p4-pre-submit post-index-change`)

// IsHook reports whether git runs a program of this name in its directory of hooks.
func IsHook(name string) bool { return slices.Contains(hookNames, name) }

func hookFile(s *subject) []Finding {
	in := s.inGit()
	i := slices.Index(in, "hooks")
	if i < 0 || i+1 == len(in) || gitNames(in) || i > 0 && in[0] != "modules" && in[0] != "worktrees" {
		return nil
	}
	if slices.Contains(hookNames, in[len(in)-1]) {
		return []Finding{{}}
	}
	return []Finding{{Class: Suspicious, Reason: "sample hook changed; a setting elsewhere may run it"}}
}

// isConfig reports whether a folded path is a configuration of git's: also that of a
// submodule, a worktree, or a repository without a working tree.
func (s *subject) isConfig() bool {
	last := s.names[len(s.names)-1]
	if last != "config" && last != "config.worktree" {
		return false
	}
	if in := s.inGit(); in != nil {
		return !gitNames(in) && in[0] != "objects"
	}
	return s.set.bare(path.Dir(s.change.Path))
}

// bare reports whether git would take a directory for a repository.
func (t *set) bare(dir string) bool {
	all := t.dir(dir).all
	return contains(all, "head") && contains(all, "objects") && contains(all, "refs")
}

func contains(names []string, folded string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return fold(n) == folded })
}

func configFile(s *subject) []Finding {
	if !s.isConfig() {
		return nil
	}
	changes, err := configChanges(s)
	if err != nil {
		return []Finding{{Detail: bounded(err.Error())}}
	}
	var found []Finding
	for _, c := range changes {
		f := Finding{Key: bounded(c.Key()), Line: c.Line, Detail: bounded(c.Value)}
		if c.Removed {
			f.Line, f.Detail = 0, "removed"
		}
		switch c.Effect(s.set.git().Remotes) {
		case gitconfig.Harmless:
			f.Class, f.Reason = Ordinary, "git's own bookkeeping, not brought back"
		case gitconfig.Blinds:
			f.Class, f.Reason = Suspicious, "git setting hides changes from you"
		case gitconfig.Redirects:
			f.Class, f.Reason = Runs, "git setting sends data elsewhere, or changes whose they are"
		case gitconfig.Executes:
			f.Class, f.Reason = Runs, "git setting runs a program on ordinary git commands"
		default:
			f.Class, f.Reason = Runs, "git setting that is not known to be harmless"
		}
		found = append(found, f)
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return int(b.Class) - int(a.Class) })
	return found[:min(len(found), mostFindings)]
}

func configChanges(s *subject) ([]gitconfig.Change, error) {
	var halves [2][]gitconfig.Setting
	for i, content := range []func() ([]byte, error){s.old, s.new} {
		data, err := content()
		if err != nil {
			return nil, err
		}
		if halves[i], err = gitconfig.Parse(data); err != nil {
			return nil, err
		}
	}
	return gitconfig.Diff(halves[0], halves[1]), nil
}

func historyFile(s *subject) []Finding {
	in := s.inGit()
	all := "/" + strings.Join(in, "/")
	last := in[len(in)-1]
	odd := strings.HasSuffix(all, "/objects/info/alternates") || strings.HasSuffix(all, "/objects/info/http-alternates") ||
		strings.HasSuffix(all, "/info/grafts") || strings.Contains(all, "/refs/replace/") ||
		last == "shallow" && !gitNames(in) || strings.HasSuffix(last, ".promisor") && !gitNames(in)
	return is(odd)
}

// nestedRepository is about a new repository below the root, with or without a working tree.
func nestedRepository(s *subject) []Finding {
	i := slices.Index(s.names, ".git")
	if i < 0 {
		dir := path.Dir(s.change.Path)
		if path.Base(fold(dir)) == "hooks" {
			dir = path.Dir(dir)
		}
		old := s.set.dir(dir).host
		return is(s.set.bare(dir) && !(contains(old, "head") && contains(old, "objects")))
	}
	dir := "."
	if i > 0 {
		dir = prefix(s.change.Path, i)
	}
	return is(i > 0 && !s.set.before(dir, ".git"))
}

// gitLike reports whether a name of a path is no ".git" here, but is for another system.
func gitLike(p string) bool {
	for name := range strings.SplitSeq(strings.ReplaceAll(p, `\`, "/"), "/") {
		if name != ".git" && len(name) >= 4 && takenForGit(name) {
			return true
		}
	}
	return strings.Contains(strings.ToLower(p), `.git\`)
}

// takenForGit follows is_hfs_dotgit and is_ntfs_dotgit of git.
func takenForGit(name string) bool {
	name, _, _ = strings.Cut(name, ":") // a stream of NTFS
	name = strings.ToLower(strings.TrimRight(strings.Map(func(r rune) rune {
		if r >= 0x200c && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x206a && r <= 0x206f || r == 0xfeff {
			return -1 // HFS+ takes no notice of them
		}
		return r
	}, name), ". "))
	return name == ".git" || strings.HasPrefix(name, "git~") && strings.Trim(name[4:], "0123456789") == "" && name != "git~"
}

func hookManager(s *subject) []Finding {
	facts := s.set.git()
	if len(facts.Hooks) > 0 || facts.HooksPath != "" {
		return []Finding{{}}
	}
	return []Finding{{Class: Builds, Reason: "a commit hook runs what this says, once installed"}}
}
