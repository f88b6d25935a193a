package nix

import (
	"errors"
	"path"
	"slices"
	"strings"
)

// limit keeps an error of a limit, and reports whether it was one.
func (m *importer) limit(err error) bool {
	return errors.Is(err, errLimit) && !m.nixos.keep(err)
}

// isPath reports whether a machine's file may hold p as a directory.
func (m *importer) isPath(p string, at pos, what string) bool {
	ok := strings.HasPrefix(p, "/") && path.Clean(p) == p && len(p) <= maxPath &&
		printable(p) == p && !strings.ContainsAny(p, ":,")
	if !ok {
		m.ev.note(at, Warning, "%s is %s, which is no directory that a machine can have", what, quote(p))
	}
	return ok
}

func (m *importer) readVolumes() {
	for _, t := range m.nixos.list("microvm", "volumes") {
		one := m.nixos.record(t)
		mount, at, ok := one.text("mountPoint")
		size, _, hasSize := one.number("size")
		image, _, _ := one.text("image")
		m.nixos.keep(one.err)
		at = t.place(at)
		switch {
		case !ok:
			m.ev.note(at, Dropped, "a volume without a mountPoint: machines have no bare disks")
			continue
		case mount == "/":
			m.ev.note(at, Dropped, "the volume on /: a machine's root file system is Debian's and begins anew each time")
			continue
		case mount == "/nix" || strings.HasPrefix(mount, "/nix/"):
			m.ev.note(at, Dropped, "the volume on %s: there is no /nix in a machine", mount)
			continue
		case !m.isPath(mount, at, "a volume's mountPoint"):
			continue
		case len(m.Volumes) == maxVolumes:
			m.ev.note(at, Warning, "the volume on %s: a machine has at most %d", mount, maxVolumes)
			continue
		case !hasSize:
			m.ev.note(at, Warning, "the volume on %s has no size that is known: it gets 8 GiB", mount)
			size = 8 << 10
		case size < minVolumeMiB || size > maxVolumeMiB:
			m.ev.note(at, Warning, "the volume on %s has %d MiB; it gets what is nearest of 16 MiB to 64 GiB", mount, size)
			size = min(max(size, minVolumeMiB), maxVolumeMiB)
		}
		m.Volumes = append(m.Volumes, Volume{m.volumeName(image, mount), m.tilde(mount), size})
		m.ev.note(at, Dropped, "the volume on %s begins empty: what is in the file %s is not taken over", mount, quote(image))
	}
}

// volumeName makes a name of the image's file: var.img is var.
func (m *importer) volumeName(image, mount string) string {
	name := strings.TrimSuffix(path.Base(image), path.Ext(image))
	if image == "" {
		name = path.Base(mount)
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, name)
	name = strings.Trim(name[:min(len(name), 28)], "-")
	if name == "" {
		name = "volume"
	}
	unique := name
	for i := 2; slices.ContainsFunc(m.Volumes, func(v Volume) bool { return v.Name == unique }); i++ {
		unique = name + "-" + string(rune('0'+i))
	}
	return unique
}

func (m *importer) readShares() {
	type share struct {
		Share
		tag string
		at  pos
	}
	var all []share
	for _, t := range m.nixos.list("microvm", "shares") {
		one := m.nixos.record(t)
		tag, _, _ := one.text("tag")
		source, at, ok1 := one.text("source")
		mount, _, ok2 := one.text("mountPoint")
		readOnly, _, known := get[bool](one, "readOnly")
		if defs, _ := one.definitions("readOnly"); !known && len(defs) > 0 {
			readOnly = true // there is a note, and this takes nothing from anyone
		}
		m.nixos.keep(one.err)
		at = t.place(at)
		if !ok1 || !ok2 {
			m.ev.note(at, Unknown, "the share %s has no source and mountPoint that are known", quote(tag))
			continue
		}
		all = append(all, share{Share{source, mount, readOnly}, tag, at})
	}
	for _, s := range all {
		if s.tag == "workspace" && m.Workspace == "" && !s.ReadOnly && m.isPath(s.Source, s.at, "the workspace") {
			m.Workspace = s.Source
			if s.Path != s.Source {
				m.ev.note(s.at, Warning, "the workspace was at %s in the machine; it has the same path as on the host, %s", quote(s.Path), quote(m.tilde(s.Source)))
			}
		}
	}
	for _, s := range all {
		inside := m.Workspace != "" && strings.HasPrefix(s.Source, m.Workspace+"/")
		switch {
		case m.Workspace != "" && s.Source == m.Workspace && s.tag == "workspace":
			// It is the workspace.
		case s.Source == "/nix/store" || s.Path == "/nix" || strings.HasPrefix(s.Path, "/nix/"):
			m.ev.note(s.at, Dropped, "the share %s of %s: a machine's programs are Debian's", quote(s.tag), quote(s.Source))
		case s.Path == "/etc/ssh" || strings.HasPrefix(s.Path, "/etc/ssh/"):
			m.ev.note(s.at, Dropped, "the share %s of %s: mayfly makes the machine's SSH host key, and keeps it where the machine's files are", quote(s.tag), quote(s.Source))
			if inside {
				m.ev.note(s.at, Warning, "%s lies inside of the workspace: what runs in the machine can read and replace the private key there, and it may get into git. Remove it", quote(s.Source))
			}
		case !m.isPath(s.Source, s.at, "a share's source") || !m.isPath(s.Path, s.at, "a share's mountPoint"):
		case len(m.Shares) == maxList:
			m.ev.note(s.at, Warning, "more than %d shares", maxList)
			return
		default:
			m.Shares = append(m.Shares, Share{m.tilde(s.Source), m.tilde(s.Path), s.ReadOnly})
			if !s.ReadOnly {
				m.ev.note(s.at, Warning, "%s is shared with all that is in it, and can be written: what runs in the machine can leave there what another machine, or you, will run. Set readonly = true, or leave it out: mayfly keeps the state of agents for each machine", quote(m.tilde(s.Source)))
			}
		}
	}
	if m.Workspace == "" {
		m.ev.note(pos{}, Warning, "no share that can be written has the tag \"workspace\": set workspace.path")
		return
	}
	if m.Workspace == m.dir {
		m.ev.note(pos{}, Warning, "the workspace is the whole home directory %s", quote(m.dir))
	}
	m.Workspace = m.tilde(m.Workspace)
}
