package plan

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Share is a directory of the host that is live in the guest: what is written on
// one side is there on the other.
type Share struct {
	Source   string `json:"source"` // absolute, without symbolic links
	Path     string `json:"path"`   // in the guest, absolute
	ReadOnly bool   `json:"read_only,omitempty"`
	Tag      string `json:"tag"` // how the guest finds it: "share0"
	// Hide and Protect are patterns, as those of Workspace.Exclude, of what the guest does
	// not see, and of what it cannot change.
	Hide    []string `json:"hide,omitempty"`
	Protect []string `json:"protect,omitempty"`
	// Hooks has git's own directory of hooks protected, where it is there.
	Hooks bool `json:"hooks,omitempty"`
}

// MaxShares is how many a machine can have. Each is a device and a process.
const MaxShares = 8

// ShareServer is the virtiofsd that serves the shares.
type ShareServer struct {
	Path    string        `json:"path"` // without symbolic links
	Kind    VirtiofsdKind `json:"kind"`
	Version string        `json:"version"`
}

// VirtiofsdKind says which of the two programs of that name it is. They have
// nothing but the name and the protocol in common.
type VirtiofsdKind string

// The programs: that in C was part of QEMU until 7.2.
const (
	VirtiofsdC    VirtiofsdKind = "c"
	VirtiofsdRust VirtiofsdKind = "rust"
)

// SharePaths returns the directories that cfg shares, as they are named on the
// host: of Input.Shares in this order.
func SharePaths(cfg config.Config, home string) []string {
	var paths []string
	for _, s := range cfg.Shares {
		paths = append(paths, expandHome(s.Source, home))
	}
	return paths
}

// expandHome makes a path that begins with ~/ absolute.
func expandHome(path, home string) string {
	if path == "~" {
		return filepath.Clean(home)
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(home, rest)
	}
	return filepath.Clean(path)
}

// shares plans the shares, that of the workspace first.
func (b *builder) shares(in Input) {
	p := b.protected(in)
	add := func(s Share) {
		if err := CheckShare(s.Source, p); err != nil {
			b.fail(err)
			return
		}
		if err := b.checkSharePath(s); err != nil {
			b.fail(err)
			return
		}
		b.logins(s.Source, p)
		s.Tag = fmt.Sprintf("share%d", len(b.plan.Shares))
		b.plan.Shares = append(b.plan.Shares, s)
	}
	if ws := b.plan.Workspace; ws.Path != "" && ws.Mode == ModeShare {
		c := b.cfg.Workspace
		add(Share{Source: ws.Path, Path: ws.Path, Hide: slices.Clone(c.Hide), Protect: slices.Clone(c.Protect), Hooks: c.Hooks})
		if len(ws.Exclude) > 0 {
			b.note("workspace.exclude has no effect: the workspace is live, and all of it but workspace.hide is in the machine")
		}
		b.note("%s is live in the machine: what is written there is yours at once, Git's hooks and build scripts, too", termsafe.Quote(ws.Path))
	}
	for i, s := range b.cfg.Shares {
		if i >= len(in.Shares) {
			b.fail(fmt.Errorf("share %s: it is not known where that is", termsafe.Quote(s.Source)))
			return
		}
		share := Share{Source: in.Shares[i], Path: in.Shares[i], ReadOnly: s.ReadOnly, Hide: slices.Clone(s.Hide), Protect: slices.Clone(s.Protect)}
		if s.Path != "" {
			share.Path = expandHome(s.Path, b.plan.Guest.User.Home)
		}
		add(share)
	}
	b.overlaps()
	switch n := len(b.plan.Shares); {
	case n == 0:
		return
	case n > MaxShares:
		b.fail(fmt.Errorf("%d live directories; a machine can have %d", n, MaxShares))
	}
	if !b.facts.UserNamespaces && b.facts.User.UID != 0 {
		b.fail(fault.New(fault.UserNamespacesMissing, nil, "live directories need user namespaces, which this host does not give"))
	}
	b.plan.ShareServer = in.ShareServer
	// A server maps the guest's memory by its file; that of a template is the
	// memory of all machines that begin from it.
	if b.plan.Template.Use {
		b.plan.Template = Template{Reason: "it has live directories"}
	}
}

