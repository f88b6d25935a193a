package nix

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/naming"
)

// What a machine's file can say of volumes.
const (
	maxVolumes    = 7
	minVolumeMiB  = 16
	maxVolumeMiB  = 64 << 10
	someVolumeMiB = 8 << 10 // where the size is not known
)

func (m *importer) readVolumes() {
	volumes, _ := take(m, "microvm.volumes", m.nixos.Microvm.Volumes)
	for _, v := range volumes {
		mount, size := v.MountPoint, v.Size
		switch {
		case mount == "":
			m.note(Dropped, "a volume without a mountPoint: machines have no bare disks")
			continue
		case mount == "/":
			m.note(Dropped, "the volume on /: a machine's root file system is Debian's and begins anew each time")
			continue
		case isBelow(mount, "/nix"):
			m.note(Dropped, "the volume on %s: there is no /nix in a machine", mount)
			continue
		case !m.isPath(mount, "a volume's mountPoint"):
			continue
		case len(m.Volumes) == maxVolumes:
			m.note(Warning, "the volume on %s: a machine has at most %d", mount, maxVolumes)
			continue
		case size == 0:
			m.note(Warning, "the volume on %s has no size that is known: it gets 8 GiB", mount)
			size = someVolumeMiB
		case size < minVolumeMiB || size > maxVolumeMiB:
			m.note(Warning, "the volume on %s has %d MiB; it gets what is nearest of 16 MiB to 64 GiB", mount, size)
			size = min(max(size, minVolumeMiB), maxVolumeMiB)
		}
		m.Volumes = append(m.Volumes, Volume{m.volumeName(v), m.tilde(mount), size})
		m.note(Dropped, "the volume on %s begins empty: what is in the file %s is not taken over", mount, quote(v.Image))
	}
}

// isBelow reports whether p is dir or in it.
func isBelow(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// volumeName makes a name of the image's file: var.img is var.
func (m *importer) volumeName(v volume) string {
	base := strings.TrimSuffix(path.Base(v.Image), path.Ext(v.Image))
	if v.Image == "" {
		base = path.Base(v.MountPoint)
	}
	base = strings.Map(func(r rune) rune {
		if !naming.ValidVolume(string(r)) {
			return '-'
		}
		return r
	}, strings.ToLower(base))
	const room = 4 // for a number
	base = strings.Trim(base[:min(len(base), naming.MaxVolume-room)], "-")
	if base == "" {
		base = "volume"
	}
	unique := base
	for i := 2; slices.ContainsFunc(m.Volumes, func(v Volume) bool { return v.Name == unique }); i++ {
		unique = base + "-" + strconv.Itoa(i)
	}
	return unique
}

func (m *importer) readShares() {
	shares, _ := take(m, "microvm.shares", m.nixos.Microvm.Shares)
	m.findWorkspace(shares)
	for _, s := range shares {
		m.readShare(s)
	}
	if m.Workspace == "" {
		m.note(Warning, "no share that can be written has the tag \"workspace\": set workspace.path")
		return
	}
	if m.Workspace == m.dir {
		m.note(Warning, "the workspace is the whole home directory %s", quote(m.dir))
	}
	m.Workspace = m.tilde(m.Workspace)
}

// findWorkspace takes the first share that is tagged as one, and can be written.
func (m *importer) findWorkspace(shares []share) {
	for _, s := range shares {
		if s.Tag != "workspace" || s.ReadOnly || s.Source == "" || !m.isPath(s.Source, "the workspace") {
			continue
		}
		m.Workspace = s.Source
		if s.MountPoint != s.Source {
			m.note(Warning, "the workspace was at %s in the machine; it has the same path as on the host, %s", quote(s.MountPoint), quote(m.tilde(s.Source)))
		}
		return
	}
}

func (m *importer) readShare(s share) {
	tag, source := quote(s.Tag), quote(s.Source)
	switch {
	case s.Source == "" || s.MountPoint == "":
		m.note(Unknown, "the share %s has no source and mountPoint that are known", tag)
	case s.Tag == "workspace" && s.Source == m.Workspace:
		// It is the workspace.
	case s.Source == "/nix/store" || isBelow(s.MountPoint, "/nix"):
		m.note(Dropped, "the share %s of %s: a machine's programs are Debian's", tag, source)
	case isBelow(s.MountPoint, "/etc/ssh"):
		m.note(Dropped, "the share %s of %s: mayfly makes the machine's SSH host key, and keeps it where the machine's files are", tag, source)
		if m.Workspace != "" && isBelow(s.Source, m.Workspace) {
			m.note(Warning, "%s lies inside of the workspace: what runs in the machine can read and replace the private key there, and it may get into git. Remove it", source)
		}
	case !m.isPath(s.Source, "a share's source") || !m.isPath(s.MountPoint, "a share's mountPoint"):
	case len(m.Shares) == maxList:
		m.note(Warning, "more than %d shares", maxList)
	default:
		one := Share{m.tilde(s.Source), m.tilde(s.MountPoint), s.ReadOnly}
		m.Shares = append(m.Shares, one)
		if !s.ReadOnly {
			m.note(Warning, "%s is shared with all that is in it, and can be written: what runs in the machine can leave there what another machine, or you, will run. Set readonly = true, or leave it out: mayfly keeps the state of agents for each machine", quote(one.Source))
		}
	}
}