// overlaps says so where what one share hides or protects is in another one, too.
func (b *builder) overlaps() {
	for _, s := range b.plan.Shares {
		for _, other := range b.plan.Shares {
			if s.Tag == other.Tag || len(s.Hide)+len(s.Protect) == 0 || !within(s.Source, other.Source) && !within(other.Source, s.Source) {
				continue
			}
			b.note("%s is also live by %s: what is hidden or protected there is not so here, but for the patterns of its own",
				termsafe.Quote(s.Source), termsafe.Quote(other.Source))
		}
	}
}

// CheckShare reports whether the directory dir may be live in a machine, which can
// then change it at any time: what CheckWorkspace says, and no sockets, by which
// one can do anything as somebody else.
func CheckShare(dir string, p Protected) error {
	why := refuse(dir, p)
	if why == "" {
		why = refuseLive(filepath.Clean(dir), p)
	}
	if why != "" {
		return fault.New(fault.ShareRefused, fault.Args{"dir": dir}, "share %s: %s", termsafe.Quote(dir), why)
	}
	return nil
}

// logins says so if the directory dir of the host is where a coding agent of the host has its
// log-in.
func (b *builder) logins(dir string, p Protected) {
	for _, a := range codingagent.Agents() {
		for _, file := range a.Logins {
			has := func(home string) bool { return home != "" && within(filepath.Join(home, file), dir) }
			if slices.ContainsFunc(p.Homes, has) {
				b.note("%s is where %s keeps its log-in on this host, which the machine can read and send anywhere; share another directory, bring settings by home.dotfiles, or lend a key with --secret",
					termsafe.Quote(dir), a.Title)
			}
		}
	}
}

// refuseLive returns what is wrong with dir, in which refuse found nothing, as a
// directory that is live.
func refuseLive(dir string, p Protected) string {
	for _, run := range []string{"/run", "/var/run"} {
		if within(dir, run) {
			return "is where the system's sockets are"
		}
	}
	for _, socket := range p.Sockets {
		if socket != "" && within(filepath.Clean(socket), dir) {
			return "holds the socket " + termsafe.Quote(socket)
		}
	}
	return ""
}

// checkSharePath reports whether s can be where it is to be in the guest.
func (b *builder) checkSharePath(s Share) error {
	dir := s.Path
	bad := func(why string) error {
		args := fault.Args{"dir": s.Source, "path": dir, "better": filepath.Join("/srv", filepath.Base(s.Source))}
		return fault.New(fault.SharePathInvalid, args, "share %s: its path in the machine, %s, %s", termsafe.Quote(s.Source), termsafe.Quote(dir), why)
	}
	switch {
	case !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || len(dir) > maxSharePath || !textual(dir):
		return bad("is no absolute path in its shortest form")
	case within(dir, "/run") || within(dir, "/mayfly") || within(dir, "/usr/bin") || within(dir, "/usr/lib"):
		return bad("is the machine's own")
	case within(filepath.Clean(b.plan.Guest.User.Home), dir):
		return bad("holds the home directory of the machine's user")
	}
	if why := systemDir(dir); why != "" {
		return bad(why)
	}
	taken := func(path string) bool { return within(dir, path) || within(path, dir) }
	for _, other := range b.plan.Shares {
		if taken(other.Path) {
			return bad("overlaps that of " + termsafe.Quote(other.Source))
		}
	}
	if ws := b.plan.Workspace; ws.Copied() && taken(ws.Path) {
		return bad("overlaps the workspace")
	}
	return nil
}

// maxSharePath bounds a path in the guest, in bytes.
const maxSharePath = 1024
